"""The row form of facts: one append, one row, one JSON array.

    row   [fact, ...]
    fact  [code, dt, iteration, data]            stage and run id as implied
          [code, dt, iteration, data, stage]
          [code, dt, iteration, data, stage, run_id]

`code` is the kind's position in FACT_KINDS. `dt` is in microseconds: for run.start since the
epoch, else since the fact before in the row, for a row's first fact since the start of the run.
`run_id` is written with run.start and where it is not that of the stream's last run.start.
`stage` is written where it is not "".

`data` is packed by packing.py. Rows name no types: nothing but JSON and Events can come out of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json import JSONDecoder, JSONEncoder
from typing import Final, NamedTuple

from pydantic_core import from_json

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import FACT_KINDS, Event
from lorimer.core.jsonable import JSON, dumps, refuse_constant
from lorimer.journal.packing import Newer, pack, unpack


class Place(NamedTuple):
    """What a row omits because earlier rows have it."""

    run_id: str = ""
    """Run id of the stream's last run.start."""
    base: int = 0
    """Its time, microseconds since the epoch."""


_CODES: Final[Mapping[str, int]] = {kind: code for code, kind in enumerate(FACT_KINDS)}
_KINDS: Final[Mapping[int, str]] = dict(enumerate(FACT_KINDS))
_RUN_START: Final = _CODES["run.start"]
DAMAGE_HINT: Final = (
    "What comes before it is intact: lorimer runs show RUN. What is damaged: lorimer runs verify "
    "--all."
)
_EARLIEST: Final = -(2**53)
_LATEST: Final = 2**53


def micros(time: float) -> int:
    """Seconds as whole microseconds, the stored form of a time.

    `micros(t) / 1e6 == t` for every t that was rounded to 6 places. Raises JournalError for a time
    that is not a finite number.
    """
    try:
        return round(time * 1e6)
    except (ValueError, OverflowError) as error:
        raise JournalError(f"a fact has the impossible time {time!r}", cause=error) from error


def encode(facts: Sequence[Event], place: Place) -> tuple[str, Place]:
    """The row for `facts` following `place`, and the place after it.

    Raises JournalError for what is not JSON (including NaN and infinities) or not a fact.
    """
    run_id, last = place
    row: list[JSON] = []
    for fact in facts:
        kind = fact.type
        code = _CODES.get(kind)
        if code is None:
            raise JournalError(f"{kind!r} is not a kind of fact; it cannot be journalled")
        time = micros(fact.time)
        data = pack(kind, fact.data)
        if code == _RUN_START:
            run_id = fact.run_id
            place = Place(run_id, time)
            row.append([code, time, fact.iteration, data, fact.stage, run_id])
        else:
            item: list[JSON] = [code, time - last, fact.iteration, data]
            if fact.run_id != run_id:
                item += fact.stage, fact.run_id
            elif fact.stage:
                item.append(fact.stage)
            row.append(item)
        last = time
    try:
        text = dumps(row)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:  # half a surrogate pair: only an escape can hold it
                text = _escaped(row)
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(
            f"a {facts[0].type} fact cannot be journalled: it is not plain JSON ({error})",
            hint="Facts hold strings, finite numbers, booleans, None, lists and dicts only.",
            cause=error,
        ) from error
    return text, place


_escaped = JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def decode(body: object, place: Place, first: int, stream: str) -> tuple[list[Event], Place]:
    """The facts of a row whose first fact has the sequence number `first`, and the place after it.

    Rows are untrusted. Raises JournalError naming stream and row: `exec.journal.failed` for a
    damaged row, `exec.journal.version` for one written by a newer version.
    """
    try:
        return _decode(body, place, first)
    except Newer as error:
        raise JournalError(
            f"fact {first} of stream {stream!r} was written by a newer version of lorimer "
            f"({error})",
            code=ExecutorErrorCode.EXEC_JOURNAL_VERSION,
            hint="Update lorimer to read it.",
        ) from None
    except (ValueError, RecursionError) as error:
        raise JournalError(
            f"fact {first} of stream {stream!r} is damaged: {error}",
            hint=DAMAGE_HINT,
            cause=error,
        ) from error


def not_text(first: int, stream: str) -> JournalError:
    """The error for a row that cannot even be read."""
    what = f"fact {first} of stream {stream!r} is damaged: its row is not text"
    return JournalError(what, hint=DAMAGE_HINT)


def length(body: object, first: int, stream: str) -> int:
    """How many facts a row holds. Raises JournalError as `decode` does."""
    return len(decode(body, Place(), first, stream)[0])


_parser: Final = JSONDecoder(parse_constant=refuse_constant)


def _decode(body: object, place: Place, first: int) -> tuple[list[Event], Place]:
    if not isinstance(body, str):
        raise ValueError("the row is not text")
    row: JSON
    try:
        row = from_json(body, allow_inf_nan=False)  # twice as fast as the parser below
    except ValueError:  # damaged; or half a surrogate pair, or nested too deeply for it
        row = _parser.decode(body)
    if not isinstance(row, list) or not row:
        raise ValueError("the row is not a list of facts")
    run_id, last = place
    facts: list[Event] = []
    for item in row:
        if not isinstance(item, list):
            raise ValueError("a fact is not a list")
        if len(item) == 4:  # nearly all
            code, delta, iteration, data = item
            stage, owner = "", run_id
        else:
            code, delta, iteration, data, stage, owner = _unusual(item, run_id)
        if type(code) is not int or type(delta) is not int or type(iteration) is not int:
            raise ValueError("kind, time and iteration of a fact must be whole numbers")
        kind = _KINDS.get(code)
        if kind is None:
            raise Newer(f"kind of fact {code}")
        if code == _RUN_START:
            run_id, last = owner, 0
            place = Place(run_id, delta)
        last += delta
        if not _EARLIEST < last < _LATEST:
            raise ValueError("a fact's time is out of range")
        facts.append(Event(kind, unpack(kind, data), owner, iteration, last / 1e6, stage, first))
        first += 1
    return facts, place


def _unusual(item: list[JSON], run_id: str) -> tuple[JSON, JSON, JSON, JSON, str, str]:
    """The parts of a fact that contains its stage, and perhaps its run."""
    if len(item) == 5:
        item = [*item, run_id]
    if len(item) != 6:
        raise ValueError(f"a fact has {len(item)} parts")
    code, delta, iteration, data, stage, owner = item
    if not isinstance(stage, str) or not isinstance(owner, str):
        raise ValueError("stage and run id of a fact must be strings")
    return code, delta, iteration, data, stage, owner
