"""Run asynchronous code under virtual time, in one thread, from one seed.

`simulate` gives a coroutine a `SimulatedWorld` and an event loop whose clock jumps to the next
timer as soon as nobody has anything to do. An hour of waiting costs microseconds, and the same
seed gives the same run. What virtual time cannot see (a thread, a socket, a process) has to be
announced with `world.outside(...)`; unannounced, it fails the simulation.

Clock and loop are here; what a simulated process or HTTP server answers is the test's to script.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import selectors
import signal
import sys
import threading
from asyncio.tasks import _unregister_task  # pyright: ignore[reportPrivateUsage] # documented
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from types import CoroutineType
from typing import TYPE_CHECKING, Final, NoReturn, ParamSpec, Protocol, TypeVar

import anyio

from lorimer.core.world import Finished, ProcessLimits, Reach
from lorimer.world.bounded import BoundedOutput
from lorimer.world.real import ID_BYTES, spell_id

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import httpx2

T = TypeVar("T")
P = ParamSpec("P")

EPOCH: Final = 1_767_225_600.0
"""Where every simulation begins: 2026-01-01T00:00:00Z, seconds since the Unix epoch."""
MAX_STEPS: Final = 10_000_000
"""Callbacks after which a simulation counts as endless: some ten seconds of work."""
_PATIENCE_S: Final = 30.0
"""Real seconds that announced work may keep the clock standing without any sign of life."""
_LAST_STEPS: Final = 10_000
"""Callbacks in which cancelled tasks have to end once a simulation has failed."""


class SimulationFailed(AssertionError):
    """Something happened that may not happen in a simulation."""


class UnannouncedOutside(SimulationFailed):
    """A thread, socket or process that virtual time cannot see, outside `world.outside(...)`."""


class SimulationStuck(SimulationFailed):
    """Nothing can ever happen again, or things happen without end."""


class LeftBehind(SimulationFailed):
    """Tasks that were not over when the simulated coroutine returned."""


class SimulatedCrash(Exception):
    """The moment asked for was reached and everything in memory was dropped, as by kill -9.

    No `finally`, `except` or `__exit__` of the simulated code has run or ever will: the
    abandoned coroutines are leaked on purpose, because collecting them would unwind them. This
    exception need not be kept. What it costs is memory (what the coroutines hold), so a
    campaign of very many crashes runs in several processes. What an operating system would
    release (file locks, connections) the test releases, in the objects it handed in.

    `world` goes on with `simulate_in(crash.world, recover)`: same clock, fresh ids.
    """

    def __init__(self, world: SimulatedWorld, steps: int) -> None:
        super().__init__(f"crashed as asked, after {steps} steps, at {world.monotonic()} s")
        self.world = world
        self.steps = steps


class SpawnScript(Protocol):
    """Plays a program: what `World.spawn` would have returned. May wait; may raise OSError."""

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: bytes,
        limits: ProcessLimits,
    ) -> Finished: ...


class VirtualClock:
    """Seconds since the simulation began. It stands still while somebody works outside.

    Kept in whole nanoseconds: adding up floats would lose the small steps after some months.
    """

    __slots__ = ("_held", "_now_ns")

    def __init__(self) -> None:
        self._now_ns = 0
        self._held: list[str] = []

    @property
    def now(self) -> float:
        """Seconds."""
        return self._now_ns / 1e9

    @property
    def held(self) -> Sequence[str]:
        """What is announced as going on outside."""
        return self._held

    def advance(self, seconds: float) -> None:
        """Jump forward, by at least a nanosecond."""
        self._now_ns += max(1, round(seconds * 1e9))

    @contextmanager
    def hold(self, what: str) -> Generator[None]:
        """Stand still within the block."""
        self._held.append(what)
        try:
            yield
        finally:
            self._held.remove(what)

    def let_go(self) -> None:
        """Run again, although blocks that held it will never be left."""
        self._held.clear()


class SimulatedWorld:
    """`World` under virtual time. The same seed gives the same ids, dice and times.

    `transport` answers HTTP requests in this process (`httpx2.MockTransport` will do; it is
    shared by all clients, so closing it must do no harm); `spawn` plays programs. Without them
    the simulated code may not call out or start anything.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        spawn: SpawnScript | None = None,
    ) -> None:
        self.seed = seed
        self.clock = VirtualClock()
        self._transport = transport
        self._spawn = spawn
        self._ids = 0
        self._dice = 0

    def time(self) -> float:
        """Seconds since the Unix epoch; begins on 2026-01-01."""
        return EPOCH + self.clock.now

    def monotonic(self) -> float:
        """Seconds since the simulation began; equals the loop's time."""
        return self.clock.now

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        await asyncio.sleep(seconds)  # noqa: TID251 # this is the world's sleep

    def new_id(self, prefix: str) -> str:
        """An id as `RealWorld` makes them, but from the seed and a counter."""
        self._ids += 1
        text = f"{self.seed}/{self._ids}".encode()
        return spell_id(prefix, hashlib.blake2b(text, digest_size=ID_BYTES).digest())

    def dice(self, seed: int | str | None = None) -> Random:
        """With a seed the numbers that every world gives for it; without, the world's own."""
        if seed is not None:
            return Random(seed)
        self._dice += 1
        return Random(f"{self.seed}/dice/{self._dice}")

    def http(self) -> httpx2.AsyncClient:
        """A client on the transport that was handed in. Raises UnannouncedOutside without one."""
        import httpx2  # dear to import; most simulations have no use for it

        if self._transport is None:
            raise _refusal("HTTP is not part of this simulation: give it a transport")
        return httpx2.AsyncClient(
            transport=self._transport, timeout=None, trust_env=False, follow_redirects=False
        )

    def guarded_http(self, reach: Reach = Reach()) -> httpx2.AsyncClient:
        """As `http`; every name is public here, and a host that is an address is judged by it."""
        from lorimer.world.guarded import simulated_client  # as below

        if self._transport is None:
            raise _refusal("HTTP is not part of this simulation: give it a transport")
        return simulated_client(reach, self._transport)

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        limits: ProcessLimits = ProcessLimits(),
    ) -> Finished:
        """Ask the script, and hold it to the limits in virtual time.

        Raises UnannouncedOutside without a script, and what the script raises.
        """
        if self._spawn is None:
            raise _refusal(f"no spawn script was given to play {list(argv)!r}")
        began = self.clock.now
        with anyio.move_on_after(limits.timeout_s):
            played = await self._spawn(argv, cwd=cwd, env=env or {}, stdin=stdin, limits=limits)
            if len(played.output) <= limits.max_output_bytes:
                return played
            bounded = BoundedOutput(limits.max_output_bytes)
            bounded.write(played.output)
            return Finished(
                returncode=played.returncode,
                output=bounded.content(),
                total_bytes=played.total_bytes,
                timed_out=played.timed_out,
                duration_s=played.duration_s,
            )
        return Finished(
            returncode=-signal.SIGKILL,
            output=b"",
            total_bytes=0,
            timed_out=True,
            duration_s=self.clock.now - began,
        )

    async def crash(self) -> NoReturn:
        """Die here, as by kill -9: the simulation stops with SimulatedCrash at this very await.

        For the models, tools and stores of a test, which know where they are; RuntimeError
        outside of a simulation.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, SimulationLoop):
            raise RuntimeError("only a simulated process can crash: run it with simulate(...)")
        loop.crash()
        await loop.create_future()
        raise AssertionError("it is over")

    @contextmanager
    def outside(self, what: str) -> Generator[None]:
        """Announce `what`: the clock stands still, real time passes, within the block.

        No timer fires in the meantime, also none that should end the block. 30 real seconds
        without a sign of life end the simulation with SimulationStuck.
        """
        with self.clock.hold(what):
            yield


class SimulationLoop(asyncio.SelectorEventLoop):
    """An event loop on a `VirtualClock`.

    It has no threads: `run_in_executor` (so `asyncio.to_thread` too) calls the function at once,
    in no time; one that waits for the loop would wait for ever. `anyio.to_thread` does start
    a thread and has to be announced.

    `crash_after_steps` and `crash_at_s` (of the clock) make it stop with SimulatedCrash; more
    than `max_steps` callbacks with SimulationStuck.
    """

    # Of asyncio.BaseEventLoop, the same since Python 3.4.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(
        self,
        world: SimulatedWorld,
        *,
        crash_after_steps: int | None = None,
        crash_at_s: float | None = None,
        max_steps: int = MAX_STEPS,
    ) -> None:
        self._world = world
        self._crash_after_steps = crash_after_steps
        self._crash_at_s = crash_at_s
        super().__init__(_JumpingSelector(self, world.clock))
        # asyncio takes the real clock's nanosecond and loses it in the float after some 97
        # days: then a timer is never quite due and the loop spins for ever.
        self._clock_resolution = 1e-6
        limit = max_steps if crash_after_steps is None else min(crash_after_steps, max_steps)
        self._ready = self._steps = _CountedSteps(limit, self._limit_reached)

    def time(self) -> float:
        """Virtual seconds."""
        return self._world.clock.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[P, T], *args: P.args, **_: P.kwargs
    ) -> asyncio.Future[T]:
        """Call `func` here and now; the future is over when this returns."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))  # pyright: ignore[reportCallIssue] # as asyncio's own
        except Exception as error:  # noqa: BLE001 # whoever awaits the future gets it
            future.set_exception(error)
        return future

    def jump(self, timeout: float | None) -> None:
        """Nobody has anything to do for `timeout` seconds (None: ever): let them be over."""
        if self._crash_at_s is not None:
            left = self._crash_at_s - self._world.clock.now
            if timeout is None or timeout >= left:
                self._world.clock.advance(left)
                raise SimulatedCrash(self._world, self._steps.taken)
        if timeout is None:
            self.stuck("nothing can ever happen")
        self._world.clock.advance(timeout)

    def crash(self) -> None:
        """Stop with SimulatedCrash before the next callback."""
        self._crash_after_steps = self._steps.limit = self._steps.taken
        self.call_soon(lambda: None)  # else it might wait for a timer first

    def stuck(self, why: str) -> NoReturn:
        """Raise SimulationStuck, naming who waits for what will not come."""
        waiting = _describe_tasks(asyncio.all_tasks(self))
        raise SimulationStuck(f"simulation is stuck: {why}{waiting}")

    def grant_last_steps(self) -> None:
        """From now on only wind up: no crash any more, and few steps."""
        self._crash_after_steps = self._crash_at_s = None
        self._steps.limit = self._steps.taken + _LAST_STEPS

    def abandon(self) -> None:
        """Forget all tasks without unwinding them: no `finally` of theirs ever runs.

        A coroutine that is collected gets GeneratorExit thrown in, which runs its `finally`
        blocks, and there is no way to ask otherwise. So one reference too many is taken on them
        and on all that could hold others; being counted nowhere, it also keeps them from being
        collected when the interpreter ends.
        """
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            _unregister_task(task)  # else every later all_tasks() would look at each of them
        ctypes.pythonapi.Py_IncRef(
            ctypes.py_object((tasks, list(self._ready), list(self._scheduled)))
        )
        self._world.clock.let_go()

    def _limit_reached(self) -> NoReturn:
        if self._steps.taken == self._crash_after_steps:
            raise SimulatedCrash(self._world, self._steps.taken)
        self.stuck(f"it goes on after {self._steps.taken} steps")


