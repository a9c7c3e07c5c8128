"""Keys and base URLs, per provider. Nothing in this module shows a key by accident."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from lorimer.core.arguments import is_a
from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.core.redaction import is_secret, secrets_in

VARIABLES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
        "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
        "google": ("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
        "openrouter": ("OPENROUTER_API_KEY", "LORIMER_OPENROUTER_BASE_URL"),
        "vllm": ("VLLM_API_KEY", "LORIMER_VLLM_BASE_URL"),
        "ollama": ("OLLAMA_API_KEY", "LORIMER_OLLAMA_BASE_URL"),
        "lmstudio": ("LM_API_TOKEN", "LORIMER_LMSTUDIO_BASE_URL"),
        "llamacpp": ("LLAMA_API_KEY", "LORIMER_LLAMACPP_BASE_URL"),
    }
)
"""The vendors' own variables: key, base URL. Lorimer's where a vendor has none."""

OPENAI_API: Final = "LORIMER_OPENAI_API"
"""Which OpenAI API to use: `chat` or `responses`, as `extras["api"]`; see `models/openai.py`."""
PLAIN: Final = frozenset({"api", "project", "location", "binary_path"})
"""Extras that are not secret."""
OPENAI_APIS: Final = ("responses", "chat")
FIRST: Final[Mapping[str, str]] = MappingProxyType({"google": "GOOGLE_API_KEY"})
"""Alternative variables for the key, which win if both are set, as in the vendor's own SDK."""


LAST: Final[Mapping[str, str]] = MappingProxyType({"anthropic": "ANTHROPIC_AUTH_TOKEN"})
"""Alternative variables for the key, used if it is not set otherwise, as in the vendor's own SDK:
gateways tell people to set this one."""


def key_variable(provider: str, env: Mapping[str, str]) -> str:
    """The variable that holds, or should hold, the key of a provider in VARIABLES."""
    usual = VARIABLES[provider][0]
    names = (FIRST.get(provider, ""), usual, LAST.get(provider, ""))
    return next((name for name in names if env.get(name, "").strip()), usual)


VERTEX: Final = "vertex"
"""Google Cloud: uses the login of the machine."""
CLAUDE_CODE: Final = "claude_code_cli"
"""A program with a login of its own."""

LOCAL: Final = frozenset({"vllm", "ollama", "lmstudio", "llamacpp"})
"""Servers that people run themselves, usually without keys."""

NO_KEY: Final = "none"
"""Sent in place of a missing key: the SDKs require one."""

KEYLESS: Final = frozenset({"openai"}) | LOCAL
"""Providers whose API other servers imitate: with a custom base URL, no key is needed."""


