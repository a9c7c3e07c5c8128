"""Ways in which a provider's wire goes wrong: plain data for `Turn.faults`, on any wire.

This file decides what each fault does to an answer; `fake_server` plays the outcome. Several may be
combined; they apply in the order in which an answer is produced: connection (`Refuse`, `Hang`),
status (`Status`, `ContextOverflow`), events (`ErrorEvent`, `BrokenEvent`, `ExtraEvent`, in the
order given), their text (`Framing`), and bytes (`Pings`, `Pieces`, `Cut`).

A position counts events of the stream, including pings, from 0; a negative one counts from the end,
as in a slice. Faults of events and `Framing` do not affect an answer that is not streamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from json import dumps, loads
from typing import Literal, TypeAlias

Ending: TypeAlias = Literal["whole", "clean", "fin", "rst"]


@dataclass(frozen=True, slots=True)
class Refuse:
    """The connection is reset before the first byte of an answer.

    With a sequence of turns this happens on accept, when it is the next turn and the client opens a
    new connection; otherwise (kept-alive connection, script that is a function) once the request is
    in.
    """


@dataclass(frozen=True, slots=True)
class Hang:
    """Silence: before the headers (`after=None`), or after `after` events."""

    after: int | None = None
    seconds: float | None = None
    """After that the answer continues; None: forever, until the client or the server
    disconnects."""


@dataclass(frozen=True, slots=True)
class Status:
    """A response with a status other than 200. Without `body`: in the vendor's own format for the
    status."""

    status: int
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Sent unchanged, whether sensible or not: `{"retry-after": "-1"}`."""
    body: bytes | None = None
    kind: str = ""
    """The vendor's `type` of error; "": the default for the status."""
    code: str = ""
    """OpenAI's `code`, such as `insufficient_quota`; "": the default for the status."""


@dataclass(frozen=True, slots=True)
class ContextOverflow:
    """The 400 with which each vendor reports that the prompt exceeds the window."""

    tokens: int = 200_001
    limit: int = 200_000


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """After `after` events an error event replaces the rest of the stream."""

    after: int
    message: str = "Overloaded"
    kind: str = ""
    """The vendor's `type` of error; "": `overloaded_error`, on OpenAI's wire `server_error`."""


@dataclass(frozen=True, slots=True)
class BrokenEvent:
    """Event number `index` carries `data`, or, without it, the first half of its own JSON."""

    index: int
    data: str | None = None


@dataclass(frozen=True, slots=True)
class ExtraEvent:
    """An additional event, after `after` others; by default of an unknown type."""

    after: int
    name: str = "future_event"
    """Its `event:` line; "": none."""
    data: str = '{"type":"future_event","choices":[]}'


@dataclass(frozen=True, slots=True)
class Framing:
    """Legal but unusual ways to write the same events (the WHATWG rules for event streams)."""

    newline: Literal["\n", "\r\n", "\r"] = "\n"
    comments: bool = False
    """A comment before each event and one within it."""
    split_data: bool = False
    """JSON over several `data:` lines."""
    space: bool = True
    """The optional space after a field's colon."""
    bom: bool = False
    """A byte order mark before the first event."""


@dataclass(frozen=True, slots=True)
class Pings:
    """After `after` events nothing but pings, `every_s` seconds apart, until the client leaves."""

    after: int
    every_s: float = 0.01


@dataclass(frozen=True, slots=True)
class Pieces:
    """The body is sent in pieces, each in its own write and chunk: `size` bytes long (1: byte by
    byte), or split at the byte positions `at`, or, without both, one piece per event."""

    at: tuple[int, ...] = ()
    size: int = 0
    delay_s: float = 0.0
    """Seconds of silence between two pieces."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The body ends after `at` bytes (negative: counted from its end).

    `fin` and `rst` close or reset the connection abruptly. `clean` completes the HTTP message, like
    a proxy whose upstream disconnected: only the terminal event is missing.
    """

    at: int
    how: Literal["fin", "rst", "clean"] = "fin"