def simulate(
    main: Callable[[SimulatedWorld], Awaitable[T]],
    seed: int | str = 0,
    *,
    transport: httpx2.AsyncBaseTransport | None = None,
    spawn: SpawnScript | None = None,
    crash_after_steps: int | None = None,
    crash_at_s: float | None = None,
    max_steps: int = MAX_STEPS,
) -> T:
    """Run `main(world)` in a new world and return its result; see `simulate_in`."""
    world = SimulatedWorld(seed, transport=transport, spawn=spawn)
    return simulate_in(
        world,
        main,
        crash_after_steps=crash_after_steps,
        crash_at_s=crash_at_s,
        max_steps=max_steps,
    )


def simulate_in(
    world: SimulatedWorld,
    main: Callable[[SimulatedWorld], Awaitable[T]],
    *,
    crash_after_steps: int | None = None,
    crash_at_s: float | None = None,
    max_steps: int = MAX_STEPS,
) -> T:
    """Run `main(world)` on a fresh loop, the world's clock going on where it stands.

    `crash_after_steps`: after so many callbacks of the loop, `crash_at_s`: before anything of
    that time on the world's clock happens, all is dropped and SimulatedCrash raised. A `main`
    that ends earlier returns as usual; so trying 1, 2, 3, ... visits every await of a run.

    Raises what `main` raises; LeftBehind if tasks outlive it (they are cancelled first);
    UnannouncedOutside for unannounced threads, sockets and processes, also when the code that
    was refused one has swallowed that error; SimulationStuck when nothing can happen any more.
    """

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("a simulation has its own event loop: call it from plain code")

    async def run() -> T:
        return await main(world)

    with _guard().watching(world.clock) as watch:
        loop = SimulationLoop(
            world, crash_after_steps=crash_after_steps, crash_at_s=crash_at_s, max_steps=max_steps
        )
        try:
            result = _run_to_the_end(loop, loop.create_task(run(), name="main"))
        except Exception as error:
            if watch.offence is not None and watch.offence is not error:
                raise watch.offence from error
            raise
        finally:
            loop.close()
        if watch.offence is not None:
            raise watch.offence
        return result


