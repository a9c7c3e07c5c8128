"""Virtual time, the guard, and crashes."""

import asyncio
import contextlib
import gc
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import pytest

from lorimer.core.world import Finished, ProcessLimits, World
from lorimer.testing.simulated_failures import (
    LeftBehind,
    SimulatedCrash,
    SimulationStuck,
    UnannouncedOutside,
)
from lorimer.testing.simulated_world import EPOCH, SimulatedWorld
from lorimer.testing.simulation import simulate, simulate_in

# --- time


def test_an_hour_of_sleepers_is_exact_and_takes_no_time() -> None:
    async def main(world: SimulatedWorld) -> list[tuple[int, float]]:
        woken: list[tuple[int, float]] = []

        async def sleeper(step: int) -> None:
            for _ in range(3600 // step):
                await world.sleep(step)
            woken.append((step, world.monotonic()))

        await asyncio.gather(*(sleeper(step) for step in (7, 60, 300, 3600)))
        assert world.time() == EPOCH + 3600
        assert asyncio.get_running_loop().time() == 3600
        return woken

    began = time.monotonic()
    assert sorted(simulate(main)) == [(7, 3598.0), (60, 3600.0), (300, 3600.0), (3600, 3600.0)]
    assert time.monotonic() - began < 10


def test_small_steps_do_not_drift() -> None:
    async def main(world: SimulatedWorld) -> float:
        for _ in range(1000):
            await world.sleep(0.1)
        return world.monotonic()

    assert simulate(main) == 100.0


def test_time_goes_on_after_months_and_years() -> None:
    async def main(world: SimulatedWorld) -> float:
        for days in (97, 3, 36_500):
            await world.sleep(days * 86_400)
            for _ in range(20):
                await world.sleep(0.001)
                await world.sleep(1 / 3)
        return world.monotonic()

    expected = 36_600 * 86_400 + 3 * 20 * (0.001 + 1 / 3)
    assert simulate(main, max_steps=200_000) == pytest.approx(expected, abs=1e-3)


def test_anyio_time_outs_and_groups_work() -> None:
    async def main(world: SimulatedWorld) -> list[float]:
        with pytest.raises(TimeoutError):
            with anyio.fail_after(600):
                await world.sleep(601)
        times = [world.monotonic()]
        with anyio.move_on_after(5) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        times.append(world.monotonic())
        async with anyio.create_task_group() as group:
            group.start_soon(world.sleep, 10)
            group.start_soon(anyio.sleep, 20)
        times.append(world.monotonic())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        times.append(world.monotonic())
        return times

    assert simulate(main) == [600.0, 605.0, 625.0, 626.0]


def test_what_is_ready_comes_before_the_next_timer() -> None:
    async def main(world: SimulatedWorld) -> float:
        near, far = socket.socketpair()
        with near, far:
            far.send(b"x")
            heard = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(near, heard.set)
            await asyncio.wait_for(heard.wait(), 60)
            loop.remove_reader(near)
        return world.monotonic()

    assert simulate(main) == 0.0


def test_nothing_to_wait_for_is_an_error_that_names_who_waits() -> None:
    async def waits_in_vain() -> None:
        await asyncio.Event().wait()

    async def main(world: SimulatedWorld) -> None:
        waiting = asyncio.create_task(waits_in_vain(), name="poor fellow")
        await world.sleep(1)
        await waiting

    with pytest.raises(
        SimulationStuck, match=r"(?s)nothing can ever happen.*main at .*poor fellow"
    ):
        simulate(main)


def test_endless_bustle_is_an_error() -> None:
    async def main(world: SimulatedWorld) -> None:
        while True:
            await world.sleep(1)

    with pytest.raises(SimulationStuck, match="after 1000 steps"):
        simulate(main, max_steps=1000)


def test_who_swallows_the_final_cancel_is_dropped() -> None:
    async def main(world: SimulatedWorld) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await world.sleep(1)

    with pytest.raises(SimulationStuck):
        simulate(main, max_steps=10)


def test_a_simulation_cannot_run_inside_a_loop() -> None:
    async def inner(world: SimulatedWorld) -> None: ...

    async def main() -> None:
        simulate(inner)

    with pytest.raises(RuntimeError, match="its own event loop"):
        asyncio.run(main())


# --- the world


def test_same_seed_same_world() -> None:
    async def main(world: World) -> list[object]:
        await world.sleep(world.dice().random())
        return [world.new_id("run"), world.new_id("call"), world.dice().random(), world.time()]

    assert simulate(main, 1) == simulate(main, 1)
    assert simulate(main, "one") == simulate(main, "one")
    assert simulate(main, 1)[:3] != simulate(main, 2)[:3]


def test_ids_look_like_real_ones_and_dice_with_a_seed_are_the_same_everywhere() -> None:
    world = SimulatedWorld(3)
    ids = {world.new_id("run") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"run_[a-z2-7]{20}", one) for one in ids)
    assert world.dice(5).random() == SimulatedWorld(4).dice(5).random()
    assert world.dice().random() != world.dice().random()


