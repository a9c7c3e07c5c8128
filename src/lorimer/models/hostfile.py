"""The host file: the settings of one machine or program for models, in one document.

    [tiers]                      fast = "haiku, openai:gpt-5-mini:low"
    [aliases]                    haiku = "anthropic:claude-haiku-4-5"
    [providers.gpu]              kind = "vllm", base_url = "...", key_env = "GPU_KEY", ...
    [prices."gpu:qwen3"]         input = 0.2, output = 0.6       (dollars per million tokens)
    [windows]                    "gpu:qwen3" = 32768             (tokens)
    [capabilities."gpu:qwen3"]   tools = true

TOML, YAML or JSON. It contains no keys, only the names of the variables that hold them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lorimer.core.errors import ConfigError, nearest
from lorimer.core.faults import invalid, problems_of
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import read_document
from lorimer.core.model import Model, TraceSink, UsageSink
from lorimer.core.world import World
from lorimer.models.compatible import KINDS, NO_TOOLS, PROFILES, Compatible
from lorimer.models.credentials import VARIABLES, CredentialBundle, is_url
from lorimer.models.fitting import changes
from lorimer.models.health import Health
from lorimer.models.pricing import Price, Prices
from lorimer.models.redirected import WIRES, Redirected
from lorimer.models.registry import PROVIDERS, Models, ProviderFactory
from lorimer.models.tiers import Tiers
from lorimer.models.windows import Windows

T = TypeVar("T")
Server: TypeAlias = Compatible | Redirected

VENDORS: Final = tuple(name for name in PROVIDERS if name in VARIABLES and name not in PROFILES)
"""Providers with a wire of their own."""

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


_Texts: TypeAlias = dict[str, str]
_Able: TypeAlias = dict[str, bool]
_NAMES: Final = TypeAdapter(_Texts)
_WINDOW: Final = TypeAdapter(Annotated[int, Field(gt=0, strict=True)])
_ABLE: Final = TypeAdapter(Annotated[_Able, Field(strict=True)])
_PROVIDER: Final = TypeAdapter(_Provider)
_PRICED: Final = TypeAdapter(_Priced)
_SECTIONS: Final = ("tiers", "aliases", "providers", "prices", "windows", "capabilities")


@dataclass(frozen=True, slots=True)
class Host:
    """The checked contents of a host file."""

    path: Path | None = None
    """None: there is no file; everything is empty."""
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
        *,
        health: Health | None = None,
        usage_sink: UsageSink | None = None,
        trace_sink: TraceSink | None = None,
    ) -> Models:
        """Build Models from the file; arguments given here take precedence. Raises ConfigError for
        capabilities of an unknown provider."""
        made = Models(
            credentials,
            world,
            Prices(self.prices, now=None if world is None else world.time),
            {**self.providers, **(providers or {})},
            tiers=self.tiers,
            windows=Windows(self.windows),
            health=health,
            usage_sink=usage_sink,
            trace_sink=trace_sink,
        )
        for target, able in self.capabilities.items():
            made.configure_capabilities(target, **able)
        return made


def read_host(path: str | Path) -> Host:
    """Read a host file (.toml, .yaml, .json). Raises ConfigError if it cannot be read, or listing
    all its faults at once, each with its path."""
    return host_of(read_document(path), Path(path))


def host_of(data: Mapping[str, JSON], path: Path | None = None) -> Host:
    """Like `read_host`, from the document itself."""
    problems = [
        f"{name}: there is no such section{nearest(name, _SECTIONS)}"
        for name in data
        if name not in _SECTIONS
    ]
    tiers = _tiers(data, problems)
    providers: dict[str, _Provider] = {}
    for name, value in _section(data, "providers", problems):
        where = f"providers.{name}"
        said = _checked(_PROVIDER, _without_keys(where, name, value, problems), where, problems)
        if said is not None:
            problems += [f"{where}: {fault}" for fault in _faults(name, said)]
            providers[name] = said
    prices = {
        name: _prices(value, f"prices.{name}", problems)
        for name, value in _section(data, "prices", problems)
    }
    windows = {
        f"{name}:*": said.context_window
        for name, said in providers.items()
        if said.context_window is not None
    }
    for name, value in _section(data, "windows", problems):
        windows[name] = _checked(_WINDOW, value, f"windows.{name}", problems) or 1
    able: dict[str, Mapping[str, bool]] = {
        name: said.capabilities
        for name, said in providers.items()
        if _kind(name, said) in VENDORS and said.capabilities
    }
    for name, value in _section(data, "capabilities", problems):
        able[name] = _checked(_ABLE, value, f"capabilities.{name}", problems) or {}
        problems += _wrong_names(f"capabilities.{name}", able[name])
    if problems:
        raise invalid(problems, str(path) if path is not None else "the host file")
    servers = {name: _server(name, said) for name, said in providers.items()}
    return Host(path, tiers, servers, prices, windows, able)


def _section(
    data: Mapping[str, JSON], name: str, problems: list[str]
) -> Iterable[tuple[str, JSON]]:
    section = data.get(name, {})
    if isinstance(section, Mapping):
        return section.items()
    problems.append(f"{name}: names with values are wanted")
    return ()


def _checked(adapter: TypeAdapter[T], value: JSON, where: str, problems: list[str]) -> T | None:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problems += problems_of(error, where)
        return None


def _tiers(data: Mapping[str, JSON], problems: list[str]) -> Tiers:
    tables = [_checked(_NAMES, data.get(name, {}), name, problems) for name in ("tiers", "aliases")]
    try:
        return Tiers(*tables)
    except ConfigError as error:
        problems += error.problems or (str(error),)
        return Tiers()


def _prices(value: JSON, where: str, problems: list[str]) -> list[Price]:
    several = value if isinstance(value, list) else [value]
    found: list[Price] = []
    for at, one in enumerate(several):
        place = f"{where}[{at}]" if isinstance(value, list) else where
        said = _checked(_PRICED, one, place, problems)
        if said is not None:
            found.append(_price(said))
    if len({one.since for one in found}) < len(found):
        problems.append(f"{where}: two of them begin on the same day (`from`)")
    return found


def _price(said: _Priced) -> Price:
    return Price(said.input, said.output, said.cache_read, said.cache_write, said.since)


def _without_keys(where: str, name: str, said: JSON, problems: list[str]) -> JSON:
    """The provider without any keys written in the document; each of those is a problem."""
    found = [key for key in _KEYS if isinstance(said, Mapping) and key in said]
    if not found or not isinstance(said, Mapping):
        return said
    variable = re.sub(r"\W", "_", name).upper() + "_API_KEY"
    problems += [
        f"{where}.{key}: keys do not belong in this file; put it into the variable"
        f' {variable} and write key_env = "{variable}"'
        for key in found
    ]
    return {field: value for field, value in said.items() if field not in found}


def _faults(name: str, said: _Provider) -> list[str]:
    """What is wrong with a provider whose fields are well-formed."""
    found: list[str] = []
    vendor, kind = name in VENDORS, _kind(name, said)
    if not _NAME.fullmatch(name):
        found.append("a name has small letters, digits, '-' and '_'")
    elif name in PROVIDERS and not vendor and name not in PROFILES:
        found.append("it is not reached over a network")
    elif (vendor or name in PROFILES) and kind != name:
        found.append(f"kind: this name is taken by {name!r} itself")
    elif not vendor and kind not in (*KINDS, *WIRES):
        found.append(f"kind: {kind!r} is unknown{nearest(kind, (*KINDS, *WIRES))}")
    elif not said.base_url and not vendor and name not in PROFILES and kind != "openrouter":
        found.append("base_url: it is missing")
    if vendor and name != "openai" and said.base_url and not said.key_env:
        found.append("key_env: it is missing; the usual key is not sent to another base_url")
    if said.api and kind in WIRES:
        found.append(f"api: {kind!r} has one wire only")
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
    own = name if name in PROFILES or name in VENDORS else "custom"
    return "custom" if said.kind == "openai" != name else said.kind or own


def _server(name: str, said: _Provider) -> Server:
    kind = _kind(name, said)
    if name in VENDORS or kind in WIRES:
        vendor = "" if name in VENDORS else kind
        return Redirected(name, said.base_url, said.key_env, said.headers, said.api, vendor)
    known = PROFILES.get(kind, Compatible(name))
    # a known server's own variables apply, unless the file gives its URL
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