def _run_to_the_end(loop: SimulationLoop, main: asyncio.Task[T]) -> T:
    try:
        result = loop.run_until_complete(main)
        left = asyncio.all_tasks(loop)
        if not left:
            loop.run_until_complete(loop.shutdown_asyncgens())
            left = asyncio.all_tasks(loop)
        if left:
            raise LeftBehind(f"tasks left behind:{_describe_tasks(left)}")
    except SimulatedCrash:
        loop.abandon()
        raise
    except BaseException:
        _wind_up(loop)
        raise
    return result


def _wind_up(loop: SimulationLoop) -> None:
    """Cancel what is left of a failed simulation; abandon what will not end."""
    loop.grant_last_steps()
    try:
        while left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    except SimulationStuck:
        loop.abandon()


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for the next timer, puts the clock there."""

    def __init__(self, loop: SimulationLoop, clock: VirtualClock) -> None:
        super().__init__()
        self._loop = loop
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._clock.held:
            ready = super().select(_PATIENCE_S)
            if not ready:
                self._loop.stuck(f"{', '.join(self._clock.held)}: no news for {_PATIENCE_S} s")
        else:
            self._loop.jump(timeout)
        return ready


class _CountedSteps(deque[asyncio.Handle]):
    """The loop's queue of callbacks, of which it gets only so many."""

    def __init__(self, limit: int, at_limit: Callable[[], NoReturn]) -> None:
        super().__init__()
        self.taken = 0
        self.limit = limit
        self._at_limit = at_limit

    def popleft(self) -> asyncio.Handle:
        if self.taken >= self.limit:
            self._at_limit()
        self.taken += 1
        return super().popleft()


