"""Reports every attempt at a model to the host's usage and trace sinks."""

from __future__ import annotations

from lorimer.core.model import ModelCall, TraceSink, UsageSink
from lorimer.core.record import record
from lorimer.core.redaction import logger
from lorimer.core.request import Request, Response

_log = logger("lorimer.models")


@record
class Sinks:
    """The sinks of one `Models`; each may be absent."""

    usage: UsageSink | None = None
    trace: TraceSink | None = None

    def tell(self, call: ModelCall, request: Request, response: Response | None) -> None:
        """Never raises: exceptions of a sink are logged."""
        try:
            if self.usage is not None:
                self.usage.record_usage(call)
        except Exception:  # noqa: BLE001 - a sink is never the run's problem; logged
            _log.exception("the usage sink failed")
        try:
            if self.trace is not None:
                self.trace.record_trace(call, request, response)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("the trace sink failed")