def test_http_goes_to_the_transport_at_hand() -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(3000)
        return httpx2.Response(200, text=request.url.path)

    async def main(world: SimulatedWorld) -> tuple[str, float]:
        async with world.http() as client:
            text = (await client.get("https://example.invalid/path")).text
        return text, world.monotonic()

    assert simulate(main, transport=httpx2.MockTransport(answer)) == ("/path", 3000.0)


def test_without_transport_or_script_there_is_no_outside() -> None:
    async def calls(world: SimulatedWorld) -> None:
        with contextlib.suppress(UnannouncedOutside):
            world.http()

    async def spawns(world: SimulatedWorld) -> None:
        with contextlib.suppress(UnannouncedOutside):
            await world.spawn(["rm", "-rf"], cwd=Path("/"))

    with pytest.raises(UnannouncedOutside, match="transport"):
        simulate(calls)
    with pytest.raises(UnannouncedOutside, match=r"script .*\['rm', '-rf'\]"):
        simulate(spawns)
    with pytest.raises(UnannouncedOutside):
        SimulatedWorld().http()


async def fake_program(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes,
    limits: ProcessLimits,
) -> Finished:
    await asyncio.sleep(float(argv[1]))
    output = stdin + env["WORD"].encode() + str(cwd).encode()
    return Finished(0, output, len(output), timed_out=False, duration_s=float(argv[1]))


def test_programs_are_played_and_held_to_their_limits() -> None:
    async def main(world: SimulatedWorld) -> list[Finished]:
        async def play(seconds: str, stdin: bytes = b"") -> Finished:
            limits = ProcessLimits(timeout_s=600, max_output_bytes=100)
            return await world.spawn(
                ["sleep", seconds], cwd=Path("/w"), env={"WORD": "-"}, stdin=stdin, limits=limits
            )

        return [await play("500", b"in"), await play("0", b"x" * 1000), await play("700")]

    quick, loud, slow = simulate(main, spawn=fake_program)
    assert quick == Finished(0, b"in-/w", 5, timed_out=False, duration_s=500)
    assert len(loud.output) <= 100
    assert loud.output.endswith(b"xxx-/w")
    assert loud.total_bytes == 1003
    assert slow.timed_out
    assert slow.returncode < 0
    assert slow.duration_s == 600


# --- the guard


def start_thread() -> None:
    threading.Thread(target=print).start()


def connect() -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", 1))


def bind() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", ("127.0.0.1", 9))


OUTSIDE: list[tuple[str, Callable[[], object]]] = [
    ("_thread.start", start_thread),
    ("socket.connect", connect),
    ("socket.bind", bind),
    ("socket.sendto", send),
    ("socket.getaddrinfo", lambda: socket.getaddrinfo("localhost", 1)),
    ("subprocess.Popen", lambda: subprocess.run(["true"], env={"KEY": "canary"})),
    ("os.fork", lambda: os.fork() or os._exit(0)),  # pyright: ignore[reportPrivateUsage]
    ("os.posix_spawn", lambda: os.posix_spawn("/bin/true", ["true"], {})),
    ("os.system", lambda: os.system("true")),  # pyright: ignore[reportDeprecated]
]


@pytest.mark.parametrize(("event", "act"), OUTSIDE)
def test_going_outside_unannounced_fails(event: str, act: Callable[[], object]) -> None:
    async def main(world: SimulatedWorld) -> None:
        act()

    with pytest.raises(UnannouncedOutside, match=event) as caught:
        simulate(main)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("event", "act"), OUTSIDE)
def test_swallowing_the_refusal_does_not_help(event: str, act: Callable[[], object]) -> None:
    async def main(world: SimulatedWorld) -> None:
        await world.sleep(1)
        with contextlib.suppress(Exception):
            act()

    with pytest.raises(UnannouncedOutside, match=event):
        simulate(main)


def test_the_refusal_is_found_beneath_other_errors() -> None:
    async def main(world: SimulatedWorld) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, print)

    with pytest.raises(UnannouncedOutside, match="_thread.start"):
        simulate(main)


