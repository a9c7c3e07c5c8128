"""Asks a person about a call, or a tool's question: through the approver of this process, or by a
message from elsewhere (`core/mail.py`). Whether asking is needed is decided in `permissions.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from lorimer.core.cancel import Cancellation, Reason, Stopped
from lorimer.core.context import Safety
from lorimer.core.errors import ToolExecutionError
from lorimer.core.jsonable import JSON, canonical, clean
from lorimer.core.mail import MAX_TEXT_CHARS
from lorimer.core.mailbox import Mail, mail_of
from lorimer.core.tool import Approver, Asker, Later, RepeatApprover, TextQuestion
from lorimer.tools.base import ToolInput
from lorimer.tools.encode import describe, plain, text_of
from lorimer.tools.policy.modes import Mode
from lorimer.tools.registry import Entry

if TYPE_CHECKING:
    from lorimer.core.context import RunContext
    from lorimer.tools.toolset import Toolset

MAX_SUMMARY_CHARS: Final = 100_000
"""Most characters of a call when a person is asked, who has to see all of it to agree."""

CUT: Final = " [cut here: the call is longer than what can be shown]"
"""The end of a summary that does not contain the whole call."""

_Approve: TypeAlias = Callable[[str, str, str], Awaitable[bool]]
_Answer: TypeAlias = Mapping[str, JSON]

AGAIN: Final = "again"
"""Kind of the effect that asks whether an interrupted call may be repeated."""

QUESTION: Final = "question"
"""Kind of the effect that asks a tool's question."""

_GRACE_S: Final = 1.0
"""Seconds that an approver has to withdraw its question."""


class AskLater:
    """An `Approver` that asks no one: each call that needs a person suspends the run, until it is
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
    """Whether this call may run. `reason` is why a person is asked, `touches` what the call would
    affect. Returns "" if they agreed, else why not. Journals the question (`effect.intent`) and the
    answer (`effect`), both under the key `approval:<key>`, so that nobody is asked twice."""
    what = ("approval", key, f"{run.iteration}:{key}")
    answer = await _put(approver.approve, entry, input, reason, what, run, touches)
    if answer.get("approved") is True:
        return ""
    return str(answer.get("why") or "the person who was asked said no")


async def ask_again(
    approver: RepeatApprover, entry: Entry, input: ToolInput, key: str, run: RunContext
) -> bool:
    """Whether to repeat a call that was begun before an interruption and may have taken effect.

    Journalled as by `ask`, under `again:<key>:<n>`. An answer is valid for one repetition: if that
    is interrupted too, the next question has number n + 1.
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
    """Ask a question: `what` is the kind and the key of its effect, and the name by which a message
    answers it."""
    question = _question(entry, input, reason)

    async def asked() -> _Answer:
        return await _asked(approve, question)

    return await _answered(asked, entry, input, question, what, run, touches=touches)


async def ask_text(
    tools: Toolset, entry: Entry, input: ToolInput, key: str, run: RunContext
) -> str | None:
    """The person's answer to `Tool.question`; None: the tool asks nothing, or nobody answered and
    there is no default. If nobody can be asked in words, the run is suspended; in the mode
    `dontAsk` nobody is asked, but what was asked before still waits for its answer. Journalled as
    by `ask`, under `question:<key>`."""
    wanted = _wanted(entry, input)
    if wanted is None:
        return None
    nobody = tools.base_policy.mode is Mode.DONT_ASK
    if nobody and run.recorded("effect.intent", f"{QUESTION}:{key}") is None:
        return wanted.default
    question = _question(entry, input, wanted.text[:MAX_SUMMARY_CHARS])
    question["wants"] = "text"
    if wanted.options:
        question["options"] = [str(option) for option in wanted.options]

    async def asked() -> _Answer:
        return await _worded(None if nobody else tools.approver, wanted)

    what = (QUESTION, key, f"{run.iteration}:{QUESTION}:{key}")
    answer = (await _answered(asked, entry, input, question, what, run, wanted)).get("answer")
    return answer if isinstance(answer, str) else wanted.default


def _wanted(entry: Entry, input: ToolInput) -> TextQuestion | None:
    """The question of a tool. Raises `exec.tool.crashed` if the tool fails to state it."""
    try:
        wanted = cast("object", entry.tool.question(input))  # third-party code
    except Exception as error:
        raise ToolExecutionError(
            f"its question failed: {describe(error)}", tool_name=entry.spec.name, cause=error
        ) from error
    if wanted is None or isinstance(wanted, TextQuestion):
        return wanted
    raise ToolExecutionError(
        f"its question is a {type(wanted).__name__}, not a TextQuestion", tool_name=entry.spec.name
    )


