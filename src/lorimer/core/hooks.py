"""The port to hooks: functions and programs of the host that a run calls at fixed points.

*Guards* are asked before something happens, and may forbid it, change it, or add to it. Asking them
is an effect: it is recorded, and answered from the journal when the run is resumed. *Observers* are
notified and change nothing. Whether a person is asked, and what rules say, is decided elsewhere; a
hook can only tighten. Shipped: `lorimer.tools.hooks`, which also holds the points around tool
calls.
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
    """The points at which hooks are asked or notified."""

    USER_PROMPT_SUBMIT = "UserPromptSubmit"
    """Asked about each text of the caller's before the model sees it."""
    PRE_TOOL_USE = "PreToolUse"
    """Asked about a call that no rule forbids, before a person is asked and before it is made."""
    POST_TOOL_USE = "PostToolUse"
    """Asked about the result of a call before the model sees it."""
    POST_TOOL_FAILURE = "PostToolFailure"
    """Asked about the result of a call that was made and failed."""
    STOP = "Stop"
    """Asked when the model has answered without a call: is the run complete?"""
    PIPELINE_START = "PipelineStart"
    """Notified, like all that follow: a run begins or resumes."""
    PIPELINE_END = "PipelineEnd"
    STAGE_ENTER = "StageEnter"
    STAGE_EXIT = "StageExit"
    LOOP_ITERATION_END = "LoopIterationEnd"
    PERMISSION_REQUEST = "PermissionRequest"
    """A person is asked."""
    PERMISSION_DENIED = "PermissionDenied"
    """A call was refused."""
    NOTIFICATION = "Notification"
    """The run has stopped for now and waits for somebody."""
    SESSION_START = "SessionStart"
    """A conversation is opened here, with its first run since then."""
    SESSION_END = "SessionEnd"
    """A conversation is closed; whoever uses it next opens it again."""
    CWD_CHANGED = "CwdChanged"
    """Calls start in another folder from now on."""

    # Enum's own is a Python function, and this is called with every tool call
    __hash__ = str.__hash__

    @property
    def guards(self) -> bool:
        """Whether hooks are asked here rather than notified."""
        return self in _GUARDS

    @classmethod
    def named(cls, name: str) -> HookEvent:
        """The event of that name, also written `pre_tool_use`. Raises ConfigError for an unknown
        one."""
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
"""`block`: it does not happen. `ask`: a person decides (PreToolUse only). "": no objection, which
is not a permission."""

VERDICTS: Final = get_args(Verdict)


@record
class Answer:
    """The answer of a guard. Of several guards' answers the strictest verdict holds."""

    decision: Verdict = ""
    reason: str = ""
    """The reason, shown to the model or to whoever started the run."""
    change: JSON = None
    """Replaces what the guard was asked about: `tool_input` (an object), `prompt` (text, or an
    object if the input was one), `tool_output` (text). None: no change."""
    context: str = ""
    """Additional text for the model."""
    hook: str = ""
    """The guard that answered; of several, the one that decided. Filled in by whoever asks."""

    def to_json(self) -> dict[str, JSON]:
        """As recorded; empty fields are left out."""
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
"""Whether there is neither an objection nor an addition."""


class Hooks(Protocol):
    """The hooks of one pipeline."""

    def guards(self, event: HookEvent, tool: str = "") -> bool:
        """Whether any hook is to be asked at this point about a call of this tool."""
        ...

    async def ask(
        self, event: HookEvent, payload: Mapping[str, JSON], run: RunContext
    ) -> Mapping[str, JSON]:
        """The combined answer of all guards of this point, as `Answer.to_json` gives it. Raises
        HookError when one fails, takes too long, or gives an invalid answer."""
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
    """Ask the guards of a point once, as the effect `hook:<event>:<key>`. The recorded answer holds
    when the run is resumed, whatever hooks there are by then. Does nothing when there is no one to
    ask and nothing recorded.

    `request` are the bytes of what is asked about; by default those of the payload. With `intent`,
    an intent is recorded first, and an empty answer together with the next fact. If the process
    dies while guards are asked, they are asked again when the run is resumed. Raises HookError,
    also from the record.
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
"""The fields of an effect's fact with an empty answer: its key, and the hash of the request."""


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
    """Whether the journal has the guards' answer at this point, or that they were about to be
    asked."""
    name = f"hook:{event}:{key}"
    return any(run.recorded(kind, name) is not None for kind in ("effect", "effect.intent"))


def blocked(answer: Answer, what: str) -> HookError:
    """The error for what a guard forbids."""
    why = f": {answer.reason}" if answer.reason else ""
    return HookError(
        f"The hook {answer.hook!r} refused {what}{why}.",
        code=ExecutorErrorCode.EXEC_HOOK_BLOCKED,
    )


# --- the points in the engine ---------------------------------------------------------------------


async def guard_input(hooks: Hooks | None, state: PipelineState) -> JSON:
    """Ask the guards of UserPromptSubmit about the run's input; returns the input with their
    changes. Raises HookError when one refuses it or fails."""
    if state.input is None:  # a fork that continues without new input
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
    """Add a text that was sent to the live run, the `at`th of this iteration, to the conversation,
    with the changes of the guards of UserPromptSubmit. A text that they refuse, or fail on, is left
    out and signalled (`hook.refused`)."""
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
    """Ask the guards of Stop whether the run is complete. A guard may want the model to continue;
    its reason is then the next message to the model. The run's limits hold all the same. Raises
    HookError when a guard fails, since it is then unknown whether the work is done."""
    payload: dict[str, JSON] = {"text": state.text, "held_back": state.held_back}
    answer = await consult(hooks, HookEvent.STOP, "", payload, state.run)
    if not answer.decision:
        return Decision.COMPLETE
    state.held_back += 1
    state.reason = "hook"
    state.messages.append(user_message(answer.reason), clean=True)
    return Decision.CONTINUE
