"""Observer hooks: handlers of a pipeline's events, so they change nothing, delay nothing, and are
not recorded as effects. A failure is reported by the signal `hook.failed`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from lorimer.core.errors import HookError
from lorimer.core.hooks import HookEvent
from lorimer.core.jsonable import JSON
from lorimer.core.redaction import logger
from lorimer.tools.encode import describe
from lorimer.tools.hooks.answers import failure
from lorimer.tools.shown import WORKTREE_TOOLS

if TYPE_CHECKING:
    from lorimer.core.bus import Bus
    from lorimer.core.events import Event
    from lorimer.core.world import World
    from lorimer.tools.hooks.hook import Hook

_Told: TypeAlias = "Mapping[str, JSON] | None"

_log: Final = logger("lorimer.hooks")


def _some(*names: str) -> Callable[[Event], _Told]:
    return lambda event: {name: event.data[name] for name in names if name in event.data}


def _stage(event: Event) -> _Told:
    return {"stage": event.stage}


def _iteration(event: Event) -> _Told:
    data = event.data
    return {
        "decision": data.get("decision", "continue"),
        "reason": data.get("reason", "tool_calls"),
    }


def _question(event: Event) -> _Told:
    asked = event.data.get("question")
    if not isinstance(asked, Mapping):
        return None
    return {
        "tool_name": asked.get("tool"),
        "summary": asked.get("input"),
        "reason": asked.get("reason"),
    }


def _refusal(event: Event) -> _Told:
    data = event.data
    return {"tool_name": data.get("tool"), "code": data.get("code"), "reason": data.get("rule")}


def _folder(event: Event) -> _Told:
    data = event.data
    metadata = data.get("metadata")
    if data.get("name") not in WORKTREE_TOOLS or not isinstance(metadata, Mapping):
        return None
    folder = metadata.get("folder")
    return None if folder is None else {"folder": folder}


_END: Final = _some("status", "iterations", "total_cost_usd", "code", "error")

_SOURCES: Final[Mapping[HookEvent, Mapping[str, Callable[[Event], _Told]]]] = MappingProxyType(
    {
        HookEvent.PIPELINE_START: {
            "pipeline.start": lambda event: {"prompt": event.data.get("input")},
            "run.resumed": lambda event: {"resumed": True},
        },
        HookEvent.PIPELINE_END: {"pipeline.complete": _END, "pipeline.error": _END},
        HookEvent.STAGE_ENTER: {"stage.enter": _stage},
        HookEvent.STAGE_EXIT: {"stage.exit": _stage},
        HookEvent.LOOP_ITERATION_END: {"iteration.end": _iteration},
        HookEvent.PERMISSION_REQUEST: {"effect.intent": _question},
        HookEvent.PERMISSION_DENIED: {"decision": _refusal},
        HookEvent.NOTIFICATION: {"run.suspended": _some("code")},
        HookEvent.SESSION_START: {"session.start": _some("session_id", "source")},
        HookEvent.SESSION_END: {"session.end": _some("session_id", "runs", "total_cost_usd")},
        HookEvent.CWD_CHANGED: {"tool.call_complete": _folder},
    }
)
"""Which events an observer gets, with which fields. None: not this one."""


def observe(
    hook: Hook,
    bus: Bus,
    world: World,
    about: Mapping[str, JSON],
    failed: Callable[[str, Mapping[str, JSON]], bool],
) -> None:
    """Notify a hook from now on. `failed` gets the run and the error, and returns whether anyone
    listened: otherwise the error is logged."""

    def fail(event: Event, error: Exception) -> None:
        if not isinstance(error, HookError):
            error = failure(hook.event, hook.name, f"failed: {describe(error)}")
        why = str(error)
        data: dict[str, JSON] = {"hook": hook.name, "event": hook.event.value, "error": why}
        if not failed(event.run_id, data):
            _log.warning("%s", why)

    async def finish(event: Event, telling: Awaitable[None]) -> None:
        try:
            await telling
        except Exception as error:  # noqa: BLE001 - an observer is never the run's problem; told
            fail(event, error)

    def heard(event: Event) -> Coroutine[None, None, None] | None:
        told = _SOURCES[hook.event][event.type](event)
        if told is None:
            return None
        payload: dict[str, JSON] = {
            "event": hook.event.value,
            "run_id": event.run_id,
            "iteration": event.iteration,
            "timestamp": event.time,
            **about,
            **told,
        }
        try:
            telling = hook.tell(payload, world)
        except Exception as error:  # noqa: BLE001 - as above
            fail(event, error)
            return None
        return None if telling is None else finish(event, telling)

    for source in _SOURCES[hook.event]:
        bus.on(source, heard)
