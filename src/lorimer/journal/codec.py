"""The row form of facts: one append, one row, one JSON array.

    row   [fact, ...]
    fact  [code, dt, iteration, data]            stage and run id as implied
          [code, dt, iteration, data, stage]
          [code, dt, iteration, data, stage, run_id]

`code` is the kind's position in FACT_KINDS. `dt` is in microseconds: for run.start since the
epoch, else since the fact before in the row, for a row's first fact since the start of the run.
`run_id` is written with run.start and where it is not that of the stream's last run.start.
`stage` is written where it is not "".

`data` is an object as it is or, where all its keys are in the SHAPES of its kind, a list of
their values in that order: null is a key that is absent, absent ones at the end are left out,
and usual values are packed (see `_PACKERS`). Data comes back equal; the order of its keys may
not. Rows name no types: nothing but JSON and Events can come out of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from json import JSONDecoder, JSONEncoder
from typing import Final, NamedTuple, NoReturn, cast

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import FACT_KINDS, Event
from lorimer.core.jsonable import JSON, dumps


class Place(NamedTuple):
    """What a row leaves unsaid, because the rows before it said it."""

    run_id: str = ""
    """Of the stream's last run.start."""
    base: int = 0
    """Its time, microseconds since the epoch."""


# The tables from here on are part of the file format: entries may be added at the end, never
# changed, moved or reused.
SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    "model.intent": ("key", "hash", "reserve", "model", "messages"),
    "model.reply": (
        "key",
        "content",
        "stop",
        "usage",
        "cost",
        "id",
        "model",
        "error",
        "extra",
        "hash",
    ),
    "tool.intent": ("key", "hash", "effects", "idempotent", "decision"),
    "tool.result": ("key", "content", "hash", "is_error", "error"),
    "iteration.end": ("times", "decision", "reason"),
}
USAGE: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "reasoning_tokens",
)
STOPS: Final = ("end_turn", "tool_use", "max_tokens")

_CODES: Final[Mapping[str, int]] = {kind: code for code, kind in enumerate(FACT_KINDS)}
_RUN_START: Final = _CODES["run.start"]


def micros(time: float) -> int:
    """Seconds as whole microseconds, which is all that is stored of a time.

    `micros(t) / 1e6 == t` for every t that was rounded to 6 places. Raises JournalError for a
    time that is no number.
    """
    try:
        return round(time * 1e6)
    except (ValueError, OverflowError) as error:
        raise JournalError(f"a fact has the impossible time {time!r}", cause=error) from error


def encode(facts: Sequence[Event], place: Place) -> tuple[str, Place]:
    """The row for `facts` after what `place` says, and the place after it.

    Raises JournalError for what is not JSON (NaN and infinities included) or not a fact.
    """
    run_id, base = place
    last = base
    row: list[JSON] = []
    for fact in facts:
        code = _CODES.get(fact.type)
        if code is None:
            raise JournalError(f"{fact.type!r} is not a kind of fact; it cannot be journalled")
        time = micros(fact.time)
        data = _pack(fact.type, fact.data)
        if code == _RUN_START:
            run_id, base, last = fact.run_id, time, 0
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
    return text, Place(run_id, base)


_escaped = JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def decode(body: object, place: Place, first: int, stream: str) -> tuple[list[Event], Place]:
    """The facts of a row whose first one has the sequence number `first`; the place after it.

    Rows are untrusted. Raises JournalError naming stream and row: `exec.journal.failed` when it
    is damaged, `exec.journal.version` when it was written by a newer version.
    """
    try:
        return _decode(_parse(body), place, first)
    except _Newer as error:
        raise JournalError(
            f"fact {first} of stream {stream!r} was written by a newer version of lorimer "
            f"({error})",
            code=ExecutorErrorCode.EXEC_JOURNAL_VERSION,
            hint="Update lorimer to read it.",
        ) from None
    except (ValueError, RecursionError) as error:
        raise JournalError(
            f"fact {first} of stream {stream!r} is damaged: {error}",
            hint="The facts before it are intact and can be read.",
            cause=error,
        ) from error


def length(body: object, first: int, stream: str) -> int:
    """How many facts a row holds. Raises JournalError as `decode` does."""
    return len(decode(body, Place(), first, stream)[0])


class _Newer(Exception):
    """A row says something this version has no name for."""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_parser: Final = JSONDecoder(parse_constant=_no_constant)


def _parse(body: object) -> Sequence[JSON]:
    if not isinstance(body, str):
        raise ValueError("the row is not text")
    row = cast(JSON, _parser.decode(body))
    if not isinstance(row, list) or not row:
        raise ValueError("the row is not a list of facts")
    return row


def _decode(row: Sequence[JSON], place: Place, first: int) -> tuple[list[Event], Place]:
    run_id, base = place
    last, seq = base, first
    facts: list[Event] = []
    for item in row:
        if not isinstance(item, list):
            raise ValueError("a fact is not a list")
        parts = item
        if not 4 <= len(parts) <= 6:
            raise ValueError(f"a fact has {len(parts)} parts")
        code, delta, iteration, data = parts[:4]
        stage = parts[4] if len(parts) > 4 else ""
        owner = parts[5] if len(parts) > 5 else run_id
        if type(code) is not int or type(delta) is not int or type(iteration) is not int:
            raise ValueError("kind, time and iteration of a fact must be whole numbers")
        if not isinstance(stage, str) or not isinstance(owner, str):
            raise ValueError("stage and run id of a fact must be strings")
        if not 0 <= code < len(FACT_KINDS):
            raise _Newer(f"kind of fact {code}")
        if code == _RUN_START:
            run_id, base, last = owner, delta, 0
        last += delta
        if not -(2**53) < last < 2**53:
            raise ValueError("a fact's time is out of range")
        facts.append(
            Event(
                FACT_KINDS[code],
                _unpack(FACT_KINDS[code], data),
                run_id=owner,
                iteration=iteration,
                stage=stage,
                time=last / 1e6,
                seq=seq,
            )
        )
        seq += 1
    return facts, Place(run_id, base)


