"""The network access of one sandboxed program: an HTTP proxy of ours that allows listed hosts.

It supports CONNECT and plain HTTP, one request per connection. Access is decided only by what the
request names, its name is looked up once, and the connection goes to the address that was checked
(`guarded.py`). The content of a tunnel is not inspected. Which hosts are listed: `hosts.py`; how a
program reaches the proxy: `sandbox/outlet.py`.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final, TypeAlias

import h11
import httpcore2

from lorimer.core.errors import ToolExecutionError
from lorimer.core.world import Reach
from lorimer.world.guarded import Resolver, checked, parse_url, system_resolver
from lorimer.world.hosts import reach_of

MAX_CONNECTIONS: Final = 128
"""Concurrent connections of one program; further ones wait."""
CONNECT_S: Final = 30.0
MAX_REFUSED: Final = 20
"""Maximum number of refusals that are reported."""

_PAUSE_S: Final = 0.1
_CHUNK: Final = 65_536
_OURS: Final = frozenset(
    b"host connection proxy-connection proxy-authorization keep-alive te upgrade trailer".split()
)
"""Headers that concern a single connection, or that we set ourselves."""
_REASONS: Final = {
    400: "Bad Request",
    403: "Forbidden",
    407: "Proxy Authentication Required",
    502: "Bad Gateway",
}

_Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Answer(Exception):
    """The program gets this status as its response."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Proxy:
    """Serves one program. `password`: required from clients."""

    def __init__(
        self, hosts: Sequence[str], *, password: str = "", resolve: Resolver = system_resolver
    ) -> None:
        self._hosts = hosts
        self._resolve = resolve
        self._wanted = f"lorimer:{password}".encode() if password else b""
        self._refused: dict[str, str] = {}

    @property
    def refused(self) -> tuple[str, ...]:
        """See `Finished.refused`."""
        return tuple([f"{place}: {why}" for place, why in self._refused.items()])

    async def serve(self, listener: socket.socket) -> None:
        """Serve clients until cancelled; then every connection is closed. The caller closes the
        listener."""
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(MAX_CONNECTIONS)
        listener.setblocking(False)
        async with asyncio.TaskGroup() as connections:
            while True:
                await room.acquire()
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError:  # out of descriptors; there may be one soon
                    room.release()
                    await asyncio.sleep(_PAUSE_S)
                    continue
                task = connections.create_task(self._meet(connection))
                task.add_done_callback(lambda _: room.release())

    async def _meet(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            with suppress(OSError, h11.ProtocolError):  # gone, or breaks the protocol
                await self._answer(reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        program = h11.Connection(h11.SERVER)
        try:
            request = await _next(program, reader)
            if not isinstance(request, h11.Request):
                return
            self._admit(request)
            if request.method == b"CONNECT":
                await self._tunnel(program, request, (reader, writer))
            else:
                await self._pass_on(program, request, (reader, writer))
        except _Answer as answer:
            writer.write(_told(answer))
            await writer.drain()

    def _admit(self, request: h11.Request) -> None:
        if not self._wanted:
            return
        given = dict(request.headers).get(b"proxy-authorization", b"")
        _, _, encoded = given.partition(b" ")
        with suppress(ValueError):
            if hmac.compare_digest(base64.b64decode(encoded), self._wanted):
                return
        raise _Answer(407, "this proxy is for one program only")

    # --- the two ways --------------------------------------------------------------------------

    async def _tunnel(
        self, program: h11.Connection, request: h11.Request, streams: _Streams
    ) -> None:
        reader, writer = streams
        host, port = self._place(request.target.decode("ascii", "replace"))
        there, to_there = await self._connect(host, port)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            to_there.write(program.trailing_data[0])
            ends = (writer, to_there)
            await asyncio.gather(_copy(reader, to_there, ends), _copy(there, writer, ends))
        finally:
            to_there.transport.abort()

    async def _pass_on(
        self, program: h11.Connection, request: h11.Request, streams: _Streams
    ) -> None:
        reader, writer = streams
        scheme, mark, rest = request.target.decode("ascii", "replace").partition("://")
        if mark != "://" or scheme.lower() != "http":
            raise _Answer(400, "an http:// URL was expected, or CONNECT")
        named = {name for name, _ in request.headers}
        if named >= {b"transfer-encoding", b"content-length"}:
            raise _Answer(400, "a server may read its end elsewhere: it has two lengths")
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        path = rest[len(authority) :]
        host, port = self._place(authority)
        # the name that was checked, whatever else the program wrote
        asked = h11.Request(
            method=request.method,
            target=path if path.startswith("/") else f"/{path}",
            headers=[(b"host", authority.encode()), *_kept(request.headers)],
        )
        there, to_there = await self._connect(host, port)
        server = h11.Connection(h11.CLIENT)
        try:
            to_there.write(server.send(asked) or b"")
            body = asyncio.ensure_future(_send_body(program, reader, server, to_there))
            try:
                await _send_answer(server, there, program, writer)
            except (OSError, h11.RemoteProtocolError) as error:
                if program.our_state is not h11.SEND_RESPONSE:
                    raise  # a part was forwarded already
                raise _Answer(502, f"{authority} gave no answer: {error}") from None
            finally:
                body.cancel()
                await asyncio.wait([body])
        finally:
            to_there.transport.abort()

    # --- where to ------------------------------------------------------------------------------

    def _place(self, authority: str) -> tuple[str, int]:
        """Host and port, if all programs parse them in the same way and they are listed."""
        if re.search(r"[/?#]", authority):
            raise self._no(authority, "it is neither a name nor an address")
        digits = re.search(r":([0-9]{1,5})$", authority)
        port = int(digits[1]) if digits else 80
        try:
            url = parse_url(f"http://{authority}/", Reach(ports=frozenset({port})))
        except ToolExecutionError as error:
            raise self._no(authority, error.message) from None
        host = url.raw_host.decode("ascii").lower().rstrip(".")
        host = str(ip_address(host)) if ":" in host else host
        reach = reach_of(self._hosts, host, port)
        if reach is None:
            raise self._no(
                f"{host}:{port}", f"not one of the hosts allowed: {', '.join(self._hosts)}"
            )
        if port not in reach.ports:
            raise self._no(f"{host}:{port}", f"it would have to be listed as {host}:{port}")
        return host, port

    async def _connect(self, host: str, port: int) -> _Streams:
        place = f"{host}:{port}"
        reach = reach_of(self._hosts, host, port)
        assert reach is not None
        last = "it has no address"
        try:
            addresses = await checked(host, port, reach, self._resolve)
        except ToolExecutionError as error:
            raise self._no(place, error.message) from None
        except httpcore2.ConnectError as error:
            raise _Answer(502, str(error)) from None
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection(str(address), port)
            except TimeoutError:
                last = f"it did not answer within {CONNECT_S:g} s"
            except OSError as error:
                last = str(error)
        raise _Answer(502, f"{place} cannot be reached: {last}")

    def _no(self, place: str, why: str) -> _Answer:
        place, why = ascii(place[:200])[1:-1], why[:500]
        if len(self._refused) < MAX_REFUSED:
            self._refused.setdefault(place, why)
        return _Answer(403, f"{place}: {why}")


# --- HTTP ----------------------------------------------------------------------------------------


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Event | type:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(_CHUNK))
    return event


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [*[pair for pair in headers if pair[0] not in _OURS], (b"connection", b"close")]


async def _send_body(
    program: h11.Connection,
    reader: asyncio.StreamReader,
    server: h11.Connection,
    to_there: asyncio.StreamWriter,
) -> None:
    """Forward the request body. Errors here show in the response."""
    with suppress(OSError, h11.ProtocolError):
        while True:
            event = await _next(program, reader)
            if isinstance(event, h11.Data | h11.EndOfMessage):
                to_there.write(server.send(event) or b"")
                await to_there.drain()
            if not isinstance(event, h11.Data):
                return


async def _send_answer(
    server: h11.Connection,
    there: asyncio.StreamReader,
    program: h11.Connection,
    writer: asyncio.StreamWriter,
) -> None:
    while True:
        event = await _next(server, there)
        if isinstance(event, h11.Response):
            event = h11.Response(
                status_code=event.status_code, headers=_kept(event.headers), reason=event.reason
            )
        elif not isinstance(event, h11.InformationalResponse | h11.Data | h11.EndOfMessage):
            return
        writer.write(program.send(event) or b"")
        await writer.drain()
        if isinstance(event, h11.EndOfMessage):
            return


async def _copy(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    ends: Iterable[asyncio.StreamWriter],
) -> None:
    """One direction of a tunnel, until it ends; an error ends both."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        for end in ends:
            end.transport.abort()


def _told(answer: _Answer) -> bytes:
    body = f"lorimer: {answer.why}\n".encode("utf-8", "replace")
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
        f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n"
    )
    if answer.status == 407:
        head += 'proxy-authenticate: Basic realm="lorimer"\r\n'
    return f"{head}\r\n".encode() + body
