"""The EnvironmentManifest: all of an agent, as data.

JSON, YAML or TOML with a published JSON Schema. Builder and presets write manifests; `compile`
reads them; nothing else makes a pipeline. Live objects and keys are never in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from lorimer.core.adhoc import MAX_TOOLS, AdHocTool
from lorimer.core.arguments import is_a, wrong
from lorimer.core.documents import MAX_BYTES, dump, parse
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.faults import NO_FIELD, fault, invalid, problems_of
from lorimer.core.jsonable import JSON, canonical, dumps
from lorimer.core.limits import Limits, limits_adapter

VERSION: Final = "1"

DEFAULT_MODEL: Final = "claude-sonnet-4-6"


def _finite(value: JsonValue) -> JsonValue:
    try:
        canonical(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON: NaN, infinity or endless nesting") from error
    return value


Plain: TypeAlias = Annotated[JsonValue, AfterValidator(_finite)]
"""Any JSON value."""


class _Kind(type(BaseModel)):
    """What code makes wrongly is told as what a file says wrongly. Not in `__init__`: pydantic
    calls one of ours for each part of a document, too."""

    if not TYPE_CHECKING:  # to checkers the signature is the fields

        def __call__(cls, **given: object) -> object:
            try:
                return super().__call__(**given)
            except ValidationError as error:
                raise invalid(cls._faults(error, given)) from None


class _Part(BaseModel, metaclass=_Kind):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, defer_build=True)

    @classmethod
    def _faults(cls, error: ValidationError, given: Mapping[str, object]) -> list[str]:
        """What is wrong with one that is given these fields, each with its path in a manifest."""
        return problems_of(error, _PATHS.get(cls.__name__, ""), cls)

    def __setattr__(self, name: str, value: object) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise invalid(self._faults(error, {**self.__dict__, name: value})) from None

    def __deepcopy__(self, memo: dict[int, object] | None = None) -> Self:
        """As pydantic does it, in a quarter of the time: no text or number is looked up in `memo`.
        Each change of a pipeline takes a copy."""
        twin = self.model_copy()
        vars(twin).update({name: _own(value) for name, value in vars(self).items()})
        return twin


def _own(value: object) -> object:
    """The value, copied as far as it can be changed."""
    if value is None or isinstance(value, str | int | float | Limits):
        return value
    if type(value) is dict:
        return {name: _own(item) for name, item in cast("dict[str, object]", value).items()}
    if type(value) is list:
        return [_own(item) for item in cast("list[object]", value)]
    return deepcopy(value)


_PATHS: Final = {
    "Metadata": "metadata",
    "ModelConfig": "model",
    "ToolsConfig": "tools",
    "PermissionsConfig": "permissions",
}


class Metadata(_Part):
    """Who the agent is, for people."""

    name: str = "agent"
    """What it is called."""
    description: str = ""
    """What it is for."""
    author: str = ""
    """Who wrote it."""
    tags: list[str] = []
    """Words to find it by."""
    base_preset: str = ""
    """The preset it was made from."""


class ModelConfig(_Part):
    """Which model answers, and how it is asked."""

    model: str = DEFAULT_MODEL
    """A spec: `provider:model`, a bare model name, with an optional `:low|:medium|:high`."""
    max_tokens: Annotated[int, Field(ge=1)] = 8192
    """Bounds the visible answer."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Randomness; none: the provider's default."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the probability mass to choose from."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """How many tokens to choose from, where the provider has it."""
    stop_sequences: list[str] = []
    """Texts at which the answer ends."""
    thinking_enabled: bool = False
    """Let the model reason before it answers, where it can."""
    thinking_budget_tokens: Annotated[int, Field(ge=1024)] = 10_000
    """Tokens for that, beside `max_tokens`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """For sampling, where the provider has it."""
    output_schema: dict[str, Plain] | None = None
    """JSON Schema of an object: the answer is JSON of this form, where the provider has it."""
    api: Literal["", "chat", "responses"] = ""
    """Which wire of OpenAI; none: `responses` there, `chat` at other servers."""


class ToolBinding(_Part):
    """Which of the agent's tools a stage may call. The others are not shown to the model, and a
    call of one is answered with an error."""

    allowed: list[str] | None = None
    """Names of tools; none given: all but the blocked ones."""
    blocked: list[str] = []
    """Names of tools, also of allowed ones."""

    def admits(self, name: str) -> bool:
        """The stage may call this tool."""
        return (self.allowed is None or name in self.allowed) and name not in self.blocked


