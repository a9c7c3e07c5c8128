"""Threads of tools: bounded, and a place is never lost."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lorimer import PipelinePresets, tool
from lorimer.tools.threads import Threads
from lorimer.world.real import RealWorld
from tests.tools.support import run

WORLD = RealWorld()


def ended(before: int) -> bool:
    return threading.active_count() <= before


def test_a_place_handed_to_a_call_that_is_cancelled_goes_to_the_next() -> None:
    async def main() -> None:
        threads = Threads(1)
        before, release = threading.active_count(), threading.Event()
        first = asyncio.create_task(threads.run(WORLD, release.wait))
        await asyncio.sleep(0)
        second = asyncio.create_task(threads.run(WORLD, lambda: "second"))
        await asyncio.sleep(0.01)
        release.set()
        while not ended(before):  # the place is handed over; the loop has not heard of it yet
            pass
        second.cancel()
        assert await first is True
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await asyncio.wait_for(threads.run(WORLD, lambda: "third"), 2) == "third"

    run(main)


def test_a_call_that_is_cancelled_while_it_waits_takes_no_place() -> None:
    async def main() -> None:
        threads = Threads(1)
        release = threading.Event()
        first = asyncio.create_task(threads.run(WORLD, release.wait))
        await asyncio.sleep(0)
        second = asyncio.create_task(threads.run(WORLD, lambda: "second"))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0)
        release.set()
        assert await first is True
        assert await asyncio.wait_for(threads.run(WORLD, lambda: "third"), 2) == "third"

    run(main)


def test_a_place_comes_back_although_the_loop_has_ended() -> None:
    threads = Threads(1)
    before, release = threading.active_count(), threading.Event()

    async def abandon() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(threads.run(WORLD, release.wait), 0.02)

    async def again() -> str:
        return await asyncio.wait_for(threads.run(WORLD, lambda: "again"), 2)

    run(abandon)
    release.set()
    while not ended(before):
        pass
    assert run(again) == "again"


def test_a_thread_that_cannot_be_started_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        threads = Threads(1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="start new thread"):
                await threads.run(WORLD, lambda: None)
        assert await asyncio.wait_for(threads.run(WORLD, lambda: "next"), 2) == "next"

    run(main)


def test_context_variables_are_seen() -> None:
    from contextvars import ContextVar

    name: ContextVar[str] = ContextVar("name")

    async def main() -> str:
        name.set("Ada")
        return await Threads().run(WORLD, name.get)

    assert run(main) == "Ada"


@pytest.mark.parametrize("error", [StopIteration(1), GeneratorExit(1)])
def test_what_no_future_can_give_is_the_tools_failure_too(error: BaseException) -> None:
    @tool(effects=["read"])
    def look() -> str:
        """Look."""
        raise error

    agent = PipelinePresets.agent(model="scripted:obedient", tools=[look])
    result = agent.run_sync("CALL look {}")
    [step] = result.steps
    assert (result.status, step.is_error) == ("ok", True)
    assert f"RuntimeError: {type(error).__name__}: 1" in str(step.content)
