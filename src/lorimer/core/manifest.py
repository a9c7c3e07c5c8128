"""The EnvironmentManifest: everything about an agent, as data.

JSON, YAML or TOML with a published JSON Schema. Builder and presets write manifests, `compile`
reads them, and there is no other way to make a pipeline. It never contains live objects or keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, TypeAlias, TypedDict, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
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
    """Reports invalid arguments in code as it reports invalid files. Not done in `__init__`,
    because pydantic would call it for each part of a document too."""

    if not TYPE_CHECKING:  # for type checkers the signature is that of the fields

        def __call__(cls, **given: object) -> object:
            try:
                return super().__call__(**given)
            except ValidationError as error:
                raise invalid(cls._faults(error, given)) from None


class _Part(BaseModel, metaclass=_Kind):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, defer_build=True)

    @classmethod
    def _faults(cls, error: ValidationError, given: Mapping[str, object]) -> list[str]:
        """What is wrong with one made from these fields, each fault with its path in a manifest."""
        return problems_of(error, _PATHS.get(cls.__name__, ""), cls)

    def __setattr__(self, name: str, value: object) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise invalid(self._faults(error, {**self.__dict__, name: value})) from None

    def __deepcopy__(self, memo: dict[int, object] | None = None) -> Self:
        """Copies as pydantic does, in a quarter of the time, because strings and numbers are not
        looked up in `memo`. Each change of a pipeline takes a copy."""
        twin = self.model_copy()
        vars(twin).update({name: _own(value) for name, value in vars(self).items()})
        return twin


def _own(value: object) -> object:
    """A copy of the value as far as it is mutable."""
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
    """Describes the agent to people."""

    name: str = "agent"
    """The agent's name."""
    description: str = ""
    """What the agent is for."""
    author: str = ""
    """Who wrote it."""
    tags: list[str] = []
    """Keywords to find it by."""
    base_preset: str = ""
    """The preset it was made from."""


class ModelConfig(_Part):
    """Which model answers, and with which settings."""

    model: str = DEFAULT_MODEL
    """A spec: `provider:model`, a bare model name, with an optional `:low|:medium|:high`."""
    max_tokens: Annotated[int, Field(ge=1)] = 8192
    """Most tokens of the visible answer."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature; null: the provider's default."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Nucleus sampling: share of the probability mass to choose from."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Number of tokens to sample from, if the provider supports it."""
    stop_sequences: list[str] = []
    """Texts that end the answer."""
    thinking_enabled: bool = False
    """Let the model reason before it answers, if it can."""
    thinking_budget_tokens: Annotated[int, Field(ge=1024)] = 10_000
    """Tokens for reasoning, in addition to `max_tokens`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Seed for sampling, if the provider supports it."""
    output_schema: dict[str, Plain] | None = None
    """JSON Schema of an object: the answer is JSON of this form, if the provider supports it."""
    api: Literal["", "chat", "responses"] = ""
    """Which of OpenAI's wires to use; null: `responses` at OpenAI, `chat` at other servers."""

    def changed(self, settings: Mapping[str, object]) -> ModelConfig:
        """A copy with other values for these fields. Raises ConfigError naming every fault."""
        try:
            return ModelConfig.model_validate({**self.model_dump(), **settings})
        except ValidationError as error:
            raise invalid(problems_of(error, "model", ModelConfig)) from None


class ModelSettings(TypedDict, total=False):
    """How a model answers: the fields of `ModelConfig` but `model` and `output_schema`. Thinking
    effort is part of a model's spec (`openai:gpt-5:high`)."""

    max_tokens: int
    temperature: float | None
    top_p: float | None
    top_k: int | None
    stop_sequences: list[str]
    thinking_enabled: bool
    thinking_budget_tokens: int
    seed: int | None
    api: Literal["", "chat", "responses"]


class ToolBinding(_Part):
    """Which of the agent's tools a stage may call. The model is not shown the others, and a call of
    one is answered with an error."""

    allowed: list[str] | None = None
    """Names of tools; null: all except the blocked ones."""
    blocked: list[str] = []
    """Names of tools that are excluded, even if they are allowed."""

    def admits(self, name: str) -> bool:
        """Whether the stage may call this tool."""
        return (self.allowed is None or name in self.allowed) and name not in self.blocked


