"""Stage 12, Agent: sub-agents that are started without a call of the tool `Agent` by the model: by
a marker in its reply, or to evaluate its answer. How they run: `core/children.py`."""

from __future__ import annotations

from collections.abc import Iterable

from lorimer.core.bindings import Bindings
from lorimer.core.errors import nearest
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.stage import Slot, Stage
from lorimer.core.state import PipelineState
from lorimer.core.subagents import TASKS, has_tasks
from lorimer.stages.s12_orchestrators import Dispatch, Orchestrator


class AgentStage(Stage[object, object]):
    """Lets its orchestrator delegate to sub-agents of the manifest. Each delegation is permitted
    and recorded like a call of the tool `Agent`, or `TaskCreate`, made by the stage."""

    name = "agent"
    order = 12
    category = "execution"
    bypass_reason = "there is nothing to delegate after this reply"
    bypass_path = "strategies.orchestrator"

    orchestrator = Slot(
        Orchestrator,
        default="single_agent",
        known={
            "single_agent": "lorimer.stages.s12_orchestrators:SingleAgent",
            "delegate": "lorimer.stages.s12_orchestrators:Delegate",
            "evaluator": "lorimer.stages.s12_orchestrators:Evaluator",
        },
    )
    dispatch = Slot(
        Dispatch,
        default="serial",
        known={
            "serial": "lorimer.stages.s12_orchestrators:Serial",
            "parallel": "lorimer.stages.s12_orchestrators:Parallel",
            "background": "lorimer.stages.s12_orchestrators:Background",
        },
    )

    def check(self, manifest: EnvironmentManifest) -> Iterable[str]:
        entry = manifest.stages[self.name]
        chosen = entry.strategies.get("orchestrator", "single_agent")
        names = [agent.name for agent in manifest.agents]
        where = f"stages[{self.order}].strategies.orchestrator"
        if chosen != "single_agent" and not names:
            yield f"{where}: {chosen!r} needs sub-agents; declare some in agents"
        judge = entry.strategy_configs.get("orchestrator", {}).get("agent")
        if chosen == "evaluator" and isinstance(judge, str) and names and judge not in names:
            yield f"{where}: there is no sub-agent {judge!r}{nearest(judge, names)}"
        later = entry.strategies.get("dispatch") == "background"
        if later and chosen == "evaluator":
            yield f"{where}: 'evaluator' waits for its answer, and dispatch is 'background'"
        if later and chosen != "single_agent" and not has_tasks(manifest):
            yield f"stages[{self.order}].strategies.dispatch: 'background' needs stage 13, {TASKS}"

    def bind(self, bindings: Bindings) -> None:
        self._tools = bindings.tools

    def should_bypass(self, state: PipelineState) -> bool:
        return self._tools is None or not self.orchestrator.wants(state)

    async def execute(self, input: object, state: PipelineState) -> object:
        tools = self._tools
        if tools is not None:
            work = self.orchestrator.work(state)
            if state.run.wants("agent.orchestrate_start"):
                told = {"orchestrator": self.orchestrator.name, "delegate_count": len(work)}
                state.run.signal("agent.orchestrate_start", told)
            answers = await self.dispatch.run(work, tools, state)
            self.orchestrator.take(work, answers, state)
            if state.run.wants("agent.orchestrate_complete"):
                failed = sum(answer.is_error for answer in answers)
                state.run.signal(
                    "agent.orchestrate_complete", {"delegated": len(work), "failed": failed}
                )
        return input