class StageEntry(_Part):
    """One stage: its strategies and their configuration."""

    order: Annotated[int, Field(ge=1, le=21)]
    """Its place."""
    name: str
    """Which stage."""
    active: bool = True
    """False: it stays in the manifest and out of the plan."""
    strategies: dict[str, str | list[str]] = {}
    """Slot to strategy; of a chain: the list of them, in order."""
    strategy_configs: dict[str, dict[str, Plain]] = {}
    """Slot to the configuration of its strategy; of a chain: strategy to its configuration."""
    config: dict[str, Plain] = {}
    """The stage's own."""
    implementation: str = ""
    """Which code does its work, where a package or the host has another than the shipped one."""
    model_override: dict[str, Plain] = {}
    """Fields of `model` that are others in this stage, if it asks a model."""
    tool_binding: ToolBinding | None = None
    """Of the stage that calls tools: which."""

    @classmethod
    def _faults(cls, error: ValidationError, given: Mapping[str, object]) -> list[str]:
        return problems_of(error, f"stages[{given.get('order', '')}]", cls)


class StageEntries(RootModel[list[StageEntry]]):
    """The stages, in order. `stages[6]` is the stage of that number, `stages["api"]` by name."""

    def __getitem__(self, key: int | str) -> StageEntry:
        for entry in self.root:
            if key in (entry.order, entry.name):
                return entry
        near = nearest(str(key), [entry.name for entry in self.root])
        raise ConfigError(f"the manifest has no stage {key!r}{near}")

    def __contains__(self, key: object) -> bool:
        return any(key in (entry.order, entry.name) for entry in self.root)

    def __iter__(self) -> Iterator[StageEntry]:  # type: ignore[override]
        return iter(self.root)

    def __len__(self) -> int:
        return len(self.root)


class ToolsConfig(_Part):
    """Which shipped tools the agent has. Naming them here grants nothing."""

    built_in: list[str] = []
    """Names of tools, or of groups; see docs/tools.md."""
    deferred: list[str] = []
    """Names of tools that the agent has, or of groups, which its model is not shown until it has
    found them with `ToolSearch`; that tool is there then."""
    ad_hoc: Annotated[list[AdHocTool], Field(max_length=MAX_TOOLS)] = []
    """Tools that the manifest describes itself, each of a `kind`: `http`, `script`, `template`,
    `composite`."""
    external: list[str] = []
    """Names of tools that installed packages offer."""
    given: list[str] | None = None
    """Names of tools that the agent has, of those that the host gives and those of its `agents`
    with `inputs`. None: all of them."""


class PermissionsConfig(_Part):
    """What the agent's tools may not do, or not without a person. A manifest cannot allow."""

    deny: list[str] = []
    """Rules whose calls are refused: `Tool`, `Tool(pattern)` or `@effect`."""
    ask: list[str] = []
    """Rules whose calls a person is asked about; where nobody is there, they are refused."""


_WHOLE: Final = {"type": ["object", "null"], "description": "A whole document like this one"}
"""What the schema says of it: pydantic has no way to name the root of a document in itself."""


class SubAgent(_Part):
    """An agent that this one may give work to. Its runs are part of this one's: they share its
    money, time, rules and end."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """What it is called."""
    description: Annotated[str, Field(min_length=1, max_length=2000)]
    """When to use it: the model chooses by this."""
    prompt: str = ""
    """Its system prompt. All that is not said here is as in this manifest, but for what is done
    with its answers."""
    manifest: Annotated[EnvironmentManifest | None, WithJsonSchema(_WHOLE)] = None
    """All of it, instead of a prompt and a model."""
    tools: list[str] | None = None
    """The tools that it has, of this agent's or shipped; `Agent`: it may give work to the others.
    None: this agent's. Beside a `manifest`: tools of the host's that it has too."""
    model: str = ""
    """Its model; none: this agent's."""
    inputs: dict[str, Plain] | None = None
    """JSON Schema of the object that it is given: then it has a tool of its own, with its name.
    None: it is given a text, with the tool `Agent`."""
    identity: str = ""
    """Who it is, where others here are the same: no agent is given work on what it is at work on
    already. None: its name."""
    limits: dict[str, Plain] = {}
    """Limits of each of its runs, where they are stricter than its manifest's; never more than
    what is left of the run that it works for."""

    @classmethod
    def _faults(cls, error: ValidationError, given: Mapping[str, object]) -> list[str]:
        return problems_of(error, f"agents[{given.get('name', '')}]", cls)