def _pack(kind: str, data: Mapping[str, JSON]) -> JSON:
    shape = SHAPES.get(kind)
    if shape is None:
        return data
    packed: list[JSON] = []
    left = len(data)
    for name in shape:
        if not left:
            break
        value = data.get(name)
        if value is None:
            packed.append(None)
            continue
        left -= 1
        packer = _PACKERS.get(name)
        if packer is not None:
            value = packer[0](value)
            if value is None:
                return data
        packed.append(value)
    return data if left else packed  # a key of no shape, or a key whose value is null


def _unpack(kind: str, packed: JSON) -> Mapping[str, JSON]:
    if isinstance(packed, dict):
        return packed
    if not isinstance(packed, list):
        raise ValueError("the data of a fact is neither an object nor a list")
    shape = SHAPES.get(kind, ())
    if len(packed) > len(shape):
        raise _Newer(f"{len(packed)} values of {kind}")
    data: dict[str, JSON] = {}
    for name, value in zip(shape, packed, strict=False):
        if value is not None:
            packer = _PACKERS.get(name)
            data[name] = value if packer is None else packer[1](value)
    return data


# Each packs a value of the usual form, or says None: then the data is kept as an object.


def _pack_key(value: JSON) -> JSON:
    # Calls are named "0", "1", ...: as numbers.
    if isinstance(value, str):
        return _NUMBERS.get(value, value)
    return None


def _unpack_key(value: JSON) -> JSON:
    if type(value) is int and 0 <= value < len(_DIGITS):
        return _DIGITS[value]
    if not isinstance(value, str):
        raise ValueError("a packed key is neither text nor a small number")
    return value


def _pack_stop(value: JSON) -> JSON:
    if isinstance(value, str):
        return STOPS.index(value) if value in STOPS else value
    return None


def _unpack_stop(value: JSON) -> JSON:
    if isinstance(value, str):
        return value
    if type(value) is not int or value < 0:
        raise ValueError("a packed reason to stop is neither text nor a number")
    if value >= len(STOPS):
        raise _Newer(f"reason {value} to stop")
    return STOPS[value]


def _pack_usage(value: JSON) -> JSON:
    # Counts in the order of USAGE, -1 where there is none.
    if not isinstance(value, Mapping):
        return None
    counts: list[JSON] = []
    left = len(value)
    for name in USAGE:
        if not left:
            break
        count = value.get(name)
        if count is None:
            counts.append(-1)
        elif type(count) is int and count >= 0:
            counts.append(count)
            left -= 1
        else:
            return None
    return None if left else counts


def _unpack_usage(value: JSON) -> JSON:
    if not isinstance(value, list):
        raise ValueError("packed usage is not a list")
    if len(value) > len(USAGE):
        raise _Newer(f"{len(value)} counts of usage")
    return {name: count for name, count in zip(USAGE, value, strict=False) if count != -1}


def _pack_times(value: JSON) -> JSON:
    # A bypassed stage is -1: half the bytes of null.
    if not isinstance(value, list | tuple):
        return None
    times: list[JSON] = []
    for time in value:
        if time is None:
            times.append(-1)
        elif type(time) is int and time >= 0:
            times.append(time)
        else:
            return None
    return times


def _unpack_times(value: JSON) -> JSON:
    if not isinstance(value, list):
        raise ValueError("packed stage times are not a list")
    return [None if time == -1 else time for time in value]


def _pack_content(value: JSON) -> JSON:
    # A text block is its text, a call is [id, name, input]; other blocks stay objects.
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        return None
    blocks: list[JSON] = []
    for block in value:
        if not isinstance(block, Mapping):
            return None
        kind = block.get("type")
        if kind == "text" and len(block) == 2 and isinstance(text := block.get("text"), str):
            blocks.append(text)
        elif kind == "tool_use" and len(block) == 4 and _CALL.issuperset(block):
            blocks.append([block["id"], block["name"], block["input"]])
        else:
            blocks.append(block)
    return blocks


_CALL: Final = frozenset({"type", "id", "name", "input"})


def _unpack_content(value: JSON) -> JSON:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("packed content is neither text nor a list")
    blocks: list[JSON] = []
    for item in value:
        if isinstance(item, str):
            blocks.append({"type": "text", "text": item})
        elif isinstance(item, dict):
            blocks.append(item)
        elif isinstance(item, list) and len(item) == 3:
            call, name, arguments = item
            blocks.append({"type": "tool_use", "id": call, "name": name, "input": arguments})
        else:
            raise ValueError("a packed block is neither text, call nor object")
    return blocks


_DIGITS: Final = tuple([str(number) for number in range(100)])
_NUMBERS: Final[Mapping[str, int]] = {digits: number for number, digits in enumerate(_DIGITS)}
_PACKERS: Final[Mapping[str, tuple[Callable[[JSON], JSON], Callable[[JSON], JSON]]]] = {
    "key": (_pack_key, _unpack_key),
    "content": (_pack_content, _unpack_content),
    "stop": (_pack_stop, _unpack_stop),
    "usage": (_pack_usage, _unpack_usage),
    "times": (_pack_times, _unpack_times),
}
