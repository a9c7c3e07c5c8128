"""Changes of a manifest, as data: each is a function from a manifest to a manifest.

A change of a pipeline is told to its live runs, which take it up before their next model call and
record it as the fact `mutated`; so it is JSON, and names everything. Who may change what, and what
was changed: `mutable.py`. When a live run applies it: `pending_changes.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Final, Literal, Protocol, TypeAlias, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lorimer.core.errors import ConfigError, MutationError, nearest
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import (
    EnvironmentManifest,
    Metadata,
    ModelConfig,
    PermissionsConfig,
    Plain,
    StageEntry,
    ToolBinding,
    ToolsConfig,
    problems_of,
)
from lorimer.core.stage import Slot, Strategy

M = TypeVar("M", bound=BaseModel)

SECTIONS: Final = ("metadata", "model", "limits", "tools", "permissions", "agents")
"""The parts of a manifest besides its stages."""


class Declared(Protocol):
    """Where the slots of stages are looked up: a catalogue."""

    def slots(self, stage: str, implementation: str = "") -> Mapping[str, Slot[Strategy]]:
        """The slots of a stage by name. Raises ConfigError when there is no such stage."""
        ...


class Change(BaseModel):
    """One change. `kind` says which, in JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @abstractmethod
    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        """Make it, in a manifest that belongs to the caller. Raises MutationError."""


class _StageChange(Change):
    stage: str
    """Its name."""

    def entry(self, draft: EnvironmentManifest) -> StageEntry:
        if self.stage not in draft.stages:
            known = [entry.name for entry in draft.stages]
            raise MutationError(
                f"this agent has no {self.stage!r} stage{nearest(self.stage, known)}"
            )
        return draft.stages[self.stage]


class _SlotChange(_StageChange):
    slot: str

    def held(self, draft: EnvironmentManifest, declared: Declared) -> tuple[list[str], bool]:
        """What is in the slot, and whether it is a chain."""
        entry = self.entry(draft)
        slots = declared.slots(entry.name, entry.implementation)
        if self.slot not in slots:
            raise MutationError(
                f"the {self.stage!r} stage has no slot {self.slot!r}{nearest(self.slot, slots)}"
            )
        slot = slots[self.slot]
        chosen = entry.strategies.get(self.slot, list(slot.default))
        return (list(chosen) if isinstance(chosen, list) else [chosen]), slot.chain

    def chain(self, draft: EnvironmentManifest, declared: Declared) -> list[str]:
        """What is in the chain."""
        held, chain = self.held(draft, declared)
        if not chain:
            raise MutationError(f"{self.stage}.{self.slot} holds one strategy: it is no chain")
        return held

    def settle(self, draft: EnvironmentManifest, held: list[str]) -> None:
        """This is in the chain from now on; configurations of what is not, go."""
        entry = self.entry(draft)
        entry.strategies[self.slot] = held
        configs = entry.strategy_configs.pop(self.slot, {})
        kept = {name: config for name, config in configs.items() if name in held}
        if kept:
            entry.strategy_configs[self.slot] = kept


class SwapStrategy(_SlotChange):
    """Another strategy in a slot, configured anew; in a chain another list of them, or one for a
    chain of one. `config` maps, where it is a list, strategy to configuration."""

    kind: Literal["swap_strategy"] = "swap_strategy"
    strategy: str | list[str]
    config: dict[str, Plain] = {}

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        _, chain = self.held(draft, declared)
        entry = self.entry(draft)
        one = chain and isinstance(self.strategy, str)
        entry.strategies[self.slot] = [str(self.strategy)] if one else self.strategy
        entry.strategy_configs.pop(self.slot, None)
        if self.config:
            own: Plain = dict(self.config)
            entry.strategy_configs[self.slot] = {str(self.strategy): own} if one else {**own}


class UpdateStrategyConfig(_SlotChange):
    """Fields of the configuration of a strategy, the others as they are; in a chain `strategy` says
    whose."""

    kind: Literal["update_strategy_config"] = "update_strategy_config"
    config: dict[str, Plain]
    strategy: str = ""

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        held, chain = self.held(draft, declared)
        if chain and not self.strategy:
            raise MutationError(f"{self.stage}.{self.slot} is a chain: say which strategy")
        if self.strategy and self.strategy not in held:
            raise _not_there(self, self.strategy, held)
        configs = self.entry(draft).strategy_configs
        slot = dict(configs.get(self.slot, {}))
        if chain:
            own = slot.get(self.strategy)
            slot[self.strategy] = {**(own if isinstance(own, dict) else {}), **self.config}
        else:
            slot.update(self.config)
        configs[self.slot] = slot


class AddToChain(_SlotChange):
    """One more strategy in a chain: last, or at the place `at`, from 0."""

    kind: Literal["add_to_chain"] = "add_to_chain"
    strategy: str
    config: dict[str, Plain] = {}
    at: Annotated[int, Field(ge=0)] | None = None

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        held = self.chain(draft, declared)
        if self.strategy in held:
            raise MutationError(f"{self.stage}.{self.slot} has {self.strategy!r} already")
        held.insert(len(held) if self.at is None else self.at, self.strategy)
        self.settle(draft, held)
        if self.config:
            configs = self.entry(draft).strategy_configs.setdefault(self.slot, {})
            configs[self.strategy] = dict(self.config)