def test_nobody_else_is_guarded() -> None:
    addresses: list[object] = []

    async def main(world: SimulatedWorld) -> None:
        with world.outside("a thread of its own"):
            other = threading.Thread(
                target=lambda: addresses.append(socket.getaddrinfo("127.0.0.1", 1))
            )
            other.start()
            other.join()
        started.set()
        await world.sleep(1)

    started = threading.Event()
    simulate(main)
    assert started.is_set()
    assert len(addresses) == 1
    bind()  # nor is anybody afterwards
    start_thread()


def test_an_announced_thread_stops_the_clock_until_it_answers() -> None:
    async def main(world: SimulatedWorld) -> tuple[str, float, float]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            time.sleep(0.03)
            loop.call_soon_threadsafe(answer.set_result, "done")

        with world.outside("a worker"):
            worker = threading.Thread(target=work)
            worker.start()
            text = await asyncio.wait_for(answer, 0.001)
        worker.join()
        after = world.monotonic()
        await world.sleep(5)
        return text, after, world.monotonic()

    assert simulate(main) == ("done", 0.0, 5.0)


def test_anyio_threads_work_when_announced() -> None:
    async def main(world: SimulatedWorld) -> int:
        with world.outside("a worker"), anyio.fail_after(1):
            return await anyio.to_thread.run_sync(lambda: time.sleep(0.02) or threading.get_ident())

    assert simulate(main) != threading.get_ident()


def test_executors_run_in_line() -> None:
    def fail() -> None:
        raise LookupError("as asked")

    async def main(world: SimulatedWorld) -> int:
        with pytest.raises(LookupError, match="as asked"):
            await asyncio.to_thread(fail)
        return await asyncio.to_thread(threading.get_ident)

    assert simulate(main) == threading.get_ident()


def test_outside_work_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorimer.testing.simulated_loop._PATIENCE_S", 0.05)

    async def main(world: SimulatedWorld) -> None:
        with world.outside("the lost worker"):
            await asyncio.Event().wait()

    with pytest.raises(SimulationStuck, match="the lost worker"):
        simulate(main)


# --- the end


def test_results_and_errors_come_through() -> None:
    async def fails(world: SimulatedWorld) -> None:
        await world.sleep(1)
        raise LookupError("as asked")

    with pytest.raises(LookupError, match="as asked"):
        simulate(fails)


def test_tasks_left_behind_fail_the_simulation_after_their_clean_up() -> None:
    cleaned: list[str] = []

    async def lingers() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            cleaned.append("up")

    async def main(world: SimulatedWorld) -> None:
        left.append(asyncio.create_task(lingers(), name="the lingerer"))
        await world.sleep(1)

    left: list[asyncio.Task[None]] = []
    with pytest.raises(LeftBehind, match=r"the lingerer at .*lingers:\d+ > sleep:\d+"):
        simulate(main)
    assert cleaned == ["up"]


def test_an_error_of_the_main_coroutine_counts_more_than_tasks_left_behind() -> None:
    async def main(world: SimulatedWorld) -> None:
        task = asyncio.create_task(world.sleep(1000))
        await world.sleep(1)
        raise LookupError(task.get_name())

    with pytest.raises(LookupError):
        simulate(main)


def test_clean_up_of_a_failed_simulation_is_not_crashed() -> None:
    async def lingers() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(10)
            cleaned.append("up")

    async def main(world: SimulatedWorld) -> None:
        task = asyncio.create_task(lingers())
        await world.sleep(1)
        raise LookupError(task.get_name())

    cleaned: list[str] = []
    with pytest.raises(LookupError):
        simulate(main, crash_at_s=5)
    assert cleaned == ["up"]


# --- crashes


def run_into(where: list[str], **crash: float) -> SimulatedCrash:
    """Crash a simulation that would note everything it does on its way out."""

    @contextlib.contextmanager
    def noted(what: str) -> Generator[None]:
        try:
            yield
        finally:
            where.append(f"left {what}")

    async def source() -> AsyncGenerator[int]:
        with noted("generator"):
            while True:
                await asyncio.sleep(1)
                yield 1

    async def deep(world: SimulatedWorld) -> None:
        try:
            with noted("manager"):
                async for _ in source():
                    where.append(f"at {world.monotonic():g}")
        finally:
            where.append("finally")

    async def never_started() -> None:
        where.append("started")

    async def main(world: SimulatedWorld) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(deep, world)
            with noted("main"), anyio.CancelScope(shield=True):
                await world.sleep(3)
                late = asyncio.create_task(never_started())
                await world.sleep(100)
                await late

    with pytest.raises(SimulatedCrash) as caught:
        simulate(main, **crash)  # type: ignore[arg-type]
    return caught.value