def _named(given: object, valid: ValidatorFunctionWrapHandler) -> object:
    """One fault for what is neither, instead of one for each."""
    try:
        return cast("object", valid(given))
    except ValidationError:
        raise ValueError("must be the name of a strategy, or a list of names") from None


class StageEntry(_Part):
    """One stage: its strategies and their configuration."""

    order: Annotated[int, Field(ge=1, le=21)]
    """Position of the stage in the pipeline."""
    name: str
    """Name of the stage."""
    active: bool = True
    """False: it stays in the manifest but is left out of the plan."""
    strategies: dict[str, Annotated[str | list[str], WrapValidator(_named)]] = {}
    """Strategy by slot; for a chain: the list of strategies, in order."""
    strategy_configs: dict[str, dict[str, Plain]] = {}
    """Configuration by slot; for a chain: by slot and strategy."""
    config: dict[str, Plain] = {}
    """Configuration of the stage itself."""
    implementation: str = ""
    """An alternative implementation of the stage, offered by a package or the host."""
    model_override: dict[str, Plain] = {}
    """Fields of `model` that this stage overrides, if it calls a model."""
    tool_binding: ToolBinding | None = None
    """For the stage that calls tools: which ones it may call."""

    @classmethod
    def _faults(cls, error: ValidationError, given: Mapping[str, object]) -> list[str]:
        return problems_of(error, f"stages[{given.get('order', '')}]", cls)


class StageEntries(RootModel[list[StageEntry]]):
    """The stages, in order. `stages[6]` is the stage with that order, `stages["api"]` the one with
    that name."""

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
    """Which shipped tools the agent has. Naming a tool here does not permit its calls."""

    built_in: list[str] = []
    """Names of tools, or of groups; see docs/tools.md."""
    deferred: list[str] = []
    """Names of the agent's tools, or of groups, that the model is not shown until it has found them
    with `ToolSearch`, which is added automatically."""
    ad_hoc: Annotated[list[AdHocTool], Field(max_length=MAX_TOOLS)] = []
    """Tools that the manifest describes itself, each of a `kind`: `http`, `script`, `template`,
    `composite`."""
    external: list[str] = []
    """Names of tools that installed packages offer."""
    given: list[str] | None = None
    """Names of the host's tools that the agent has, and of its `agents` with `inputs`. Null: all of
    them."""


class PermissionsConfig(_Part):
    """What the agent's tools may not do, or only after a person agrees. A manifest cannot allow
    anything."""

    deny: list[str] = []
    """Rules whose calls are refused: `Tool`, `Tool(pattern)` or `@effect`."""
    ask: list[str] = []
    """Rules whose calls need a person's approval; refused if nobody can be asked."""


_WHOLE: Final = {"type": ["object", "null"], "description": "A whole document like this one"}
"""Description in the schema: pydantic cannot name the root of a document in itself."""


class SubAgent(_Part):
    """An agent that this one can delegate work to. Its runs are part of this agent's runs: they
    share its money, time, rules and end."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """Name of the sub-agent."""
    description: Annotated[str, Field(min_length=1, max_length=2000)]
    """When to use it; the model chooses by this text."""
    prompt: str = ""
    """Its system prompt. Everything not set here is as in this manifest, except what is done with
    its answers."""
    manifest: Annotated[EnvironmentManifest | None, WithJsonSchema(_WHOLE)] = None
    """A complete manifest, instead of a prompt and a model."""
    tools: list[str] | None = None
    """Its tools, from this agent's tools or shipped ones; `Agent`: it may delegate to the other
    sub-agents. Null: this agent's tools. With a `manifest`: additional tools of the host."""
    model: str = ""
    """Its model; null: this agent's."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of each of its answers; null: as of this agent's."""
    inputs: dict[str, Plain] | None = None
    """JSON Schema of its input object: it then becomes a tool of its own, under its name. Null: it
    is given a text, with the tool `Agent`."""
    identity: str = ""
    """Its identity, if several names stand for the same agent: no agent is given work while it is
    working already. Null: its name."""
    limits: dict[str, Plain] = {}
    """Limits of each of its runs, where stricter than those of its manifest; never more than what
    is left of the parent run."""

    @classmethod
    def _faults(cls, error: ValidationError, given: Mapping[str, object]) -> list[str]:
        return problems_of(error, f"agents[{given.get('name', '')}]", cls)


