"""Starts server.py and asks it what it heard. Imports nothing of Lorimer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import process_time_ns
from typing import Final

from benchmarks.scale import Figures
from benchmarks.support import expect

ROOT: Final = Path(__file__).parent.parent
MODELS: Final = {
    "anthropic": "claude-sonnet-4-6",
    "openai": "gpt-4.1",
    "responses": "gpt-4.1",
    "google": "gemini-3.5-flash",
}
"""Not ones that an SDK warns about at every call."""
MAX_TOKENS: Final = 1_024


class Provider:
    """A running server.py."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url

    def heard(self) -> dict[str, int]:
        """How many requests, and how many bytes of JSON in them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return dict[str, int](json.loads(self._process.stdout.readline()))


@contextmanager
def provider(kind: str, count: int) -> Generator[Provider]:
    """A provider that asks for `count` tool calls, or answers in `count` deltas."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server", kind, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield Provider(process, process.stdout.readline().strip())
        assert process.stdin is not None
        process.stdin.close()


async def per_call(
    run: Callable[[], Awaitable[None]], server: Provider, runs: int, calls: int
) -> Figures:
    """CPU milliseconds a model call over runs of `calls` of them, and the bytes asked with."""
    await run()  # imports, connects
    spent: list[int] = []
    for _ in range(runs):
        began = process_time_ns()
        await run()
        spent.append(process_time_ns() - began)
    heard = server.heard()
    expect("requests", heard["requests"], (runs + 1) * calls)
    return {"ms": median(spent) / calls / 1e6, "bytes": heard["bytes"] / heard["requests"]}


async def per_delta(
    run: Callable[[], Awaitable[int]], server: Provider, runs: int, deltas: int
) -> Figures:
    """CPU microseconds a delta over answers of `deltas` of them; `run` says how many it saw."""
    expect("deltas", await run(), deltas)
    spent: list[int] = []
    for _ in range(runs):
        began = process_time_ns()
        expect("deltas", await run(), deltas)
        spent.append(process_time_ns() - began)
    expect("requests", server.heard()["requests"], runs + 1)
    return {"us": median(spent) / deltas / 1e3}
