"""Providers that are not registered: from the environment, and from installed packages.

    LORIMER_PROVIDER_<NAME>=scheme://[token@]host[:port][/path]
    entry points of the group `lorimer.providers`: `core/plugins.py`

Both are consulted when a spec names a provider that is not registered, and only for that name: a
broken one affects nobody who does not use it. Tokens are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import SplitResult, unquote, urlsplit

from lorimer.core import plugins
from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.core.model import Model
from lorimer.models.credentials import CredentialBundle, Secret

if TYPE_CHECKING:
    from lorimer.models.compatible import Compatible
    from lorimer.models.redirected import Redirected
    from lorimer.models.registry import ProviderFactory

PREFIX: Final = "LORIMER_PROVIDER_"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PORTS: Final[Mapping[str, int]] = {
    "vllm": 8000,
    "ollama": 11434,
    "lmstudio": 1234,
    "llamacpp": 8080,
}
"""Default ports for http://."""
_PATHS: Final[Mapping[str, str]] = {"openrouter": "/api/v1", "anthropic": "", "google": ""}


def discover(name: str, bundle: CredentialBundle) -> Model | ProviderFactory | None:
    """The provider of that name, from the environment, else from an installed package; None if
    neither has it. Raises ConfigError `exec.api.no_client` for one that is broken."""
    if not _NAME.fullmatch(name):
        return None
    return from_environment(name, bundle) or _from_package(name)


def discoverable(bundle: CredentialBundle) -> tuple[str, ...]:
    """The names that `discover` would find, working or broken; sorted."""
    named = [one.removeprefix(PREFIX).lower() for one in bundle.variables() if _is_ours(one)]
    return tuple(sorted({*named, *[name.lower() for name in plugins.offered(plugins.PROVIDERS)]}))


def described(bundle: CredentialBundle) -> dict[str, Compatible | Redirected]:
    """The servers described by environment variables, without the broken ones."""
    found: dict[str, Compatible | Redirected] = {}
    for variable in filter(_is_ours, bundle.variables()):
        name = variable.removeprefix(PREFIX).lower()
        with suppress(ConfigError):
            server = from_environment(name, bundle)
            if server is not None:
                found[name] = server
    return found


def variable_of(name: str) -> str:
    """The variable that describes a provider; `-` in the name becomes `_`."""
    return PREFIX + name.replace("-", "_").upper()


def from_environment(name: str, bundle: CredentialBundle) -> Compatible | Redirected | None:
    """The server that LORIMER_PROVIDER_<NAME> describes; None if it is not set."""
    variable = variable_of(name)
    value = bundle.variable(variable)
    return _server(name, variable, value) if value else None


def _is_ours(variable: str) -> bool:
    return variable.startswith(PREFIX) and len(variable) > len(PREFIX)


def _server(name: str, variable: str, value: str) -> Compatible | Redirected:
    from lorimer.models.compatible import KINDS, PROFILES, Compatible
    from lorimer.models.redirected import WIRES, Redirected

    kinds = (*KINDS, "openai", *WIRES)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise _malformed(variable, "it is no URL") from None
    secure, _, kind = parts.scheme.rpartition("+")
    if kind in ("http", "https"):
        secure, kind = kind, secure or "custom"
    if kind not in kinds or secure not in ("", "http", "https"):
        raise _malformed(variable, f"the scheme is one of {', '.join(kinds)}, http, https")
    if not parts.hostname or parts.query or parts.fragment:
        raise _malformed(
            variable, "there is no host" if not parts.hostname else "there is a ? or #"
        )
    secure = secure or ("http" if _is_loopback(parts.hostname) else "https")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is None and secure == "http":
        port = _PORTS.get(kind)
    path = parts.path.rstrip("/") or _PATHS.get(kind, "/v1")
    url = f"{secure}://{host}{f':{port}' if port else ''}{path}"
    if kind in WIRES:
        return Redirected(name, url, vendor=kind, key=Secret(_token(parts)))
    base = PROFILES.get(kind, Compatible(name))
    return replace(
        base,
        name=name,
        base_url=url,
        key=Secret(_token(parts)),
        key_env="",
        url_env="",
    )


def _token(parts: SplitResult) -> str:
    """Everything before the last `@`: a token may contain a colon."""
    return unquote(parts.netloc.rpartition("@")[0]).strip()


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _malformed(variable: str, why: str) -> ConfigError:
    return ConfigError(
        f"{variable} describes no provider: {why}",
        code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
        hint=f"{variable}=scheme://[token@]host[:port][/path], e.g. vllm://gpu.example.com/v1",
    )


def _from_package(name: str) -> Model | ProviderFactory | None:
    found = plugins.find(plugins.PROVIDERS, name)
    if found is None:
        return None
    value = found.value
    if not callable(value) and not (hasattr(value, "stream") and hasattr(value, "price")):
        raise found.broken(f"it is a {type(value).__name__}, no model and no factory")
    return cast("Model | Callable[..., Model]", value)
