"""What the tests of models share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import Random

import httpx2

from lorimer.core.world import Finished, ProcessLimits


class NoWorld:
    """A world in which nothing is reachable but what the test hands in."""

    def __init__(self, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.transport = transport
        self.slept: list[float] = []
        self.now = 1_700_000_000.0
        self.clients: list[httpx2.AsyncClient] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_1"

    def dice(self, seed: int | str | None = None) -> Random:
        return Random(seed or 1)

    def http(self) -> httpx2.AsyncClient:
        client = httpx2.AsyncClient(transport=self.transport, timeout=None)
        self.clients.append(client)
        return client

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        limits: ProcessLimits = ProcessLimits(),
    ) -> Finished:
        raise NotImplementedError

    def outside(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()
