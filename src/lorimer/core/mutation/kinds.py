"""Every kind of change of a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias, TypeVar, Union

from pydantic import BaseModel, Field, ValidationError

from lorimer.core.errors import MutationError, nearest
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
from lorimer.core.mutation.change import Change, Declared, SlotChange, StageChange

M = TypeVar("M", bound=BaseModel)


class SwapStrategy(SlotChange):
    """Put another strategy, newly configured, into a slot; into a chain, a list of strategies or a
    single one. For a list, `config` maps strategies to configurations."""

    kind: Literal["swap_strategy"] = "swap_strategy"
    strategy: str | list[str]
    config: dict[str, Plain] = Field(default={})

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        _, chain = self.held(draft, declared)
        entry = self.entry(draft)
        one = chain and isinstance(self.strategy, str)
        entry.strategies[self.slot] = [str(self.strategy)] if one else self.strategy
        entry.strategy_configs.pop(self.slot, None)
        if self.config:
            own: Plain = dict(self.config)
            entry.strategy_configs[self.slot] = {str(self.strategy): own} if one else {**own}


class UpdateStrategyConfig(SlotChange):
    """Set fields of a strategy's configuration and keep the others; in a chain, `strategy` says of
    which."""

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


class AddToChain(SlotChange):
    """Add a strategy to a chain: at the end, or at the 0-based index `at`."""

    kind: Literal["add_to_chain"] = "add_to_chain"
    strategy: str
    config: dict[str, Plain] = Field(default={})
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


class RemoveFromChain(SlotChange):
    """Remove a strategy from a chain."""

    kind: Literal["remove_from_chain"] = "remove_from_chain"
    strategy: str

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        held = self.chain(draft, declared)
        if self.strategy not in held:
            raise _not_there(self, self.strategy, held)
        held.remove(self.strategy)
        self.settle(draft, held)


class ReorderChain(SlotChange):
    """Reorder the strategies of a chain."""

    kind: Literal["reorder_chain"] = "reorder_chain"
    order: list[str]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        held = self.chain(draft, declared)
        if sorted(self.order) != sorted(held):
            raise MutationError(f"{self.stage}.{self.slot} holds {', '.join(held) or 'nothing'}")
        self.settle(draft, list(self.order))


class UpdateStageConfig(StageChange):
    """Set fields of a stage's own configuration and keep the others."""

    kind: Literal["update_stage_config"] = "update_stage_config"
    config: dict[str, Plain]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        entry = self.entry(draft)
        entry.config = {**entry.config, **self.config}


class SetStageActive(StageChange):
    """Activate or deactivate a stage; a deactivated stage stays in the manifest."""

    kind: Literal["set_stage_active"] = "set_stage_active"
    active: bool

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        self.entry(draft).active = self.active


class RegisterStage(Change):
    """Add a stage."""

    kind: Literal["register_stage"] = "register_stage"
    entry: StageEntry

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        if self.entry.name in draft.stages:
            raise MutationError(f"this agent has a {self.entry.name!r} stage already")
        _insert(draft, self.entry)


class RemoveStage(StageChange):
    """Remove a stage."""

    kind: Literal["remove_stage"] = "remove_stage"

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        draft.stages.root.remove(self.entry(draft))


class ReplaceStage(StageChange):
    """Replace a stage and all its slots; the name may change."""

    kind: Literal["replace_stage"] = "replace_stage"
    by: StageEntry

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        draft.stages.root.remove(self.entry(draft))
        if self.by.name in draft.stages:
            raise MutationError(f"this agent has a {self.by.name!r} stage already")
        _insert(draft, self.by)


class SetImplementation(StageChange):
    """Choose the implementation of a stage; "": the usual one."""

    kind: Literal["set_implementation"] = "set_implementation"
    implementation: str

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        self.entry(draft).implementation = self.implementation


class SetStageModel(StageChange):
    """Set all of the model fields that a stage overrides; {}: none."""

    kind: Literal["set_stage_model"] = "set_stage_model"
    model: dict[str, Plain]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        self.entry(draft).model_override = dict(self.model)


class BindTool(StageChange):
    """Allow the stage to call one more tool; if it had no binding, only that one."""

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


class UnbindTool(StageChange):
    """Forbid the stage to call a tool."""

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


class SetToolScope(StageChange):
    """Set all of the stage's tool binding; without `allowed` and `blocked`: every tool of the
    agent."""

    kind: Literal["set_tool_scope"] = "set_tool_scope"
    allowed: list[str] | None = None
    blocked: list[str] = Field(default=[])

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        nothing = self.allowed is None and not self.blocked
        binding = ToolBinding(allowed=self.allowed, blocked=self.blocked)
        self.entry(draft).tool_binding = None if nothing else binding


class UpdateModel(Change):
    """Set fields of `model` and keep the others."""

    kind: Literal["update_model_config"] = "update_model_config"
    settings: dict[str, Plain]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        said = {**draft.model.model_dump(exclude_unset=True), **self.settings}
        draft.model = _section("model", ModelConfig, said)


class UpdatePipeline(Change):
    """Set fields of `metadata`, `limits` and `permissions` and keep the others. A live run keeps
    the limits that it began with."""

    kind: Literal["update_pipeline_config"] = "update_pipeline_config"
    metadata: dict[str, Plain] = Field(default={})
    limits: dict[str, Plain] = Field(default={})
    permissions: dict[str, Plain] = Field(default={})

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        metadata = {**draft.metadata.model_dump(), **self.metadata}
        draft.metadata = _section("metadata", Metadata, metadata)
        draft.limits = type(draft.limits).from_json({**draft.limits.to_json(), **self.limits})
        permissions = {**draft.permissions.model_dump(), **self.permissions}
        draft.permissions = _section("permissions", PermissionsConfig, permissions)


class UpdateTools(Change):
    """Set fields of `tools` and keep the others. Naming a tool does not permit its calls."""

    kind: Literal["update_tools"] = "update_tools"
    tools: dict[str, Plain]

    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        said = {**draft.tools.model_dump(mode="json", exclude_unset=True), **self.tools}
        draft.tools = _section("tools", ToolsConfig, said)


class RestoreSnapshot(Change):
    """Restore a complete manifest."""

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


def _section(name: str, kind: type[M], said: Mapping[str, Plain]) -> M:
    """Validate a section of a manifest. Raises MutationError naming every fault by its path."""
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        raise MutationError("; ".join(problems_of(error, name, kind))) from None


def _insert(draft: EnvironmentManifest, entry: StageEntry) -> None:
    draft.stages.root.append(entry.model_copy(deep=True))
    draft.stages.root.sort(key=lambda each: each.order)


def _not_there(change: SlotChange, name: str, held: Sequence[str]) -> MutationError:
    return MutationError(f"{change.stage}.{change.slot} has no {name!r}{nearest(name, held)}")
