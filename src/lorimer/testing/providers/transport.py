"""HTTP without a network: given responses, and recorded ones."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx2

from lorimer.core.jsonable import JSON
from lorimer.core.world import World


@dataclass(frozen=True)
class Reply:
    """One HTTP response. A chunk may be an exception to raise, or seconds to wait."""

    chunks: Sequence[bytes | Exception | float] = ()
    status: int = 200
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"content-type": "text/event-stream"}
    )

    @classmethod
    def of(cls, body: object, status: int = 200, **headers: str) -> Reply:
        """A JSON body in one piece."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = json.dumps(body).encode()
        return cls([content], status, {"content-type": "application/json", **named})


class Played(httpx2.AsyncBaseTransport):
    """Plays replies in order; the last one repeatedly.

    `world`: where the seconds of a reply pass.
    """

    def __init__(self, *replies: Reply | Exception, world: World) -> None:
        self.replies = list(replies)
        self.requests: list[httpx2.Request] = []
        self.closed = 0
        """Responses that were closed, at their end or earlier."""
        self.read_to_the_end = 0
        self.world = world

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The next reply; raises it if it is an exception."""
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        body = _Body(self, reply.chunks)
        return httpx2.Response(reply.status, headers=reply.headers, stream=body)

    @property
    def sent(self) -> dict[str, JSON]:
        """The body of the last request."""
        body: dict[str, JSON] = json.loads(self.requests[-1].content)
        return body


class _Body(httpx2.AsyncByteStream):
    def __init__(self, played: Played, chunks: Sequence[bytes | Exception | float]) -> None:
        self._played = played
        self._chunks = chunks

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            if isinstance(chunk, bytes):
                yield chunk
            else:
                await self._played.world.sleep(chunk)
        self._played.read_to_the_end += 1

    async def aclose(self) -> None:
        self._played.closed += 1


@dataclass
class Recording:
    """What came over the network, and what was requested."""

    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)


class Recorded(httpx2.AsyncBaseTransport):
    """The network, recorded. Keeps the last response."""

    def __init__(self, recording: Recording) -> None:
        # No certificates: all requests in a test stay on this machine, without TLS.
        self._network = httpx2.AsyncHTTPTransport(verify=False, trust_env=False)
        self._recording = recording

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Forward the request."""
        response = await self._network.handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._recording.headers = dict(response.headers)
        self._recording.body.clear()
        stream = _Copied(response.stream, self._recording.body)
        return httpx2.Response(response.status_code, headers=response.headers, stream=stream)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._network.aclose()


class _Copied(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, copy: bytearray) -> None:
        self._stream = stream
        self._copy = copy

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._copy += chunk
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
