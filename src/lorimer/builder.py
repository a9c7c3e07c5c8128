"""The builder: a manifest written step by step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Self, Unpack

from pydantic import JsonValue

from lorimer.assembly import PipelineOptions, ToolSource
from lorimer.core.arguments import each_of
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.limits import Limits
from lorimer.core.manifest import (
    DEFAULT_MODEL,
    EnvironmentManifest,
    ModelConfig,
    StageEntries,
    StageEntry,
    SubAgent,
)
from lorimer.pipeline import Pipeline
from lorimer.presets import MINIMAL
from lorimer.stages.catalogue import CATALOGUE

_NAMED: Final = '("Read", "Grep")'
_CACHES: Final = {
    "none": "no_cache",
    "no_cache": "no_cache",
    "system": "system_cache",
    "system_cache": "system_cache",
    "aggressive": "aggressive_cache",
    "aggressive_cache": "aggressive_cache",
}


class PipelineBuilder:
    """Starts with Input, API, Token, Parse, Yield; each `with_...` adds or configures a stage.

    `build()` compiles; `manifest` is the manifest written so far.
    """

    def __init__(
        self, name: str = "agent", *, model: str = DEFAULT_MODEL, **options: Unpack[PipelineOptions]
    ) -> None:
        self._options = options
        self._tools: ToolSource | None = None
        names = sorted([*MINIMAL, "token"], key=lambda stage: CATALOGUE[stage][0])
        entries = [StageEntry(order=CATALOGUE[stage][0], name=stage) for stage in names]
        self.manifest = EnvironmentManifest(stages=StageEntries(entries))
        self.manifest.model.model = model
        self.manifest.metadata.name = name
        self._limit(max_turns=1)

    def with_model(self, model: str | None = None, **settings: JsonValue) -> Self:
        """The model and its settings: the fields of the manifest's `model`."""
        known = ModelConfig.model_fields
        unknown = next((key for key in settings if key not in known), None)
        if unknown is not None:
            raise ConfigError(f"with_model has no setting {unknown!r}{nearest(unknown, known)}")
        if model is not None:
            settings["model"] = model
        self.manifest.model = self.manifest.model.changed(settings)
        return self

    def with_system(
        self, prompt: str = "", *, builder: str = "static", **config: JsonValue
    ) -> Self:
        """The system prompt; `builder` and its `config` determine how it is composed."""
        entry = self._stage("system")
        entry.config["prompt"] = prompt
        return self._choose(entry, "builder", builder, config)

    def with_context(
        self,
        strategy: str = "simple_load",
        *,
        stateless: bool = False,
        compactor: str | None = None,
        retriever: str | None = None,
        window: int | None = None,
        **config: JsonValue,
    ) -> Self:
        """Remember earlier runs. `strategy` with its `config` chooses which of their messages the
        model sees, `compactor` what happens when `window` tokens fill up, `retriever` what is added
        from elsewhere."""
        entry = self._stage("context")
        if stateless:
            entry.config["stateless"] = True
        if window is not None:
            entry.config["window"] = window
        for slot, chosen in (("compactor", compactor), ("retriever", retriever)):
            if chosen is not None:
                entry.strategies[slot] = chosen
        return self._choose(entry, "strategy", strategy, config)

    def with_guard(
        self,
        *,
        max_cost_usd: float | None = None,
        max_turns: int | None = None,
        cost_budget_usd: float | None = None,
        max_iterations: int | None = None,
    ) -> Self:
        """Guards before every call, and the run's hard limits of money and turns.

        `cost_budget_usd` and `max_iterations` are aliases of the first two.
        """
        self._stage("guard")
        cost = max_cost_usd if max_cost_usd is not None else cost_budget_usd
        turns = max_turns if max_turns is not None else max_iterations
        if cost is not None:
            given = {**self.manifest.limits.to_json(), "max_cost_usd": cost}
            self.manifest.limits = Limits.from_json(given)
        if turns is not None:
            self._limit(turns)
        return self

    def with_cache(self, strategy: str = "system") -> Self:
        """Prompt caching: `none`, `system` or `aggressive`."""
        if strategy not in _CACHES:
            raise ConfigError(
                f"there is no cache strategy {strategy!r}{nearest(strategy, _CACHES)}"
            )
        return self._choose(self._stage("cache"), "strategy", _CACHES[strategy], {})

    def with_tools(
        self,
        registry: ToolSource | None = None,
        *,
        built_in: str | Iterable[str] = (),
        deferred: str | Iterable[str] = (),
    ) -> Self:
        """Tools of the host's, permitted by being passed here, and names of shipped ones;
        `deferred` names those of either that the model has to find first."""
        self._stage("tool")
        self._stage("system")
        self._tools = registry
        tools = self.manifest.tools
        tools.built_in = [str(name) for name in each_of("built_in", built_in, str, _NAMED)]
        tools.deferred = [str(name) for name in each_of("deferred", deferred, str, _NAMED)]
        return self

    def with_think(
        self,
        *,
        enabled: bool = True,
        budget_tokens: int = 10_000,
        processor: str = "store",
        planner: str = "static",
        **config: JsonValue,
    ) -> Self:
        """Extended thinking, with a token budget in addition to that of the answer, which `planner`
        may change with every call; `config` is the processor's."""
        self.with_model(thinking_enabled=enabled, thinking_budget_tokens=budget_tokens)
        self._choose(self._stage("think"), "budget_planner", planner, {})
        return self._choose(self._stage("think"), "processor", processor, config)

    def with_evaluate(
        self,
        strategy: str = "accept",
        *,
        max_retries: int | None = None,
        pass_threshold: float | None = None,
        on_failure: str | None = None,
        **config: JsonValue,
    ) -> Self:
        """Judge answers; rejected ones are returned to the model."""
        entry = self._stage("evaluate")
        given = {
            "max_retries": max_retries,
            "pass_threshold": pass_threshold,
            "on_failure": on_failure,
        }
        entry.config.update({name: value for name, value in given.items() if value is not None})
        return self._choose(entry, "strategy", strategy, config)

    def with_tool_review(self, *reviewers: str, **configs: dict[str, JsonValue]) -> Self:
        """Review calls before they are made; `reviewers` in order (default: the usual ones),
        `configs` maps reviewers to configurations."""
        entry = self._stage("tool_review")
        if reviewers:
            entry.strategies["reviewers"] = list(reviewers)
        if configs:
            entry.strategy_configs["reviewers"] = dict(configs)
        return self

    def with_agent(
        self,
        *agents: SubAgent,
        orchestrator: str = "single_agent",
        dispatch: str = "serial",
        **config: JsonValue,
    ) -> Self:
        """Sub-agents that the model may delegate to; `orchestrator`, with its `config`, decides who
        else delegates, and `dispatch` how: `serial`, `parallel`, `background`."""
        for stage in ("system", "tool"):
            self._stage(stage)
        self.manifest.agents = [*self.manifest.agents, *agents]
        self._choose(self._stage("agent"), "dispatch", dispatch, {})
        return self._choose(self._stage("agent"), "orchestrator", orchestrator, config)

    def with_task_registry(self, policy: str = "eager_wait", **config: JsonValue) -> Self:
        """Background work of sub-agents; `policy` decides whether the run waits for it."""
        return self._choose(self._stage("task_registry"), "policy", policy, config)

    def with_hitl(
        self,
        requester: str = "approver",
        *,
        answers: bool = True,
        timeout: str = "indefinite",
        timeout_s: float | None = None,
        on_reject: str = "end",
        **config: JsonValue,
    ) -> Self:
        """Have a person approve the answers; `config` is the requester's, `timeout_s` that of
        `timeout` (`auto_approve`, `auto_reject`)."""
        entry = self._stage("hitl")
        entry.config.update(answers=answers, on_reject=on_reject)
        self._choose(
            entry, "timeout", timeout, {} if timeout_s is None else {"timeout_s": timeout_s}
        )
        return self._choose(entry, "requester", requester, config)

    def with_loop(
        self, max_turns: int = 50, *, controller: str = "standard", **config: JsonValue
    ) -> Self:
        """Continue while the model calls tools, for at most `max_turns` model calls."""
        self._limit(max_turns)
        return self._choose(self._stage("loop"), "controller", controller, config)

    def with_emit(self, **emitters: str) -> Self:
        """Send the answer on: emitter name to the name of a bound function."""
        entry = self._stage("emit")
        entry.strategies["emitters"] = list(emitters)
        entry.strategy_configs["emitters"] = {
            name: {"target": target} for name, target in emitters.items()
        }
        return self

    def with_memory(self, strategy: str = "append_only", **config: JsonValue) -> Self:
        """What is stored of each run in the bound memory; `config` is the strategy's."""
        if strategy == "reflective":  # it calls a model when the run is over
            cleanup_s = max(60.0, self.manifest.limits.cleanup_s)
            self.manifest.limits = replace(self.manifest.limits, cleanup_s=cleanup_s)
        return self._choose(self._stage("memory"), "strategy", strategy, config)

    def with_summarize(
        self,
        summarizer: str = "rule_based",
        *,
        importance: str = "heuristic",
        **config: JsonValue,
    ) -> Self:
        """A summary of each run and its importance; `config` is the summarizer's."""
        self._choose(self._stage("summarize"), "importance", importance, {})
        return self._choose(self._stage("summarize"), "summarizer", summarizer, config)

    def with_persist(self, cadence: str = "on_growth", **config: JsonValue) -> Self:
        """Snapshots of the conversation, to open it quickly."""
        return self._choose(self._stage("persist"), "cadence", cadence, config)

    def with_retry(self, strategy: str, **config: JsonValue) -> Self:
        """How failed model calls are retried."""
        return self._choose(self._stage("api"), "retry", strategy, config)

    def with_router(self, strategy: str, **config: JsonValue) -> Self:
        """Which model each call goes to."""
        return self._choose(self._stage("api"), "router", strategy, config)

    def __repr__(self) -> str:
        return (
            f"<PipelineBuilder {self.manifest.metadata.name!r}: {len(self.manifest.stages)} stages>"
        )

    def build(self) -> Pipeline:
        """The pipeline. Raises ConfigError listing every fault."""
        return Pipeline(self.manifest, tools=self._tools, **self._options)

    def _stage(self, name: str) -> StageEntry:
        entries = self.manifest.stages
        if name not in entries:
            entries.root.append(StageEntry(order=CATALOGUE[name][0], name=name))
            entries.root.sort(key=lambda entry: entry.order)
        return entries[name]

    def _choose(
        self, entry: StageEntry, slot: str, strategy: str, config: dict[str, JsonValue]
    ) -> Self:
        entry.strategies[slot] = strategy
        if config:
            entry.strategy_configs[slot] = config
        return self

    def _limit(self, max_turns: int) -> None:
        given = {**self.manifest.limits.to_json(), "max_turns": max_turns}
        self.manifest.limits = Limits.from_json(given)
