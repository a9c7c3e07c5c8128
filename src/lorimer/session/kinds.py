"""Which agent a child is: the sub-agents of a manifest, each compiled when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from lorimer.changing import must_stay
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
from lorimer.toolkit import tools_part

if TYPE_CHECKING:
    from lorimer.tools.registry import ToolRegistry
    from lorimer.tools.toolset import Toolset


class Terms(Protocol):
    """Makes the tools of a manifest, with the rules of the pipeline."""

    def __call__(
        self,
        manifest: EnvironmentManifest,
        tools: ToolRegistry,
        *,
        known: ToolRegistry,
        derived: bool,
    ) -> Toolset | None: ...


@record
class Home:
    """Where sub-agents are declared."""

    manifest: EnvironmentManifest
    tools: frozenset[str]
    """Those of the host's that there are."""
    digest: str


@record
class Kind:
    """A sub-agent, ready to run."""

    plan: Plan
    tools: Toolset | None
    home: Home
    """Where its own sub-agents are declared."""


class Kinds:
    """The sub-agents of one pipeline."""

    def __init__(
        self,
        catalogue: Catalogue,
        bindings: Bindings,
        host: ToolRegistry,
        toolset: Terms,
        allowed: Callable[[Plan, Plan], None],
    ) -> None:
        """`host`: the host's tools; `toolset` makes the tools of a sub-agent, with the rules of the
        pipeline; `allowed` raises ConfigError when a live run may not be changed so."""
        self.hooks: Hooks | None = bindings.hooks
        """Asked in runs that begin from now on."""
        self.tools = bindings.tools
        self._catalogue = catalogue
        self._bindings = bindings
        self._host = host
        self._toolset = toolset
        self._allowed = allowed
        self._kinds: dict[tuple[str, str, bool], Kind] = {}

    def home(self, manifest: EnvironmentManifest) -> Home:
        """Of the pipeline's manifest."""
        return Home(manifest, frozenset(self._host.names), manifest.digest)

    def check(self, manifest: EnvironmentManifest) -> None:
        """Raises ConfigError naming every fault of the sub-agents, and of theirs."""
        problems = self._problems(self.home(manifest))
        if problems:
            raise invalid(problems)

    def _problems(self, home: Home) -> list[str]:
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

    def _problems_of(self, home: Home, agent: SubAgent) -> list[str]:
        theirs = self.kind(home, agent.name, planning=False).home
        return self._problems(theirs) if theirs is not home else []

    def kind(self, home: Home, name: str, *, planning: bool) -> Kind:
        """A sub-agent that `home` declares. `planning`: it may only look. Raises ConfigError."""
        key = (home.digest, name, planning)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = self._made(home, name, planning)
        if kind.tools is not None:
            kind.tools.hooks = self.hooks
        return replace(kind, plan=replace(kind.plan, hooks=self.hooks))

    def _made(self, home: Home, name: str, planning: bool) -> Kind:
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
        own = home if agent.manifest is None else Home(manifest, named, manifest.digest)
        return Kind(plan, tools, own)

    def _plan(
        self, manifest: EnvironmentManifest, catalogue: Catalogue, bindings: Bindings
    ) -> Plan:
        def changed(changes: Sequence[JSON]) -> Plan:
            from lorimer.core import mutation  # only who changes something pays for it

            made = [mutation.read(each) for each in changes if isinstance(each, Mapping)]
            after = mutation.apply(manifest, made, catalogue)
            # what it may do is its parent's to say
            must_stay("tools of a sub-agent", tools_part(after) == tools_part(manifest))
            return replace(self._plan(after, catalogue, bindings), hooks=self.hooks)

        def asked(changes: Sequence[JSON]) -> Plan:
            after = changed(changes)
            self._allowed(plan, after)
            return after

        made = compile_manifest(manifest, catalogue, bindings)
        plan = replace(made, converses=False, changed=changed, asked=asked)
        return plan
