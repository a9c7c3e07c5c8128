"""The port to hooks: functions and programs of the host that a run asks, or tells, at fixed points.

*Guards* are asked before something happens and may forbid it, change it, or add to it. Asking them
is an effect: recorded, and answered from the journal when the run is resumed. *Observers* are told,
and change nothing. Whether a person is asked, and what rules say, is decided elsewhere; a hook only
tightens. Shipped: `lorimer.tools.hooks`, which also has the points round tool calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, Protocol, TypeAlias, get_args

from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import ConfigError, ExecutorErrorCode, HookError, nearest
from lorimer.core.jsonable import JSON, fingerprint
from lorimer.core.messages import user_message
from lorimer.core.record import record
from lorimer.core.state import Decision, PipelineState


class HookEvent(StrEnum):
    """The points at which hooks are asked or told."""

    USER_PROMPT_SUBMIT = "UserPromptSubmit"
    """Asked about each text of the caller's, before the model is given it."""
    PRE_TOOL_USE = "PreToolUse"
    """Asked about a call that no rule forbids, before a person is, and before it is made."""
    POST_TOOL_USE = "PostToolUse"
    """Asked about the result of a call, before the model is told it."""
    POST_TOOL_FAILURE = "PostToolFailure"
    """The same, of a call that was made and failed."""
    STOP = "Stop"
    """Asked when the model has answered without a call: is that the end?"""
    PIPELINE_START = "PipelineStart"
    """Told of from here on: a run begins, or goes on."""
    PIPELINE_END = "PipelineEnd"
    STAGE_ENTER = "StageEnter"
    STAGE_EXIT = "StageExit"
    LOOP_ITERATION_END = "LoopIterationEnd"
    PERMISSION_REQUEST = "PermissionRequest"
    """A person is asked."""
    PERMISSION_DENIED = "PermissionDenied"
    """A call was refused."""
    NOTIFICATION = "Notification"
    """The run has come to rest, and waits for somebody."""
    SESSION_START = "SessionStart"
    """A conversation is taken up here, with its first run since it was."""
    SESSION_END = "SessionEnd"
    """It is given back; whoever uses it next takes it up again."""
    CWD_CHANGED = "CwdChanged"
    """Calls begin in another folder."""

    __hash__ = str.__hash__  # that of an Enum is a Python function, and is called with every call

    @property
    def guards(self) -> bool:
        """Hooks are asked; else they are told."""
        return self in _GUARDS

    @classmethod
    def named(cls, name: str) -> HookEvent:
        """By its name, also as `pre_tool_use`. Raises ConfigError for an unknown one."""
        wanted = name.replace("_", "").casefold()
        for event in cls:
            if event.value.casefold() == wanted:
                return event
        known = [event.value for event in cls]
        raise ConfigError(f"there is no hook event {name!r}{nearest(name, known)}")


_GUARDS: Final = frozenset(
    {
        HookEvent.USER_PROMPT_SUBMIT,
        HookEvent.PRE_TOOL_USE,
        HookEvent.POST_TOOL_USE,
        HookEvent.POST_TOOL_FAILURE,
        HookEvent.STOP,
    }
)

Verdict: TypeAlias = Literal["", "ask", "block"]
"""`block`: it does not happen. `ask`: a person decides (PreToolUse only). "": nothing against it,
which is no permission."""

VERDICTS: Final = get_args(Verdict)


@record
class Answer:
    """What a guard says. Of several guards the strictest verdict holds."""

    decision: Verdict = ""
    reason: str = ""
    """Why; the model, or whoever started the run, is told."""
    change: JSON = None
    """In place of what it was asked about: `tool_input` (an object), `prompt` (text, or an object
    as the input was), `tool_output` (text). None: as it is."""
    context: str = ""
    """Text that the model is given besides."""
    hook: str = ""
    """Who says so; of several, who decides. Filled in by whoever asks."""

    def to_json(self) -> dict[str, JSON]:
        """As it is recorded; what says nothing is left out."""
        data: dict[str, JSON] = {}
        if self.decision:
            data["decision"] = self.decision
        if self.reason:
            data["reason"] = self.reason
        if self.change is not None:
            data["change"] = self.change
        if self.context:
            data["context"] = self.context
        if self.hook:
            data["hook"] = self.hook
        return data


NOTHING: Final = Answer()
"""Nothing against it, and nothing to add."""


class Hooks(Protocol):
    """The hooks of one pipeline."""

    def guards(self, event: HookEvent, tool: str = "") -> bool:
        """Somebody wants to be asked at this point, about a call of this tool."""
        ...

    async def ask(
        self, event: HookEvent, payload: Mapping[str, JSON], run: RunContext
    ) -> Mapping[str, JSON]:
        """What all guards of this point come to, as `Answer.to_json` gives it. Raises HookError
        when one fails, takes too long, or says something that means nothing."""
        ...


