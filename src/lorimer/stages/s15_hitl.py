"""Stage 15, HITL: a person approves an answer, or what an earlier stage asks about. Approval of
tool calls: `tools/asking.py`, which handles these questions and answers too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from math import inf
from typing import Final, Literal

from pydantic import Field

from lorimer.core.errors import ExecutorErrorCode, StageError
from lorimer.core.jsonable import JSON, canonical, fields_of
from lorimer.core.messages import user_message
from lorimer.core.request import StopReason
from lorimer.core.stage import Settings, Slot, Stage
from lorimer.core.state import Decision, PipelineState
from lorimer.core.tool import Later
from lorimer.stages.s15_people import Requester, Timeout

REQUEST: Final = "hitl_request"
"""In `state.shared`: a question of an earlier stage for a person, `{subject, text, reason}`."""
DECISION: Final = "hitl_last_decision"
"""In `state.shared`: `approve` or `reject`."""

_REVISIONS: Final = "hitl.revisions"
_KEY: Final = "hitl"


class HITLStage(Stage[object, object]):
    """Asks a person to approve an answer, or what an earlier stage asks about. If approved, the run
    continues; if rejected, it ends as `rejected`, or the model is told and tries again. Question
    and answer are recorded: nobody is asked twice. Bypassed if there is nothing to ask."""

    name = "hitl"
    order = 15
    category = "gate"
    bypass_reason = "there is nothing to ask a person"
    bypass_path = "config.answers"

    class Config(Settings):
        answers: bool = False
        """Ask about every final answer."""
        on_reject: Literal["end", "revise"] = "end"
        """What happens to the run after a rejection."""
        max_revisions: int = Field(3, ge=1)
        """How often the model may try again."""

    config: Config

    requester = Slot(
        Requester,
        default="approver",
        known={
            "approver": "lorimer.stages.s15_people:OfTheHost",
            "callback": "lorimer.stages.s15_people:Callback",
            "pipeline_resume": "lorimer.stages.s15_people:PipelineResume",
            "null": "lorimer.stages.s15_people:Null",
        },
    )
    timeout = Slot(
        Timeout,
        default="indefinite",
        known={
            "indefinite": "lorimer.stages.s15_people:Indefinite",
            "auto_reject": "lorimer.stages.s15_people:AutoReject",
            "auto_approve": "lorimer.stages.s15_people:AutoApprove",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        return REQUEST not in state.shared and not (self.config.answers and _is_answer(state))

    async def execute(self, input: object, state: PipelineState) -> object:
        request = fields_of(state.shared.pop(REQUEST, None))
        subject = str(request.get("subject", "the answer"))
        text = str(request.get("text", state.text))
        reason = str(request.get("reason", "a person has to accept it"))
        approved, late = True, False
        if self.requester.asks:
            approved, late = await self._asked(subject, text, reason, state)
        state.shared[DECISION] = "approve" if approved else "reject"
        if state.run.wants("hitl.decision"):
            state.run.signal("hitl.decision", {"subject": subject, "approved": approved})
        if not approved:
            self._rejected(subject, state, late=late)
        return input

    async def _asked(
        self, subject: str, text: str, reason: str, state: PipelineState
    ) -> tuple[bool, bool]:
        """Whether it is approved, and whether that is due to the timeout."""
        from lorimer.tools.asking import MAX_SUMMARY_CHARS, put_question  # only if one asks
        from lorimer.tools.encode import describe

        text = text[:MAX_SUMMARY_CHARS]
        run, seconds = state.run, self.timeout.seconds
        question: dict[str, JSON] = {"tool": subject, "input": text, "reason": reason}
        before = run.recorded("effect.intent", f"approval:{_KEY}")
        if before is not None:  # time also passes while the run is interrupted
            passed = max(0.0, run.world.time() - before.time)  # the clock may be set back
            seconds = max(0.0, seconds - passed)
        if run.wants("hitl.request"):
            run.signal("hitl.request", {"subject": subject, "reason": reason})

        async def asked() -> Mapping[str, JSON]:
            waits = self.timeout.seconds < inf
            try:
                said = await self.requester.ask(subject, text, reason, waits=waits)
            except (asyncio.CancelledError, Later):
                raise
            except Exception as error:  # noqa: BLE001 - whoever cannot answer has not agreed
                return {"approved": False, "why": f"asking failed: {describe(error)}"}
            return {"approved": said is True}

        answer = await put_question(
            asked,
            question,
            ("approval", _KEY, f"{run.iteration}:{_KEY}"),
            run,
            request=canonical(question),
            timeout_s=seconds,
        )
        if answer.get("late") is True:
            return self.timeout.approves, True
        return answer.get("approved") is True, False

    def _rejected(self, subject: str, state: PipelineState, *, late: bool) -> None:
        counted = state.shared.get(_REVISIONS, 0)
        tries = counted if isinstance(counted, int) else 0
        if self.config.on_reject == "revise" and tries < self.config.max_revisions:
            state.shared[_REVISIONS] = tries + 1
            told = f"[A person was asked about {subject}, and did not accept it. Make it better.]"
            state.messages.append(user_message(told))
            state.decision, state.reason = Decision.CONTINUE, "hitl"
            return
        state.decision, state.reason = Decision.ERROR, "hitl"
        what = "nobody answered in time" if late else "did not accept it"
        state.failure = StageError(
            f"A person was asked about {subject}, and {what}.",
            code=ExecutorErrorCode.EXEC_HITL_REJECTED,
            stage_name=self.name,
            stage_order=self.order,
        )


def _is_answer(state: PipelineState) -> bool:
    response = state.response
    if state.calls or response is None or response.stop is StopReason.PAUSE:
        return False
    return state.decision is None or state.decision is Decision.COMPLETE