def test_a_crash_runs_no_clean_up_ever() -> None:
    where: list[str] = []
    crash = run_into(where, crash_at_s=2.5)
    assert crash.world.monotonic() == 2.5
    del crash
    for _ in range(3):
        gc.collect()
    assert where == ["at 1", "at 2"]


def test_a_crash_can_come_where_code_asks_for_it() -> None:
    where: list[str] = []

    async def neighbour(world: SimulatedWorld) -> None:
        await asyncio.sleep(0)
        where.append("beside it")

    async def main(world: SimulatedWorld) -> None:
        world.neighbour = asyncio.create_task(neighbour(world))  # type: ignore[attr-defined]
        await world.sleep(1)
        where.append("before")
        beside = asyncio.create_task(neighbour(world))
        try:
            await world.crash()
        finally:
            where.append(f"after {beside}")

    with pytest.raises(SimulatedCrash) as crash:
        simulate(main)
    assert crash.value.world.monotonic() == 1
    assert where == ["beside it", "before"]
    with pytest.raises(RuntimeError, match="simulate"):
        asyncio.run(SimulatedWorld().crash())


def test_a_crash_can_come_at_every_step() -> None:
    reached: set[tuple[str, ...]] = set()
    for steps in range(30):
        where: list[str] = []
        assert run_into(where, crash_after_steps=steps).steps == steps
        gc.collect(0)
        reached.add(tuple(where))
    assert () in reached
    assert ("at 1", "at 2") in reached
    assert not any("left" in note or "finally" in note for notes in reached for note in notes)


def test_a_crash_that_is_never_reached_changes_nothing() -> None:
    async def main(world: SimulatedWorld) -> str:
        await world.sleep(1)
        return "done"

    assert simulate(main, crash_after_steps=1000) == "done"
    assert simulate(main, crash_at_s=2) == "done"
    with pytest.raises(SimulatedCrash):
        simulate(main, crash_at_s=1)


def test_the_world_goes_on_after_a_crash() -> None:
    journal: list[str] = []

    async def main(world: SimulatedWorld) -> None:
        for _ in range(10 - len(journal)):
            await world.sleep(60)
            journal.append(world.new_id("fact"))

    with pytest.raises(SimulatedCrash) as crash:
        simulate(main, crash_at_s=250)
    assert len(journal) == 4
    simulate_in(crash.value.world, main)
    assert len(set(journal)) == 10
    assert crash.value.world.monotonic() == 250 + 6 * 60


def test_a_crash_while_working_outside_does_not_stop_the_clock_for_ever() -> None:
    async def main(world: SimulatedWorld) -> None:
        with world.outside("something quick"):
            while True:
                await asyncio.sleep(0)

    with pytest.raises(SimulatedCrash) as crash:
        simulate(main, crash_after_steps=5)
    simulate_in(crash.value.world, lambda world: world.sleep(60))
    assert crash.value.world.monotonic() == 60


def test_crashed_tasks_do_not_turn_up_in_later_simulations() -> None:
    """They live on as far as Python can see, and would make every look at the tasks slower."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def main(world: SimulatedWorld) -> None:
        loops.append(asyncio.get_running_loop())
        await asyncio.gather(world.sleep(2), world.sleep(2))

    with pytest.raises(SimulatedCrash):
        simulate(main, crash_at_s=1)
    assert asyncio.all_tasks(loops[0]) == set()


EXITING = """
import asyncio
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulation import simulate
async def main(world):
    try:
        await world.sleep(10)
    finally:
        print("clean-up ran")
try:
    simulate(main, crash_at_s=5)
except SimulatedCrash as crash:
    kept = crash
print("crashed")
"""


def test_not_even_the_end_of_the_interpreter_runs_clean_up() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", EXITING],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("crashed\n", "")


def test_simulating_leaves_no_descriptor_open() -> None:
    async def main(world: SimulatedWorld) -> None:
        await world.sleep(1)

    run_into([], crash_at_s=1)
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        simulate(main)
        run_into([], crash_at_s=1)
    assert len(os.listdir("/dev/fd")) == before


def make_awaitable(result: str) -> Callable[[SimulatedWorld], Awaitable[str]]:
    async def main(world: SimulatedWorld) -> str:
        return result

    return main


def test_thousands_are_no_burden() -> None:
    assert [simulate(make_awaitable(str(n)), n) for n in range(1000)][-1] == "999"