class RemoveFromChain(_SlotChange):
    """One strategy less in a chain."""

    kind: Literal["remove_from_chain"] = "remove_from_chain"
    strategy: str

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        held = self.chain(draft, declared)
        if self.strategy not in held:
            raise _not_there(self, self.strategy, held)
        held.remove(self.strategy)
        self.settle(draft, held)


class ReorderChain(_SlotChange):
    """The same strategies of a chain in another order."""

    kind: Literal["reorder_chain"] = "reorder_chain"
    order: list[str]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        held = self.chain(draft, declared)
        if sorted(self.order) != sorted(held):
            raise MutationError(f"{self.stage}.{self.slot} holds {', '.join(held) or 'nothing'}")
        self.settle(draft, list(self.order))


class UpdateStageConfig(_StageChange):
    """Fields of a stage's own configuration, the others as they are."""

    kind: Literal["update_stage_config"] = "update_stage_config"
    config: dict[str, Plain]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        entry = self.entry(draft)
        entry.config = {**entry.config, **self.config}


class SetStageActive(_StageChange):
    """A stage into the plan, or out of it; in the manifest it stays."""

    kind: Literal["set_stage_active"] = "set_stage_active"
    active: bool

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        self.entry(draft).active = self.active


class RegisterStage(Change):
    """One more stage."""

    kind: Literal["register_stage"] = "register_stage"
    entry: StageEntry

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        if self.entry.name in draft.stages:
            raise MutationError(f"this agent has a {self.entry.name!r} stage already")
        _insert(draft, self.entry)


class RemoveStage(_StageChange):
    """One stage less."""

    kind: Literal["remove_stage"] = "remove_stage"

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        draft.stages.root.remove(self.entry(draft))


class ReplaceStage(_StageChange):
    """A stage that is configured anew, with all its slots; its name may be another."""

    kind: Literal["replace_stage"] = "replace_stage"
    by: StageEntry

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        draft.stages.root.remove(self.entry(draft))
        if self.by.name in draft.stages:
            raise MutationError(f"this agent has a {self.by.name!r} stage already")
        _insert(draft, self.by)


class SetImplementation(_StageChange):
    """Other code for a stage; "": the usual one."""

    kind: Literal["set_implementation"] = "set_implementation"
    implementation: str

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        self.entry(draft).implementation = self.implementation


class SetStageModel(_StageChange):
    """What a stage overrides of the model: all of it; {}: nothing."""

    kind: Literal["set_stage_model"] = "set_stage_model"
    model: dict[str, Plain]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        self.entry(draft).model_override = dict(self.model)


class BindTool(_StageChange):
    """A tool that the stage may call, besides those that it may already; where it had no binding,
    that one only."""

    kind: Literal["bind_tool"] = "bind_tool"
    tool: str

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        entry = self.entry(draft)
        before = entry.tool_binding or ToolBinding(allowed=[])
        allowed = before.allowed
        if allowed is not None:
            allowed = list(dict.fromkeys([*allowed, self.tool]))
        blocked = [name for name in before.blocked if name != self.tool]
        entry.tool_binding = ToolBinding(allowed=allowed, blocked=blocked)


class UnbindTool(_StageChange):
    """A tool that the stage may not call any more."""

    kind: Literal["unbind_tool"] = "unbind_tool"
    tool: str

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        entry = self.entry(draft)
        before = entry.tool_binding or ToolBinding()
        if before.allowed is None:
            blocked = list(dict.fromkeys([*before.blocked, self.tool]))
            entry.tool_binding = ToolBinding(blocked=blocked)
        else:
            allowed = [name for name in before.allowed if name != self.tool]
            entry.tool_binding = ToolBinding(allowed=allowed, blocked=before.blocked)


class SetToolScope(_StageChange):
    """Which tools the stage may call: all of it; neither: every tool of the agent."""

    kind: Literal["set_tool_scope"] = "set_tool_scope"
    allowed: list[str] | None = None
    blocked: list[str] = []

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        nothing = self.allowed is None and not self.blocked
        binding = ToolBinding(allowed=self.allowed, blocked=self.blocked)
        self.entry(draft).tool_binding = None if nothing else binding


class UpdateModel(Change):
    """Fields of `model`, the others as they are."""

    kind: Literal["update_model_config"] = "update_model_config"
    settings: dict[str, Plain]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        said = {**draft.model.model_dump(exclude_unset=True), **self.settings}
        draft.model = _section("model", ModelConfig, said)


