"""A vendor's own wire, at another address, with another key or under another name: a factory of
its models."""

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
"""Vendors' wires that other servers speak too, besides OpenAI's: that is `compatible.py`."""


@record
class Redirected:
    """A vendor as a host wants it reached, or a server that speaks its wire under a name of its
    own, which has a `base_url`, and nothing of the vendor's variables. Callable: a
    `ProviderFactory`."""

    name: str
    base_url: str = ""
    """"": the vendor's own, or its variable's."""
    key_env: str = ""
    """"": the vendor's own variable; none at all where `base_url` is set."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Sent with every request. A value `$NAME` is that variable's."""
    api: str = ""
    """OpenAI: which wire, `chat` or `responses`; "": it chooses."""
    vendor: str = ""
    """Whose wire it is; "": that of the vendor of this name."""
    key: Secret = field(default_factory=lambda: Secret(""))
    """Its key, where the host does not name a variable."""

    def __call__(self, spec: ModelSpec, context: ProviderContext) -> Model:
        """Raises ConfigError `exec.api.no_client` naming the variable to set."""
        from lorimer.models.registry import PROVIDERS, load

        bundle = context.credentials
        known = CredentialBundle({**bundle.by_provider, self.name: self.reach(bundle)}, bundle.env)
        wire = self.vendor or self.name
        factory = load(wire, PROVIDERS[wire])
        return factory(spec, context.with_credentials(known))

    def reach(self, bundle: CredentialBundle) -> ProviderCredentials:
        """Address, key and headers: as given in the bundle, else as they are here. What is left
        open, the bundle fills from the vendor's variables. Raises ConfigError."""
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
        """The variable that its key is in."""
        return self.key_env or ("" if self.base_url else VARIABLES.get(self.name, ("",))[0])
