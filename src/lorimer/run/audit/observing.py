"""The observer that reports one run to its audit. The port: `port.py`."""

from __future__ import annotations

from collections.abc import Callable

from lorimer.core.events import Event
from lorimer.core.fact_data import usage_of
from lorimer.core.jsonable import fields_of
from lorimer.core.redaction import logger
from lorimer.journal.family import ChildRecord
from lorimer.run.audit.port import AuditClose, AuditStep, AuditTool, RunAudit
from lorimer.run.observing import Observer, is_phase
from lorimer.run.result import RunResult

_log = logger("lorimer.run")


class Audited:
    """Reports one live run to the audit. If the audit fails, that is logged once."""

    def __init__(
        self, audit: RunAudit, below: Callable[[ChildRecord], Observer | None] | None = None
    ) -> None:
        """`below`: makes the observers of the runs to which it gives work."""
        self._audit: RunAudit | None = audit
        self._below = below
        self._inputs: dict[str, Event] = {}

    def hear(self, event: Event) -> None:
        """See `observing.Observer`."""
        if self._audit is None:
            return
        try:
            self._told(self._audit, event)
        except Exception:  # noqa: BLE001 - the host's own: the run goes on without it
            _log.warning("the audit of run %s failed", event.run_id, exc_info=True)
            self._audit = None

    def below(self, child: ChildRecord) -> Observer | None:
        """See `observing.Observer`."""
        if is_phase(child):
            return self
        return None if self._below is None else self._below(child)

    async def end(self) -> None:
        """See `observing.Observer`: the audit is closed with the run's result."""

    def _told(self, audit: RunAudit, event: Event) -> None:
        data = event.data
        match event.type:
            case "tool.call_start":
                self._inputs[str(data.get("tool_use_id"))] = event
            case "tool.call_complete":
                began = self._inputs.pop(str(data.get("tool_use_id")), event)
                took = data.get("duration_ms")
                audit.tool(
                    AuditTool(
                        str(data.get("tool_use_id")),
                        str(data.get("name")),
                        fields_of(began.data.get("input")),
                        str(data.get("result") or ""),
                        data.get("is_error") is True,
                        took / 1000 if isinstance(took, float | int) else 0.0,
                    )
                )
            case "model.reply":
                cost = data.get("cost")
                audit.step(
                    AuditStep(
                        event.iteration,
                        str(data.get("model") or ""),
                        usage_of(data),
                        cost if isinstance(cost, int) else 0,
                    )
                )
            case "compacted":
                audit.log("compaction_fired", {"rule": data.get("rule"), "end": data.get("end")})
            case _:
                pass  # the beginning or the end of a phase


def close_of(result: RunResult, runtime_s: float) -> AuditClose:
    """The audit's record of the end."""
    return AuditClose(
        result.status,
        result.output,
        len(result.steps),
        runtime_s,
        result.usage,
        result.cost_nano,
        result.code.value if result.code is not None else "",
        result.error,
    )
