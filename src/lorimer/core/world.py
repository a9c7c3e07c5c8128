"""The port to everything that is not a pure function: clock, ids, dice, HTTP, processes.

Code outside `lorimer.world` never asks the operating system for any of these (a lint rule checks
that), so a run can be resumed, replayed and simulated under virtual time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from random import Random
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from lorimer.core.jsonable import JSON
from lorimer.core.record import record

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    import httpx2


Level: TypeAlias = Literal["L0", "L1", "L2"]
"""How strongly a process is isolated. L0: limits, a clean environment, and its whole tree is ended;
L1: also Landlock and seccomp; L2: also namespaces of its own (bubblewrap)."""


SandboxMode: TypeAlias = Literal["auto", "require", "off"]
"""What a host asks for: the best level that works here; L2 or nothing; no sandbox."""


@record
class Sandbox:
    """What one child process tree may access. The whole disk can be read except what is hidden."""

    at_least: Level = "L0"
    """The best level that works here is used; if it is below this one, nothing is started."""
    hosts: tuple[str, ...] = ()
    """Network hosts it may access, through our proxy; none by default. `*` is any public host; see
    `lorimer.world.hosts`."""
    writable: tuple[Path, ...] = ()
    """Folders that can be written, in addition to a temporary one of its own."""
    hidden: tuple[Path, ...] = ()
    """Files and folders that are invisible, whether they exist or not."""

    @property
    def network(self) -> bool:
        """Whether it may access any of the network."""
        return bool(self.hosts)

    @property
    def requested(self) -> str:
        """`auto`, or the least level at which a process is started."""
        return "auto" if self.at_least == "L0" else self.at_least


@record
class Isolation:
    """How strongly a process that was to be sandboxed was actually isolated."""

    requested: str
    in_force: Level
    gaps: tuple[str, ...] = ()
    """What this level does not enforce, in a few words each."""

    def to_json(self) -> dict[str, JSON]:
        """Plain data, for results and events."""
        return {
            "requested": self.requested,
            "in_force": self.in_force,
            "gaps": list(self.gaps),
        }


@record
class ProcessLimits:
    """What one child process tree may use."""

    timeout_s: float = 120.0
    """Wall seconds; then the whole tree is killed."""
    max_output_bytes: int = 1_048_576
    """Bytes of output kept in memory: the first half and the last half; the rest is counted."""
    sandbox: Sandbox | None = None
    """What it may access; None: the same as this process."""
    apart: bool = False
    """Keep its stderr separately, limited to as many bytes; not with a sandbox."""


PORTS: Final = frozenset({80, 443, 8000, 8080, 8443})
"""Ports of web servers. A request to another port would speak HTTP to, say, a mail server."""


@record
class Reach:
    """Where guarded requests may go: the public internet, and hosts listed here."""

    hosts: frozenset[str] | None = None
    """Only these names, and subdomains of `*.name`; None: any."""
    private: frozenset[str] = frozenset()
    """Names that may resolve to private addresses; never to a metadata service."""
    ports: frozenset[int] = PORTS


@record
class Finished:
    """How a child process ended. `output` is stdout and stderr, interleaved as they arrived."""

    returncode: int
    """Exit status; negative: the signal that ended it. At level L2, a program that exits with 128
    plus a signal's number cannot be distinguished from one ended by the signal, and counts as
    that."""
    output: bytes
    """At most `max_output_bytes`: all of it, or head and tail around a marker line."""
    total_bytes: int
    """Bytes that the process wrote in total."""
    timed_out: bool
    duration_s: float
    isolation: Isolation | None = None
    """How strongly it was isolated; None: no sandbox was asked for."""
    refused: tuple[str, ...] = ()
    """Network access that was refused: `host:port: why`, each once."""
    out_of_memory: bool = False
    """It was killed while the kernel killed some process because memory ran out."""
    errors: bytes = b""
    """Its stderr, if that was kept separately; then `output` is stdout alone."""


class Sink(Protocol):
    """Receives the output of a program while it runs, beyond the part that `Finished` keeps. Called
    on the event loop."""

    def begun(self, isolation: Isolation | None) -> None:
        """The program runs with this isolation; None: no sandbox was asked for."""
        ...

    def take(self, chunk: bytes) -> bool:
        """Receive output. Return False when no more can be taken: nothing is read until `drain` is
        done."""
        ...

    async def drain(self) -> None:
        """Make room. Cancelled when the program has ended and no one waits any longer."""
        ...


class World(Protocol):
    """Clock, ids, dice, HTTP and processes of one run. Shipped: `RealWorld`, `SimulatedWorld`."""

    def time(self) -> float:
        """Wall clock, seconds since the epoch. For records only, never for timeouts."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back. For durations and timeouts."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. Under simulation this costs nothing."""
        ...

    def new_id(self, prefix: str) -> str:
        """A fresh identifier `prefix_xxxxxxxx...`, unique forever and unguessable."""
        ...

    def dice(self, seed: int | str | None = None) -> Random:
        """A pseudo-random number generator; without a seed, an unpredictable one."""
        ...

    def http(self) -> httpx2.AsyncClient:
        """A new HTTP client. The caller owns and closes it. It has no timeouts: connect, idle and
        total timeouts are up to the caller, so that they work on virtual time."""
        ...

    def guarded_http(self, reach: Reach = Reach()) -> httpx2.AsyncClient:
        """A new HTTP client for addresses that the host did not choose (given by a model, a page, a
        redirect).

        It connects only to public addresses, and only to the address that it has checked. The
        caller owns it. Use it through `lorimer.world.guarded.fetch`, which also checks URLs and
        redirects.
        """
        ...

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes | AsyncIterator[bytes] | socket.socket = b"",
        limits: ProcessLimits = ProcessLimits(),
        sink: Sink | None = None,
    ) -> Finished:
        """Run a program to its end, never through a shell of ours. With an iterator, more input is
        requested when the program has consumed the previous piece; its end is the end of the input.
        A socket becomes the program's standard input; the caller still has to close it.

        The environment is clean: a short allow-list of this process's variables plus `env`. On
        timeout, and when the caller is cancelled, the whole process tree is killed and reaped
        before this returns. Raises OSError when the program cannot be started, and
        `exec.sandbox.missing` when `limits.sandbox` requires a level that does not work here.
        """
        ...

    def outside(self, what: str) -> AbstractContextManager[None]:
        """Announce work that virtual time cannot see (a thread, a socket, a child process).

        Under simulation the clock stands still inside the block; an unannounced thread, socket or
        process fails the test. In the real world this does nothing.
        """
        ...
