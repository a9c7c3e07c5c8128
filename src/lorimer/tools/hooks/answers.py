"""What a hook may answer at each point. It is checked strictly: a guard whose answer is misread
guards nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic_core import from_json

from lorimer.core.documents import parse
from lorimer.core.errors import ConfigError, ExecutorErrorCode, HookError, nearest
from lorimer.core.hooks import NOTHING, VERDICTS, Answer, HookEvent, Verdict
from lorimer.core.jsonable import JSON, clean, plain

MAX_TEXT: Final = 50_000
"""Characters of a changed text, or of a context."""
MAX_REASON: Final = 2_000
"""Characters of a reason; longer ones are truncated."""

_FIELDS: Final = ("decision", "reason", "change", "context")
_PROMPT: Final = HookEvent.USER_PROMPT_SUBMIT
_BEFORE: Final = HookEvent.PRE_TOOL_USE
_STOP: Final = HookEvent.STOP


def failure(
    event: HookEvent,
    name: str,
    why: str,
    code: ExecutorErrorCode = ExecutorErrorCode.EXEC_HOOK_FAILED,
) -> HookError:
    """The error of a guard that gave no answer."""
    return HookError(
        f"The hook {name!r} ({event.value}) {why}.",
        code=code,
        hint="Fix or remove the hook: until then everything that it guards is refused.",
    )


def parsed(event: HookEvent, name: str, text: bytes) -> Answer:
    """The answer that a program printed: one JSON object, or nothing. Raises HookError."""
    if not text.strip():
        return NOTHING
    try:
        data: JSON = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise failure(event, name, f"printed what is no JSON: {_shown(text)} ({error})") from None
    if not isinstance(data, Mapping):
        raise failure(event, name, f"printed {_shown(text)}, which is not an object")
    try:
        parse(text.decode(), ".json", "its answer")  # rejects a field that occurs twice
    except ConfigError as error:
        raise failure(event, name, f"printed what cannot be read: {error}") from None
    for field in data:
        if field not in _FIELDS:
            raise failure(event, name, f"has no field {field!r} to say{nearest(field, _FIELDS)}")
    decision = data.get("decision", "")
    reason, context = data.get("reason", ""), data.get("context", "")
    if not isinstance(reason, str) or not isinstance(context, str):
        raise failure(event, name, "gave a reason or a context that is not text")
    return checked(
        event, name, Answer(_verdict(event, name, decision), reason, None, context), data
    )


def _verdict(event: HookEvent, name: str, given: object) -> Verdict:
    for verdict in VERDICTS:
        if given == verdict:
            return verdict
    raise failure(
        event, name, f"decided {given!r}; it may say 'block' or 'ask', and can allow nothing"
    )


def checked(
    event: HookEvent, name: str, answer: Answer, said: Mapping[str, JSON] | None = None
) -> Answer:
    """The answer with its change (that of `said`, if given). Raises HookError if it is not valid at
    this point."""
    change = answer.change if said is None else said.get("change")
    _verdict(event, name, answer.decision)
    if answer.decision == "ask" and event is not _BEFORE:
        raise failure(event, name, f"decided 'ask', which only {_BEFORE.value} can")
    if change is not None:
        _fits(event, name, change)
    if not isinstance(answer.context, str) or len(answer.context) > MAX_TEXT:  # pyright: ignore[reportUnnecessaryIsInstance] - of a function without types
        raise failure(event, name, f"gave a context of more than {MAX_TEXT:,} characters")
    if answer.context and event is _STOP:
        raise failure(event, name, "gave a context; say it in the reason")
    reason = clean(str(answer.reason))[:MAX_REASON]
    if answer.decision and not reason and event is _STOP:
        raise failure(event, name, "blocks without a reason, which the model would be told")
    if isinstance(change, str):
        change = clean(change)
    return Answer(answer.decision, reason, change, clean(answer.context), name)


def _fits(event: HookEvent, name: str, change: JSON) -> None:
    if isinstance(change, str) and len(change) > MAX_TEXT:
        raise failure(event, name, f"changes it into more than {MAX_TEXT:,} characters")
    if event is _STOP:
        raise failure(event, name, "changes something, and there is nothing to change")
    if event is _BEFORE and not isinstance(change, Mapping):
        raise failure(event, name, "changes the tool's input into something that is not an object")
    if isinstance(change, Mapping) and plain(change) is None:
        raise failure(event, name, "changes something into what is not plain JSON")
    if event is _PROMPT and not isinstance(change, str | Mapping):
        raise failure(event, name, "changes the prompt into neither text nor an object")
    if event not in (_BEFORE, _PROMPT) and not isinstance(change, str):
        raise failure(event, name, "changes the result into something that is not text")


def _shown(text: bytes) -> str:
    return repr(text[:80].decode("utf-8", "replace"))
