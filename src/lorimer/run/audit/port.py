"""The audit port: who ran which agent, for whom, and with what outcome.

It contains less than the journal, for other readers: a run is resumed from the journal, while the
audit shows what a host is accountable for. Nothing is resumed, replayed or decided by it. Shipped:
`AuditLog` (`log.py`). Optional: without it nothing of this is recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

from lorimer.core.fact_data import usage_of
from lorimer.core.jsonable import JSON, fields_of, no_data
from lorimer.core.record import record
from lorimer.core.request import Usage


@record
class AuditStart:
    """A run begins. Ids are the host's own; "": none."""

    run_id: str
    subject: str = ""
    """The id of the agent, if it is a saved one."""
    name: str = ""
    """The agent's name."""
    caller_id: str = ""
    channel_id: str = ""
    parent_run_id: str = ""
    """The run that gave it work, or that the host named as its parent."""
    inputs: Mapping[str, JSON] = field(default_factory=no_data)
    """Empty for work that another run gave it: that run's record of the call has the arguments."""
    time: float = 0.0
    """Wall clock, seconds."""
    version: int = 0
    """Version of a saved agent; 0: none."""

    def to_json(self) -> dict[str, JSON]:
        """Plain form; lossless."""
        return {
            "run_id": self.run_id,
            "subject": self.subject,
            "name": self.name,
            "caller_id": self.caller_id,
            "channel_id": self.channel_id,
            "parent_run_id": self.parent_run_id,
            "inputs": self.inputs,
            "time": self.time,
            "version": self.version,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> AuditStart:
        """The inverse of `to_json`; missing fields and those of another type are empty."""
        return cls(
            run_id=_text(data, "run_id"),
            subject=_text(data, "subject"),
            name=_text(data, "name"),
            caller_id=_text(data, "caller_id"),
            channel_id=_text(data, "channel_id"),
            parent_run_id=_text(data, "parent_run_id"),
            inputs=fields_of(data.get("inputs")),
            time=_number(data, "time"),
            version=int(_number(data, "version")),
        )


@record
class AuditStep:
    """The end of one iteration: one model call, with its tool calls."""

    iteration: int
    model: str = ""
    """The model that answered, as a spec."""
    usage: Usage = Usage()
    cost_nano: int = 0
    """Nano-dollars."""

    def to_json(self) -> dict[str, JSON]:
        """Plain form; lossless."""
        return {
            "iteration": self.iteration,
            "model": self.model,
            "usage": self.usage.to_json(),
            "cost_nano": self.cost_nano,
        }


@record
class AuditTool:
    """The end of one tool call."""

    call_id: str
    name: str
    arguments: Mapping[str, JSON] = field(default_factory=no_data)
    result: str = ""
    """What was returned to the model, or its beginning."""
    is_error: bool = False
    duration_s: float = 0.0

    def to_json(self) -> dict[str, JSON]:
        """Plain form; lossless."""
        return {
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments,
            "result": self.result,
            "is_error": self.is_error,
            "duration_s": self.duration_s,
        }


@record
class AuditClose:
    """A run has ended."""

    status: str
    """One of `core.result.STATUSES`; `unknown`: the audit failed when the run began, and was not
    notified again."""
    output: str = ""
    """The answer; for a failed run, as far as there is one."""
    tool_calls: int = 0
    runtime_s: float = 0.0
    """Seconds that it ran: without those in a lane, those when a person was asked, and those when
    no process had it."""
    usage: Usage = Usage()
    """Tokens of input, output and thinking (`reasoning_tokens`)."""
    cost_nano: int = 0
    """Nano-dollars."""
    code: str = ""
    error: str = ""

    def to_json(self) -> dict[str, JSON]:
        """Plain form; lossless."""
        return {
            "status": self.status,
            "output": self.output,
            "tool_calls": self.tool_calls,
            "runtime_s": self.runtime_s,
            "usage": self.usage.to_json(),
            "cost_nano": self.cost_nano,
            "code": self.code,
            "error": self.error,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> AuditClose:
        """The inverse of `to_json`; missing fields and those of another type are empty."""
        return cls(
            status=_text(data, "status"),
            output=_text(data, "output"),
            tool_calls=int(_number(data, "tool_calls")),
            runtime_s=_number(data, "runtime_s"),
            usage=usage_of(data),
            cost_nano=int(_number(data, "cost_nano")),
            code=_text(data, "code"),
            error=_text(data, "error"),
        )


class RunAudit(Protocol):
    """Records one run, in the order of the calls. All methods but `close` return immediately and do
    not raise for a store that is slow or fails."""

    def step(self, step: AuditStep, /) -> None:
        """An iteration has ended."""
        ...

    def tool(self, call: AuditTool, /) -> None:
        """A tool call has ended."""
        ...

    def log(self, event: str, data: Mapping[str, JSON], /) -> None:
        """Any other event worth recording, such as `compaction_fired`."""
        ...

    async def close(self, end: AuditClose, /) -> None:
        """The run has ended; everything recorded for it is stored when this returns. Raises what
        the store raises."""
        ...


class Audit(Protocol):
    """Records runs. Callers limit its time, and continue without it."""

    async def start(self, start: AuditStart, /) -> RunAudit:
        """A run begins; that is stored when this returns. A resumed run is started again under its
        id. If it turns out that it cannot be resumed, as when another process has it or has ended
        it, that is recorded as `log("refused", ...)`; whoever ends it records how it ended, or
        records it again if that was before this start. Raises what the store raises."""
        ...


def _text(data: Mapping[str, JSON], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _number(data: Mapping[str, JSON], name: str) -> float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return value if abs(value) <= sys.float_info.max else 0.0
