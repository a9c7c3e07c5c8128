"""A vendor's own wire at another address, with another key or under another name: a factory of
models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Final

from lorimer.core.model import Model
from lorimer.core.record import record
from lorimer.models.compatible import header_values, missing
from lorimer.models.credentials import (
    NO_KEY,
    VARIABLES,
    CredentialBundle,
    ProviderCredentials,
    Secret,
)
from lorimer.models.spec import ModelSpec

if TYPE_CHECKING:
    from lorimer.models.registry import ProviderContext

WIRES: Final = ("anthropic", "google")
"""Vendors' wires that other servers support too; for OpenAI's see `compatible.py`."""


@record
class Redirected:
    """A vendor with the host's own settings, or a server that uses the vendor's wire under a name
    of its own; the latter has a `base_url`, and none of the vendor's variables apply. Callable: a
    `ProviderFactory`."""

    name: str
    base_url: str = ""
    """"": the vendor's own, or the one in its variable."""
    key_env: str = ""
    """"": the vendor's own variable, or none if `base_url` is set."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Sent with every request. A value `$NAME` is replaced by that variable."""
    api: str = ""
    """OpenAI only: the wire, `chat` or `responses`; "": chosen automatically."""
    vendor: str = ""
    """The vendor of the wire; "": the vendor with this provider's name."""
    key: Secret = field(default_factory=lambda: Secret(""))
    """Its key, if the host does not name a variable."""

    def __call__(self, spec: ModelSpec, context: ProviderContext) -> Model:
        """Raises ConfigError `exec.api.no_client` naming the variable to set."""
        from lorimer.models.registry import PROVIDERS, load

        bundle = context.credentials
        known = CredentialBundle({**bundle.by_provider, self.name: self.reach(bundle)}, bundle.env)
        wire = self.vendor or self.name
        factory = load(wire, PROVIDERS[wire])
        return factory(spec, context.with_credentials(known))

    def reach(self, bundle: CredentialBundle) -> ProviderCredentials:
        """Address, key and headers: from the bundle, else from this object. The bundle fills gaps
        from the vendor's variables. Raises ConfigError."""
        given = bundle.by_provider.get(self.name) or ProviderCredentials()
        url = given.base_url or self.base_url
        key = given.api_key or ("" if given.base_url else self.key)
        if not key and not given.base_url and self.key_env:
            key = bundle.variable(self.key_env)
            if not key:
                raise missing(self.name, "an API key", self.key_env, "...")
        if not key and self.vendor:
            key = NO_KEY
        headers = header_values(self.name, self.headers, bundle)
        extras = {"api": self.api} if self.api else {}
        return ProviderCredentials(
            key, url, {**headers, **given.default_headers}, {**extras, **given.extras}
        )

    @property
    def variable(self) -> str:
        """The variable that holds its key."""
        return self.key_env or ("" if self.base_url else VARIABLES.get(self.name, ("",))[0])
