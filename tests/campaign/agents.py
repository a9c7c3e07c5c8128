"""One simulated agent, all of it drawn from one seed: what its model says and how its wire fails,
what its tools do, its limits, who listens, who stops it, when the process dies or its store fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.messages import TextBlock, ThinkingBlock, ToolUse
from lorimer.core.request import StopReason, Usage
from lorimer.testing.fake_turn import seal
from tests.campaign.outside import MAX_TOKENS, Fault, Turn

CODE = ExecutorErrorCode
RETRYABLE = (CODE.EXEC_API_RATE_LIMITED, CODE.EXEC_API_SERVER_ERROR, CODE.EXEC_API_NETWORK)
FATAL = (CODE.EXEC_API_AUTH_INVALID_KEY, CODE.EXEC_API_BAD_REQUEST, CODE.EXEC_API_TOKEN_LIMIT)


@dataclass(frozen=True)
class Interruption:
    """What happens to one life of the process. Seconds count from its begin."""

    kind: str = ""
    """`cancel` the caller, its `timeout`, `close` the stream, `shutdown` or `abort` everything; it
    dies after some `crash_steps`, at a `crash_time`, at an operation (`kill`, and with it the
    `power`), in the middle of a write (`torn`, or with the power: `cut`); another process takes
    its runs over (`takeover`); its store fails once (`refuse`: it does not do it, `deny`: it does
    it and says no) or its disk does (`full`: until the end of this life, `eio`); or nothing."""
    at_s: float = 0.0
    steps: int = 0
    """Of the loop, operations, or writes."""


@dataclass(frozen=True)
class Case:
    """Everything that the seed decides."""

    seed: int
    preset: str
    spoken: bool
    """The conversation has an older run."""
    journal: str
    stream: bool
    listener: str
    limits: Limits
    turns: tuple[Turn, ...]
    lives: tuple[Interruption, ...]


def draw(seed: int) -> Case:
    """The case of a seed."""
    dice = Random(f"agent/{seed}")
    number = iter(range(10_000))
    return Case(
        seed=seed,
        preset=dice.choice(("agent", "agent", "agent", "agent", "chat", "chat", "minimal")),
        spoken=dice.random() < 0.3,
        journal=dice.choice((*["memory"] * 6, *["slow"] * 3, *["file"] * 4)),
        stream=dice.random() < 0.3,
        listener=dice.choice(("", "", "raising", "slow", "hanging")),
        limits=_limits(dice),
        turns=tuple(_turn(dice, number) for _ in range(dice.randint(1, 8))),
        lives=tuple(_interruption(dice) for _ in range(dice.choice((0, 0, 1, 1, 1, 2, 3)))),
    )


def _limits(dice: Random) -> Limits:
    def maybe(chance: float, value: Any, default: Any) -> Any:
        return value if dice.random() < chance else default

    return Limits(
        max_turns=maybe(0.2, dice.randint(1, 6), 12),
        timeout_s=maybe(0.2, dice.choice((0.5, 5.0, 60.0, dice.uniform(1, 900))), 1800.0),
        max_cost_usd=maybe(0.3, dice.uniform(0.002, 0.1), None),
        max_tool_calls=maybe(0.1, dice.randint(0, 12), 1000),
        max_calls_per_turn=maybe(0.15, dice.randint(1, 3), 16),
        max_parallel_tools=dice.randint(1, 4),
        tool_timeout_s=maybe(0.3, dice.uniform(0.5, 60), 120.0),
        max_result_chars=maybe(0.1, 60, 50_000),
        connect_timeout_s=maybe(0.1, dice.uniform(0.5, 5), 10.0),
        idle_timeout_s=maybe(0.1, dice.uniform(0.5, 20), 120.0),
        model_timeout_s=maybe(0.1, dice.uniform(1, 100), 600.0),
        cleanup_s=dice.choice((0.5, 10.0)),
    )


TOOLS = ("look", "look", "put", "change", "change", "alone")
BEHAVIOURS = (
    *("quick", "quick", "quick", "slow", "slow", "first"),
    *("raise", "refuse", "error", "hang", "stubborn", "cancelled", "odd", "long", "chatty"),
)


def _turn(dice: Random, number: Any) -> Turn:
    blocks: list[TextBlock | ThinkingBlock | ToolUse] = []
    if dice.random() < 0.2:
        blocks.append(ThinkingBlock("hm, hm", seal("hm, hm")))
    if dice.random() < 0.5:
        blocks.append(
            TextBlock(dice.choice(("Let me see.", "TASK_COMPLETE", "[ERROR: no]", "·" * 40)))
        )
    for _ in range(dice.choice((0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4))):
        blocks.append(_call(dice, next(number)))
    if not any(isinstance(block, TextBlock | ToolUse) for block in blocks):
        blocks.append(TextBlock("so be it"))
    calls = any(isinstance(block, ToolUse) for block in blocks)
    stop = StopReason.TOOL_USE if calls else StopReason.END_TURN
    if dice.random() < 0.03:
        stop = dice.choice((StopReason.MAX_TOKENS, StopReason.PAUSE, StopReason.REFUSAL))
    return Turn(
        blocks=tuple(blocks),
        usage=Usage(dice.randint(1, 60), dice.randint(1, MAX_TOKENS), reasoning_tokens=1),
        latency_s=dice.choice((0.0, 0.0, 0.0, dice.uniform(0, 9))),
        delta_s=dice.choice((0.0, 0.0, 0.0, dice.uniform(0, 6))),
        faults=tuple(_fault(dice) for _ in range(dice.choice((*[0] * 12, 1, 1, 1, 2, 5)))),
        stop=stop,
    )


def _call(dice: Random, number: int) -> ToolUse:
    if dice.random() < 0.05:
        return ToolUse(f"call_{number}", "nonesuch", {"n": number})
    if dice.random() < 0.05:
        return ToolUse(f"call_{number}", "look", {"n": "not a number"})
    if dice.random() < 0.03:
        return ToolUse(f"call_{number}", "look", {}, raw='{"n": 1')
    arguments: dict[str, JSON] = {"n": number, "do": dice.choice(BEHAVIOURS)}
    if dice.random() < 0.7:
        arguments["s"] = round(dice.uniform(0, 40), 3)
    return ToolUse(f"call_{number}", dice.choice(TOOLS), arguments)


def _fault(dice: Random) -> Fault:
    wait = dice.choice((None, None, 0.0, 7.5, 61.0))
    if dice.random() < 0.05:
        return Fault("before", dice.choice(FATAL))
    kinds = ("before", "before", "before", "middle", "end", "silent", "stall")
    kind = "odd" if dice.random() < 0.03 else dice.choice(kinds)
    return Fault(kind, dice.choice(RETRYABLE), wait)


STOPS = ("cancel", "timeout", "close", "abort", *["shutdown"] * 4)
CRASHES = (*["crash_steps"] * 2, *["crash_time"] * 2, "kill", "kill", "power", "torn", "cut")
STORE_FAULTS = ("takeover", "takeover", "refuse", "deny", "full", "eio")


def _interruption(dice: Random) -> Interruption:
    kind = dice.choice((*STOPS, *CRASHES, *STORE_FAULTS))
    at_s = dice.choice((0.0, dice.uniform(0, 3), dice.uniform(0, 20), dice.uniform(0, 90)))
    return Interruption(kind, at_s, int(2 ** dice.uniform(2, 8)))
