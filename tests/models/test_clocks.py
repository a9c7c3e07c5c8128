"""Connect, idle and total: each fires when it should, and only then."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

import anyio
import pytest

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.messages import TextBlock
from lorimer.core.request import NO_USAGE, Delta, Response, TextDelta, Usage, UsageDelta
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate
from tests.models.support import timed

LIMITS = Limits(connect_timeout_s=10, idle_timeout_s=120, model_timeout_s=600)
DONE = Response((TextBlock("done"),))
SIGN = UsageDelta(NO_USAGE)
COUNT = UsageDelta(Usage(5, 5))
TEXT = TextDelta("x")

Step = float | Delta | Response


class Model:
    """Plays items and pauses (seconds), and notes how it ended."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.closed = False

    async def stream(self) -> AsyncGenerator[Delta | Response, None]:
        try:
            for step in self.steps:
                if isinstance(step, int | float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.closed = True


async def drain(
    model: Model, *, limits: Limits = LIMITS, streamed: bool = True, pause_s: float = 0
) -> list[Delta | Response]:
    items: list[Delta | Response] = []
    async for item in timed(model.stream(), limits, streamed=streamed):
        items.append(item)  # with a pause
        if pause_s:
            await asyncio.sleep(pause_s)
    return items


def run(*steps: Step, streamed: bool = True, pause_s: float = 0) -> tuple[float, APIError | None]:
    """When it was over, in virtual seconds, and how."""
    model = Model(*steps)

    async def go(world: SimulatedWorld) -> tuple[float, APIError | None]:
        error = None
        try:
            items = await drain(model, streamed=streamed, pause_s=pause_s)
            assert items[-1] is DONE
        except APIError as caught:
            error = caught
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert model.closed
        return world.monotonic(), error

    return simulate(go)


GOOD: Sequence[tuple[Step, ...]] = [
    (9.9, SIGN, 290.0, TEXT, 119.0, TEXT, DONE),
    (TEXT, *[110.0, TEXT] * 5, DONE),
    (SIGN, 299.9, DONE),
    (9.9, DONE),
    (SIGN, *[COUNT, 100.0] * 2, TEXT, *[COUNT, 30.0] * 3, DONE),
]


@pytest.mark.parametrize("steps", GOOD)
def test_in_time(steps: tuple[Step, ...]) -> None:
    assert run(*steps)[1] is None


BAD: Sequence[tuple[tuple[Step, ...], float, str]] = [
    ((11.0, SIGN, DONE), 10, "10 s without an answer (connect)"),
    ((11.0, TEXT, DONE), 10, "10 s without an answer (connect)"),
    ((SIGN, 301.0, TEXT, DONE), 300, "300 s without content (idle)"),
    ((SIGN, *[50.0, COUNT] * 20, DONE), 300, "300 s without content (idle)"),
    ((SIGN, 290.0, TEXT, 121.0, DONE), 410, "120 s without content (idle)"),
    ((TEXT, *[50.0, COUNT] * 20, DONE), 120, "120 s without content (idle)"),
    ((SIGN, *[TEXT, 100.0] * 9, DONE), 600, "600 s for the whole call (total)"),
]


@pytest.mark.parametrize(("steps", "at", "why"), BAD)
def test_too_late(steps: tuple[Step, ...], at: float, why: str) -> None:
    when, error = run(*steps)
    assert error is not None
    assert error.code is ExecutorErrorCode.EXEC_API_TIMEOUT
    assert error.code.is_recoverable
    assert str(error) == f"the model took too long: {why}"
    assert when == pytest.approx(at)
    assert error.usage == (COUNT.usage if COUNT in steps else None)


def test_without_a_stream_only_the_total_counts() -> None:
    assert run(599.0, DONE, streamed=False)[1] is None
    when, error = run(601.0, DONE, streamed=False)
    assert error is not None
    assert "(total)" in str(error)
    assert when == pytest.approx(600)


def test_the_consumers_time_is_not_the_models() -> None:
    assert run(SIGN, 1.0, TEXT, 100.0, TEXT, 1.0, DONE, pause_s=121)[1] is None


def test_an_answer_that_is_there_is_taken_however_late() -> None:
    assert run(TEXT, TEXT, TEXT, DONE, pause_s=1000)[1] is None


# ---------------------------------------------------------------- who cancels


def cancelled_at(seconds: float, *, deadline: float = 600) -> tuple[str, float]:
    """A task is cancelled at a moment of the stream's own time-out or near it."""
    model = Model(SIGN, 10_000.0)
    limits = Limits(connect_timeout_s=10, idle_timeout_s=10_000, model_timeout_s=deadline)

    async def go(world: SimulatedWorld) -> tuple[str, float]:
        task = asyncio.ensure_future(drain(model, limits=limits))
        loop = asyncio.get_running_loop()
        loop.call_at(seconds, task.cancel)
        await asyncio.wait([task])
        assert model.closed
        if task.cancelled():
            return "cancelled", world.monotonic()
        return type(task.exception()).__name__, world.monotonic()

    return simulate(go)


def test_an_outer_cancellation() -> None:
    assert cancelled_at(599) == ("cancelled", 599)
    assert cancelled_at(601) == ("APIError", 600)


@pytest.mark.parametrize("first", ["outer", "ours"])
def test_an_outer_cancellation_at_the_same_moment_wins(first: str) -> None:
    model = Model(SIGN, 10_000.0)

    async def go(world: SimulatedWorld) -> str:
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object]
        if first == "outer":
            loop.call_at(600, lambda: task.cancel())
        task = asyncio.ensure_future(drain(model, limits=Limits(idle_timeout_s=9999)))
        await asyncio.sleep(300)
        if first == "ours":
            loop.call_at(600, lambda: task.cancel())
        await asyncio.wait([task])
        return "cancelled" if task.cancelled() else repr(task.exception())

    assert simulate(go) == "cancelled"


