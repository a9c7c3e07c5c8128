"""All hooks of one pipeline: `core.hooks.Hooks`. The guards of a point are asked in sequence, in
the order in which they were given; each sees the changes of the previous one, so more trusted ones
come later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lorimer.core.hooks import NOTHING, Answer, HookEvent
from lorimer.core.jsonable import JSON

if TYPE_CHECKING:
    from lorimer.core.context import RunContext
    from lorimer.tools.hooks.hook import Hook

_CHANGES: Final[Mapping[HookEvent, str]] = {
    HookEvent.USER_PROMPT_SUBMIT: "prompt",
    HookEvent.PRE_TOOL_USE: "tool_input",
    HookEvent.POST_TOOL_USE: "tool_output",
    HookEvent.POST_TOOL_FAILURE: "tool_output",
}
"""The field of each point that an answer may change."""


class HookSet:
    """Guards, by point and tool. `about`: additional fields for each of them."""

    def __init__(self, hooks: Iterable[Hook], about: Mapping[str, JSON]) -> None:
        self._hooks = tuple(hooks)
        self._about = dict(about)
        self._found: dict[tuple[HookEvent, str], tuple[Hook, ...]] = {}

    def guards(self, event: HookEvent, tool: str = "") -> bool:
        """Whether there is a guard at this point, for calls of this tool."""
        return bool(self._of(event, tool))

    def _of(self, event: HookEvent, tool: str) -> tuple[Hook, ...]:
        found = self._found.get((event, tool))
        if found is None:
            found = tuple(
                [hook for hook in self._hooks if hook.event is event and hook.is_about(tool)]
            )
            self._found[event, tool] = found
        return found

    async def ask(
        self, event: HookEvent, payload: Mapping[str, JSON], run: RunContext
    ) -> Mapping[str, JSON]:
        """Their combined answer. The first that blocks ends it; the first reason to ask a person is
        kept. Raises HookError."""
        told: dict[str, JSON] = {
            "event": f"{event}",
            "run_id": run.id,
            "session_id": run.stream,
            "iteration": run.iteration,
            "timestamp": run.world.time(),
            **self._about,
            **payload,
        }
        whole = NOTHING
        for hook in self._of(event, str(payload.get("tool_name", ""))):
            answer = await hook.answer(told, run)
            if answer is NOTHING:
                continue
            if answer.decision == "block":
                return answer.to_json()
            if answer.change is not None:
                told[_CHANGES[event]] = answer.change
            whole = _both(whole, answer)
        return whole.to_json()


def _both(one: Answer, other: Answer) -> Answer:
    """Combine two answers, neither of which blocks."""
    if one is NOTHING:
        return other
    named = one.hook if one.hook == other.hook else f"{one.hook}, {other.hook}"
    decides = one if one.decision else other
    return replace(
        decides,
        change=one.change if other.change is None else other.change,
        context="\n\n".join([text for text in (one.context, other.context) if text]),
        hook=decides.hook if decides.decision else named,
    )
