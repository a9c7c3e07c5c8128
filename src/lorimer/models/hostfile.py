"""The host file: what one machine or program says about models, in one document.

    [tiers]                      fast = "haiku, openai:gpt-5-mini:low"
    [aliases]                    haiku = "anthropic:claude-haiku-4-5"
    [providers.gpu]              kind = "vllm", base_url = "...", key_env = "GPU_KEY", ...
    [prices."gpu:qwen3"]         input = 0.2, output = 0.6       (dollars per million tokens)
    [windows]                    "gpu:qwen3" = 32768             (tokens)
    [capabilities."gpu:qwen3"]   tools = true

TOML, YAML or JSON. Keys do not stand in it: it names the variables that they are in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lorimer.core.documents import parse
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import problems_of
from lorimer.core.model import Model
from lorimer.core.world import World
from lorimer.models.compatible import KINDS, NO_TOOLS, PROFILES, Compatible
from lorimer.models.credentials import VARIABLES, CredentialBundle, is_url
from lorimer.models.discovery import variable_of
from lorimer.models.fitting import changes
from lorimer.models.pricing import Price, Prices
from lorimer.models.redirected import Redirected
from lorimer.models.registry import PROVIDERS, Models, ProviderFactory
from lorimer.models.tiers import Tiers
from lorimer.models.windows import Windows

Server: TypeAlias = Compatible | Redirected

VENDORS: Final = tuple(name for name in PROVIDERS if name in VARIABLES and name not in PROFILES)
"""Providers with a wire of their own: here they can be sent elsewhere, not renamed."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_KEYS: Final = ("api_key", "apikey", "key", "token", "secret", "password")
_SECRET_HEADER: Final = re.compile(r"(proxy-)?authorization|cookie|.*(key|token|secret).*", re.I)
_STRICT: Final = ConfigDict(extra="forbid", strict=True)


class _Priced(BaseModel):
    model_config = _STRICT
    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cache_read: float | None = Field(None, ge=0, allow_inf_nan=False)
    cache_write: float | None = Field(None, ge=0, allow_inf_nan=False)
    since: date | None = Field(None, alias="from", strict=False)


class _Provider(BaseModel):
    model_config = _STRICT
    kind: str = ""
    base_url: str = ""
    key_env: str = ""
    headers: dict[str, str] = {}
    api: Literal["", "chat", "responses"] = ""
    capabilities: dict[str, bool] = {}
    context_window: int | None = Field(None, gt=0)


class _File(BaseModel):
    model_config = _STRICT
    tiers: dict[str, str] = {}
    aliases: dict[str, str] = {}
    providers: dict[str, _Provider] = {}
    prices: dict[str, list[_Priced]] = {}
    windows: dict[str, int] = {}
    capabilities: dict[str, dict[str, bool]] = {}

    @field_validator("prices", mode="before")
    @classmethod
    def _always_several(cls, value: JSON) -> JSON:
        if not isinstance(value, Mapping):
            return value
        return {name: [one] if isinstance(one, Mapping) else one for name, one in value.items()}


@dataclass(frozen=True, slots=True)
class Host:
    """What a host file says, checked."""

    path: Path | None = None
    """None: there is no file, and nothing is said."""
    tiers: Tiers = field(default_factory=Tiers)
    providers: Mapping[str, Server] = field(default_factory=dict[str, Server])
    prices: Mapping[str, list[Price]] = field(default_factory=dict[str, list[Price]])
    windows: Mapping[str, int] = field(default_factory=dict[str, int])
    capabilities: Mapping[str, Mapping[str, bool]] = field(
        default_factory=dict[str, Mapping[str, bool]]
    )

    def models(
        self,
        credentials: CredentialBundle | None = None,
        world: World | None = None,
        providers: Mapping[str, Model | ProviderFactory | str] | None = None,
    ) -> Models:
        """Models as the file says; what is given here wins over it. Raises ConfigError for
        capabilities of a provider that nobody knows."""
        made = Models(
            credentials,
            world,
            Prices(self.prices, now=None if world is None else world.time),
            {**self.providers, **(providers or {})},
            tiers=self.tiers,
            windows=Windows(self.windows),
        )
        for target, able in self.capabilities.items():
            made.configure_capabilities(target, **able)
        return made


def read_host(path: str | Path) -> Host:
    """Read a host file (.toml, .yaml, .json). Raises ConfigError: it cannot be read, or every
    fault of it at once, each with its path."""
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text", cause=error) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}", cause=error) from None
    return host_of(parse(text, path.suffix.lower(), str(path)), path)


def host_of(data: Mapping[str, JSON], path: Path | None = None) -> Host:
    """The same from the document itself."""
    problems, clean = _without_keys(data)
    file = _File()
    try:
        file = _File.model_validate(clean)
    except ValidationError as error:
        problems += problems_of(error, "")
    for name, said in file.providers.items():
        problems += [f"providers.{name}: {fault}" for fault in _faults(name, said)]
    tiers = Tiers()
    try:
        tiers = Tiers(file.tiers, file.aliases)
    except ConfigError as error:
        problems += error.problems or (str(error),)
    for target, able in file.capabilities.items():
        problems += _wrong_names(f"capabilities.{target}", able)
    problems += [
        f"windows.{name}: {tokens} is no number of tokens"
        for name, tokens in file.windows.items()
        if tokens <= 0
    ]
    prices = {name: [_price(one) for one in several] for name, several in file.prices.items()}
    for name, several in prices.items():
        if len({one.since for one in several}) < len(several):
            problems.append(f"prices.{name}: two of them begin on the same day (`from`)")
    if problems:
        where = str(path) if path is not None else "the host file"
        count = f"{len(problems)} errors" if len(problems) > 1 else "1 error"
        told = "; ".join(problems)
        raise ConfigError(f"{where} has {count}: {told}", problems=tuple(problems))
    return Host(
        path,
        tiers,
        {name: _server(name, said) for name, said in file.providers.items()},
        prices,
        _windows(file),
        _capabilities(file),
    )


