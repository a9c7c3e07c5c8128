"""Waking readers that follow."""

from __future__ import annotations

import asyncio

from lorimer.journal.wake import Wakers, Watchers


def test_only_those_who_wait_for_the_stream_are_woken() -> None:
    async def test() -> None:
        wakers = Wakers()
        one, two, other = wakers.register("s"), wakers.register("s"), wakers.register("t")
        wakers.forget("s", two)
        wakers.forget("s", None)
        wakers.wake("s")
        assert one.done()
        assert not two.done()
        assert not other.done()
        assert wakers.waiting
        wakers.forget("t", other)
        assert not wakers.waiting
        wakers.wake("t")

    asyncio.run(test())


def test_readers_that_are_gone_do_no_harm() -> None:
    wakers = Wakers()

    async def register() -> asyncio.Future[None]:
        return wakers.register("s")

    gone = asyncio.new_event_loop()
    left = gone.run_until_complete(register())
    gone.close()

    async def test() -> None:
        cancelled = wakers.register("s")
        cancelled.cancel()
        woken = wakers.register("s")
        wakers.wake("s")
        assert woken.done()

    asyncio.run(test())
    assert not left.done()
    assert not wakers.waiting


def test_a_watcher_whose_loop_is_closed_keeps_nobody_from_being_told() -> None:
    watchers, told = Watchers(), list[str]()

    async def add(name: str) -> None:
        watchers.add("s", lambda: told.append(name))

    gone = asyncio.new_event_loop()
    gone.run_until_complete(add("gone"))
    gone.close()

    async def test() -> None:
        await add("here")
        watchers.tell("s")
        await asyncio.sleep(0)

    asyncio.run(test())
    assert told == ["here"]