_PASSED: Final[Mapping[str, JSON]] = {}


async def consult(
    hooks: Hooks | None,
    event: HookEvent,
    key: str,
    payload: Mapping[str, JSON],
    run: RunContext,
    *,
    tool: str = "",
    request: bytes = b"",
    intent: Mapping[str, JSON] = _PASSED,
) -> Answer:
    """Ask the guards of a point, once: the effect `hook:<event>:<key>`. What is recorded of it
    holds when the run is resumed, whichever hooks there are by then; where nobody is to be asked
    and nothing is recorded, nothing happens.

    `request` are the bytes of what it is about; left out, those of the payload. With an `intent`
    that is recorded first; that they have nothing to say is recorded with the next fact. A process
    that dies while they are asked asks them again when the run
    is resumed. Raises HookError, also again from the record.
    """
    name = f"{event}:{key}"
    wanted = hooks is not None and hooks.guards(event, tool)
    if not wanted and not (run.replaying and is_recorded(event, key, run)):
        return NOTHING

    async def call() -> Mapping[str, JSON]:
        return await hooks.ask(event, payload, run) if hooks is not None else _PASSED

    data = await run.effect(
        "hook",
        name,
        call,
        request=request or fingerprint(payload),
        safety=Safety.IDEMPOTENT if intent else Safety.READ_ONLY,
        intent=intent,
        hold_empty=True,
    )
    return NOTHING if len(data) <= _QUIET else answer_of(data)


_QUIET: Final = 2
"""Fields of an effect's fact that has nothing to say: its key, and the hash of what was asked."""


def answer_of(data: Mapping[str, JSON]) -> Answer:
    """The reverse of `Answer.to_json`, from a recorded effect."""
    decision = data.get("decision")
    return Answer(
        "block" if decision == "block" else "ask" if decision == "ask" else "",
        str(data.get("reason", "")),
        data.get("change"),
        str(data.get("context", "")),
        str(data.get("hook", "")),
    )


def is_recorded(event: HookEvent, key: str, run: RunContext) -> bool:
    """The journal has what the guards said at this point, or that they were about to be asked."""
    name = f"hook:{event}:{key}"
    return any(run.recorded(kind, name) is not None for kind in ("effect", "effect.intent"))


def blocked(answer: Answer, what: str) -> HookError:
    """The error of what a guard forbids."""
    why = f": {answer.reason}" if answer.reason else ""
    return HookError(
        f"The hook {answer.hook!r} refused {what}{why}.",
        code=ExecutorErrorCode.EXEC_HOOK_BLOCKED,
    )


# --- the points that the engine passes ------------------------------------------------------------


async def guard_input(hooks: Hooks | None, state: PipelineState) -> JSON:
    """Ask the guards of UserPromptSubmit about the run's input; returns it as they leave it. Raises
    HookError when one refuses it, or fails."""
    if state.input is None:  # a fork that goes on from what was said
        return None
    answer = await consult(
        hooks, HookEvent.USER_PROMPT_SUBMIT, "", {"prompt": state.input}, state.run
    )
    if answer.decision:
        raise blocked(answer, "the input")
    if answer.context:
        state.messages.append(user_message(answer.context), clean=True)
    return state.input if answer.change is None else answer.change


async def add_guarded_text(hooks: Hooks | None, text: str, at: int, state: PipelineState) -> None:
    """Add a text that was sent to the live run, number `at` of this iteration, to the conversation,
    as the guards of UserPromptSubmit leave it. One that they refuse, or fail at, is left out, and
    signalled (`hook.refused`)."""
    try:
        answer = await consult(
            hooks, HookEvent.USER_PROMPT_SUBMIT, str(at), {"prompt": text}, state.run
        )
        if answer.decision:
            raise blocked(answer, "a message")
    except HookError as error:
        state.run.signal("hook.refused", {"error": str(error), "code": error.code.value})
        return
    if answer.context:
        state.messages.append(user_message(answer.context), clean=True)
    changed = answer.change
    state.messages.append(user_message(text if changed is None else str(changed)), clean=True)


async def guard_stop(hooks: Hooks | None, state: PipelineState) -> Decision:
    """Ask the guards of Stop whether the run is complete: one may want the model to go on, and its
    reason is what the model is told next. The limits of the run hold all the same. Raises HookError
    when one fails: whether the work is done is not known then."""
    payload: dict[str, JSON] = {"text": state.text, "held_back": state.held_back}
    answer = await consult(hooks, HookEvent.STOP, "", payload, state.run)
    if not answer.decision:
        return Decision.COMPLETE
    state.held_back += 1
    state.reason = "hook"
    state.messages.append(user_message(answer.reason), clean=True)
    return Decision.CONTINUE