def _price(said: _Priced) -> Price:
    return Price(said.input, said.output, said.cache_read, said.cache_write, said.since)


def _without_keys(data: Mapping[str, JSON]) -> tuple[list[str], Mapping[str, JSON]]:
    """What is said of keys that stand in the document, and the document without them."""
    providers = data.get("providers")
    if not isinstance(providers, Mapping):
        return [], data
    problems: list[str] = []
    clean: dict[str, JSON] = {}
    for name, said in providers.items():
        found = [key for key in _KEYS if isinstance(said, Mapping) and key in said]
        variable = variable_of(name).removeprefix("LORIMER_PROVIDER_") + "_API_KEY"
        problems += [
            f"providers.{name}.{key}: keys do not belong in this file; put it into the variable"
            f' {variable} and write key_env = "{variable}"'
            for key in found
        ]
        rest = cast("Mapping[str, JSON]", said)
        clean[name] = {k: v for k, v in rest.items() if k not in found} if found else said
    return problems, {**data, "providers": clean}


def _faults(name: str, said: _Provider) -> list[str]:
    """What is wrong with a provider whose fields have the right form."""
    found: list[str] = []
    vendor, kind = name in VENDORS, _kind(name, said)
    if not _NAME.fullmatch(name):
        found.append("a name has small letters, digits, '-' and '_'")
    elif name in PROVIDERS and not vendor and name not in PROFILES:
        found.append("it is not reached over a network")
    elif (vendor or name in PROFILES) and kind != name:
        found.append(f"kind: this name is taken by {name!r} itself")
    elif not vendor and kind in VENDORS:
        found.append(f"kind: {kind!r} is spoken only under its own name, [providers.{kind}]")
    elif not vendor and kind not in KINDS:
        found.append(f"kind: {kind!r} is unknown{nearest(kind, KINDS)}")
    elif not said.base_url and not vendor and name not in PROFILES and kind != "openrouter":
        found.append("base_url: it is missing")
    if vendor and name != "openai" and said.base_url and not said.key_env:
        found.append("key_env: it is missing; the usual key is not sent to another base_url")
    if said.api and vendor and name != "openai":
        found.append(f"api: {name!r} has one wire only")
    if said.key_env and not _VARIABLE.fullmatch(said.key_env):
        found.append("key_env: the name of a variable is wanted, not a key")  # nor is it shown
    if "@" in said.base_url.partition("://")[2].partition("/")[0]:
        found.append("base_url: keys and passwords do not belong in this file; use key_env")
    elif said.base_url and not is_url(said.base_url):
        found.append("base_url: an http:// or https:// URL is wanted")
    for header, text in said.headers.items():
        if text.startswith("$") and not _VARIABLE.fullmatch(text[1:]):
            found.append(f"headers.{header}: after $ comes the name of a variable")
        elif _SECRET_HEADER.fullmatch(header) and not text.startswith("$"):
            found.append(
                f"headers.{header}: keys do not belong in this file; put it into a variable and"
                ' write "$VARIABLE"'
            )
    return found + _wrong_names("capabilities", said.capabilities)


def _wrong_names(where: str, able: Mapping[str, bool]) -> list[str]:
    try:
        changes(able)
    except ConfigError as error:
        return [f"{where}: {error}"]
    return []


def _kind(name: str, said: _Provider) -> str:
    return said.kind or (name if name in PROFILES or name in VENDORS else "custom")


def _server(name: str, said: _Provider) -> Server:
    if name in VENDORS:
        return Redirected(name, said.base_url, said.key_env, said.headers, said.api)
    known = PROFILES.get(_kind(name, said), Compatible(name))
    # of a shipped one its own variables count, unless the file says where it is
    shipped = known.name == name and not said.base_url
    return replace(
        known,
        name=name,
        base_url=said.base_url or known.base_url,
        key_env=said.key_env or (known.key_env if shipped or known.needs_key else ""),
        url_env=known.url_env if shipped else "",
        needs_key=known.needs_key or bool(said.key_env),
        headers=said.headers,
        api=said.api,
        capabilities=replace(NO_TOOLS, **changes(said.capabilities)),
    )


def _windows(file: _File) -> dict[str, int]:
    said = {
        f"{name}:*": provider.context_window
        for name, provider in file.providers.items()
        if provider.context_window is not None
    }
    return said | file.windows


def _capabilities(file: _File) -> dict[str, Mapping[str, bool]]:
    vendors = {
        name: provider.capabilities
        for name, provider in file.providers.items()
        if name in VENDORS and provider.capabilities
    }
    return {**vendors, **file.capabilities}
