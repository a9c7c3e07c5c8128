"""Stage 13, TaskRegistry: work in the background. The model starts it with `TaskCreate`; this stage
reports its results. Each task is a run of its own, and the journal is the only store of tasks.

A task belongs to the run that started it. The policy decides whether that run waits for it before
it ends; tasks that are live when it ends are cancelled, and paid for by it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from lorimer.core.children import Children
from lorimer.core.context import Safety
from lorimer.core.jsonable import JSON, objects_of
from lorimer.core.messages import user_message
from lorimer.core.request import StopReason
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import Decision, PipelineState

_KIND = "tasks"


class TaskPolicy(Strategy):
    """Decides about background tasks when the model has answered."""

    async def wait(self, children: Children) -> bool:
        """The model has answered, and there are tasks. False: the run ends without them."""
        raise TypeError(f"{type(self).__name__} has no wait method")


class EagerWait(TaskPolicy):
    """Waits for all tasks."""

    name = "eager_wait"
    description = "The run waits for all tasks, and tells the model how they ended."

    async def wait(self, children: Children) -> bool:
        await children.wait(float("inf"))
        return True


class TimedWait(TaskPolicy):
    """Waits for tasks, but only for a limited time."""

    name = "timed_wait"
    description = "The run waits for tasks, at most timeout_seconds; then the rest are cancelled."

    class Config(Settings):
        timeout_seconds: float = Field(30.0, gt=0)

    config: Config

    async def wait(self, children: Children) -> bool:
        await children.wait(self.config.timeout_seconds)
        for task in await children.tasks():
            await children.stop(task)
        return True


class FireAndForget(TaskPolicy):
    """Does not wait: the answer ends the run."""

    name = "fire_and_forget"
    description = "The run waits for no task: tasks still running when it ends are cancelled."

    async def wait(self, children: Children) -> bool:
        return False


class TaskRegistryStage(Stage[object, object]):
    """Tells the model how tasks ended, once each, before its next turn. Journals that as the effect
    `tasks:`, with their cost."""

    name = "task_registry"
    order = 13
    category = "orchestration"
    bypass_reason = "no task is running in the background"

    policy = Slot(
        TaskPolicy,
        default="eager_wait",
        known={
            "eager_wait": "lorimer.stages.s13_task_registry:EagerWait",
            "timed_wait": "lorimer.stages.s13_task_registry:TimedWait",
            "fire_and_forget": "lorimer.stages.s13_task_registry:FireAndForget",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        run = state.run
        if run.replaying:
            return not run.decided or run.recorded("effect", f"{_KIND}:") is None
        return run.children is None or not run.children.busy

    async def execute(self, input: object, state: PipelineState) -> object:
        run, children = state.run, state.run.children
        left = run.bounds.max_turns - run.bounds.turns
        over = not left or self._has_answered(state)
        if not run.replaying and children is not None:
            await children.revive()
            if over:
                if not left or not await self.policy.wait(children):
                    return input
                children.suspend_if_waiting()

        async def take() -> Mapping[str, JSON]:
            return {} if children is None else children.harvest()

        if run.replaying or (children is not None and children.has_ended_tasks):
            data = await run.effect(_KIND, "", take, request=b"", safety=Safety.READ_ONLY)
            self._tell(data.get("tasks"), state)
            if over:
                state.decision, state.reason = Decision.CONTINUE, "tasks"
        return input

    @staticmethod
    def _has_answered(state: PipelineState) -> bool:
        response = state.response
        paused = response is not None and response.stop is StopReason.PAUSE
        return not state.calls and not paused and state.decision is not Decision.CONTINUE

    @staticmethod
    def _tell(tasks: JSON, state: PipelineState) -> None:
        most = state.run.bounds.limits.max_result_chars
        for task in objects_of(tasks):
            text = str(task.get("text"))
            cut = f"\n[cut: TaskOutput has all {len(text)} characters]"
            shown = text if len(text) <= most else text[:most] + cut
            head = f"[Task {task.get('id')} of {task.get('agent')} has ended:"
            state.messages.append(user_message(f"{head} {task.get('status')}]\n{shown}"))
