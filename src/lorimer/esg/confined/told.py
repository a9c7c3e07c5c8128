"""What a worker says, as records of texts and numbers, whatever it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON, clean, fields_of
from lorimer.esg.diagnosis import Finding
from lorimer.esg.execution.running import Failure
from lorimer.esg.patching.patches import Edit, Move, PatchResult

_CODES: Final = {
    code.value: code
    for code in (
        ExecutorErrorCode.EXEC_STEP_TIMEOUT,
        ExecutorErrorCode.EXEC_STEP_CRASHED,
        ExecutorErrorCode.EXEC_STEP_OUT_OF_MEMORY,
    )
}
"""The reasons for which a step may have been ended."""
_MAX_SECONDS: Final = 1e9
"""More, or none at all (NaN), was made up."""
_MAX_LINE: Final = 2**31


@dataclass(frozen=True, slots=True)
class ConfinedResult:
    """The result of one run of a step, in texts; see `StepResult`."""

    step_id: str
    source: str
    stdout: str = ""
    stderr: str = ""
    shown: str = ""
    """The value of the last line as an interactive Python would show it; empty for None."""
    type: str = "NoneType"
    """The class of that value."""
    failure: Failure | None = None
    """Why it raised or was ended, in which case it changed nothing; None if neither."""
    code: ExecutorErrorCode | None = None
    """Why it was ended; None: it ran, or raised."""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it ran to its end."""
        return self.failure is None


@dataclass(frozen=True, slots=True)
class ConfinedReplay:
    """The result of a replay."""

    ran: tuple[str, ...]
    failed: tuple[str, ...]
    blocked: tuple[str, ...]
    """Steps that need what a failed one did not make."""

    @property
    def ok(self) -> bool:
        """Whether all steps are up to date."""
        return not self.failed and not self.blocked


def text(value: JSON) -> str:
    """Anything as valid Unicode."""
    return clean(str(value))


def texts(value: JSON) -> list[str]:
    return [text(each) for each in value] if isinstance(value, list) else []


def named(value: JSON) -> dict[str, str]:
    return {text(name): text(each) for name, each in fields_of(value).items()}


def dicts(value: JSON) -> list[dict[str, JSON]]:
    found = value if isinstance(value, list) else []
    return [each for each in found if isinstance(each, dict)]


def rows(value: JSON, size: int) -> list[list[JSON]]:
    found = value if isinstance(value, list) else []
    return [list(each) for each in found if isinstance(each, list) and len(each) == size]


def seconds(value: JSON) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < _MAX_SECONDS else None


def _code(value: JSON, why: Mapping[str, JSON] | None) -> ExecutorErrorCode | None:
    if why is None:
        return None
    if why.get("type") == "MemoryError":
        return ExecutorErrorCode.EXEC_STEP_OUT_OF_MEMORY
    return _CODES.get(str(value))


def _line(value: JSON) -> int | None:
    return value if isinstance(value, int) and abs(value) < _MAX_LINE else None


def to_json(told: ConfinedResult) -> dict[str, JSON]:
    """The input of `result`."""
    failure = told.failure
    return {
        "source": told.source,
        "stdout": told.stdout,
        "stderr": told.stderr,
        "shown": told.shown,
        "type": told.type,
        "failure": None if failure is None else asdict(failure),
        "code": told.code,
        "reads": [*told.reads],
        "writes": [*told.writes],
        "seconds": told.seconds,
    }


def result(told: Mapping[str, JSON], step_id: str, source: str) -> ConfinedResult:
    failure = told.get("failure")
    why = failure if isinstance(failure, dict) else None
    return ConfinedResult(
        step_id=step_id,
        source=source,
        stdout=text(told.get("stdout") or ""),
        stderr=text(told.get("stderr") or ""),
        shown=text(told.get("shown") or ""),
        type=text(told.get("type")),
        failure=None
        if why is None
        else Failure(
            text(why.get("type")),
            text(why.get("message")),
            _line(why.get("line")),
            text(why.get("traceback")),
        ),
        code=_code(told.get("code"), why),
        reads=tuple(texts(told.get("reads"))),
        writes=tuple(texts(told.get("writes"))),
        seconds=seconds(told.get("seconds")) or 0.0,
    )


def _edit(told: JSON) -> Edit:
    found = told if isinstance(told, dict) else {}
    return Edit(
        text(found.get("step")),
        _line(found.get("start")) or 0,
        _line(found.get("end")) or 0,
        text(found.get("text")),
    )


def _moves(told: JSON) -> tuple[Move, ...]:
    return tuple([Move(text(each.get("step")), text(each.get("after"))) for each in dicts(told)])


def finding(told: dict[str, JSON]) -> Finding:
    edits = told.get("edits")
    return Finding(
        text(told.get("rule")),
        text(told.get("message")),
        text(told.get("step")),
        tuple([_edit(each) for each in edits]) if isinstance(edits, list) else (),
        moves=_moves(told.get("moves")),
    )


def patch(told: dict[str, JSON]) -> PatchResult:
    return PatchResult(
        text(told.get("reason")),
        tuple([_edit(each) for each in dicts(told.get("edits"))]),
        named(told.get("hashes")),
        text(told.get("diff")),
        _moves(told.get("moves")),
        text(told.get("blocks") or ""),
    )
