"""Work is noticed when it first waits, and otherwise awaited as by `await`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lorimer.core.first_wait import on_first_wait


def counted() -> tuple[list[str], Callable[[], None]]:
    told: list[str] = []
    return told, lambda: told.append("waits")


def test_work_that_never_waits_is_never_noticed() -> None:
    async def work() -> int:
        return 7

    async def main() -> None:
        told, begin = counted()
        assert await on_first_wait(work(), begin) == 7
        assert told == []

    asyncio.run(main())


def test_work_that_waits_is_noticed_once_and_before_it_does() -> None:
    told, begin = counted()

    async def work() -> str:
        for _ in range(3):
            await asyncio.sleep(0)
            told.append("went on")
        return "done"

    async def main() -> None:
        assert await on_first_wait(work(), begin) == "done"

    asyncio.run(main())
    assert told == ["waits", "went on", "went on", "went on"]


@pytest.mark.parametrize("waits", [0, 1, 2])
def test_what_it_raises_is_raised(waits: int) -> None:
    async def work() -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise KeyError("mine")

    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            await on_first_wait(work(), lambda: None)

    asyncio.run(main())


@pytest.mark.parametrize("waits", [1, 2])
@pytest.mark.parametrize("swallows", [0, 1, 2])
def test_a_cancellation_goes_into_the_work_each_time(waits: int, swallows: int) -> None:
    met: list[int] = []

    async def work() -> str:
        for _ in range(waits - 1):
            await asyncio.sleep(0)
        for number in range(swallows):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                met.append(number)
        if swallows == 2:
            return "went on all the same"
        await asyncio.Event().wait()
        return "never"

    async def main() -> None:
        told, begin = counted()
        task = asyncio.ensure_future(_wrapped(on_first_wait(work(), begin)))
        for _ in range(2):
            await asyncio.sleep(0.001)
            task.cancel()
        if swallows == 2:
            assert await task == "went on all the same"
        else:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert met == list(range(swallows))
        assert told == ["waits"]

    asyncio.run(main())


def test_a_future_is_work_too() -> None:
    async def main() -> None:
        told, begin = counted()
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 3)
        assert await on_first_wait(future, begin) == 3
        assert told == ["waits"]

    asyncio.run(main())


def test_closing_it_closes_the_work() -> None:
    closed: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append("work")

    async def main() -> None:
        outer = _wrapped(on_first_wait(work(), lambda: None))
        outer.send(None)
        outer.close()
        assert closed == ["work"]

    asyncio.run(main())


async def _wrapped(work: Awaitable[object]) -> object:
    return await work
