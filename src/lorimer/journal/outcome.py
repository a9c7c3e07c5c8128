"""The result of a recorded run, from its facts alone: the texts it said and, once it has ended, the
PipelineResult that `run` returned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from lorimer.core.errors import ExecutorErrorCode, PipelineError, error_from_json
from lorimer.core.events import Event
from lorimer.core.facts import PHASE
from lorimer.core.history import History
from lorimer.core.messages import message_from_json
from lorimer.core.result import PipelineResult, Status
from lorimer.core.wellformed import repaired
from lorimer.journal.fold import Fold
from lorimer.journal.recording import Recording

_SUSPENDED = (ExecutorErrorCode.EXEC_RUN_WAITING, ExecutorErrorCode.EXEC_RUN_SHUTDOWN)


def outcome(recording: Recording) -> PipelineResult:
    """The result of a run, with every field that `run` returned. Of `output` only plain data is
    stored (otherwise it is None), of the error its class, code and message, not its hint or cause.

    Raises PipelineError when the run has not ended: `exec.run.waiting` when it waits for an answer,
    `exec.run.shutdown` when it was suspended, else `exec.run.busy`. Raises JournalError for
    inconsistent facts.
    """
    end = recording.end
    if end is None:
        raise _not_ended(recording)
    fold = Fold()
    fold.messages, fold.receipt = list(recording.history), recording.receipt
    text = ""
    for fact in recording.facts:
        fold.apply(fact)
        words = _words_of(fact)
        text = text if words is None else words
    messages = repaired(fold.messages)
    ended = fold.runs[-1]
    result = PipelineResult(
        run_id=recording.run_id,
        status=cast("Status", ended.status),
        text=text,
        output=end.data.get("output", text),
        exception=error_from_json(end.data) if ended.code else None,
        iterations=ended.iterations,
        usage=ended.usage,
        cost_nano=ended.cost_nano,
        events=list(recording.facts),
        session_id=recording.session_id,
        history=History(messages),
        length=len(messages),
    )
    if result.exception is not None:
        result.exception.result = result
    return result


def texts_said(facts: Iterable[Event]) -> list[str]:
    """The texts of a run's replies and phases, in order."""
    return [text for text in map(_words_of, facts) if text]


def _words_of(fact: Event) -> str | None:
    """The text of a reply, or the output of a phase; None: the fact is neither."""
    data = fact.data
    if fact.type == "model.reply" and "error" not in data:
        return message_from_json({"role": "assistant", "content": data.get("content", "")}).text
    if fact.type == "effect" and str(data.get("key")).startswith(f"{PHASE}:"):
        return str(data.get("output", ""))
    return None


def _not_ended(recording: Recording) -> PipelineError:
    run_id, last = recording.run_id, recording.facts[-1]
    code = next((c for c in _SUSPENDED if last.data.get("code") == c), None)
    go_on = f"resume it: pipeline.resume({run_id!r}), or lorimer runs resume {run_id}"
    match code if last.type == "run.suspended" else None:
        case ExecutorErrorCode.EXEC_RUN_WAITING:
            return PipelineError(
                f"Run {run_id} has not ended: it waits for an answer.",
                code=code,
                hint=f"Answer (lorimer runs answer {run_id}); then {go_on}.",
            )
        case ExecutorErrorCode.EXEC_RUN_SHUTDOWN:
            return PipelineError(
                f"Run {run_id} has not ended: it was suspended when its program was shut down.",
                code=code,
                hint=f"{go_on[0].upper()}{go_on[1:]}.",
            )
        case _:
            return PipelineError(
                f"Run {run_id} has not ended: it is live, or was interrupted.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
                hint=f"Wait for it; if no process executes it, {go_on}.",
            )
