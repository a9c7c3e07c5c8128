"""The agent that is measured: 21 stages, an in-process model, a tool that does nothing."""

from __future__ import annotations

from collections.abc import Iterable
from time import process_time_ns
from typing import Final

from benchmarks.task import DESCRIPTION, SCHEMA, TOOL
from lorimer.core.journal import Journal
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import TextBlock, ToolUse
from lorimer.core.request import Request, Response, StopReason, Usage
from lorimer.core.result import PipelineResult
from lorimer.models.pricing import Price
from lorimer.models.registry import Models
from lorimer.models.scripted import ScriptedModel
from lorimer.pipeline import Pipeline
from lorimer.presets import agent_manifest
from lorimer.tools import Tool, ToolContext, ToolRegistry, ToolResult
from lorimer.tools.base import ToolInput
from lorimer.tools.permissions import Rule

USAGE: Final = Usage(100, 20)
PRICE: Final = Price(3, 15)
FINAL: Final = Response((TextBlock("done"),), StopReason.END_TURN, USAGE, "x")
UNBOUND: Final = Limits(max_turns=1_000_000, max_tool_calls=1_000_000)


def call(number: int) -> Response:
    """An answer that makes one call. Its id and argument are its own: nothing looks like a loop."""
    use = ToolUse(f"call_{number}", TOOL, {"n": number})
    return Response((use,), StopReason.TOOL_USE, USAGE, "x")


class Work(Tool):
    """Does nothing; notes the CPU time of each call in `stamps` if there are any."""

    name = TOOL
    description = DESCRIPTION
    input_schema = SCHEMA

    def __init__(self, effects: Iterable[str] = ("read",), stamps: list[int] | None = None) -> None:
        self.effects = frozenset(effects)
        self.calls = 0
        self._stamps = stamps

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.calls += 1
        if self._stamps is not None:
            self._stamps.append(process_time_ns())
        return ToolResult("ok")


def script(calls: int, *, stamps: list[int] | None = None, recap: str = "") -> ScriptedModel:
    """A model that asks for `calls` tool calls, then answers; over and over. For runs one after
    the other. With `stamps` it notes the CPU time of each call. `recap`: what it answers to who
    asks for a form instead of giving it tools."""
    asked = 0

    def answer(request: Request) -> Response:
        nonlocal asked
        if recap and request.output is not None:
            return Response((TextBlock(recap),), StopReason.END_TURN, USAGE, "x")
        asked += 1
        if stamps is not None:
            stamps.append(process_time_ns())
        return call(asked) if asked % (calls + 1) else FINAL

    return ScriptedModel(answer, price=PRICE, deltas=False, record=False)


def manifest(model: str = "scripted:x") -> EnvironmentManifest:
    """The agent preset with a window that no benchmark fills."""
    made = agent_manifest(model=model)
    made.limits = UNBOUND
    made.stages["context"].config["window"] = 10**9
    made.stages["guard"].strategy_configs["guards"] = {"token_budget": {"context_window": 10**9}}
    return made


def pipeline(
    model: ScriptedModel,
    work: Work | None = None,
    *,
    of: EnvironmentManifest | None = None,
    granted: bool = True,
    rules: Iterable[Rule | str] = (),
    journal: Journal | None = None,
) -> Pipeline:
    """An agent of 21 stages, or of those that `of` has. Not `granted`: `rules` decide each call of
    the tool."""
    tools = ToolRegistry()
    if work is not None:
        tools.register(work, granted=granted)
    made = Pipeline(
        of or manifest(),
        models=Models(providers={"scripted": model}),
        tools=tools if work is not None else None,
        rules=rules,
        journal=journal,
    )
    if of is None and len(made.plan.stages) != 21:
        raise RuntimeError(f"the plan has {len(made.plan.stages)} stages, not 21")
    return made


def check(result: PipelineResult, calls: int) -> None:
    """The run ended well after `calls` tool calls. Raises RuntimeError."""
    if result.status != "ok" or result.iterations != calls + 1 or result.text != "done":
        raise RuntimeError(f"{result.status} {result.error} after {result.iterations} iterations")