class _Watch:
    """One simulation as the guard sees it: may it go outside now, and did it do so unasked?"""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.offence: UnannouncedOutside | None = None

    def see(self, event: str, args: tuple[object, ...]) -> None:
        if self._clock.held:
            return
        what = _describe_event(event, args)
        raise self.refuse(f"{what} in a simulation: announce it with world.outside(...)")

    def refuse(self, why: str) -> UnannouncedOutside:
        """The error to raise; the first is kept, in case the code swallows it."""
        refusal = UnannouncedOutside(why)
        self.offence = self.offence or refusal
        return refusal


class _Guard(threading.local):
    """Which simulation the current thread runs.

    An audit hook stays for the life of the process and is called without any context, so what
    it consults has to be reachable from it and is necessarily shared. By thread, because
    that is the unit that is forbidden to do these things: other threads, announced ones and
    other tests' alike, are none of this simulation's business. A context variable would not do:
    code may run in a context of its own and would get away.
    """

    watch: _Watch | None = None

    @contextmanager
    def watching(self, clock: VirtualClock) -> Generator[_Watch]:
        before = self.watch
        self.watch = watch = _Watch(clock)
        try:
            yield watch
        finally:
            self.watch = before


@cache
def _guard() -> _Guard:
    """The process's one guard, its hook installed with the first simulation."""
    guard = _Guard()
    watched = frozenset(
        {
            "_thread.start_joinable_thread",  # from Python 3.13 on
            "_thread.start_new_thread",
            "os.fork",
            "os.forkpty",
            "os.posix_spawn",
            "os.system",
            "socket.bind",
            "socket.connect",
            "socket.getaddrinfo",
            "socket.gethostbyname",
            "socket.sendmsg",
            "socket.sendto",
            "subprocess.Popen",
        }
    )

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in watched and (watch := guard.watch) is not None:
            watch.see(event, args)

    sys.addaudithook(hook)
    if sys.version_info < (3, 12):
        _audit_threads()
    return guard


def _audit_threads() -> None:
    """Have threads announced as Python does itself from 3.12 on; for ever, as the hook."""
    start = threading.Thread.start

    def audited_start(self: threading.Thread) -> None:
        sys.audit("_thread.start_new_thread", self.run, (), {})
        start(self)

    threading.Thread.start = audited_start


def _refusal(why: str) -> UnannouncedOutside:
    watch = _guard().watch
    return UnannouncedOutside(why) if watch is None else watch.refuse(why)


def _describe_event(event: str, args: tuple[object, ...]) -> str:
    """Event and its telling argument; never all of them, an environment may hold secrets."""
    shown = {"subprocess.Popen": 1, "socket.connect": 1, "socket.bind": 1}.get(event, 0)
    return f"{event} {args[shown]!r}" if shown < len(args) else event


def _describe_task(task: asyncio.Task[object]) -> str:
    """Name of a task and the calls in which it waits, outermost first."""
    calls: list[str] = []
    inner: object = task.get_coro()
    while isinstance(inner, CoroutineType):
        if inner.cr_frame is not None:
            calls.append(f"{inner.__qualname__}:{inner.cr_frame.f_lineno}")
        inner = inner.cr_await
    return f"{task.get_name()} at {' > '.join(calls)}"


def _describe_tasks(tasks: set[asyncio.Task[object]]) -> str:
    return "".join(sorted(f"\n  {_describe_task(task)}" for task in tasks))