class Secret:
    """A string that only `reveal()` shows: not repr, str, format, pickle or JSON."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The string itself. For the wire only."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    def __str__(self) -> str:
        return "***" if self._value else ""

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not stored")


@dataclass(frozen=True, slots=True, init=False)
class ProviderCredentials:
    """How to reach one provider."""

    api_key: Secret
    base_url: str
    """"": the provider's own."""
    default_headers: Mapping[str, str]
    """Sent with every request; values are not shown by repr."""
    extras: Mapping[str, str]
    """Settings of this provider only; values are not shown by repr. Those in PLAIN are not
    secret."""

    def __init__(
        self,
        api_key: str | Secret = "",
        base_url: str = "",
        default_headers: Mapping[str, str] | None = None,
        extras: Mapping[str, str] | None = None,
    ) -> None:
        secret = api_key if isinstance(api_key, Secret) else Secret(api_key.strip())
        object.__setattr__(self, "api_key", secret)
        object.__setattr__(self, "base_url", base_url.strip().rstrip("/"))
        object.__setattr__(self, "default_headers", MappingProxyType(dict(default_headers or {})))
        object.__setattr__(self, "extras", MappingProxyType(dict(extras or {})))

    def __deepcopy__(self, memo: object) -> ProviderCredentials:
        return self

    def __repr__(self) -> str:
        headers = ", ".join([f"{name}: ***" for name in self.default_headers])
        extras = ", ".join([f"{name}: ***" for name in self.extras])
        return (
            f"ProviderCredentials(api_key={self.api_key!r}, base_url={redact_url(self.base_url)!r},"
            f" default_headers={{{headers}}}, extras={{{extras}}})"
        )

    def secrets(self, provider: str) -> dict[str, str]:
        """The secrets, each mapped to the name that is shown in its place."""
        named = {name: value for name, value in self.extras.items() if name not in PLAIN}
        found = secrets_in({**self.default_headers, **named, "base URL": self.base_url})
        key = self.api_key.reveal()
        return {**found, key: f"{provider} key"} if is_secret(key) else found

    @property
    def is_keyless(self) -> bool:
        """Whether no key is sent, neither as such nor in a header."""
        return self.api_key.reveal() == NO_KEY and not self.default_headers

    def redact(self, text: str) -> str:
        """`text` with every secret of these credentials replaced. For error messages."""
        extras = [value for name, value in self.extras.items() if name not in PLAIN]
        secrets = [self.api_key.reveal(), *self.default_headers.values(), *extras]
        # Replacing short values ("1", "true", the placeholder "none") would garble the text and
        # hide nothing.
        for secret in sorted(filter(lambda value: len(value) >= 6, secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def redact_url(url: str) -> str:
    """A URL without any user name and password in it."""
    scheme, mark, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    _, at, host = authority.rpartition("@")
    return f"{scheme}{mark}***@{host}{slash}{path}" if at else url


@dataclass(frozen=True, slots=True)
class CredentialBundle:
    """The credentials of all providers; whatever is not given comes from the vendors' variables."""

    by_provider: Mapping[str, ProviderCredentials] = field(
        default_factory=dict[str, ProviderCredentials]
    )
    env: Mapping[str, str] | None = field(default=None, repr=False)
    """Where variables are looked up, on each call; None: this process's environment. `{}`:
    nowhere."""

    def __post_init__(self) -> None:
        for provider, given in self.by_provider.items():
            if not is_a(given, ProviderCredentials):  # perhaps the key itself, which is not shown
                raise ConfigError(
                    f"the credentials of {provider!r} must be ProviderCredentials, not "
                    f"{type(given).__name__}",
                    hint=f"CredentialBundle({{{provider!r}: ProviderCredentials(key)}})",
                )

    def __copy__(self) -> CredentialBundle:
        return self

    def __deepcopy__(self, memo: object) -> CredentialBundle:
        return self

    def __reduce__(self) -> tuple[type[CredentialBundle], tuple[object, ...]]:
        if secrets_in(self.env or {}):
            raise TypeError("variables with secrets are not stored")
        return CredentialBundle, (self.by_provider, self.env)

    @property
    def _env(self) -> Mapping[str, str]:
        return os.environ if self.env is None else self.env

    def secrets(self) -> dict[str, str]:
        """All known secrets, each mapped to the name that is shown in its place."""
        found = secrets_in({} if self.env is None else self.env)
        for provider, credentials in self.by_provider.items():
            found |= credentials.secrets(provider)
        return found

    def variable(self, name: str) -> str:
        """An environment variable, "" if it is not set."""
        return self._env.get(name, "").strip()

    def variables(self) -> tuple[str, ...]:
        """The names of all environment variables, sorted."""
        return tuple(sorted(self._env))

    def get(self, provider: str) -> ProviderCredentials | None:
        """The provider's credentials, with gaps filled from the environment; None if nothing is
        known."""
        given, env = self.by_provider.get(provider), self._env
        url = env.get(VARIABLES[provider][1], "") if provider in VARIABLES else ""
        key_there = env.get(key_variable(provider, env), "") if provider in VARIABLES else ""
        api = env.get(OPENAI_API, "") if provider == "openai" else ""
        extras = {"api": api} if api else {}
        if given is None:
            found = ProviderCredentials(key_there, url, extras=extras)
            return found if found.api_key or found.base_url else None
        # A key goes only where it was meant to go: the one from the environment is not sent to a
        # URL given here.
        key = given.api_key or ("" if given.base_url else key_there)
        extras |= given.extras
        return ProviderCredentials(key, given.base_url or url, given.default_headers, extras)

    def require(self, provider: str) -> ProviderCredentials:
        """Like `get`. Raises ConfigError `exec.api.no_client` when there is no key, naming the
        variable to set. With an OpenAI-compatible base URL no key is needed: it is then `none`."""
        found = self.get(provider)
        if found is not None:
            _check_url(provider, found.base_url)
        if found is not None and found.api_key:
            key = found.api_key.reveal()
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise ConfigError(
                    f"the API key for {provider!r} holds characters that no HTTP header takes",
                    code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
                    hint="Copy it again: a line break or a typographic dash has slipped in.",
                )
            return found
        if found is not None and found.base_url and provider in KEYLESS:
            return ProviderCredentials(NO_KEY, found.base_url, found.default_headers, found.extras)
        raise self._no_key(provider)

    def _no_key(self, provider: str) -> ConfigError:
        env = self._env
        variable = key_variable(provider, env) if provider in VARIABLES else ""
        given = self.by_provider.get(provider)
        told = f"there is no API key for {provider!r}"
        if not variable:
            hint = "Pass api_key=... or credentials=... ; on the command line --api-key-env."
        elif given is not None and given.base_url and env.get(variable, "").strip():
            told += (
                f" at {redact_url(given.base_url)}: the one in {variable} is meant for the vendor's"
                " own address, and is not sent to another"
            )
            hint = f"Pass api_key=... too, or set {VARIABLES[provider][1]} instead of base_url."
        else:
            told += f": set {variable}"
            hint = f"export {variable}=... , or pass api_key=... or credentials=... in Python"
        return ConfigError(told, code=ExecutorErrorCode.EXEC_API_NO_CLIENT, hint=hint)

    def has(self, provider: str) -> bool:
        """Whether `require` would succeed."""
        found = self.get(provider)
        return found is not None and bool(found.api_key or (found.base_url and provider in KEYLESS))

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers for which `has` is true, sorted."""
        return tuple(sorted(name for name in {*self.by_provider, *VARIABLES} if self.has(name)))


def is_url(url: str) -> bool:
    """Whether `text` is an http:// or https:// URL with a host."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _check_url(provider: str, url: str) -> None:
    if url and not is_url(url):
        raise ConfigError(
            f"the base URL for {provider!r} is not an http:// or https:// URL: {redact_url(url)!r}",
            code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
            hint="Write it in full, e.g. http://localhost:8000/v1",
        )
    if "?" in url or "#" in url:
        raise ConfigError(
            f"the base URL for {provider!r} may not go on with '?' or '#', as what is asked for is "
            f"added to its end: {redact_url(url.partition('?')[0].partition('#')[0])!r}",
            code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
            hint="Leave that out. At Azure: https://NAME.openai.azure.com/openai/v1 needs none.",
        )
