"""Packs the usual data of facts into short forms, and unpacks them; codec.py has the row around
them.

`data` is an object as it is or, if all its keys are in the SHAPES of its kind, a list of their
values in that order: null is an absent key, absent ones at the end are omitted, and usual values
are packed (`_PACKERS`). Data is restored equal, but its keys may be in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from lorimer.core.jsonable import JSON

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


class Newer(Exception):
    """A row contains something that this version does not know."""


def pack(kind: str, data: Mapping[str, JSON]) -> JSON:
    """The short form of a fact's data, or the data itself."""
    shape = _PACKED.get(kind)
    if shape is None:
        return data
    packed: list[JSON] = []
    left = len(data)
    for name, packer in shape:
        if not left:
            break
        value = data.get(name)
        if value is not None:
            left -= 1
            if packer is not None:
                value = packer(value)
                if value is None:
                    return data
        packed.append(value)
    return data if left else packed  # a key of no shape, or a key whose value is null


def unpack(kind: str, packed: JSON) -> Mapping[str, JSON]:
    """The reverse of `pack`. Raises ValueError for invalid data, Newer for data of a newer
    version."""
    if not isinstance(packed, list):
        if isinstance(packed, dict):
            return packed
        raise ValueError("the data of a fact is neither an object nor a list")
    shape = _UNPACKERS.get(kind, ())
    if len(packed) > len(shape):
        raise Newer(f"{len(packed)} values of {kind}")
    data: dict[str, JSON] = {}
    for (name, unpacker), value in zip(shape, packed, strict=False):
        if value is not None:
            data[name] = value if unpacker is None else unpacker(value)
    return data


# Each packs a value of the usual form, or returns None: then the data is stored as an object.


def _pack_key(value: JSON) -> JSON:
    # Calls are named "0", "1", ...: as numbers.
    if isinstance(value, str):
        return _NUMBERS.get(value, value)
    return None


def _unpack_key(value: JSON) -> JSON:
    digits = _KEYS.get(value) if type(value) is int else value if isinstance(value, str) else None
    if digits is None:
        raise ValueError("a packed key is neither text nor a small number")
    return digits


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
        raise Newer(f"reason {value} to stop")
    return STOPS[value]


def _pack_usage(value: JSON) -> JSON:
    # Counts in the order of USAGE, -1 where there is none.
    if not isinstance(value, (dict, Mapping)):
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
        raise Newer(f"{len(value)} counts of usage")
    counts: dict[str, JSON] = dict(zip(USAGE, value, strict=False))
    if -1 in value:
        return {name: count for name, count in counts.items() if count != -1}
    return counts


def _pack_times(value: JSON) -> JSON:
    # A bypassed stage is -1: half the bytes of null.
    if not isinstance(value, (list, tuple)):
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
    return [None if time == -1 else time for time in value] if -1 in value else value


def _pack_content(value: JSON) -> JSON:
    # A text block is its text, a call is [id, name, input]; other blocks stay objects.
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)):
        return None
    blocks: list[JSON] = []
    for block in value:
        if not isinstance(block, (dict, Mapping)):  # by far the most frequent type, first
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
_KEYS: Final[Mapping[int, str]] = dict(enumerate(_DIGITS))
_NUMBERS: Final[Mapping[str, int]] = {digits: number for number, digits in enumerate(_DIGITS)}
_PACKERS: Final[Mapping[str, tuple[Callable[[JSON], JSON], Callable[[JSON], JSON]]]] = {
    "key": (_pack_key, _unpack_key),
    "content": (_pack_content, _unpack_content),
    "stop": (_pack_stop, _unpack_stop),
    "usage": (_pack_usage, _unpack_usage),
    "times": (_pack_times, _unpack_times),
}
_Form: TypeAlias = Mapping[str, tuple[tuple[str, Callable[[JSON], JSON] | None], ...]]
_PACKED: Final[_Form] = {
    kind: tuple([(name, _PACKERS[name][0] if name in _PACKERS else None) for name in shape])
    for kind, shape in SHAPES.items()
}
_UNPACKERS: Final[_Form] = {
    kind: tuple([(name, _PACKERS[name][1] if name in _PACKERS else None) for name in shape])
    for kind, shape in SHAPES.items()
}
