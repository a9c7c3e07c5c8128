"""Who has a conversation: one pipeline at a time, and after a death whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from lorimer.core.cancel import Reason
from lorimer.core.errors import ConfigError, ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, make, use


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(kind: str, world: SimulatedWorld) -> Any:
    if kind == "memory":
        return MemoryJournal(world)
    return SQLiteJournal(":memory:", world=world, threads=False)


def chat(world: SimulatedWorld, journal: Any, owner: str, **options: Any) -> Any:
    model = ScriptedModel(lambda _: "fine")
    return make(world, model, "chat", journal=journal, owner=owner, **options)  # type: ignore[arg-type]


class Together(MemoryJournal):
    """Two open a conversation at the same moment: neither has begun when the other has read it."""

    def __init__(self, world: SimulatedWorld) -> None:
        super().__init__(world)
        self._both = asyncio.Barrier(2)
        self._opened = 0

    async def snapshot(self, stream: str) -> tuple[int, bytes] | None:
        self._opened += 1
        return await super().snapshot(stream)

    async def read(
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        async with aclosing(super().read(stream, after, follow=follow)) as facts:
            async for fact in facts:
                yield fact
        if self._opened <= 2:
            await self._both.wait()


def test_two_pipelines_of_one_owner_never_write_a_run_into_another() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Together(world)
        slow = ScriptedModel(lambda _: "fine", latency_s=1)
        both = [
            make(world, slow, "chat", journal=journal, owner="backend", session_id="bob")
            for _ in range(2)
        ]
        ends = await asyncio.gather(*[one.run("hi") for one in both], return_exceptions=True)
        refused = [end for end in ends if isinstance(end, JournalError)]
        assert [error.code for error in refused] == [ExecutorErrorCode.EXEC_JOURNAL_CONFLICT]
        assert "has not ended: no other can begin in its stream" in str(refused[0])
        again = chat(world, journal, "backend", session_id="bob")
        assert len((await again.run("hi")).messages) == 4

    simulate(main)


def test_a_conversation_of_a_dead_process_is_gone_on_with_after_a_wait(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        dead = chat(world, journal, "the dead one", session_id="bob")
        await dead.run("My name is Bob.")  # and it is never heard of again
        heir = chat(world, journal, "heir", session_id="bob")
        with pytest.raises(JournalError) as refused:
            await heir.run("Who am I?")
        error = refused.value
        assert error.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
        assert "'bob' is being written by 'the dead one', whose claim holds until " in str(error)
        assert " UTC, 30 s from now" in str(error)
        assert "wait_s=30 " in error.hint
        for wrong in ("5", None, float("nan")):
            with pytest.raises(ConfigError, match="wait_s must be a number of seconds, not "):
                await heir.run("Who am I?", wait_s=wrong)  # type: ignore[arg-type]
        began = world.monotonic()
        with pytest.raises(JournalError):
            await heir.run("Who am I?", wait_s=10)
        assert world.monotonic() - began == pytest.approx(10)
        result = await heir.run("Who am I?", wait_s=60)
        assert world.monotonic() - began < 30.5
        assert [m.text for m in result.messages][::2] == ["My name is Bob.", "Who am I?"]
        await heir.aclose()

    simulate(main)


def test_a_conversation_that_another_has_taken_is_told_as_ended(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal, ended = opened(kind, world), list[str]()
        first = chat(world, journal, "first", session_id="bob")
        first.on("session.end")(lambda event: ended.append(str(event.data["session_id"])))
        await first.run("My name is Bob.")
        heir = chat(world, journal, "heir", session_id="bob")
        await heir.run("Who am I?", wait_s=60)
        with pytest.raises(JournalError, match="no longer the writer of 'bob'"):
            await first.run("And now?")
        assert ended == ["bob"]
        await heir.aclose()
        texts = [each.text for each in (await first.run("And now?")).messages]
        assert texts[::2] == ["My name is Bob.", "Who am I?", "And now?"]
        await first.aclose()
        assert ended == ["bob", "bob"]

    simulate(main)


def test_it_is_the_same_for_a_stream_and_for_giving_up(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        await chat(world, journal, "dead", session_id="s").run("one")
        last = [
            e async for e in chat(world, journal, "b", session_id="s").run_stream("2", wait_s=40)
        ]
        assert last[-1].type == "pipeline.complete"
        await journal.claim("gone", "dead", 30)
        from tests.journal.support import start

        await journal.append("gone", 1, [start("run_gone")], sync=True)
        with pytest.raises(JournalError, match="is being written by 'dead'"):
            await chat(world, journal, "c").abandon("run_gone")
        await chat(world, journal, "c").abandon("run_gone", wait_s=40)
        [row] = await journal.runs(stream="gone")
        assert row.status == "cancelled"

    simulate(main)


def test_only_a_claim_of_another_is_waited_for() -> None:
    class Broken(MemoryJournal):
        async def claim(self, stream: str, owner: str, ttl: float) -> int:
            raise JournalError("the disk is full")

    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(JournalError, match="the disk is full"):
            await chat(world, Broken(world), "me").run("one", wait_s=60)
        assert world.monotonic() == 0

    simulate(main)


@pytest.mark.parametrize("doing", ["resume", "abandon"])
def test_whoever_waits_for_a_run_does_not_take_the_next_one_for_it(kind: str, doing: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        first = chat(world, journal, "first", session_id="s")
        first.on("api.request", lambda event: first.cancel(Reason.SHUTDOWN) and None)
        left = await first.run("one", raise_on_error=False)
        epoch = await journal.claim("s", "second", 30)
        waits = asyncio.ensure_future(
            getattr(chat(world, journal, "third"), doing)(left.run_id, wait_s=60)
        )
        await world.sleep(1)
        from tests.journal.support import end, start

        await journal.append("s", epoch, [end(left.run_id)], sync=True)
        await journal.append("s", epoch, [start("run_next")], sync=True)  # and it died
        with pytest.raises(PipelineError, match="has ended"):
            await waits
        row = await journal.find_run("run_next")
        assert row is not None
        assert row.status == ""
        await journal.claim("s", "fourth", 30)  # it was given back

    simulate(main)


def test_the_conversation_of_a_resumed_run_is_gone_on_with_and_given_back(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        first = chat(world, journal, "first", session_id="s")
        first.on("api.request", lambda event: first.cancel(Reason.SHUTDOWN) and None)
        left = await first.run("one", raise_on_error=False)
        second = chat(world, journal, "second")
        await second.resume(left.run_id)
        result = await second.run("two")
        assert [m.text for m in result.messages][::2] == ["one", "two"]
        with pytest.raises(JournalError, match="is being written by 'second'"):
            await chat(world, journal, "third", session_id="s").run("three")
        await second.aclose()
        assert (await chat(world, journal, "third", session_id="s").run("three")).text == "fine"

    simulate(main)


def test_while_it_waits_no_second_run_begins() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        await chat(world, journal, "dead", session_id="s").run("one")
        heir = chat(world, journal, "heir", session_id="s")
        first = asyncio.ensure_future(heir.run("two", wait_s=60))
        await world.sleep(1)
        with pytest.raises(PipelineError, match="already in a run"):
            await heir.run("three", wait_s=60)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await heir.run("four", wait_s=60)).text == "fine"

    simulate(main)


def test_a_fork_and_a_resumed_run_give_the_conversation_before_them_back(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        pipeline = chat(world, journal, "me", session_id="first")
        result = await pipeline.run("one")
        await pipeline.fork(result.run_id, after=1, input="two")
        assert (await chat(world, journal, "you", session_id="first").run("three")).text == "fine"
        other = chat(world, journal, "other", session_id="second")
        other.on("api.request", lambda event: other.cancel(Reason.SHUTDOWN) and None)
        left = await other.run("four", raise_on_error=False)
        pipeline = chat(world, journal, "they", session_id="third")
        await pipeline.run("five")
        await pipeline.resume(left.run_id)
        assert (await chat(world, journal, "he", session_id="third").run("six")).text == "fine"

    simulate(main)


@pytest.mark.parametrize("stateless", [True, False])
def test_a_run_that_is_going_on_here_is_neither_resumed_nor_given_up(
    kind: str, stateless: bool
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        refused: list[ExecutorErrorCode] = []

        async def look(_: object, __: object) -> str:
            [row] = await journal.runs()
            for again in (pipeline.resume, pipeline.abandon):
                with pytest.raises(PipelineError, match="is running run_.* at this moment") as no:
                    await again(row.run_id)
                refused.append(no.value.code)
            return "looked"

        tools = [Do("look", look, effects=["write"])]

        def forgetting(manifest: Any) -> None:
            manifest.stages["context"].config["stateless"] = stateless

        said: Any = [[use("look")], "done"]
        pipeline = make(world, said, "agent", tools=tools, journal=journal, change=forgetting)
        result = await pipeline.run("go")
        await pipeline.aclose()
        assert result.text == "done"
        assert refused == [ExecutorErrorCode.EXEC_RUN_BUSY] * 2

    simulate(main)
