"""Why a turn continued or was the last, and why a run ended as it did."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.journal.explain.in_force import ManifestInForce
from lorimer.journal.explain.reason import Origin, sentence

_TURNS: Final[Mapping[str, tuple[str, str, str]]] = {
    "tool_calls": ("the reply calls tools; their results go back", "loop", "strategies.controller"),
    "pause": ("the provider paused its answer", "loop", "strategies.controller"),
    "controller_max_turns": (
        "the controller's own limit of turns is reached",
        "loop",
        "strategy_configs.controller.max_turns",
    ),
    "cost_threshold": (
        "so much of the cost limit is spent that it stops",
        "loop",
        "strategy_configs.controller.cost_threshold_ratio",
    ),
    "evaluation": ("the answer was not good enough", "evaluate", "strategies.strategy"),
    "evaluator": ("a sub-agent judged the answer", "agent", "strategies.orchestrator"),
    "delegated": ("work was given to sub-agents", "agent", "strategies.orchestrator"),
    "tasks": ("tasks in the background have ended", "task_registry", "strategies.policy"),
    "hitl": ("a person did not accept it", "hitl", "config.on_reject"),
}
"""Reason in `iteration.end` → description, the responsible stage, and what in its entry decides."""

_PREFIXES: Final[Mapping[str, tuple[str, str, str]]] = {
    "budget": ("a budget is used up", "loop", "strategy_configs.controller.ratio"),
    "wrap_up": (
        "a budget is nearly used up; the model was told",
        "loop",
        "strategy_configs.controller.warn_ratio",
    ),
    "signal": ("the model gave a signal to stop", "loop", "config.early_stop_on"),
}
_STOPS: Final[Mapping[str, str]] = {
    "end_turn": "the model has answered",
    "tool_use": "the reply has no call that could be made",
    "max_tokens": "the answer reached its maximum length",
    "stop_sequence": "the answer reached a stop sequence",
    "refusal": "the model declined",
    "context_overflow": "the conversation fills the model's context window",
    "no_response": "there is no answer",
}
_NOT_ACCEPTED: Final = "The answer was not accepted after"

_code = ExecutorErrorCode
_LIMITS: Final[Mapping[str, str]] = {
    _code.EXEC_LOOP_MAX_TURNS.value: "max_turns",
    _code.EXEC_LIMIT_TIMEOUT.value: "timeout_s",
    _code.EXEC_LIMIT_COST.value: "max_cost_usd",
    _code.EXEC_API_UNPRICED.value: "allow_unpriced",
    _code.EXEC_LIMIT_TOOL_CALLS.value: "max_tool_calls",
    _code.EXEC_CHILD_DEPTH.value: "max_depth",
    _code.EXEC_CHILD_DESCENDANTS.value: "max_descendants",
}
_GUARDS: Final[Mapping[str, str]] = {
    _code.EXEC_LOOP_IDENTICAL.value: "identical",
    _code.EXEC_LOOP_ALTERNATING.value: "alternating",
    _code.EXEC_LOOP_NO_PROGRESS.value: "no_progress",
    _code.EXEC_LOOP_ERROR_STREAK.value: "error_streak",
}
_NARROWED: Final = re.compile(r"the limit of (stages\[\S+\w)")
"""As worded by `Bounds` in `core/limits.py`."""
_CLEAN_UP: Final = "Stages 17 to 21 did not finish"
_BUDGET: Final = re.compile(r"\bof budget (.+?)(?: within .*)?, \$[0-9.]+ are spent")
"""As worded by `journal/purses.py`."""
_MOST_SAID: Final = 1_000
"""Characters of a message that are searched for it; the time is cubic in their number."""
_STAGE: Final = re.compile(r"Stage [0-9]+ \(([^)]+)\) failed")


def of_turn(
    fact: Event, in_force: ManifestInForce, hook: str, *, unanswered: bool
) -> tuple[str, str, Origin]:
    """The content of a turn's `iteration.end`: what, why and by whom. `hook`: the one that decided
    last; `unanswered`: a person was asked to accept something, and nobody answered in time."""
    data = fact.data
    decision = str(data.get("decision", "continue"))
    reason = str(data.get("reason", "tool_calls"))
    what = {"continue": "went on", "complete": "was the last"}.get(decision, "ended the run")
    prefix, _, rest = reason.partition(":")
    if reason == "message":
        why = "somebody sent the run a text meanwhile"
        return what, why, Origin("caller", "send")
    if reason == "hook":
        return what, "a hook held the run back", Origin("hook", hook or "Stop")
    if reason == "single_turn":
        if "single_turn" in in_force.strategy("loop", "controller"):
            why = "its controller allows one model call"
            return what, why, in_force.of_stage("loop", "strategies.controller")
        return what, "the agent has no stage that begins another turn", Origin("engine", reason)
    if reason == "hitl" and unanswered:
        return what, "nobody answered in time", _nobody(in_force)
    told = _TURNS.get(reason) or (_PREFIXES.get(prefix) if rest else None)
    if told is not None:
        why, stage, below = told
        return what, f"{why} ({rest})" if rest else why, in_force.of_stage(stage, below)
    if reason in _STOPS:
        return what, _STOPS[reason], in_force.of_stage("loop", "strategies.controller")
    if reason in in_force.strategy("loop", "guards"):
        return what, f"the loop guard {reason!r} stopped it", _loop_guard(reason, in_force)
    if reason.startswith(_NOT_ACCEPTED):
        return what, sentence(reason), in_force.of_stage("evaluate", "config.on_failure")
    why = sentence(reason)
    return what, f"a stage said so: {why}" if why else "a stage said so", Origin("engine", "stage")


def of_run(
    end: Event,
    in_force: ManifestInForce,
    *,
    turn: tuple[str, Origin] | None,
    asked: str,
    hook: str,
    unanswered: bool,
) -> tuple[str, Origin]:
    """Why a run ended as recorded in its `run.end`, and what caused it. `turn`: why its last turn
    was the last; `asked`: the model that was called last; `hook`, `unanswered`: as in `of_turn`."""
    data = end.data
    code, message = str(data.get("code") or ""), sentence(str(data.get("message") or ""))
    if not code:
        if turn is not None:
            return turn
        return "it completed", Origin("engine", "run.end")
    if code == _code.EXEC_HITL_REJECTED.value:
        origin = _nobody(in_force) if unanswered else Origin("person", "hitl")
        return message or code, origin
    return message or code, _origin(code, message, in_force, turn, asked, hook)


def _origin(
    code: str,
    message: str,
    in_force: ManifestInForce,
    turn: tuple[str, Origin] | None,
    asked: str,
    hook: str,
) -> Origin:
    narrowed = _NARROWED.search(message)
    if code == _code.EXEC_LOOP_MAX_TURNS.value and narrowed is not None:
        return in_force.at(narrowed[1])
    if code in _LIMITS:
        return in_force.limit("cleanup_s" if message.startswith(_CLEAN_UP) else _LIMITS[code])
    if code in _GUARDS:
        return _loop_guard(_GUARDS[code], in_force)
    if code == _code.EXEC_STAGE_GUARD_REJECTED.value:
        return in_force.of_stage("guard", "strategies.guards")
    if code == _code.EXEC_INPUT_INVALID.value:
        return in_force.of_stage("input")
    if code.startswith("exec.hook."):
        return Origin("hook", hook or "that failed")
    if code == _code.EXEC_RUN_CANCELLED.value:
        return Origin("caller", "cancel")
    if code == _code.EXEC_RUN_KILLED.value:
        return Origin("supervisor", "kill")
    if code == _code.EXEC_BUDGET_EXCEEDED.value:
        named = _BUDGET.search(message[:_MOST_SAID])
        return Origin("budget", named[1] if named is not None else "that pays for it")
    if code == _code.EXEC_API_NO_CLIENT.value:
        return Origin("host", "models")
    if code == _code.EXEC_API_OUTPUT_INVALID.value and turn is not None:
        return turn[1]  # the model did answer
    if code.startswith(("exec.api.", "exec.cli.")):
        return Origin("model", asked or "that was asked")
    crashed = _STAGE.match(message)
    if crashed is not None:
        return in_force.of_stage(crashed[1])
    if code == _code.EXEC_STAGE_FAILED.value and turn is not None:
        return turn[1]
    return Origin("engine", code)


def suspended(fact: Event) -> tuple[str, Origin]:
    """Why a run was suspended."""
    code = str(fact.data.get("code"))
    match code:
        case _code.EXEC_RUN_WAITING.value:
            return "a person has to answer first", Origin("person", "runs answer")
        case _code.EXEC_RUN_SHUTDOWN.value:
            return "the program was shut down", Origin("host", "shutdown")
        case _:
            return f"it could not continue ({code})", Origin("engine", code)


def _loop_guard(name: str, in_force: ManifestInForce) -> Origin:
    return in_force.of_stage("loop", f"strategy_configs.guards.{name}.stop_after")


def _nobody(in_force: ManifestInForce) -> Origin:
    return in_force.of_stage("hitl", "strategies.timeout")
