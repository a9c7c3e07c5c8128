"""The floors: what the same work costs without a framework.

`raw`: a hand-written loop over dict messages. `raw21`: the shape of Lorimer without its content:
5 + 11 a call + 5 separately awaited stages, each with an enter and an exit event and a time stamp,
a try, a stop check, token and cost accounting, checked arguments. Most of its stages do nothing,
so it bounds the machinery and not the work of real stages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from statistics import median
from time import monotonic, process_time_ns
from typing import Any, Final, TypeAlias

from benchmarks.support import WARM_UP, Figures, Scale, costs, expect, growth, per_unit_us

Message: TypeAlias = dict[str, Any]
Reply: TypeAlias = dict[str, Any]
Model: TypeAlias = Callable[[list[Message]], Awaitable[Reply]]

FINAL: Final[Reply] = {
    "content": [{"type": "text", "text": "done"}],
    "usage": {"input_tokens": 100, "output_tokens": 20},
}
CALL: Final[Reply] = {
    "content": [{"type": "tool_use", "id": "call_1", "name": "work", "input": {"n": 1}}],
    "usage": {"input_tokens": 100, "output_tokens": 20},
}
SCHEMA: Final = {"n": int}
INPUT_NANO: Final = 3_000
OUTPUT_NANO: Final = 15_000


class Script:
    """A model that asks for `calls` tool calls, then answers; over and over. With `stamps` it
    notes the CPU time of each call."""

    def __init__(self, calls: int, stamps: list[int] | None = None) -> None:
        self.calls = 0
        self._cycle = calls + 1
        self._stamps = stamps

    async def __call__(self, messages: list[Message]) -> Reply:
        self.calls += 1
        if self._stamps is not None:
            self._stamps.append(process_time_ns())
        return CALL if self.calls % self._cycle else FINAL


class Work:
    """A tool that does nothing."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, input: Mapping[str, Any]) -> str:
        self.calls += 1
        return "ok"


# --- raw ---------------------------------------------------------------------------------------


async def raw(model: Model, work: Work, messages: list[Message]) -> str:
    """One run: the loop that anybody writes in an afternoon."""
    messages.append({"role": "user", "content": "hi"})
    while True:
        reply = await model(messages)
        content = reply["content"]
        messages.append({"role": "assistant", "content": content})
        calls = [block for block in content if block["type"] == "tool_use"]
        if not calls:
            return str(content[0]["text"])
        messages.append(
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": call["id"],
                        "content": await work(call["input"]),
                    }
                    for call in calls
                ],
            }
        )


# --- raw21 -------------------------------------------------------------------------------------


class State:
    """What raw21's stages speak through."""

    __slots__ = (
        "calls",
        "context",
        "cost",
        "events",
        "input_tokens",
        "max_turns",
        "messages",
        "model",
        "more",
        "output_tokens",
        "reply",
        "stopped",
        "text",
        "turns",
        "work",
    )

    def __init__(self, model: Model, work: Work, messages: list[Message]) -> None:
        self.model, self.work, self.messages = model, work, messages
        self.context: list[Message] = messages
        self.reply: Reply = FINAL
        self.calls: list[dict[str, Any]] = []
        self.events: list[tuple[str, str, float]] = []
        self.input_tokens = self.output_tokens = self.cost = self.turns = 0
        self.max_turns = 1_000_000
        self.text = ""
        self.more = self.stopped = False


StageCall: TypeAlias = Callable[[State], Awaitable[None]]


class Stopped(Exception):
    """A stage failed, or somebody stopped the run."""


async def take_input(state: State) -> None:
    state.messages.append({"role": "user", "content": "hi"})


async def context(state: State) -> None:
    state.context = state.messages


async def guard(state: State) -> None:
    if state.turns >= state.max_turns or state.cost > 10**15:
        raise Stopped("a limit")


async def api(state: State) -> None:
    state.turns += 1
    state.reply = await state.model(state.context)
    state.messages.append({"role": "assistant", "content": state.reply["content"]})


async def token(state: State) -> None:
    usage = state.reply["usage"]
    state.input_tokens += usage["input_tokens"]
    state.output_tokens += usage["output_tokens"]
    state.cost += usage["input_tokens"] * INPUT_NANO + usage["output_tokens"] * OUTPUT_NANO


async def parse(state: State) -> None:
    content = state.reply["content"]
    state.calls = [block for block in content if block["type"] == "tool_use"]
    state.text = "".join([block["text"] for block in content if block["type"] == "text"])


async def tool(state: State) -> None:
    results: list[Message] = []
    for call in state.calls:
        given = call["input"]
        for name, kind in SCHEMA.items():
            if type(given.get(name)) is not kind:
                raise Stopped(f"{name} must be {kind}")
        results.append(
            {
                "type": "tool_result",
                "tool_use_id": call["id"],
                "content": await state.work(given),
            }
        )
    if results:
        state.messages.append({"role": "user", "content": results})