class UpdatePipeline(Change):
    """Fields of `metadata`, `limits`, `permissions`, the others as they are. A live run keeps the
    limits that it began with."""

    kind: Literal["update_pipeline_config"] = "update_pipeline_config"
    metadata: dict[str, Plain] = {}
    limits: dict[str, Plain] = {}
    permissions: dict[str, Plain] = {}

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        metadata = {**draft.metadata.model_dump(), **self.metadata}
        draft.metadata = _section("metadata", Metadata, metadata)
        draft.limits = type(draft.limits).from_json({**draft.limits.to_json(), **self.limits})
        permissions = {**draft.permissions.model_dump(), **self.permissions}
        draft.permissions = _section("permissions", PermissionsConfig, permissions)


class UpdateTools(Change):
    """Fields of `tools`, the others as they are. Naming a tool grants nothing."""

    kind: Literal["update_tools"] = "update_tools"
    tools: dict[str, Plain]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        said = {**draft.tools.model_dump(mode="json", exclude_unset=True), **self.tools}
        draft.tools = _section("tools", ToolsConfig, said)


class RestoreSnapshot(Change):
    """All of it as it was."""

    kind: Literal["restore_snapshot"] = "restore_snapshot"
    manifest: dict[str, Plain]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        made = EnvironmentManifest.from_dict(self.manifest)
        draft.metadata, draft.model, draft.limits = made.metadata, made.model, made.limits
        draft.tools, draft.permissions = made.tools, made.permissions
        draft.agents, draft.stages = made.agents, made.stages


AnyChange: TypeAlias = Annotated[
    Union[  # noqa: UP007 - one name a line
        SwapStrategy,
        UpdateStrategyConfig,
        AddToChain,
        RemoveFromChain,
        ReorderChain,
        UpdateStageConfig,
        SetStageActive,
        RegisterStage,
        RemoveStage,
        ReplaceStage,
        SetImplementation,
        SetStageModel,
        BindTool,
        UnbindTool,
        SetToolScope,
        UpdateModel,
        UpdatePipeline,
        UpdateTools,
        RestoreSnapshot,
    ],
    Field(discriminator="kind"),
]
"""Every kind of change."""


@cache
def _adapter() -> TypeAdapter[AnyChange]:
    return TypeAdapter(AnyChange)


def read(data: Mapping[str, JSON]) -> Change:
    """A change from its JSON. Raises MutationError."""
    try:
        return _adapter().validate_python(data)
    except ValidationError as error:
        raise MutationError("; ".join(problems_of(error, "", AnyChange))) from None


def plain(change: Change) -> dict[str, JSON]:
    """Its JSON."""
    kept: dict[str, JSON] = change.model_dump(mode="json", exclude_defaults=True)
    return {"kind": str(change.model_dump(include={"kind"})["kind"]), **kept}


def apply(
    manifest: EnvironmentManifest, changes: Sequence[Change], declared: Declared
) -> EnvironmentManifest:
    """The manifest with the changes, in order; the given one stays as it is. Raises MutationError
    for what does not fit. Whether the result can be run, says `compile`."""
    draft = manifest.model_copy(deep=True)
    try:
        for change in changes:
            change.edit(draft, declared)
        return EnvironmentManifest.from_dict(draft.to_dict())
    except MutationError:
        raise
    except ConfigError as error:
        raise MutationError(str(error), problems=error.problems) from None


def apply_json(
    manifest: EnvironmentManifest, changes: Sequence[JSON], declared: Declared
) -> EnvironmentManifest:
    """As `apply`, of changes in their JSON; what is no object is passed over."""
    read_changes = [read(each) for each in changes if isinstance(each, Mapping)]
    return apply(manifest, read_changes, declared)


def sections(manifest: EnvironmentManifest) -> dict[str, JSON]:
    """A manifest in parts: the sections by name, each stage as `stages.<name>`."""
    data = manifest.to_dict()
    parts: dict[str, JSON] = {name: data.get(name, {}) for name in SECTIONS}
    for entry in manifest.stages:
        parts[f"stages.{entry.name}"] = entry.model_dump(mode="json", exclude_defaults=True)
    return parts


def restoring(manifest: EnvironmentManifest) -> Change:
    """The change after which a manifest is this one."""
    data: Mapping[str, JSON] = {"kind": "restore_snapshot", "manifest": manifest.to_dict()}
    return read(data)


def difference(
    before: EnvironmentManifest, after: EnvironmentManifest
) -> dict[str, tuple[JSON, JSON]]:
    """The parts that differ: before and after; None: it was not there, or is not any more."""
    old, new = sections(before), sections(after)
    names = dict.fromkeys([*old, *new])
    return {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}


def _section(name: str, kind: type[M], said: Mapping[str, Plain]) -> M:
    """A section of a manifest. Raises MutationError naming every fault by its path."""
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        raise MutationError("; ".join(problems_of(error, name, kind))) from None


def _insert(draft: EnvironmentManifest, entry: StageEntry) -> None:
    draft.stages.root.append(entry.model_copy(deep=True))
    draft.stages.root.sort(key=lambda each: each.order)


def _not_there(change: _SlotChange, name: str, held: Sequence[str]) -> MutationError:
    return MutationError(f"{change.stage}.{change.slot} has no {name!r}{nearest(name, held)}")