def _question(entry: Entry, input: ToolInput, reason: str) -> dict[str, JSON]:
    summary = text_of(input)
    if len(summary) > MAX_SUMMARY_CHARS:
        summary = summary[: MAX_SUMMARY_CHARS - len(CUT)] + CUT
    return {"tool": entry.spec.name, "input": summary, "reason": reason}


async def _answered(
    asked: Callable[[], Awaitable[_Answer]],
    entry: Entry,
    input: ToolInput,
    question: Mapping[str, JSON],
    what: tuple[str, str, str],
    run: RunContext,
    wanted: TextQuestion | None = None,
    *,
    touches: Sequence[str] = (),
) -> _Answer:
    """`put_question` for a call."""
    return await put_question(
        asked,
        question,
        what,
        run,
        request=canonical({"name": entry.spec.name, "input": plain(input)}),
        timeout_s=inf if wanted is None else wanted.timeout_s,
        words=wanted is not None,
        touches=touches,
    )


async def put_question(
    asked: Callable[[], Awaitable[_Answer]],
    question: Mapping[str, JSON],
    what: tuple[str, str, str],
    run: RunContext,
    *,
    request: bytes,
    timeout_s: float = inf,
    words: bool = False,
    touches: Sequence[str] = (),
) -> _Answer:
    """The recorded answer to a question, or else the one given now, by `asked` or by a message
    (`core/mail.py`): `approved`, or with `words` an `answer`; `late` if time ran out first. `what`
    is the kind and the key of its effect, and the name by which a message answers it. If `asked`
    raises Later, the run is suspended until there is an answer."""
    kind, key, name = what
    intent: dict[str, JSON] = {"question": question}
    if touches:
        intent["touches"] = list(touches)

    async def call() -> _Answer:
        mail = mail_of(run)
        await mail.look()
        run.begin_question()
        try:
            return await _first(asked, mail, name, timeout_s, words)
        finally:
            run.end_question()

    try:
        return await run.effect(
            kind, key, call, request=request, safety=Safety.IDEMPOTENT, intent=intent
        )
    except Later:
        run.drain(run.bounds.limits.cleanup_s, Reason.WAITING)  # other calls may be running
        raise Stopped(Reason.WAITING.value) from None


async def _first(
    asked: Callable[[], Awaitable[_Answer]], mail: Mail, name: str, timeout_s: float, words: bool
) -> _Answer:
    """The answer given here, or the one that was sent, whichever comes first; nothing if time runs
    out before either."""
    posted = mail.answer(name)
    if not posted.done():
        asking = asyncio.ensure_future(asked())
        try:
            await asyncio.wait(
                (asking, posted),
                timeout=None if timeout_s == inf else timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            if not asking.done():
                asking.cancel()
                with Cancellation.shielded():
                    await asyncio.wait((asking,), timeout=_GRACE_S)
            elif not asking.cancelled():
                asking.exception()  # retrieved even if no one waits for it any more
        if not posted.done():
            return asking.result() if asking.done() and not asking.cancelled() else {"late": True}
        if not asking.cancelled():
            asking.exception()  # it came too late
    message = posted.result().message
    if words:
        return {"answer": str(message.get("text", "")), "from": "elsewhere"}
    return {"approved": message.get("approved") is True, "from": "elsewhere"}


async def _asked(approve: _Approve, question: Mapping[str, JSON]) -> _Answer:
    tool, summary, reason = [str(question[name]) for name in ("tool", "input", "reason")]
    try:
        approved = await approve(tool, summary, reason)
    except (asyncio.CancelledError, Later):
        raise
    except Exception as error:  # noqa: BLE001 - whoever cannot answer has not agreed
        return {"approved": False, "why": f"asking failed: {describe(error)}"}
    return {"approved": approved is True}


async def _worded(approver: Approver | None, wanted: TextQuestion) -> _Answer:
    if not isinstance(approver, Asker):
        raise Later
    try:
        answer = await approver.ask(wanted)
    except (asyncio.CancelledError, Later):
        raise
    except Exception as error:  # noqa: BLE001 - whoever cannot answer has said nothing
        return {"why": f"asking failed: {describe(error)}"}
    return {"answer": clean(str(answer)[:MAX_TEXT_CHARS])} if answer else {}
