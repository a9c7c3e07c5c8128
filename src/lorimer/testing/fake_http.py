"""HTTP/1.1 for the fake server: one connection, requests read and responses played.

Only what the vendors' SDKs use: request bodies with a content-length, response bodies with a
content-length or chunked, keep-alive.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from lorimer.testing.fake_turn import Refused
from lorimer.testing.faults import Delivery

MAX_HEAD: Final = 65_536
"""Bytes of request line and headers."""
MAX_BODY: Final = 33_554_432
"""Bytes; Anthropic's own limit."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Received:
    """A request as received."""

    method: str
    target: str
    headers: Mapping[str, str]
    """Names in lower case; values of a repeated one are joined by ", "."""
    body: bytes
    keep_alive: bool
    """The client may use the connection again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and how it is sent."""

    status: int
    headers: Mapping[str, str]
    delivery: Delivery
    chunked: bool
    """Otherwise it has a content-length."""
    ping: bytes = b""
    silence_s: float | None = 0.0
    """Before the headers; None: forever."""


class Connection:
    """One client. Methods raise ConnectionError when it has disconnected."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=0)  # drain: it is with the kernel

    async def receive(self) -> Received | None:
        """The next request; None once the client has closed. Raises Refused for a request that
        cannot be parsed."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise Refused(431, f"The headers are longer than {MAX_HEAD} bytes.") from None
        method, target, version, headers = _parse(head.decode("latin-1"))
        if "transfer-encoding" in headers:
            raise Refused(411, "This server takes bodies with a content-length only.")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise Refused(400, "The content-length is not a number.")
        if int(length) > MAX_BODY:
            await self._discard(int(length))  # else the client is reset while sending
            raise Refused(413, f"Request exceeds the maximum size of {MAX_BODY} bytes.")
        try:
            body = await self._reader.readexactly(int(length))
        except asyncio.IncompleteReadError:
            return None
        wish = headers.get("connection", "").lower()
        keep_alive = wish != "close" if version == "HTTP/1.1" else wish == "keep-alive"
        return Received(method, target, headers, body, keep_alive)

    async def play(self, answer: Answer, *, keep_alive: bool) -> bool:
        """Send the response. Returns whether the connection can take another request."""
        out = answer.delivery
        if answer.silence_s != 0 and await self._silence(answer.silence_s):
            return False
        framing = (
            "transfer-encoding: chunked"
            if answer.chunked
            else f"content-length: {len(out.body) if out.ending == 'clean' else out.whole_length}"
        )
        lines = [
            f"HTTP/1.1 {answer.status} {_phrase(answer.status)}",
            *[f"{name}: {value}" for name, value in answer.headers.items()],
            framing,
            f"connection: {'keep-alive' if keep_alive else 'close'}",
            "\r\n",
        ]
        waiting = ["\r\n".join(lines).encode("latin-1")]
        for position, piece in out.pieces():
            if position in out.pauses:
                await self._write(waiting)
                if await self._silence(out.pauses[position]):
                    return False
            waiting.append(_chunk(piece) if answer.chunked else piece)
            if out.flush:
                await self._write(waiting)
        if (end := len(out.body)) in out.pauses:
            await self._write(waiting)
            if await self._silence(out.pauses[end]):
                return False
        while out.pings_every_s is not None:
            waiting.append(_chunk(answer.ping) if answer.chunked else answer.ping)
            await self._write(waiting)
            if await self._silence(out.pings_every_s):
                return False
        whole = out.ending in ("whole", "clean")
        if answer.chunked and whole:
            waiting.append(b"0\r\n\r\n")
        await self._write(waiting)
        if out.ending == "rst":
            self.reset()
        return keep_alive and whole

    def reset(self) -> None:
        """Close abruptly: the client sees a connection reset."""
        raw = self._writer.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:  # otherwise the client was faster
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close gracefully, after everything was sent."""
        self._writer.close()
        await self._writer.wait_closed()

    async def _write(self, parts: list[bytes]) -> None:
        """Send the parts as one write, and clear the list."""
        self._writer.write(b"".join(parts))
        parts.clear()
        await self._writer.drain()

    async def _discard(self, length: int) -> None:
        while length > 0 and (read := await self._reader.read(MAX_HEAD)):
            length -= len(read)

    async def _silence(self, seconds: float | None) -> bool:
        """Wait (None: forever). Returns whether the client has disconnected meanwhile, or sent
        something out of turn, which counts as the same."""
        try:
            await asyncio.wait_for(self._reader.read(1), seconds)
        except TimeoutError:
            return False
        return True


def _parse(head: str) -> tuple[str, str, str, dict[str, str]]:
    first, *lines = head.rstrip("\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise Refused(400, "This is not an HTTP/1.1 request.")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Refused(400, "A header line has no colon.")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return parts[0], parts[1], parts[2], headers


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"  # 529 and the like
