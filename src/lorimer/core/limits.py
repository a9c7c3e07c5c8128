"""The bounds that always hold. Stages 4 and 16 are policy on top of them and can only stop earlier.

The engine checks them before each model call and each batch of tools. No manifest can switch them
off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from math import inf
from operator import attrgetter
from typing import Annotated, ClassVar, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from lorimer.core.arguments import is_a
from lorimer.core.errors import ConfigError, ExecutorErrorCode, LimitError, nearest
from lorimer.core.jsonable import JSON


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. Every field is a hard stop with a reason code."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    max_turns: Annotated[int, Field(ge=1)] = 50
    """Iterations: model calls with their tool calls. `exec.loop.max_turns`."""
    timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Wall seconds of the whole run, excluding time spent waiting for a person.
    `exec.limit.timeout`."""
    max_cost_usd: Annotated[float | None, Field(ge=0)] = None
    """US dollars, reserved before each model call. None: no ceiling. `exec.limit.cost`."""
    allow_unpriced: bool = False
    """Under a cost ceiling, also call models whose price is unknown (they count as free)."""
    max_tool_calls: Annotated[int, Field(ge=0)] = 1000
    """Tool calls of the whole run. `exec.limit.tool_calls`."""
    max_calls_per_turn: Annotated[int, Field(ge=1)] = 16
    """Tool calls of one reply; the rest get "not run" as their result."""
    max_parallel_tools: Annotated[int, Field(ge=1)] = 4
    """Tool calls running at once, where tools allow it."""
    max_depth: Annotated[int, Field(ge=0)] = 5
    """Runs within runs, below this one; 0: it has no sub-agents. `exec.child.depth`."""
    max_descendants: Annotated[int, Field(ge=0)] = 50
    """Runs below this one in all, however deep. `exec.child.descendants`."""
    tool_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds for one tool call, unless the tool names its own."""
    max_result_chars: Annotated[int, Field(ge=1)] = 50_000
    """Characters of one tool result that the model sees; longer ones are spilled to a file."""
    connect_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds until a provider's first response: the headers of its answer."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds without any content in a model's stream (and to its first piece: x 2.5)."""
    model_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for one whole model call."""
    cleanup_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that stages 17 to 21 and the clean-up may take after the loop has ended."""

    def __post_init__(self) -> None:
        seconds = list(zip(_SECONDS, _seconds_of(self), strict=True))
        bad = [
            *map(_count, _LEAST, _counts_of(self), _LEAST.values()),
            *[_time(name, value) for name, value in seconds],
            _dollars(self.max_cost_usd),
            ""
            if is_a(self.allow_unpriced, bool)
            else "limits.allow_unpriced: must be True or False",
        ]
        if any(bad):
            problems = tuple([fault for fault in bad if fault])
            raise ConfigError("; ".join(problems), problems=problems)
        # 2 and 2.0 are equal limits, so they are written alike
        for name, value in seconds:
            object.__setattr__(self, name, float(value))
        if self.max_cost_usd is not None:
            object.__setattr__(self, "max_cost_usd", float(self.max_cost_usd))

    @property
    def max_cost_nano(self) -> int | None:
        """The cost ceiling in nano-dollars, the unit in which money is counted."""
        return None if self.max_cost_usd is None else round(self.max_cost_usd * 1e9)

    def to_json(self) -> dict[str, JSON]:
        """Only the fields that differ from the defaults."""
        pairs = zip(_NAMES, _values_of(self), _values_of(_USUAL), strict=True)
        return {name: value for name, value, usual in pairs if value != usual}

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> Limits:
        """The reverse of `to_json`. Raises ConfigError naming every field that is wrong."""
        bad = [
            f"limits.{n}: there is no such field{nearest(n, _NAMES)}"
            for n in data
            if n not in _NAMES
        ]
        known = {n: v for n, v in data.items() if n in _NAMES}
        try:
            limits = limits_adapter().validate_python(known)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                path = ".".join(["limits", *map(str, item["loc"])])
                reason = item["msg"].removeprefix("Value error, ")
                bad.append(reason if reason.startswith("limits.") else f"{path}: {reason.lower()}")
        else:
            if not bad:
                return limits
        raise ConfigError("; ".join(bad), problems=tuple(bad))


_LEAST: Final[Mapping[str, int]] = {
    "max_turns": 1,
    "max_calls_per_turn": 1,
    "max_parallel_tools": 1,
    "max_result_chars": 1,
    "max_tool_calls": 0,
    "max_depth": 0,
    "max_descendants": 0,
}
_SECONDS: Final = (
    "timeout_s",
    "tool_timeout_s",
    "connect_timeout_s",
    "idle_timeout_s",
    "model_timeout_s",
    "cleanup_s",
)
_counts_of: Final = attrgetter(*_LEAST)
_seconds_of: Final = attrgetter(*_SECONDS)