@pytest.mark.parametrize(("at", "announced"), [(600, 0), (600, 599), (599.9, 0), (600.1, 0)])
def test_an_anyio_scope_at_the_same_moment_keeps_its_meaning(at: float, announced: float) -> None:
    """The timers of one moment fire in the order in which they were set."""
    model = Model(SIGN, 10_000.0)

    async def go(world: SimulatedWorld) -> tuple[bool, bool]:
        late = False
        loop = asyncio.get_running_loop()
        with anyio.CancelScope() as scope:
            loop.call_at(announced, lambda: loop.call_at(at, scope.cancel))
            try:
                await drain(model, limits=Limits(idle_timeout_s=9999))
            except APIError:
                late = True
        await asyncio.sleep(1)  # nothing of either cancellation is left
        return late, scope.cancelled_caught

    late, caught = simulate(go)
    assert late is not caught
    assert caught is (at <= 600)


def test_asyncio_timeout_round_it() -> None:
    async def go(world: SimulatedWorld) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await drain(Model(SIGN, 10_000.0), limits=Limits(idle_timeout_s=9999))
        return world.monotonic()

    assert simulate(go) == 600


def test_a_task_that_was_cancelled_before_and_lived() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
        try:
            await drain(Model(SIGN, 10_000.0), limits=Limits(idle_timeout_s=9999))
        except APIError as error:
            return error.code.value
        return "?"

    async def go(world: SimulatedWorld) -> str:
        task = asyncio.ensure_future(stubborn())
        await asyncio.sleep(1)
        task.cancel()
        return await task

    assert simulate(go) == "exec.api.timeout"


# ---------------------------------------------------------------- leaving early


def leave(how: Callable[[AsyncGenerator[Delta | Response, None]], Awaitable[None]]) -> None:
    model = Model(SIGN, TEXT, 10_000.0)

    async def go(world: SimulatedWorld) -> None:
        await how(timed(model.stream(), LIMITS))
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert model.closed
        await asyncio.sleep(1000)  # no timer is left to fire
        assert world.monotonic() == 1000

    simulate(go)


def test_closing_it_closes_the_stream() -> None:
    async def close(stream: AsyncGenerator[Delta | Response, None]) -> None:
        async with aclosing(stream):
            async for item in stream:
                if item is TEXT:
                    break

    leave(close)


def test_forgetting_it_closes_the_stream() -> None:
    async def forget(stream: AsyncGenerator[Delta | Response, None]) -> None:
        async for item in stream:
            if item is TEXT:
                break

    leave(forget)


def test_errors_of_the_stream_pass() -> None:
    async def broken() -> AsyncGenerator[Delta | Response, None]:
        yield TEXT
        raise APIError("no", code=ExecutorErrorCode.EXEC_API_RATE_LIMITED)

    async def go() -> None:
        with pytest.raises(APIError, match="no"):
            async for _ in timed(broken(), LIMITS):
                pass

    asyncio.run(go())


def test_on_a_real_clock() -> None:
    limits = Limits(connect_timeout_s=5, idle_timeout_s=0.02, model_timeout_s=5)

    async def go() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(APIError, match="0.05 s without content"):
            await drain(Model(SIGN, 5.0), limits=limits)
        return loop.time() - began

    assert asyncio.run(go()) < 1
