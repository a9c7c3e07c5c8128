"""The plans of sub-agents: each is compiled from its manifest when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from lorimer.core.bindings import Bindings
from lorimer.core.catalogue import Catalogue
from lorimer.core.compile import compile as compile_manifest
from lorimer.core.errors import ConfigError
from lorimer.core.faults import invalid
from lorimer.core.hooks import Hooks
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest, StageEntries, SubAgent
from lorimer.core.plan import Plan
from lorimer.core.record import record
from lorimer.core.subagents import faults, manifest_of, place_of
from lorimer.mutable import require_unchanged
from lorimer.toolkit import tools_part

if TYPE_CHECKING:
    from lorimer.tools.registry import ToolRegistry
    from lorimer.tools.toolset import Toolset


class ToolsetFactory(Protocol):
    """Makes the tools for a sub-agent's manifest, with the rules of the pipeline."""

    def __call__(
        self,
        manifest: EnvironmentManifest,
        tools: ToolRegistry,
        *,
        known: ToolRegistry,
        derived: bool,
    ) -> Toolset | None: ...


@record
class AgentScope:
    """A manifest that declares sub-agents, and which of the host's tools it has."""

    manifest: EnvironmentManifest
    tools: frozenset[str]
    """Names of the host's tools that it has."""
    digest: str


@record
class SubAgentPlan:
    """A sub-agent, compiled and ready to run."""

    plan: Plan
    tools: Toolset | None
    scope: AgentScope
    """The manifest that declares its own sub-agents."""


class SubAgentPlans:
    """The sub-agents of one pipeline."""

    def __init__(
        self,
        catalogue: Catalogue,
        bindings: Bindings,
        host: ToolRegistry,
        toolset: ToolsetFactory,
        allowed: Callable[[Plan, Plan], None],
    ) -> None:
        """`host`: the host's tools; `toolset` makes the tools of a sub-agent, with the rules of the
        pipeline; `allowed` raises ConfigError when a live run may not be changed in this way."""
        self.hooks: Hooks | None = bindings.hooks
        """Hooks of runs that begin from now on."""
        self.tools = bindings.tools
        self._catalogue = catalogue
        self._bindings = bindings
        self._host = host
        self._toolset = toolset
        self._allowed = allowed
        self._plans: dict[tuple[str, str, bool], SubAgentPlan] = {}

    def scope_of(self, manifest: EnvironmentManifest) -> AgentScope:
        """Of the pipeline's manifest."""
        return AgentScope(manifest, frozenset(self._host.names), manifest.digest)

    def check(self, manifest: EnvironmentManifest) -> None:
        """Raises ConfigError naming every fault of the sub-agents and of their sub-agents."""
        problems = self._problems(self.scope_of(manifest))
        if problems:
            raise invalid(problems)

    def _problems(self, home: AgentScope) -> list[str]:
        problems = faults(home.manifest)
        if problems:
            return problems
        for at, agent in enumerate(home.manifest.agents):
            try:
                found = self._problems_of(home, agent)
            except ConfigError as error:
                found = list(error.problems) or [str(error)]
            problems += [place_of(agent, at) + problem for problem in found]
        return problems

    def _problems_of(self, home: AgentScope, agent: SubAgent) -> list[str]:
        theirs = self.plan_of(home, agent.name, planning=False).scope
        return self._problems(theirs) if theirs is not home else []

    def plan_of(self, home: AgentScope, name: str, *, planning: bool) -> SubAgentPlan:
        """A sub-agent that `home` declares. `planning`: it may only read. Raises ConfigError."""
        key = (home.digest, name, planning)
        kind = self._plans.get(key)
        if kind is None:
            kind = self._plans[key] = self._compiled(home, name, planning)
        if kind.tools is not None:
            kind.tools.hooks = self.hooks
        return replace(kind, plan=replace(kind.plan, hooks=self.hooks))

    def _compiled(self, home: AgentScope, name: str, planning: bool) -> SubAgentPlan:
        agent = next(each for each in home.manifest.agents if each.name == name)
        manifest, named = manifest_of(home.manifest, agent, home.tools)
        host = self._host.copy()
        for other in host.names:
            if other not in named:
                host.unregister(other)
        derived = agent.manifest is None
        tools = self._toolset(manifest, host, known=self._host, derived=derived)
        if planning and tools is not None:
            tools.base_policy = tools.base_policy.planning()
        catalogue = self._catalogue.without_own_stages()
        if agent.manifest is None:
            known = set(catalogue.names)
            stages = [entry for entry in manifest.stages if entry.name in known]
            manifest = manifest.model_copy(update={"stages": StageEntries(stages)})
        plan = self._plan(manifest, catalogue, replace(self._bindings, tools=tools, hooks=None))
        own = home if agent.manifest is None else AgentScope(manifest, named, manifest.digest)
        return SubAgentPlan(plan, tools, own)

    def _plan(
        self, manifest: EnvironmentManifest, catalogue: Catalogue, bindings: Bindings
    ) -> Plan:
        def with_changes(changes: Sequence[JSON]) -> Plan:
            from lorimer.core import mutation  # imported only when something is changed

            after = mutation.apply_json(manifest, changes, catalogue)
            # what it may do is up to its parent
            require_unchanged("tools of a sub-agent", tools_part(after) == tools_part(manifest))
            return replace(self._plan(after, catalogue, bindings), hooks=self.hooks)

        def with_requested_changes(changes: Sequence[JSON]) -> Plan:
            after = with_changes(changes)
            self._allowed(plan, after)
            return after

        made = compile_manifest(manifest, catalogue, bindings)
        plan = replace(
            made,
            converses=False,
            with_changes=with_changes,
            with_requested_changes=with_requested_changes,
        )
        return plan
