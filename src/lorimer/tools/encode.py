"""Any Python value as plain data: works for every value, is bounded, and never becomes objects
again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from math import isfinite
from typing import Final, cast

from pydantic import BaseModel, RootModel

from lorimer.core.jsonable import JSON, clean, dumps

MAX_DEPTH: Final = 64
"""Levels of nesting; anything deeper is replaced by a marker."""
MAX_ITEMS: Final = 100_000
"""Most values in one encoding, however nested."""
MAX_CHARS: Final = 4_000_000
"""Most characters of all texts in one encoding."""

_MORE: Final = "…"
_MAX_BITS: Final = 4096  # the interpreter takes seconds to print longer integers, then raises
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_ADDRESS: Final = re.compile(" at 0x[0-9a-fA-F]+")


def readable(text: str) -> str:
    """Like `core.jsonable.clean`, and without NULs, which not every provider and store accepts."""
    return clean(text).replace("\0", "\ufffd")


def text_of(value: object) -> str:
    """A value as a model reads it: a string as it is, None as "", anything else as JSON."""
    if type(value) is str:
        return clean(value)
    if value is None:
        return ""
    encoded = plain(value)
    return encoded if isinstance(encoded, str) else dumps(encoded)


def plain(value: object) -> JSON:
    """Plain data for any value. Never raises; the result can always be encoded as JSON.

    Mappings, sequences, sets, dataclasses, Pydantic models and enums keep their content; other
    objects become their text, without memory addresses. Whatever is cyclic, deeper than `MAX_DEPTH`
    or beyond the size limits is replaced by a marker that says so. NaN and infinities become
    strings.
    """
    return _Encoder().encode(value, 0)


def describe(error: BaseException) -> str:
    """`Type: message` of an exception, with its sub-exceptions; at most 2,000 characters."""
    text = _Encoder().error(error)
    return text if len(text) <= 2000 else text[:2000] + _MORE


class _Encoder:
    """One encoding, with what is left of its limits."""

    def __init__(self) -> None:
        self._items = MAX_ITEMS
        self._chars = MAX_CHARS
        self._open: set[int] = set()

    def encode(self, value: object, depth: int) -> JSON:
        self._items -= 1
        try:
            return self._scalar(value) if depth > MAX_DEPTH else self._any(value, depth)
        except BaseException:  # noqa: BLE001 - the value's own code ran; whatever it raised, it cannot be shown
            return f"<{_name(value)} that cannot be shown>"

    def _any(self, value: object, depth: int) -> JSON:
        if isinstance(value, RootModel):
            value = cast("RootModel[object]", value).root
        inner = None if type(value) in _SCALARS else _parts(value)
        if inner is None:
            return self._scalar(value)
        if id(value) in self._open:
            return "<itself>"
        self._open.add(id(value))
        try:
            if isinstance(inner, Mapping):
                return self._mapping(cast("Mapping[object, object]", inner), depth + 1)
            return self._sequence(inner, depth + 1)
        finally:
            self._open.discard(id(value))

    def _mapping(self, value: Mapping[object, object], depth: int) -> dict[str, JSON]:
        out: dict[str, JSON] = {}
        for key, item in value.items():
            if self._items <= 0 or self._chars <= 0:
                out[_MORE] = _MORE
                break
            out[self._key(key, depth)] = self.encode(item, depth)
        return out

    def _sequence(self, value: Iterable[object], depth: int) -> list[JSON]:
        out: list[JSON] = []
        for item in value:
            if self._items <= 0 or self._chars <= 0:
                out.append(_MORE)
                break
            out.append(self.encode(item, depth))
        return out

    def _key(self, key: object, depth: int) -> str:
        if isinstance(key, str):
            return self._text(key)
        encoded = self.encode(key, depth)  # a tuple, too
        return encoded if isinstance(encoded, str) else dumps(encoded)

    def _scalar(self, value: object) -> JSON:
        match value:
            case None:
                return None
            case bool():
                return value
            case str():
                return self._text(value)
            case Enum():
                return self._scalar(value.value)
            case int():
                bits = value.bit_length()
                return int(value) if bits <= _MAX_BITS else f"<integer of {bits} bits>"
            case float():
                number = float(value)
                if isfinite(number):
                    return number
                return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"
            case bytes() | bytearray() | memoryview():
                return self._bytes(bytes(cast("bytes", value)))
            case BaseException():
                return self.error(value)
            case date() | time():
                return value.isoformat()
            case _ if _parts(value) is not None:
                return f"<{_name(value)}, nested too deep>"
            case _ if _says_nothing(value):
                return f"<{_name(value)}>"
            case _:
                return self._text(_ADDRESS.sub("", str(value)))

    def _bytes(self, value: bytes) -> str:
        try:
            return self._text(value[: self._chars + 1].decode())
        except UnicodeDecodeError:
            return f"<{len(value)} bytes of binary data>"

    def _text(self, value: str) -> str:
        text = value if type(value) is str else str.__str__(value)
        if len(text) > self._chars:
            text = text[: max(self._chars, 0)] + _MORE
        self._chars -= len(text)
        return clean(text)

    def error(self, error: BaseException) -> str:
        name = type(error).__name__
        try:
            if isinstance(error, BaseExceptionGroup):
                group = cast("BaseExceptionGroup[BaseException]", error)
                inner = "; ".join([self.error(each) for each in group.exceptions[:5]])
                return f"{name}: {self._text(group.message)} ({inner})"
            text = self._text(_ADDRESS.sub("", str(error)))
        except BaseException:  # noqa: BLE001 - an exception whose own text raises
            text = ""
        return f"{name}: {text}" if text else name


def _parts(value: object) -> Mapping[object, object] | Iterable[object] | None:
    """The content of a container; None for everything else."""
    if isinstance(value, str | bytes | bytearray | memoryview | range):
        return None
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value)
    if isinstance(value, Sequence):
        return cast("Sequence[object]", value)
    if isinstance(value, AbstractSet):
        # sets are unordered, and the order of strings differs in every process
        return sorted(cast("AbstractSet[object]", value), key=lambda item: text_of(item))
    if isinstance(value, BaseModel):
        return _shown(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _shown(value: BaseModel) -> dict[str, object]:
    """The content of a Pydantic model: its fields except excluded ones, and computed ones."""
    kind = type(value)
    out = {name: item for name, item in value if not _excludes(kind, name)}
    for name in kind.model_computed_fields:
        with suppress(Exception):  # third-party code: without it the rest is still useful
            out[name] = getattr(value, name)
    return out


def _excludes(kind: type[BaseModel], name: str) -> bool:
    field = kind.model_fields.get(name)
    return field is not None and field.exclude is True


def _says_nothing(value: object) -> bool:
    kind = type(value)
    return kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__


def _name(value: object) -> str:
    return type(value).__qualname__
