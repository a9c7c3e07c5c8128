"""How a sandboxed program reaches its proxy, and nothing else: by level.

L2: it has a network of its own, which contains nothing but a socket of the proxy (`shim.py`). L1:
it can make TCP connections to one port only, where the proxy listens with a password. L0: the proxy
is offered, but not enforced.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from lorimer.core.world import Level
from lorimer.world.hosts import ANY
from lorimer.world.proxy import Proxy
from lorimer.world.sandbox import shim

_PORT: Final = 3128
"""The port of the proxy's socket in a network of its own."""
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1", "[::1]")
_NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Outlet:
    """The network access of one program. Created before it, closed after it; `serve` in between."""

    def __init__(self, hosts: Sequence[str], level: Level) -> None:
        self._password = "" if level == "L2" else secrets.token_urlsafe(18)
        self._hosts = hosts
        self.proxy = Proxy(hosts, password=self._password)
        self.theirs: int | None = None
        """A descriptor that the program has to be given, at L2."""
        self._ours: socket.socket | None = None
        self._door: socket.socket | None = None
        if level == "L2":
            self._ours, theirs = socket.socketpair()
            self._ours.setblocking(False)
            self.theirs = theirs.detach()
            self.port = _PORT
        else:
            self._door = socket.create_server(("127.0.0.1", 0), backlog=128)
            self.port = int(self._door.getsockname()[1])

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that starts the program."""
        if self.theirs is None:
            return list(argv)
        own = [sys.executable, "-I", "-S", str(Path(shim.__file__))]
        return [*own, str(self.theirs), str(self.port), *argv]

    def environment(self) -> Mapping[str, str]:
        """Variables that point the program to the proxy. Its own loopback is accessed directly,
        unless that of the machine is listed."""
        user = f"lorimer:{self._password}@" if self._password else ""
        url = f"http://{user}127.0.0.1:{self.port}"
        direct = ",".join([name for name in _LOOPBACK if not self._lists(name)])
        found = dict.fromkeys(_NAMES, url) | {"NO_PROXY": direct, "NODE_USE_ENV_PROXY": "1"}
        return found | {name.lower(): found[name] for name in (*_NAMES, "NO_PROXY")}

    def _lists(self, name: str) -> bool:
        return any(entry != ANY and entry.startswith(f"{name}:") for entry in self._hosts)

    def let_go(self) -> None:
        """The program has its descriptor, or was not started."""
        if self.theirs is not None:
            os.close(self.theirs)
            self.theirs = None

    async def serve(self) -> None:
        """Serve the program, until cancelled."""
        if self._ours is not None:
            await _readable(self._ours)
            with suppress(OSError):
                _, descriptors, _, _ = socket.recv_fds(self._ours, 1, 1)
                self._door = socket.socket(fileno=descriptors[0]) if descriptors else None
        if self._door is not None:  # otherwise the program ended before it began
            await self.proxy.serve(self._door)

    def close(self) -> None:
        """Close all sockets."""
        self.let_go()
        for end in (self._ours, self._door):
            if end is not None:
                end.close()


async def _readable(end: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(end, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(end)