class EnvironmentManifest(_Part):
    """All of an agent."""

    version: Literal["1"] = VERSION
    metadata: Metadata = Field(default_factory=Metadata)
    model: ModelConfig = Field(default_factory=ModelConfig)
    limits: Limits = Field(default_factory=Limits)
    tools: ToolsConfig = Field(default_factory=ToolsConfig)
    permissions: PermissionsConfig = Field(default_factory=PermissionsConfig)
    agents: Annotated[list[SubAgent], Field(max_length=50)] = []
    """Whom it may give work to, with the tool `Agent`."""
    stages: StageEntries = Field(default_factory=lambda: StageEntries([]))

    @field_validator("version", mode="before")
    @classmethod
    def _readable(cls, version: object) -> object:
        if version in ("1.0", "2.0", "3.0"):
            raise ValueError("is one of geny-executor; carry it over: lorimer manifest import FILE")
        if type(version) is int:  # in YAML without its quotes
            version = str(version)
        if isinstance(version, str) and version.isdecimal() and int(version) > int(VERSION):
            raise ValueError(f"a later Lorimer wrote this; this one reads version {VERSION}")
        return version

    @classmethod
    def _faults(cls, error: ValidationError, given: Mapping[str, object]) -> list[str]:
        return faults_of(error, cast("Mapping[str, JSON]", given))

    @classmethod
    def from_dict(cls, data: Mapping[str, JSON]) -> EnvironmentManifest:
        """From its plain form. Raises ConfigError with path and reason of every error at once."""
        if not is_a(data, Mapping):
            raise wrong("a manifest", data, "a mapping", '{"stages": [...]}')
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise invalid(faults_of(error, data)) from None

    def to_dict(self) -> dict[str, JSON]:
        """Without what equals the defaults: short, and read back the same."""
        data: dict[str, JSON] = {
            "version": self.version,
            **self.model_dump(mode="json", exclude_defaults=True, exclude={"limits"}),
        }
        if limits := self.limits.to_json():
            data["limits"] = limits
        return data

    @classmethod
    def load(cls, path: str | Path) -> EnvironmentManifest:
        """Read a .json, .yaml or .toml file. Raises ConfigError."""
        return cls.from_dict(read_document(path))

    def save(self, path: str | Path) -> None:
        """Write a .json, .yaml or .toml file. Raises ConfigError for another suffix, and for null
        in TOML, which has none; OSError."""
        path = Path(path)
        path.write_text(dump(self.to_dict(), path.suffix.lower()), "utf-8")

    def to_bytes(self) -> bytes:
        """As journals keep it. Keys stay in their order: models are shown some of them, such as
        those of a schema, and a run that goes on from here has to ask the same."""
        return dumps(self.to_dict()).encode("utf-8", "surrogatepass")

    @property
    def digest(self) -> str:
        """32 hex digits; equal manifests have equal digests, whatever the order of their keys."""
        return manifest_digest(self.to_dict())


def manifest_digest(manifest: JSON) -> str:
    """The digest of a manifest in its plain form."""
    return blake2b(canonical(manifest), digest_size=16).hexdigest()


def read_document(path: str | Path) -> Mapping[str, JSON]:
    """Read a manifest's file without checking what it says. Raises ConfigError."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8 text", hint="Save it as UTF-8.", cause=error
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}", cause=error) from None
    return parse(text, path.suffix.lower(), str(path))


def faults_of(error: ValidationError, data: Mapping[str, JSON]) -> list[str]:
    """Every fault of the manifest `data`, which pydantic refused, as `path: reason`."""
    found: list[str] = []
    for item in error.errors(include_url=False, include_context=False):
        loc = item["loc"]
        if loc[:1] == ("stages",) and len(loc) > 1:
            found.append(fault(item, _stage_path(data, loc[1]), loc[2:], StageEntry))
        elif loc[:1] != ("limits",):
            found.append(fault(item, "", loc, EnvironmentManifest))
    return found + _limits_faults(data.get("limits", {}))


def _stage_path(data: Mapping[str, JSON], index: int | str) -> str:
    """As everywhere, a stage is named by its number; one without by its place in the list."""
    entries = data.get("stages")
    if isinstance(index, int) and isinstance(entries, list | tuple):
        entry = entries[index]
        order = entry.get("order") if isinstance(entry, Mapping) else None
        if isinstance(order, int):
            return f"stages[{order}]"
        return f"stages (entry {index + 1})"
    return f"stages.{index}"


def _limits_faults(limits: JSON) -> list[str]:
    # one by one: together, the first unknown name would hide all the rest
    given = limits if isinstance(limits, Mapping) else {"": limits}
    found: list[str] = []
    known = [field.name for field in fields(Limits)]
    for name, value in given.items():
        if name and name not in known:
            found.append(f"limits.{name}: {NO_FIELD}{nearest(name, known)}")
            continue
        try:
            limits_adapter().validate_python({name: value} if name else value)
        except ValidationError as error:
            found.extend(problems_of(error, "limits"))
    return found