Fault: TypeAlias = (
    Refuse
    | Hang
    | Status
    | ContextOverflow
    | ErrorEvent
    | BrokenEvent
    | ExtraEvent
    | Framing
    | Pings
    | Pieces
    | Cut
)


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event. `name` "": without an `event:` line."""

    name: str
    data: str


def with_faults(
    events: Sequence[Event], faults: Sequence[Fault], error_event: Callable[[ErrorEvent], Event]
) -> list[Event]:
    """The events after applying the faults. Raises IndexError for a fault of an event that does not
    exist."""
    out = list(events)
    for fault in faults:
        match fault:
            case ErrorEvent(after=after):
                out = [*out[:after], error_event(fault)]
            case ExtraEvent(after=after, name=name, data=data):
                out.insert(after, Event(name, data))
            case BrokenEvent(index=index, data=data):
                old = out[index]
                out[index] = Event(
                    old.name, old.data[: len(old.data) // 2] if data is None else data
                )
            case _:
                pass
    return out


def encode(events: Sequence[Event], faults: Sequence[Fault]) -> list[bytes]:
    """Each event as its encoded bytes, including its empty line."""
    framing = next((fault for fault in reversed(faults) if isinstance(fault, Framing)), Framing())
    out = [_encode(event, framing) for event in events]
    if framing.bom and out:
        out[0] = b"\xef\xbb\xbf" + out[0]
    return out


def _encode(event: Event, framing: Framing) -> bytes:
    colon = ": " if framing.space else ":"
    lines = [f"{colon}noise"] if framing.comments else []
    if event.name:
        lines.append(f"event{colon}{event.name}")
    if framing.comments:
        lines.append(":")
    lines += [f"data{colon}{line}" for line in _data_lines(event.data, framing.split_data)]
    return framing.newline.join([*lines, "", ""]).encode()


def _data_lines(data: str, split: bool) -> list[str]:
    if split and data.startswith("{"):
        try:
            return dumps(loads(data), ensure_ascii=False, indent=0).split("\n")
        except ValueError:
            pass  # broken on purpose: it stays on one line
    return data.split("\n")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A body and how it is sent."""

    body: bytes
    """What is actually sent."""
    whole_length: int
    """What the whole body would have been."""
    breaks: tuple[int, ...]
    """Positions where a new chunk begins, ascending."""
    pauses: Mapping[int, float | None]
    """Seconds of silence (None: forever) before the byte at that position."""
    flush: bool
    """Each chunk is a write of its own."""
    pings_every_s: float | None
    """Pings afterwards, forever."""
    ending: Ending

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """The chunks, each with its position; none is empty."""
        inner = {at for at in (*self.breaks, *self.pauses) if 0 < at < len(self.body)}
        for start, end in pairwise([0, *sorted(inner), len(self.body)]):
            if start < end:
                yield start, self.body[start:end]


def deliver(parts: Sequence[bytes], faults: Sequence[Fault]) -> Delivery:
    """How to send a body that consists of `parts` (its events, or all of it as one part)."""
    bounds = list(accumulate(map(len, parts), initial=0))
    body = b"".join(parts)
    breaks: Sequence[int] = bounds
    pauses: dict[int, float | None] = {}
    flush, pings, ending = False, None, "whole"
    for fault in faults:
        match fault:
            case Hang(after=int(after), seconds=seconds):
                pauses[bounds[_index(after, len(parts))]] = seconds
            case Pieces(at=at, size=size, delay_s=delay_s):
                breaks = at or (range(size, len(body), size) if size else bounds)
                flush = True
                if delay_s:
                    inner = [at for at in breaks if 0 < at < len(body)]
                    pauses = {**dict.fromkeys(inner, delay_s), **pauses}
            case Pings(after=after, every_s=pings):
                body = body[: bounds[_index(after, len(parts))]]
            case _:
                pass
    length = len(body)
    for fault in faults:
        if isinstance(fault, Cut):
            body, ending = body[: _index(fault.at, length)], fault.how
    return Delivery(body, length, tuple(breaks), pauses, flush or bool(pauses), pings, ending)


def _index(position: int, length: int) -> int:
    return min(position, length) if position >= 0 else max(0, length + position)
