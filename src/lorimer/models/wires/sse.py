"""Parses server-sent events from bytes in chunks of any size; and the strict JSON inside them.

The parser follows the WHATWG HTML standard, section "Parsing an event stream": LF, CR and CRLF end
a line, `data` lines are joined, comments and unknown fields are skipped, an event cut off by the
end of the stream is dropped.
"""

from __future__ import annotations

from json import JSONDecoder
from math import isfinite
from typing import Final, TypeAlias

from lorimer.core.jsonable import JSON, refuse_constant

MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes of one line, and of the data of one event."""

MAX_STRAY: Final = 64 * 1024
"""Bytes kept of lines that are not part of an event stream."""

_IGNORED: Final = frozenset({b"", b"id", b"retry"})
_BOM: Final = b"\xef\xbb\xbf"

Event: TypeAlias = tuple[str, str]
"""Name ("" if none was given) and data."""


class LineTooLong(ValueError):
    """A line, or the data of an event, is longer than the limit."""


class SSEParser:
    """Feed it chunks in order; each call returns the events that the chunk completed."""

    __slots__ = (
        "_after_cr",
        "_data",
        "_first",
        "_limit",
        "_name",
        "_size",
        "_stray",
        "_stray_size",
        "_tail",
        "_tail_size",
    )

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._limit = max_line
        self._tail: list[bytes] = []  # pieces of the unfinished line
        self._tail_size = 0
        self._after_cr = False
        self._first = True
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._stray: list[bytes] = []
        self._stray_size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Raises LineTooLong; the parser cannot be used afterwards."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        head, newline, rest = chunk.rpartition(b"\n")
        if not newline:
            self._keep(chunk)
            return []
        if self._tail:
            head = b"".join([*self._tail, head])
            self._tail.clear()
            self._tail_size = 0
        lines = head.split(b"\n")
        if len(head) > self._limit and max(map(len, lines)) > self._limit:
            raise LineTooLong(f"a line of the stream is longer than {self._limit} bytes")
        events = self._lines(lines)
        if rest:
            self._keep(rest)
        return events

    def stray(self) -> str:
        """The lines that do not belong to an event stream, including the last one: a server that
        fails in mid-stream may write its error like that. Read once the body has ended."""
        return b"\n".join([*self._stray, b"".join(self._tail)]).decode("utf-8", "replace").strip()

    def _keep(self, piece: bytes) -> None:
        self._tail_size += len(piece)
        if self._tail_size > self._limit:
            raise LineTooLong(f"a line of the stream is longer than {self._limit} bytes")
        self._tail.append(piece)

    def _lines(self, lines: list[bytes]) -> list[Event]:
        if self._first:
            self._first = False
            lines[0] = lines[0].removeprefix(_BOM)
        events: list[Event] = []
        for line in lines:
            if not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    events.append((self._name, data.decode("utf-8", "replace")))
                    self._data = []
                    self._size = 0
                self._name = ""
            elif line.startswith(b"data: "):
                self._add(line[6:])
            else:
                field, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
                if field == b"data":
                    self._add(value)
                elif field == b"event":
                    self._name = value.decode("utf-8", "replace")
                elif field not in _IGNORED and self._stray_size + len(line) <= MAX_STRAY:
                    self._stray.append(line)
                    self._stray_size += len(line)
        return events

    def _add(self, value: bytes) -> None:
        self._size += len(value) + 1
        if self._size > self._limit:
            raise LineTooLong(f"an event of the stream is longer than {self._limit} bytes")
        self._data.append(value)


def _number(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"the number {text[:40]} is out of range")
    return value


_decode = JSONDecoder(parse_constant=refuse_constant, parse_float=_number).decode


def parse_json(text: str) -> JSON:
    """Strict JSON: no NaN, no infinite numbers. Raises ValueError, also for absurd nesting."""
    try:
        value: JSON = _decode(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    return value