async def loop(state: State) -> None:
    state.more = bool(state.calls)


async def nothing(state: State) -> None:
    pass


SETUP: Final = (
    ("input", take_input),
    ("context", context),
    ("system", nothing),
    ("guard", guard),
    ("cache", nothing),
)
LOOP: Final = (
    ("api", api),
    ("token", token),
    ("think", nothing),
    ("parse", parse),
    ("tool", tool),
    ("tool_review", nothing),
    ("agent", nothing),
    ("task_registry", nothing),
    ("evaluate", nothing),
    ("hitl", nothing),
    ("loop", loop),
)
SURFACE: Final = tuple(
    (name, nothing) for name in ("emit", "memory", "summarize", "persist", "yield")
)


async def raw21(model: Model, work: Work, messages: list[Message]) -> str:
    """One run through 21 stages."""
    state = State(model, work, messages)
    await _stages(SETUP, state)
    while True:
        await _stages(LOOP, state)
        if not state.more:
            break
    await _stages(SURFACE, state)
    return state.text


async def _stages(stages: tuple[tuple[str, StageCall], ...], state: State) -> None:
    events = state.events
    for name, stage in stages:
        if state.stopped:
            raise Stopped(name)
        events.append((name, "enter", monotonic()))
        try:
            await stage(state)
        except Exception as error:
            events.append((name, "error", monotonic()))
            raise Stopped(name) from error
        events.append((name, "exit", monotonic()))


# --- cases -------------------------------------------------------------------------------------

Loop: TypeAlias = Callable[[Model, Work, list[Message]], Awaitable[str]]


async def raw_one_run(scale: Scale) -> Figures:
    """Row 1."""
    return await _one_run(raw, scale)


async def raw21_one_run(scale: Scale) -> Figures:
    """Row 1."""
    return await _one_run(raw21, scale)


async def raw_tool_runs(scale: Scale) -> Figures:
    """Row 2."""
    return await _tool_runs(raw, scale)


async def raw21_tool_runs(scale: Scale) -> Figures:
    """Row 2."""
    return await _tool_runs(raw21, scale)


async def raw_long_runs(scale: Scale) -> Figures:
    """Rows 3 and 4."""
    return await _long_runs(raw, scale)


async def raw21_long_runs(scale: Scale) -> Figures:
    """Rows 3 and 4."""
    return await _long_runs(raw21, scale)


async def raw_chat(scale: Scale) -> Figures:
    """Row 3."""
    return await _chat(raw, scale)


async def raw21_chat(scale: Scale) -> Figures:
    """Row 3."""
    return await _chat(raw21, scale)


async def _one_run(loop: Loop, scale: Scale) -> Figures:
    return {"us": await _batches(loop, scale.batches, scale.runs, 0)}


async def _tool_runs(loop: Loop, scale: Scale) -> Figures:
    return {"us": await _batches(loop, scale.batches, scale.tool_runs, 10)}


async def _batches(loop: Loop, batches: int, runs: int, calls: int) -> float:
    found: list[float] = []
    for _ in range(batches):
        model, work = Script(calls), Work()
        messages: list[Message] = []

        async def run(
            model: Script = model, work: Work = work, messages: list[Message] = messages
        ) -> None:
            await loop(model, work, messages)

        for _ in range(WARM_UP):
            await run()
        found.append(await per_unit_us(run, runs, calls + 1))
        expect("model calls", model.calls, (runs + WARM_UP) * (calls + 1))
        expect("tool calls", work.calls, (runs + WARM_UP) * calls)
    return median(found)


async def _long_runs(loop: Loop, scale: Scale) -> Figures:
    await loop(Script(scale.warm), Work(), [])
    figures: Figures = {}
    for name, iterations in zip(("short", "long"), scale.iterations, strict=True):
        stamps: list[int] = []
        model, work = Script(iterations, stamps), Work()
        began = process_time_ns()
        await loop(model, work, [])
        figures[f"{name}_ms"] = (process_time_ns() - began) / 1e6
        figures[f"{name}_growth"] = growth(costs(stamps), iterations, scale.window)
        expect("model calls", model.calls, iterations + 1)
        expect("tool calls", work.calls, iterations)
    return figures


async def _chat(loop: Loop, scale: Scale) -> Figures:
    model, work = Script(0), Work()
    messages: list[Message] = []
    for _ in range(scale.warm):
        await loop(model, work, [])
    stamps = [process_time_ns()]
    for _ in range(scale.turns[1] + scale.window):
        await loop(model, work, messages)
        stamps.append(process_time_ns())
    expect("model calls", model.calls, len(stamps) - 1 + scale.warm)
    spent = costs(stamps)
    return {
        f"{name}_growth": growth(spent, turn, scale.window)
        for name, turn in zip(("short", "long"), scale.turns, strict=True)
    }
