"""The port to everything that is not a pure function: clock, ids, dice, HTTP, processes.

Code outside `lorimer.world` never asks the operating system for any of these itself (a lint
holds that), so a run can be resumed, replayed and simulated under virtual time.
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
"""How far a process is held: L0 by limits, a clean environment and the end of its tree; L1 also by
Landlock and seccomp; L2 also by namespaces of its own (bubblewrap)."""


SandboxMode: TypeAlias = Literal["auto", "require", "off"]
"""What a host wants: the best level that works here; L2 or nothing; no sandbox."""


@record
class Sandbox:
    """What one child process tree may reach. All of the disk can be read but what is hidden."""

    at_least: Level = "L0"
    """The best level that works here is taken; if it is below this one, nothing is started."""
    hosts: tuple[str, ...] = ()
    """What it may reach of the network, through a proxy of ours; nothing by default. `*` is any
    public host; see `lorimer.world.hosts`."""
    writable: tuple[Path, ...] = ()
    """Folders that can be written, besides a temporary one of its own."""
    hidden: tuple[Path, ...] = ()
    """Files and folders that cannot be seen, whether they exist or not."""

    @property
    def network(self) -> bool:
        """It may reach something of the network."""
        return bool(self.hosts)

    @property
    def requested(self) -> str:
        """`auto`, or the level without which nothing is started."""
        return "auto" if self.at_least == "L0" else self.at_least


@record
class Isolation:
    """How far a process that was to be sandboxed was really held."""

    requested: str
    in_force: Level
    gaps: tuple[str, ...] = ()
    """What this level does not hold, in a few words each."""

    def to_json(self) -> dict[str, JSON]:
        """For results and events."""
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
    """What it may reach; None: whatever this process may."""
    apart: bool = False
    """Keep what it writes to stderr apart, in as many bytes; not with a sandbox."""


PORTS: Final = frozenset({80, 443, 8000, 8080, 8443})
"""Where web servers listen. Others would make us speak HTTP to a mail server."""


@record
class Reach:
    """Where guarded requests may go: the public internet, and what is named here."""

    hosts: frozenset[str] | None = None
    """Only these names, and those beneath `*.name`; None: any."""
    private: frozenset[str] = frozenset()
    """Names that may have private addresses; a metadata service never may."""
    ports: frozenset[int] = PORTS


@record
class Finished:
    """How a child process ended. `output` is stdout and stderr interleaved as they came."""

    returncode: int
    """Exit status; negative: the signal that ended it. At level L2 a program that exits with 128
    and a signal's number cannot be told from one that the signal ended, and counts as that."""
    output: bytes
    """At most `max_output_bytes`: all of it, or head and tail around a marker line."""
    total_bytes: int
    """Bytes the process really wrote."""
    timed_out: bool
    duration_s: float
    isolation: Isolation | None = None
    """How far it was held; None: no sandbox was asked for."""
    refused: tuple[str, ...] = ()
    """What of the network it asked for and did not get: `host:port: why`, each once."""
    out_of_memory: bool = False
    """The kernel killed it, while it also killed something for want of memory."""
    errors: bytes = b""
    """What it wrote to stderr, where that was kept apart; then `output` is stdout alone."""


class Sink(Protocol):
    """Takes the output of a program while it runs, besides the part that `Finished` keeps. Called
    on the event loop."""

    def begun(self, isolation: Isolation | None) -> None:
        """The program runs, held so far; None: no sandbox was asked for."""
        ...

    def take(self, chunk: bytes) -> bool:
        """What it wrote. False: that is enough, so nothing more is read until `drain` is done."""
        ...

    async def drain(self) -> None:
        """Make room. Cancelled when the program has ended and nobody waits any longer."""
        ...


class World(Protocol):
    """Clock, ids, dice, HTTP and processes of one run. Shipped: `RealWorld`, `SimulatedWorld`."""

    def time(self) -> float:
        """Wall clock, seconds since the epoch. For records only, never for time-outs."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back. For durations and time-outs."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. Under simulation this costs nothing."""
        ...

    def new_id(self, prefix: str) -> str:
        """A fresh identifier `prefix_xxxxxxxx...`, unique for ever and unguessable."""
        ...

    def dice(self, seed: int | str | None = None) -> Random:
        """A generator of pseudo-random numbers; without a seed, a fresh unpredictable one."""
        ...

    def http(self) -> httpx2.AsyncClient:
        """A new HTTP client. The caller owns it and closes it. No time-outs are set on it:
        connect, idle and total clocks are the caller's, so that they work on virtual time."""
        ...

    def guarded_http(self, reach: Reach = Reach()) -> httpx2.AsyncClient:
        """A new HTTP client for places that nobody of ours chose (a model, a page, a redirect).

        It connects to public addresses only, and to that which it has checked. The caller owns it;
        redirects and what a URL may be are `lorimer.world.guarded.fetch`'s to hold, which is the
        way to use it.
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
        """Run a program to its end, never through a shell of ours. An iterator is asked for more
        input when the program has taken what there was; its end is the input's. A socket becomes
        the program's standard input as it is, and stays the caller's to close.

        The environment is clean: a short allow-list of this process's variables plus `env`.
        At the time-out, and when the caller is cancelled, the whole process tree is killed and
        reaped before this returns. Raises OSError when the program cannot be started, and
        `exec.sandbox.missing` when `limits.sandbox` wants a level that does not work here.
        """
        ...

    def outside(self, what: str) -> AbstractContextManager[None]:
        """Announce work that virtual time cannot see (a thread, a socket, a child process).

        Under simulation the clock stands still inside the block; an unannounced thread, socket
        or process fails the test. In the real world this does nothing.
        """
        ...
