"""Servers with an OpenAI-compatible API: the ones known here by name, and those that a host adds.

Each `Compatible` is one such server, as a factory of models; the wire is in `openai.py`. Their
deviations from OpenAI's API are handled where answers are read, `wires/chat_answer.py` and
`errors.py`, and where requests are rejected, `wires/openai_refusal.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.core.model import Capabilities, Model
from lorimer.core.record import record
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

NO_TOOLS: Final = Capabilities(tools=False)
"""Assumed of an unknown server: many models do not support tools, and report it late."""


@record
class Compatible:
    """One server with an OpenAI-compatible API. Callable: a `ProviderFactory`."""

    name: str
    base_url: str = ""
    """The default base URL; "": it has to be configured."""
    key_env: str = ""
    """The variable that holds its key."""
    url_env: str = ""
    """The variable that may hold its base URL."""
    needs_key: bool = False
    """It rejects requests without a key."""
    key: Secret = field(default_factory=lambda: Secret(""))
    """Its key, if the host does not name a variable."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Sent with every request. A value `$NAME` is replaced by that variable."""
    api: str = ""
    """Which wire: `chat` or `responses`; "": chat."""
    capabilities: Capabilities = NO_TOOLS

    def __call__(self, spec: ModelSpec, context: ProviderContext) -> Model:
        """Raises ConfigError `exec.api.no_client` when the base URL or a needed key is missing,
        naming the variable to set."""
        from lorimer.models.openai import OpenAIModel

        known = self.reach(context.credentials)
        bundle = CredentialBundle({spec.provider: known}, env={})
        return OpenAIModel(spec, context.with_credentials(bundle))

    def reach(self, bundle: CredentialBundle) -> ProviderCredentials:
        """Address, key and headers: from the bundle, else from this object, else from the
        variables. Raises ConfigError."""
        given = bundle.by_provider.get(self.name) or ProviderCredentials()
        url = given.base_url or bundle.variable(self.url_env) or self.base_url
        if not url:
            raise missing(self.name, "a base URL", self.url_env, "http://localhost:8000/v1")
        key = given.api_key
        if not key and not given.base_url:
            # a key goes only where it was meant to go, not to a URL given in code
            key = self.key or Secret(bundle.variable(self.key_env))
            if not key and self.needs_key:
                raise missing(self.name, "an API key", self.key_env, "...")
        headers = header_values(self.name, self.headers, bundle)
        extras = {"api": self.api} if self.api else {}
        return ProviderCredentials(
            key or NO_KEY,
            url,
            {**headers, **given.default_headers},
            {**extras, **given.extras},
        )

    @property
    def variable(self) -> str:
        """The variable that holds its key; "": none is known."""
        return self.key_env


def header_values(
    provider: str, headers: Mapping[str, str], bundle: CredentialBundle
) -> dict[str, str]:
    """The headers, with variables replaced by their values. Raises ConfigError."""
    out: dict[str, str] = {}
    for name, text in headers.items():
        variable = text.removeprefix("$")
        out[name] = text if variable == text else bundle.variable(variable)
        if not out[name]:
            raise missing(provider, f"a value for its header {name!r}", variable, "...")
    return out


def missing(provider: str, what: str, variable: str, example: str) -> ConfigError:
    """The error for a provider whose configuration lacks something; `variable` "": there is
    none."""
    return ConfigError(
        f"the provider {provider!r} needs {what}" + (f": set {variable}" if variable else ""),
        code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
        hint=f"export {variable}={example}"
        if variable
        else f"Pass CredentialBundle({{{provider!r}: ProviderCredentials(...)}}).",
    )


def _shipped(name: str, base_url: str, *, needs_key: bool = False) -> Compatible:
    key_env, url_env = VARIABLES[name]
    return Compatible(name, base_url, key_env, url_env, needs_key)


vllm = _shipped("vllm", "")
ollama = _shipped("ollama", "http://localhost:11434/v1")
lmstudio = _shipped("lmstudio", "http://localhost:1234/v1")
llamacpp = _shipped("llamacpp", "http://localhost:8080/v1")
openrouter = _shipped("openrouter", "https://openrouter.ai/api/v1", needs_key=True)

PROFILES: Final[Mapping[str, Compatible]] = MappingProxyType(
    {one.name: one for one in (vllm, ollama, lmstudio, llamacpp, openrouter)}
)
"""The servers known by name."""

KINDS: Final = (*PROFILES, "custom")
"""The kinds of server that a host can define; `custom`: nothing is known about it."""
