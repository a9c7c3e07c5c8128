"""The only attempt loop: a model call, its retries, and the choice of another model when one fails.
Every attempt is an effect.

The strategies for a single target are in stage 6, the rules for choosing the next one in
`failover.py`, the benching of models in `health.py`; `pull.py` makes one attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import APIError, ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.facts import ASIDE
from lorimer.core.jsonable import JSON
from lorimer.core.messages import user_message
from lorimer.core.model import Target
from lorimer.core.request import Request, Response, response_from_json
from lorimer.core.state import PipelineState
from lorimer.models.caller import Caller
from lorimer.models.failover import FailoverState, Verdict, continuing, verdict
from lorimer.models.pull import Pull
from lorimer.models.reserving import note, reservation

_IDEMPOTENT: Final = Safety.IDEMPOTENT
_ROUNDING_S: Final = 0.001
"""Once a cool-down is exceeded by this much it is certainly over, whatever the rounding of
clocks."""


async def call(
    caller: Caller, request: Request, state: PipelineState, made: int = 0
) -> tuple[Response, Mapping[str, JSON]]:
    """Get one answer, as an object and as recorded in its fact, with as many attempts as the retry
    policy and the chain allow.

    Journals a model.intent and a model.reply for every attempt, or two effects where `caller.aside`
    is set. Nothing is given to a listener twice: once part of an answer was released,
    `caller.after_release` decides how to go on. A resumed or replayed run makes the recorded
    attempts, at the recorded targets; only later ones are decided anew. Raises APIError (with
    `attempts`, the number made): that of the last attempt, or `exec.api.unavailable` if no model of
    a chain answered; LimitError when the reservation does not fit. `made`: attempts made earlier in
    this turn, with another request.
    """
    run = state.run
    target, prefix = caller.first, ""
    failures: _Failures | None = None
    if caller.chain:
        failures = _Failures(caller, request, state)
        target, request = await failures.begin(made)
    asked = caller.fingerprint(request)
    reserve = reservation(caller, target, request, state)
    kind, number, key = "model", made + 1, str(made)
    if caller.aside:
        kind, key = ASIDE, f"{caller.aside}0"
    while True:
        fresh = state.unrecorded()
        intent: dict[str, JSON] = (
            {"messages": [message.to_json() for message in fresh]} if fresh else {}
        )
        if target is not caller.first:
            intent["target"] = target.spec
        if failures is not None and failures.nudge:
            intent["nudge"] = failures.nudge
        if run.wants("api.request"):
            run.signal("api.request", _described(target, request, number))
        pull: Pull | None = None
        try:
            data = run.answer(kind, key, asked) if run.replaying else None
            if data is None:
                pull = Pull(caller, target, request, state, reserve, number, prefix)
                data = await run.effect(
                    kind,
                    key,
                    pull.make,
                    request=asked,
                    safety=_IDEMPOTENT,
                    intent=intent,
                    reserve_nano=reserve,
                    aborted=pull.spent,
                )
        except APIError as error:
            if failures is None:
                failures = _Failures(caller, request, state)
            target, request, prefix = await failures.after(error, number)
            asked = caller.fingerprint(request)
            reserve = reservation(caller, target, request, state)
            key = f"{caller.aside}{number}"
            number += 1
            continue
        except BaseException:
            caller.health.release(target.place, run.id)
            if fresh and not run.has_begun(kind, key):
                state.mark_unrecorded(fresh)
            raise
        response = pull.response if pull is not None else None
        response = response or _recorded(data)
        if reserve:
            note(request, response, state)
        return response, data


class _Failures:
    """Handles failed attempts of one call: waits, signals, and the choice of the next target."""

    __slots__ = (
        "_caller",
        "_course",
        "_partial",
        "_released",
        "_request",
        "_run",
        "_state",
        "nudge",
    )

    def __init__(self, caller: Caller, request: Request, state: PipelineState) -> None:
        self._caller = caller
        self._request = request
        """As sent to the first target."""
        self._state = state
        self._run = state.run
        targets = caller.targets
        self._course = FailoverState(
            [target.spec for target in targets],
            [target.place for target in targets],
            caller.health,
        )
        self._partial = ""
        """The answer so far, which is to be continued."""
        self._released = 0
        """How many of its characters listeners were given."""
        self.nudge = ""
        """What the next attempt adds to the question."""

    async def begin(self, made: int) -> tuple[Target, Request]:
        """The first target to ask, after `made` attempts with another request. Raises APIError when
        all are benched for longer than the retry policy or the run can wait."""
        run, course = self._run, self._course
        begun = self._begun(made)
        if begun is not None:
            course.go(self._index(begun))
        elif not run.follows_record:
            for target in self._caller.targets:  # else an outage would look like a missing price
                reservation(self._caller, target, _to(target, self._request), self._state)
            course.go(await self._first())
            if course.at:
                self._tell_routed(0, "benched", "it failed before and cools down")
        target = self._caller.targets[course.at]
        return target, _to(target, self._request)

    async def _first(self) -> int:
        run, course, waits = self._run, self._course, 0
        while True:
            now = run.world.monotonic()
            index = course.first(now, run.id)
            if index is not None:
                return index
            waits += 1
            error = course.over(None, course.soonest_s(now) + _ROUNDING_S)
            error.attempts = 0
            wait = self._caller.retry.delay_s(error, waits, run.dice)
            if wait is None or not _in_time(wait, run):
                raise error
            self._tell_retry(0, error, wait)
            await run.sleep(wait)

    async def after(self, error: APIError, number: int) -> tuple[Target, Request, str]:
        """Target, request and beginning of the answer for the attempt after number `number`. Raises
        the error of the call when there is no further attempt."""
        run, course, caller = self._run, self._course, self._caller
        error.attempts = number
        course.failed(error)
        kind = verdict(error, caller.on_refusal)
        # only blanks and thoughts were released of an answer without content
        stays = error.released and kind is not Verdict.EMPTY and caller.after_release == "stop"
        if stays or kind is Verdict.FINAL:
            raise error
        # drawn for recorded attempts too, so that later random numbers are the same
        wait = None
        if course.may_repeat(error):
            wait = caller.retry.delay_s(error, course.tries, run.dice)
        before = course.at
        index = self._next(wait, number)
        if index is None:
            failed = course.over(error)
            failed.attempts = number
            raise failed
        course.go(index)
        if index == before:
            self._tell_retry(number, error, wait or 0.0)
        else:
            self._tell_routed(before, error.code.value, str(error))
        if error.released:
            self._begin_anew(error, number)
        if index == before and self._begun(number) is None:
            await run.sleep(wait or 0.0)
        target = caller.targets[index]
        request = _to(target, self._request)
        if self._partial:
            request.messages = continuing(request.messages, self._partial)
        begun = self._begun(number)
        # the record decides, even that of a version that added nothing, or something else
        self.nudge = course.nudge if begun is None else str(begun.data.get("nudge", ""))
        if self.nudge:
            request.messages = [*request.messages, user_message(self.nudge)]
        return target, request, self._partial

    def _next(self, wait: float | None, number: int) -> int | None:
        run = self._run
        begun = self._begun(number)
        if begun is not None:
            return self._index(begun)
        if run.follows_record:
            return None
        again = wait is not None and _in_time(wait, run)
        return self._course.next(again, run.world.monotonic(), run.id)

    def _begun(self, number: int) -> Event | None:
        """The recorded beginning of the attempt after number `number`."""
        aside = self._caller.aside
        return self._run.begun(ASIDE if aside else "model", f"{aside}{number}")

    def _index(self, begun: Event) -> int:
        """Index of the target that a recorded intent names."""
        spec = begun.data.get("target")
        if spec is None:
            return 0
        for index, target in enumerate(self._caller.targets):
            if target.spec == spec:
                return index
        raise JournalError(
            f"Run {self._run.id} cannot go on: it had asked {spec!r}, which is not in its chain "
            "of models any more.",
            code=ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
            hint="Put it back into the chain, or start a new run.",
        )

    def _begin_anew(self, error: APIError, number: int) -> None:
        """Listeners have part of an answer that breaks off here: it is continued, or discarded."""
        self._released += error.released
        if error.partial:
            self._partial += error.partial
            return
        self._partial = ""
        if self._caller.hearer is not None:
            self._caller.hearer.restart()
        else:
            data: dict[str, JSON] = {"attempt": number, "released": self._released}
            self._run.signal("api.stream_restart", data)
        self._released = 0

    def _tell_retry(self, number: int, error: APIError, wait: float) -> None:
        self._run.signal(
            "api.retry",
            {
                "attempt": number,
                "code": error.code.value,
                "category": error.category.value,
                "error": str(error),
                "delay_s": wait,
            },
        )

    def _tell_routed(self, before: int, reason: str, error: str) -> None:
        targets = self._caller.targets
        self._run.signal(
            "api.model_routed",
            {
                "from": targets[before].spec,
                "to": targets[self._course.at].spec,
                "reason": reason,
                "error": error,
            },
        )


def _to(target: Target, request: Request) -> Request:
    """The same request, for this target."""
    return replace(request, model=target.model.name, effort=target.effort)


def _in_time(wait: float, run: RunContext) -> bool:
    """Whether the wait ends before the run's time is up."""
    return wait <= run.bounds.left_s(run.world.monotonic())


def _recorded(data: Mapping[str, JSON]) -> Response:
    try:
        return response_from_json(data)
    except ValueError as error:
        raise JournalError(
            f"A recorded reply cannot be read: {error}.",
            code=ExecutorErrorCode.EXEC_JOURNAL_VERSION,
            hint="Another version of lorimer wrote it: resume the run with that one.",
        ) from None


def _described(target: Target, request: Request, number: int) -> Mapping[str, JSON]:
    return {
        "model": request.model,
        "provider": target.model.provider,
        "attempt": number,
        "message_count": len(request.messages),
        "has_tools": bool(request.tools),
        "stream": request.stream,
    }
