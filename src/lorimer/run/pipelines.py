"""The pipelines for an executor's agents: created when an agent first runs, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeAlias
from weakref import WeakValueDictionary

from lorimer.assembly import RunOptions
from lorimer.core.bindings import ANSWER
from lorimer.core.errors import ConfigError, LorimerError, nearest
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.model import ModelResolver
from lorimer.core.variables import verbatim
from lorimer.models.registry import Models, targets_of
from lorimer.pipeline import Pipeline
from lorimer.run.agent import RunnableAgent
from lorimer.run.critic.port import Critic
from lorimer.run.critic.watching import ceiling, is_watched, unlimited
from lorimer.run.lowering import limits_of, manifest_of, sub_agent_of
from lorimer.run.observing import Observers
from lorimer.run.palette import Delegate
from lorimer.toolkit import toolset_of
from lorimer.tools.base import Tool
from lorimer.tools.builtin import CATALOGUE, GROUPS
from lorimer.tools.policy.people import Person
from lorimer.tools.registry import ToolRegistry

FALLBACK_TIER: Final = "fast"
"""The model of agents that name none."""
_TIERS: Final = "Models(tiers=Tiers({'fast': 'claude-haiku-4-5'})), or Executor(tier='...')"

KEPT: Final = 256
"""Agents, counted separately for each caller with rights of their own."""
KEPT_WITH_TOOLS: Final = 32
"""The same for agents with per-run tools: the most recently used ones."""

_TERMS: Final = frozenset({"rules", "permission_mode", "workspace", "sandbox", "network"})

_Key: TypeAlias = tuple[RunnableAgent, Person | None, tuple[Delegate, ...], tuple[int, ...]]
"""The last part are the per-run tools, by identity: a cached pipeline keeps them alive."""
_Made: TypeAlias = tuple[Pipeline, Observers]


class Pipelines:
    """The pipelines of one executor."""

    def __init__(
        self,
        models: ModelResolver,
        tools: ToolRegistry,
        limits: Limits,
        header: str,
        tier: str,
        options: RunOptions,
        critic: Critic | None,
        *,
        adjustable: bool = False,
        audited: bool = False,
    ) -> None:
        """`tools` are the host's; `header` is the beginning of every system prompt, `tier` the
        model of agents that name none. `adjustable`: runs may begin with other limits than
        `limits`, by the host's settings. `audited`: the runs of those to which agents give work
        are observed too. Raises ConfigError for permission settings under which no call could be
        judged."""
        self._models = models
        self._tools = tools
        self._limits = limits
        self._known = frozenset(options.get("variables", ()))
        self._header = verbatim(header, self._known)
        self._tier = tier
        self._options = options
        self._critic = critic
        self._adjustable = adjustable
        self._audited = audited
        if not _TERMS.isdisjoint(options):
            self._check_terms(options)
        self._made: dict[_Key, _Made] = {}
        self._made_with: dict[_Key, _Made] = {}
        """With per-run tools; the most recently used is the last."""
        self._seen: WeakValueDictionary[int, Tool] = WeakValueDictionary()
        """Tools created for a run, by identity."""

    def _check_terms(self, options: RunOptions) -> None:
        # otherwise every run would report the error, instead of the creation of the executor
        toolset_of(
            EnvironmentManifest(),
            self._tools,
            options.get("rules", ()),
            options.get("permission_mode", "default"),
            options.get("approver"),
            options.get("workspace"),
            options.get("sandbox", "auto"),
            network=options.get("network", False),
        )

    def of(
        self,
        agent: RunnableAgent,
        caller: Person | None,
        tools: Sequence[Tool] = (),
        delegates: tuple[Delegate, ...] = (),
        *,
        once: bool = False,
    ) -> _Made:
        """The pipeline of an agent, for a caller with rights (None: one without), with per-run
        tools, and everything that it delegates to, directly or not. `once`: these tools were
        created for this run, and no other run will have them unless an earlier one did. Raises
        ConfigError, naming the model if that is what cannot be used."""
        for each in (agent, *[delegate.agent for delegate in delegates]):
            self._check_model(each)
        if once and not self._again(tools):
            return self._make(agent, caller, tools, delegates)
        key = (agent, caller, delegates, tuple([id(tool) for tool in tools]))
        kept, most = (self._made_with, KEPT_WITH_TOOLS) if tools else (self._made, KEPT)
        found = kept.get(key)
        if found is None:
            found = kept[key] = self._make(agent, caller, tools, delegates)
            if len(kept) > most:
                del kept[next(iter(kept))]
        elif tools:
            kept[key] = kept.pop(key)
        return found

    def _again(self, tools: Sequence[Tool]) -> bool:
        """An earlier run had all of these tools, so a later one will."""
        known = all(self._seen.get(id(tool)) is tool for tool in tools)
        self._seen.update({id(tool): tool for tool in tools})
        return known

    def manifest(
        self, agent: RunnableAgent, delegates: Sequence[Delegate] = ()
    ) -> EnvironmentManifest:
        """The manifest of an agent. Raises ConfigError if a tool of the host's has the name of a
        delegate."""
        return self._manifest(agent, self._tools, delegates)

    def _make(
        self,
        agent: RunnableAgent,
        caller: Person | None,
        own: Sequence[Tool],
        delegates: Sequence[Delegate],
    ) -> tuple[Pipeline, Observers]:
        for each in (agent, *[delegate.agent for delegate in delegates]):
            self._check_tools(each, own)
        agent = replace(agent, tools=(*agent.tools, *[str(tool.name) for tool in own]))
        tools = self._tools.copy()
        named = {*agent.tools, *[name for each in delegates for name in each.agent.tools]}
        named |= {each.tool for each in delegates}  # a host tool of the same name is an error
        for name in self._tools.names:
            if name not in named:
                tools.unregister(name)
        for tool in own:
            tools.register(tool)
        options = self._options.copy()
        if caller is not None:
            options["caller"] = caller
        asked = [agent, *[delegate.agent for delegate in delegates]]
        types = {each.answer for each in asked if each.answer is not None}
        if types:
            options["bindings"] = {**(options.get("bindings") or {}), ANSWER: tuple(types)}
        given = tools if tools.names else None
        manifest = self._manifest(agent, tools, delegates)
        pipeline = Pipeline(manifest, tools=given, models=self._models, **options)
        audited = self._audited and bool(delegates)
        return pipeline, Observers(pipeline, phases=bool(agent.phases), delegates=audited)

    def _manifest(
        self, agent: RunnableAgent, tools: ToolRegistry, delegates: Sequence[Delegate]
    ) -> EnvironmentManifest:
        host, header, tier = tools.names, self._header, self._tier
        agent = self._verbatim(agent)
        delegates = [replace(each, agent=self._verbatim(each.agent)) for each in delegates]
        reached = [
            sub_agent_of(each, agent, tier, self._limits, header, host) for each in delegates
        ]
        limits = limits_of(agent, self._limits)
        if is_watched(self._critic, agent):
            limits = ceiling(limits)
        # the settings are in no manifest, or a run could not be resumed after they were changed
        phases = unlimited(limits) if self._adjustable else None
        return manifest_of(agent, tier, limits, header, host, reached, phases)

    def _verbatim(self, agent: RunnableAgent) -> RunnableAgent:
        """Marks its prompts as literal: text in them that looks like a variable, but is none, is
        text too."""
        phases = [
            replace(
                each,
                prompt=verbatim(each.prompt, self._known),
                fallback=verbatim(each.fallback, self._known),
            )
            for each in agent.phases
        ]
        return replace(agent, prompt=verbatim(agent.prompt, self._known), phases=tuple(phases))

    def _check_tools(self, agent: RunnableAgent, own: Sequence[Tool]) -> None:
        there = {*self._tools.names, *[str(tool.name) for tool in own], *CATALOGUE, *GROUPS}
        for name in agent.tools:
            if name not in there:
                raise ConfigError(
                    f"the agent {agent.name!r} names the tool {name!r}, which neither this "
                    f"executor nor Lorimer has{nearest(name, there)}",
                    hint="Executor(tools=[...]) takes those of the host.",
                )

    def _check_model(self, agent: RunnableAgent) -> None:
        model = agent.model or self._tier
        try:
            host = self._models
            if (
                model == FALLBACK_TIER
                and isinstance(host, Models)
                and host.expand(model) == [model]
            ):
                raise ConfigError("there is no such tier", hint=_TIERS)
            targets_of(model, host)
        except LorimerError as error:
            raise ConfigError(
                f"the model {model!r} of the agent {agent.name!r} cannot be used: {error.message}",
                code=error.code,
                hint=error.hint,
                cause=error,
            ) from None
        except Exception as error:
            raise ConfigError(
                f"the model {model!r} of the agent {agent.name!r} cannot be used: "
                f"{type(error).__name__}: {error}",
                cause=error,
            ) from error
