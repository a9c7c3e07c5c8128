"""The same loop without a framework.

`raw`: a hand-written loop over dict messages. `raw21`: the shape of Lorimer without its content:
5 + 11 a call + 5 separately awaited stages, each with an enter and an exit event and a time stamp,
a try, a stop check, token and cost accounting, checked arguments. Most of its stages do nothing,
so it bounds the machinery and not the work of real stages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic, process_time_ns
from typing import Any, Final, TypeAlias

from benchmarks.task import TOOL

Message: TypeAlias = dict[str, Any]
Reply: TypeAlias = dict[str, Any]
Model: TypeAlias = Callable[[list[Message]], Awaitable[Reply]]

FINAL: Final[Reply] = {
    "content": [{"type": "text", "text": "done"}],
    "usage": {"input_tokens": 100, "output_tokens": 20},
}
CALL: Final[Reply] = {
    "content": [{"type": "tool_use", "id": "call_1", "name": TOOL, "input": {"n": 1}}],
    "usage": {"input_tokens": 100, "output_tokens": 20},
}
ARGUMENTS: Final = {"n": int}
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


class Sleepy:
    """A model for runs side by side: `calls` tool calls, then an answer, each after `latency_s`."""

    def __init__(self, calls: int, latency_s: float) -> None:
        self.calls = 0
        self._turns = calls
        self._latency_s = latency_s

    async def __call__(self, messages: list[Message]) -> Reply:
        self.calls += 1
        await asyncio.sleep(self._latency_s)
        return CALL if len(messages) // 2 < self._turns else FINAL


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
        for name, kind in ARGUMENTS.items():
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


Loop: TypeAlias = Callable[[Model, Work, list[Message]], Awaitable[str]]
