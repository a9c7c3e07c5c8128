"""Puts a call before a person: the approver of this process, or whoever answers from elsewhere
(`core/mail.py`). Who needs no asking is said by `permissions.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from lorimer.core.cancel import Cancellation, Reason, Stopped
from lorimer.core.context import Safety
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.mail import Mail, mail_of
from lorimer.core.tool import Approver, Later, RepeatApprover
from lorimer.tools.base import ToolInput
from lorimer.tools.encode import describe, plain, text_of
from lorimer.tools.registry import Entry

if TYPE_CHECKING:
    from lorimer.core.context import RunContext

MAX_SUMMARY_CHARS: Final = 100_000
"""Of a call, when a person is asked: who agrees has to see all of it."""

_Approve: TypeAlias = Callable[[str, str, str], Awaitable[bool]]

AGAIN: Final = "again"
"""Kind of the effect that asks whether an interrupted call may be made again."""

_GRACE_S: Final = 1.0
"""Seconds that an approver has to take its question back."""


class AskLater:
    """An `Approver` that asks nobody: each call that needs a person suspends the run until it is
    answered, by `lorimer runs answer` or `core.mail.answer`, and resumed."""

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        """Raises Later."""
        raise Later

    async def approve_again(self, tool: str, summary: str, reason: str) -> bool:
        """Raises Later."""
        raise Later


async def ask(
    approver: Approver,
    entry: Entry,
    input: ToolInput,
    key: str,
    reason: str,
    touches: Sequence[str],
    run: RunContext,
) -> str:
    """May this call run? `reason` is why a person is asked, `touches` what the call would touch. ""
    when they agreed, else why not. Journals the question (`effect.intent`) and the answer
    (`effect`), both under the key `approval:<key>`: nobody is asked twice."""
    what = ("approval", key, f"{run.iteration}:{key}")
    answer = await _put(approver.approve, entry, input, reason, what, run, touches)
    if answer.get("approved") is True:
        return ""
    return str(answer.get("why") or "the person who was asked said no")


async def ask_again(
    approver: RepeatApprover, entry: Entry, input: ToolInput, key: str, run: RunContext
) -> bool:
    """May a call be made again that was begun before an interruption, and perhaps took effect?

    Journalled as `ask` does it, under `again:<key>:<n>`. An answer holds for one repetition: when
    that is interrupted too, it is question number n + 1.
    """
    before = [
        fact
        for fact in run.facts
        if fact.iteration == run.iteration
        and fact.type == "effect"
        and str(fact.data.get("key")).startswith(f"{AGAIN}:{key}:")
    ]
    number = f"{key}:{len(before)}"
    reason = "was begun before an interruption and may have taken effect: make it again?"
    name = f"{run.iteration}:{AGAIN}:{number}"
    answer = await _put(approver.approve_again, entry, input, reason, (AGAIN, number, name), run)
    return answer.get("approved") is True


async def _put(
    approve: _Approve,
    entry: Entry,
    input: ToolInput,
    reason: str,
    what: tuple[str, str, str],
    run: RunContext,
    touches: Sequence[str] = (),
) -> Mapping[str, JSON]:
    """Put a question: `what` is the kind and the key of its effect, and the name that an answer
    from elsewhere gives it."""
    kind, key, name = what
    summary = text_of(input)[:MAX_SUMMARY_CHARS]
    question: dict[str, JSON] = {"tool": entry.spec.name, "input": summary, "reason": reason}

    asked: dict[str, JSON] = {"question": question}
    if touches:
        asked["touches"] = list(touches)

    async def call() -> Mapping[str, JSON]:
        mail = mail_of(run)
        await mail.look()
        return await _first(approve, question, mail, name)

    try:
        return await run.effect(
            kind,
            key,
            call,
            request=canonical({"name": entry.spec.name, "input": plain(input)}),
            safety=Safety.IDEMPOTENT,
            intent=asked,
        )
    except Later:
        run.drain(run.bounds.limits.cleanup_s, Reason.WAITING)  # others may be at work beside it
        raise Stopped(Reason.WAITING.value) from None


async def _first(
    approve: _Approve, question: Mapping[str, JSON], mail: Mail, name: str
) -> Mapping[str, JSON]:
    """The approver's answer, or the one that was sent, whichever comes first."""
    posted = mail.answer(name)
    if not posted.done():
        asked = asyncio.ensure_future(_asked(approve, question))
        try:
            await asyncio.wait((asked, posted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not asked.done():
                asked.cancel()
                with Cancellation.undisturbed():
                    await asyncio.wait((asked,), timeout=_GRACE_S)
        if not posted.done():
            return asked.result()
        if not asked.cancelled():
            asked.exception()  # it came too late
    message = posted.result().message
    return {"approved": message.get("approved") is True, "from": "elsewhere"}


async def _asked(approve: _Approve, question: Mapping[str, JSON]) -> Mapping[str, JSON]:
    tool, summary, reason = [str(question[name]) for name in ("tool", "input", "reason")]
    try:
        approved = await approve(tool, summary, reason)
    except (asyncio.CancelledError, Later):
        raise
    except Exception as error:  # noqa: BLE001 - whoever cannot answer has not agreed
        return {"approved": False, "why": f"asking failed: {describe(error)}"}
    return {"approved": approved is True}
