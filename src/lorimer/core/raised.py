"""Limits of a live run that its supervisor raises: turns and time. Never lowered, and never money.

Raised limits are recorded, so that a resumed, replayed or verified run has them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits

if TYPE_CHECKING:
    from lorimer.core.context import RunContext

RAISED: Final = "raised:"
"""Prefix of the key of the effect that raises limits."""


def raised(limits: Limits, data: Mapping[str, JSON]) -> Limits:
    """`limits`, as a recorded fact has raised them."""
    turns, time = data.get("max_turns"), data.get("timeout_s")
    more: dict[str, float] = {}
    if isinstance(turns, int) and turns > limits.max_turns:
        more["max_turns"] = turns
    if isinstance(time, int | float) and limits.timeout_s < time < float("inf"):
        more["timeout_s"] = time
    return replace(limits, **more) if more else limits


async def raise_limits(run: RunContext, *, max_turns: int = 0, timeout_s: float = 0.0) -> bool:
    """Raise the total turns and seconds of a live run; returns whether either is now higher. Time
    is raised to at most `bounds.most_s`. Child runs that were given less time because this run had
    less are given as much more.

    Journals `effect` under a key that begins with `raised:`. Does nothing to a run that answers
    from its journal or is ending. Raises JournalError.
    """
    bounds = run.bounds
    asked = {"max_turns": max_turns, "timeout_s": min(timeout_s, bounds.most_s)}
    limits = raised(bounds.limits, asked)
    if limits is bounds.limits or run.replaying or run.over or not run.facts:
        return False
    more_s = limits.timeout_s - bounds.limits.timeout_s
    data: dict[str, JSON] = {"key": f"{RAISED}{run.position}"}
    if limits.max_turns > bounds.limits.max_turns:
        data["max_turns"] = limits.max_turns
    if more_s > 0:
        data["timeout_s"] = limits.timeout_s
    bounds.raise_to(limits)
    await run.record("effect", data, key=str(data["key"]))
    for child in run.below if more_s > 0 else ():
        await raise_limits(child, timeout_s=child.bounds.limits.timeout_s + more_s)
    return True