def _count(name: str, value: float, least: int) -> str:
    if not is_a(value, int):
        return f"limits.{name}: must be a whole number, not {value!r}"
    if value >= least:
        return ""
    return f"limits.{name}: must {'be at least 1' if least else 'not be negative'}"


def _time(name: str, value: float) -> str:
    if not is_a(value, int, float):
        return f"limits.{name}: must be a number of seconds, not {value!r}"
    return "" if 0 < value < inf else f"limits.{name}: must be more than 0 s, and finite"


def _dollars(value: float | None) -> str:
    if value is None:
        return ""
    if not is_a(value, int, float):
        return f"limits.max_cost_usd: must be a number or None, not {value!r}"
    fits = 0 <= value < 1e299  # its nano-dollars must be a finite number too
    return "" if fits else "limits.max_cost_usd: must be a finite number, not negative"


_NAMES: Final = tuple([field.name for field in fields(Limits)])
_values_of: Final = attrgetter(*_NAMES)
_USUAL: Final = Limits()


@cache
def limits_adapter() -> TypeAdapter[Limits]:
    """Validates limits in a document. Takes milliseconds to build, so it is built on first use."""
    return TypeAdapter(Limits)


class Bounds:
    """The limits of one live run and what it has used of them. Owned by the run's task."""

    __slots__ = (
        "deadline",
        "given",
        "limits",
        "most_s",
        "narrowed",
        "paused_at",
        "started",
        "tool_calls",
        "turns",
    )

    def __init__(self, limits: Limits, started: float) -> None:
        self.given = limits
        """The limits that the run began with."""
        self.limits = limits
        """The limits in force now; see `raised.py`."""
        self.most_s = limits.timeout_s
        """The most seconds to which `timeout_s` may be raised: for a child run its own limit, if it
        began with less because its parent had less left."""
        self.started = started
        """Start, on the run's monotonic clock."""
        self.deadline = started + limits.timeout_s
        """End of the run's time, on the same clock, if it does not stand still until then."""
        self.paused_at = inf
        """When its time began to stand still, because a person is asked; inf: it runs."""
        self.turns = 0
        self.tool_calls = 0
        self.narrowed: tuple[int, str] | None = None
        """The fewest turns that a stage allows, and the path of that setting in the manifest; None:
        no stage limits them."""

    @property
    def max_turns(self) -> int:
        """The most turns allowed, by the limits and by stages."""
        most = self.limits.max_turns
        return most if self.narrowed is None else min(most, self.narrowed[0])

    def raise_to(self, limits: Limits) -> None:
        """Replace the limits in force."""
        self.limits = limits
        self.deadline = self.started + limits.timeout_s

    def pause(self, now: float) -> None:
        """From now on no time is used: a person is asked."""
        self.paused_at = now

    def unpause(self, now: float) -> None:
        """Time is used again."""
        paused = now - self.paused_at
        self.started += paused
        self.deadline += paused
        self.paused_at = inf

    def used_s(self, now: float) -> float:
        """Seconds of the run's time that are used."""
        return min(now, self.paused_at) - self.started

    def left_s(self, now: float) -> float:
        """Seconds of the run's time that are left; negative when it is over."""
        return self.deadline - min(now, self.paused_at)

    def check_turn(self) -> None:
        """Count a turn in before its model call. Raises LimitError when it would be one too
        many."""
        if self.turns >= self.limits.max_turns:
            raise LimitError(
                f"Stopped after {self.turns} model turns, the limit.",
                code=ExecutorErrorCode.EXEC_LOOP_MAX_TURNS,
                hint="Raise max_turns (--max-turns) or narrow the task.",
            )
        if self.narrowed is not None and self.turns >= self.narrowed[0]:
            path = self.narrowed[1]
            raise LimitError(
                f"Stopped after {self.turns} model turns, the limit of {path}.",
                code=ExecutorErrorCode.EXEC_LOOP_MAX_TURNS,
                hint="Raise it or narrow the task.",
            )

    def check_time(self, now: float) -> None:
        """Raises LimitError once the run's time is used up."""
        if now >= self.deadline and self.left_s(now) <= 0:
            raise self.timed_out()

    def timed_out(self) -> LimitError:
        """The error of a run whose time is used up."""
        return LimitError(
            f"Stopped after {self.limits.timeout_s:g} s, the time limit of the run.",
            code=ExecutorErrorCode.EXEC_LIMIT_TIMEOUT,
            hint="Raise limits.timeout_s (--timeout).",
        )

    def count_tool(self) -> None:
        """Count a tool call. Raises LimitError when it would be one too many."""
        if self.tool_calls >= self.limits.max_tool_calls:
            raise LimitError(
                f"Stopped after {self.tool_calls} tool calls, the limit.",
                code=ExecutorErrorCode.EXEC_LIMIT_TOOL_CALLS,
                hint="Raise limits.max_tool_calls.",
            )
        self.tool_calls += 1