class EnvironmentManifest(_Part):
    """Everything about an agent."""

    version: Literal["1"] = VERSION
    metadata: Metadata = Field(default_factory=Metadata)
    model: ModelConfig = Field(default_factory=ModelConfig)
    limits: Limits = Field(default_factory=Limits)
    tools: ToolsConfig = Field(default_factory=ToolsConfig)
    permissions: PermissionsConfig = Field(default_factory=PermissionsConfig)
    agents: Annotated[list[SubAgent], Field(max_length=50)] = []
    """The sub-agents it can delegate work to, with the tool `Agent`."""
    stages: StageEntries = Field(default_factory=lambda: StageEntries([]))

    @field_validator("version", mode="before")
    @classmethod
    def _readable(cls, version: object) -> object:
        if version in ("1.0", "2.0", "3.0"):
            raise ValueError("is one of geny-executor; carry it over: lorimer manifest import FILE")
        if type(version) is int:  # in YAML without quotes
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
        """Without what equals the defaults: short, and lossless."""
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
        """Write a .json, .yaml or .toml file. Raises ConfigError for another suffix and for null in
        TOML, which cannot express it; OSError."""
        path = Path(path)
        path.write_text(dump(self.to_dict(), path.suffix.lower()), "utf-8")

    def to_bytes(self) -> bytes:
        """As journals store it. Keys keep their order: models are shown some of them, such as those
        of a schema, and a resumed run has to send the same request."""
        return dumps(self.to_dict()).encode("utf-8", "surrogatepass")

    @property
    def digest(self) -> str:
        """32 hex digits; equal manifests have equal digests, whatever the order of their keys."""
        return manifest_digest(self.to_dict())


def manifest_digest(manifest: JSON) -> str:
    """The digest of a manifest given as plain data."""
    return blake2b(canonical(manifest), digest_size=16).hexdigest()


def read_document(path: str | Path) -> Mapping[str, JSON]:
    """Read a manifest's file without validating its content. Raises ConfigError."""
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
    """Every fault of the manifest `data`, which pydantic rejected, as `path: reason`."""
    found: list[str] = []
    for item in error.errors(include_url=False, include_context=False):
        loc = item["loc"]
        if loc[:1] == ("stages",) and len(loc) > 1:
            found.append(fault(item, _stage_path(data, loc[1]), loc[2:], StageEntry))
        elif loc[:1] != ("limits",):
            found.append(fault(item, "", loc, EnvironmentManifest))
    return found + _limits_faults(data.get("limits", {}))


def _stage_path(data: Mapping[str, JSON], index: int | str) -> str:
    """As everywhere, a stage is identified by its order; one without by its index in the list."""
    entries = data.get("stages")
    if isinstance(index, int) and isinstance(entries, list | tuple):
        entry = entries[index]
        order = entry.get("order") if isinstance(entry, Mapping) else None
        if isinstance(order, int):
            return f"stages[{order}]"
        return f"stages (entry {index + 1})"
    return f"stages.{index}"


def _limits_faults(limits: JSON) -> list[str]:
    # one by one: together, the first unknown name would hide all the others
    given = limits if isinstance(limits, Mapping) else {"": limits}
    found: list[str] = []
    known = [field.name for field in fields(Limits)]
    for name, value in given.items():
        if name and name not in known:
            found.append(f"limits.{name}: {NO_FIELD}{nearest(str(name), known)}")
            continue
        try:
            limits_adapter().validate_python({name: value} if name else value)
        except ValidationError as error:
            found.extend(problems_of(error, "limits"))
    return found
