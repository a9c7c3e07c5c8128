"""The HTTP clients that the models of a process share, and how much of a rejection they read."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

from lorimer.core.world import World

if TYPE_CHECKING:
    import httpx2

MAX_REJECTION: Final = 256 * 1024
"""Bytes of the body of a response other than an answer, unpacked; the rest is not read."""


class HttpPool:
    """One HTTP client per event loop and key (provider and base URL), made when first used.

    A client belongs to the loop it was made on: a program that calls `asyncio.run` again and
    again gets a new one each time.
    """

    def __init__(self, world: World | None = None) -> None:
        self._world = world
        self._clients: dict[
            asyncio.AbstractEventLoop, dict[tuple[str, str], httpx2.AsyncClient]
        ] = {}

    def get(self, key: tuple[str, str], world: World) -> httpx2.AsyncClient:
        """The client for `key` on the running loop, from the pool's world, else from `world`."""
        loop = asyncio.get_running_loop()
        clients = self._clients.get(loop)
        if clients is None:
            self._forget_closed_loops()
            clients = self._clients[loop] = {}
        client = clients.get(key)
        if client is None or client.is_closed:
            client = clients[key] = (self._world or world).http()
            hooks = client.event_hooks
            client.event_hooks = {**hooks, "response": [_shorten, *hooks["response"]]}
        return client

    async def aclose(self) -> None:
        """Close the running loop's clients. Those of closed loops are dropped."""
        self._forget_closed_loops()
        clients = self._clients.pop(asyncio.get_running_loop(), {})
        for client in clients.values():
            await client.aclose()

    def _forget_closed_loops(self) -> None:
        # Nothing can be awaited on a closed loop: its connections go away with their objects. Other
        # threads with loops of their own may be doing the same at this moment.
        for loop in list(self._clients):
            if loop.is_closed():
                self._clients.pop(loop, None)


async def _shorten(response: httpx2.Response) -> None:
    """Read the beginning of a rejection, and let the response end there: whoever reads it, such as
    an SDK, reads all that there is."""
    if response.is_success:
        return
    import httpx2  # a tenth of the start-up time: there is a client, so it is loaded

    whole = httpx2.Response(response.status_code, headers=response.headers, stream=response.stream)
    body = bytearray()
    try:
        # damaged or cut off, it is worth less than the status
        with suppress(httpx2.HTTPError):
            async with aclosing(whole.aiter_bytes()) as pieces:
                async for piece in pieces:
                    body += piece[: MAX_REJECTION - len(body)]
                    if len(body) == MAX_REJECTION:
                        break
    finally:
        await whole.aclose()
    response.stream = httpx2.ByteStream(bytes(body))
    response.headers.pop("content-encoding", None)
