"""Sessions: many conversations of one pipeline."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lorimer import ConfigError, PipelineError
from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.journal import Post
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.pipeline import Pipeline
from lorimer.session import (
    Freshness,
    FreshnessPolicy,
    SessionManager,
    stored_sessions,
)
from lorimer.session.info import remove
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.world import RealWorld
from tests.core.support import Do, make, use
from tests.session.families import agent, model_of, pipeline_of, work

QUIET = {"raise_on_error": False}


def heard(request: Request) -> str:
    """All that the model is asked, the last thing last."""
    return " | ".join(message.text for message in request.messages if message.role == "user")


def chat(world: World, journal: MemoryJournal | SQLiteJournal | None = None) -> Pipeline:
    return make(world, ScriptedModel(heard, record=False), "chat", journal=journal)


def test_sessions_of_a_pipeline_remember_apart() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = chat(world)
        async with SessionManager() as manager:
            alice, bob = manager.create(pipeline), manager.create(pipeline)
            await alice.run("I am Alice")
            await bob.run("I am Bob")
            assert (await alice.run("who?")).text == "I am Alice | who?"
            assert (await bob.run("who?")).text == "I am Bob | who?"
            assert (await pipeline.run("who?")).text == "who?", "its own conversation is a third"
            assert manager.get(alice.session_id) is alice
            assert alice.session_id in manager
            assert len(manager) == 2
            assert [message.text for message in alice.messages][-1] == "I am Alice | who?"

    simulate(main)


def test_a_run_whose_end_a_store_of_the_hosts_lost_is_resumed_before_another_begins() -> None:
    class Lost(MemoryJournal):
        """Raises what a store should not raise."""

        async def append(self, stream: str, epoch: int, facts: Sequence[Event], **more: Any) -> int:
            if lose and facts[-1].type == "run.end":
                lose.pop()
                raise ValueError("the pool is closed")
            return await super().append(stream, epoch, facts, **more)

    lose = [True]

    async def main(world: SimulatedWorld) -> None:
        journal = Lost(world)
        model = ScriptedModel(heard)
        pipeline = make(world, model, "chat", journal=journal)
        with pytest.raises(ValueError, match="the pool is closed"):
            await pipeline.run("one", raise_on_error=False)
        [row] = await journal.runs(unfinished=True)
        with pytest.raises(PipelineError) as busy:
            await pipeline.run("two")
        assert busy.value.code is ExecutorErrorCode.EXEC_RUN_BUSY
        assert model.calls == 1, "and nothing was done"
        assert (await pipeline.resume(row.run_id)).text == "one"
        assert (await pipeline.run("two")).text == "one | two"

    simulate(main)


def test_info_counts_all_runs_failed_ones_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        def reply(request: Request) -> str:
            if "fail" in heard(request):
                raise PipelineError("no")
            return "ok"

        pipeline = make(world, ScriptedModel(reply, record=False), "chat")
        manager = SessionManager()
        session = manager.create(pipeline)
        assert session.info.message_count == session.info.runs == 0
        await session.run("one")
        await world.sleep(60)
        async for _ in session.run_stream("two"):
            pass
        info = session.info
        assert (info.message_count, info.runs, info.iterations) == (4, 2, 2)
        assert info.last_used - info.began == pytest.approx(60, abs=1)
        failed = await session.run("fail", raise_on_error=False)
        assert not failed.success
        assert session.info.runs == 3
        assert manager.list_sessions() == [session.info]
        (stored,) = await stored_sessions(pipeline.journal, world)
        assert stored.title == "one"
        assert stored.runs == 3
        assert stored.message_count == session.info.message_count
        assert stored.total_cost_usd == session.info.total_cost_usd

    simulate(main)


def test_the_cost_is_that_of_all_runs(tmp_path: Path) -> None:
    async def main() -> None:
        world = RealWorld()
        journal = SQLiteJournal(tmp_path / "runs.db")
        pipeline = make(world, ["a", "b"], "chat", journal=journal)
        session = SessionManager().create(pipeline)
        results = [await session.run("x"), await session.run("y")]
        await session.aclose()
        expected = sum(result.total_cost_usd for result in results)
        assert session.info.total_cost_usd == pytest.approx(expected)
        again = make(world, ["c"], "chat", journal=journal)
        manager = SessionManager()
        reopened = await manager.open(again, session.session_id[:12])
        assert reopened is await manager.open(again, session.session_id)
        assert reopened.info.total_cost_usd == pytest.approx(expected)
        assert (await reopened.run("z")).success
        assert reopened.info.runs == 3
        assert reopened.info.message_count == 6
        assert len(reopened.messages) == 6
        await reopened.aclose()
        await journal.close()

    asyncio.run(main())


def test_sessions_run_side_by_side_and_one_never_twice() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(heard, record=False, latency_s=1), "chat")
        manager = SessionManager()
        one, two = manager.create(pipeline), manager.create(pipeline)
        runs = [asyncio.ensure_future(session.run("hi")) for session in (one, two)]
        await world.sleep(0.1)
        with pytest.raises(PipelineError) as busy:
            await one.run("again")
        assert busy.value.code is ExecutorErrorCode.EXEC_RUN_BUSY
        with pytest.raises(PipelineError):
            await manager.delete(one.session_id)
        assert one.session_id in manager
        assert [result.text for result in await asyncio.gather(*runs)] == ["hi", "hi"]

    simulate(main)


@pytest.mark.parametrize("again", ["resume", "abandon"])
def test_a_run_that_goes_on_in_one_session_is_left_alone_by_the_others(again: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = ScriptedModel(heard, record=False, latency_s=1)
        pipeline = make(world, model, "chat", journal=journal)
        manager = SessionManager()
        one, two = manager.create(pipeline), manager.create(pipeline)
        running = asyncio.ensure_future(one.run("hi"))
        await world.sleep(0.5)
        [row] = await journal.runs()
        with pytest.raises(PipelineError, match="is running run_.* at this moment") as busy:
            await getattr(two, again)(row.run_id)
        assert busy.value.code is ExecutorErrorCode.EXEC_RUN_BUSY
        assert ((await running).status, model.calls) == ("ok", 1)
        facts = [fact.type async for fact in journal.read(row.stream)]
        assert (facts.count("model.intent"), facts[-1]) == (1, "run.end")

    simulate(main)


def test_a_session_is_stopped_alone_and_by_its_pipeline() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(heard, record=False, latency_s=1e6), "chat")
        manager = SessionManager()
        sessions = [manager.create(pipeline) for _ in range(3)]
        runs = [asyncio.ensure_future(one.run("x", raise_on_error=False)) for one in sessions]
        await world.sleep(0.1)
        assert sessions[0].cancel(Reason.CALLER)
        assert (await runs[0]).status == "cancelled"
        assert not runs[1].done()
        assert pipeline.cancel()
        assert [(await run).status for run in runs] == ["cancelled"] * 3
        assert not sessions[1].cancel()

    simulate(main)


def test_a_change_of_the_pipeline_holds_for_its_sessions() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = chat(world)
        session = SessionManager().create(pipeline)
        await session.run("one")
        pipeline.swap_strategy("loop", "controller", "single_turn")
        assert session.plan is pipeline.plan

    simulate(main)


def test_deleting_removes_all_that_is_kept() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = chat(world)
        manager = SessionManager()
        session, other = manager.create(pipeline), manager.create(pipeline)
        await session.run("a secret")
        await other.run("stays")
        assert await manager.delete(session.session_id)
        assert not await manager.delete(session.session_id)
        assert session.session_id not in manager
        assert [info.session_id for info in await stored_sessions(pipeline.journal, world)] == [
            other.session_id
        ]
        assert [fact async for fact in pipeline.journal.read(session.session_id)] == []
        unused = manager.create(pipeline)
        assert await manager.delete(unused.session_id)

    simulate(main)


def test_a_session_that_is_forgotten_is_nowhere_here_and_all_in_the_journal() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["1", "2", "3"], latency_s=5), "chat")
        manager = SessionManager()
        session = manager.create(pipeline, "alice")
        await session.run("one")
        gone = weakref.ref(session)

        going = asyncio.create_task(session.run("two"))
        await world.sleep(1)
        with pytest.raises(PipelineError, match="in a run"):
            await manager.forget("alice")
        assert "alice" in manager
        await going
        del going, session

        assert await manager.forget("alice")
        assert not await manager.forget("alice")
        assert "alice" not in manager
        assert await pipeline.journal.holder("alice") is None
        gc.collect()
        assert gone() is None
        again = await manager.open(pipeline, "alice")
        assert len((await again.run("three")).messages) == 6

    simulate(main)


def test_a_conversation_is_one_whoever_has_opened_it(tmp_path: Path) -> None:
    async def main() -> None:
        world = RealWorld()
        journal = SQLiteJournal(tmp_path / "runs.db", world=world)
        pipeline = chat(world, journal)
        one, other = SessionManager(), SessionManager()
        first = one.create(pipeline, "alice")
        await first.run("1")
        second = await other.open(pipeline, "alice")
        assert (await second.run("2")).text == "1 | 2"
        assert (await first.run("3")).text == "1 | 2 | 3"
        ends = await asyncio.gather(first.run("4"), second.run("4"), return_exceptions=True)
        assert sorted([isinstance(end, PipelineError) for end in ends]) == [False, True]
        await one.delete("alice")
        with pytest.raises(PipelineError, match="was deleted"):
            await second.run("5")
        again = one.create(pipeline, "alice")
        assert (await again.run("6")).text == "6", "what is deleted is not in the way of a new one"
        await pipeline.aclose()
        await journal.close()

    asyncio.run(main())


def test_a_session_that_has_gone_on_in_a_fork_leaves_its_conversation_to_others() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = chat(world)
        manager = SessionManager()
        forked = manager.create(pipeline, "alice")
        result = await forked.run("1")
        fork = await forked.fork(result.run_id, after=1, input="2")
        assert fork.session_id != "alice"
        await forked.aclose()
        opened = await SessionManager().open(pipeline, "alice")
        assert (await opened.run("3")).text == "1 | 3"
        both = await SessionManager().open(pipeline, fork.session_id)
        assert (await both.run("4")).text == "1 | 2 | 4"
        assert (await forked.run("5")).text == "1 | 2 | 4 | 5"
        await pipeline.aclose()
        assert await pipeline.journal.holder(fork.session_id) is None

    simulate(main)


def test_a_manager_is_used_by_many_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        world = RealWorld()
        journal = SQLiteJournal(tmp_path / "runs.db", world=world)
        pipeline = chat(world, journal)
        manager = SessionManager()
        for name in ("alice", "bob", "carol"):
            await manager.create(pipeline, name).run("1")
        gone = await asyncio.gather(
            manager.delete("bob"), manager.forget("bob"), return_exceptions=True
        )
        assert gone == [True, True]

        async def opened() -> bool:
            for _ in range(50):
                await world.sleep(0)
                if "alice" not in manager:
                    break
            session = await manager.open(pipeline, "alice")
            await session.run("2")
            return manager.get("alice") is session

        assert await asyncio.gather(manager.forget("alice"), opened()) == [True, True]

        async def come_and_go() -> None:
            for at in range(50):
                await world.sleep(0)
                manager.create(pipeline, f"new {at}")

        await asyncio.gather(manager.aclose(), come_and_go())
        for name in ("alice", "carol"):
            assert await journal.holder(name) is None
        await pipeline.aclose()
        await journal.close()

    asyncio.run(main())


def test_deleting_removes_what_its_sub_agents_were_told_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = {"main": [[work("chief")], "so"], "chief": [[work("digger")], "led"]}
        model = model_of({**replies, "digger": ["dug"]})
        pipeline = pipeline_of(world, model, agent("chief", tools=["Agent"]), agent("digger"))
        session = SessionManager().create(pipeline)
        await session.run("a secret")
        assert len(await pipeline.journal.runs()) == 3
        await session.aclose()
        await remove(pipeline.journal, session.session_id)
        assert await pipeline.journal.runs() == []

    simulate(main)


def test_a_deleted_session_begins_no_run_any_more() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = chat(world)
        manager = SessionManager()
        for used in (True, False):
            session = manager.create(pipeline, "alice")
            if used:
                await session.run("a secret")
            await manager.delete("alice")
            for _ in range(2):  # and it is not busy with what was refused
                with pytest.raises(PipelineError, match="alice was deleted") as gone:
                    await session.run("hi")
                assert gone.value.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN
                assert "manager.create" in gone.value.hint
            assert await stored_sessions(pipeline.journal, world) == []
        again = manager.create(pipeline, "alice")
        assert (await again.run("hi")).text == "hi"

    simulate(main)


def test_another_process_has_to_give_it_back(tmp_path: Path) -> None:
    async def main() -> None:
        world = RealWorld()
        journal = SQLiteJournal(tmp_path / "runs.db")
        first, second = chat(world, journal), chat(world, journal)
        mine = SessionManager().create(first)
        await mine.run("hi")
        manager = SessionManager()
        theirs = await manager.open(second, mine.session_id)
        with pytest.raises(JournalError) as taken:
            await theirs.run("hello")
        assert taken.value.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
        with pytest.raises(PipelineError, match="in use"):
            await manager.delete(mine.session_id)
        await first.aclose()  # the pipeline's sessions are given back with it
        assert (await theirs.run("hello")).text == "hi | hello"
        await second.aclose()
        await journal.close()

    asyncio.run(main())


def test_a_suspended_run_is_named_and_gone_on_with() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["never said", "done"], latency_s=1), "chat")
        session = SessionManager().create(pipeline)
        run = asyncio.ensure_future(session.run("x", raise_on_error=False))
        await world.sleep(0.1)
        assert session.shut_down(0)
        suspended = await run
        assert suspended.status == "suspended"
        (stored,) = await stored_sessions(pipeline.journal, world)
        assert stored.unfinished == suspended.run_id
        assert (await session.resume(suspended.run_id)).text == "done"
        assert session.info.unfinished == ""
        assert session.info.runs == 1

    simulate(main)


@pytest.mark.parametrize(
    ("messages", "age", "idle", "state"),
    [
        (0, 1e9, 1e9, Freshness.FRESH),
        (4, 60, 60, Freshness.FRESH),
        (4, 1200, 1200, Freshness.STALE_WARN),
        (4, 1800, 1800, Freshness.STALE_IDLE),
        (4, 4 * 3600, 1, Freshness.STALE_IDLE),
        (100, 1800, 1800, Freshness.STALE_COMPACT),
        (500, 0, 0, Freshness.STALE_RESET),
    ],
)
def test_freshness(messages: int, age: float, idle: float, state: Freshness) -> None:
    policy = FreshnessPolicy()
    now = 1e6
    told = policy.of(messages=messages, began=now - age, last_used=now - idle, now=now)
    assert told is state


def test_a_session_grows_stale_while_nothing_is_said() -> None:
    async def main(world: SimulatedWorld) -> None:
        manager = SessionManager(freshness=FreshnessPolicy(warn_s=10, idle_s=20))
        session = manager.create(chat(world))
        await session.run("hi")
        seen = [session.freshness]
        for _ in range(2):
            await world.sleep(10)
            seen.append(manager.list_sessions()[0].freshness)
        assert seen == [Freshness.FRESH, Freshness.STALE_WARN, Freshness.STALE_IDLE]

    simulate(main)


def test_all_sessions_are_suspended_at_once() -> None:
    async def main(world: SimulatedWorld) -> None:
        waits = Do("waits", lambda _, context: context.world.sleep(100))
        pipeline = make(world, [[use("waits")]] * 2, tools=[waits])
        manager = SessionManager()
        assert not manager.shut_down()
        sessions = [manager.create(pipeline) for _ in range(2)]
        runs = [asyncio.ensure_future(each.run("go", raise_on_error=False)) for each in sessions]
        await world.sleep(1)
        assert manager.shut_down(within_s=5)
        ended = await asyncio.gather(*runs)
        assert [result.status for result in ended] == ["suspended"] * 2
        assert world.monotonic() < 10

    simulate(main)


@pytest.mark.parametrize("who", ["session", "manager", "pipeline"])
@pytest.mark.parametrize("how", ["shut_down", "cancel", "task"])
def test_closing_waits_for_a_run_that_was_stopped(who: str, how: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        async def send(*_: object) -> str:
            await world.sleep(5)
            return "sent"

        journal = MemoryJournal(world)
        tools = [Do("send", send, effects=["send"])]
        pipeline = make(world, [[use("send")], "x"], tools=tools, journal=journal)
        manager = SessionManager()
        session = manager.create(pipeline, "ann")
        running = asyncio.ensure_future(session.run("go", raise_on_error=False))
        await world.sleep(1)
        if how == "task":
            running.cancel()
        else:
            getattr(pipeline, how)()
        await {"session": session, "manager": manager, "pipeline": pipeline}[who].aclose()

        last = [fact async for fact in journal.read("ann")][-1]
        assert last.type == ("run.suspended" if how == "shut_down" else "run.end")
        assert world.monotonic() == (5 if how == "shut_down" else 1), "the call has ended"
        assert await journal.claim("ann", "another", 30), "nobody has to wait"
        await asyncio.wait([running])

    simulate(main)


@pytest.mark.parametrize("how", ["alone", "in parallel", "in a task of its own", "in a sub-agent"])
def test_who_closes_within_a_run_does_not_wait_for_it(how: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        done: list[str] = []

        async def close(*_: object) -> str:
            pipeline.shut_down()
            if how == "in a task of its own":
                await asyncio.wait_for(asyncio.ensure_future(pipeline.aclose()), 100)
            else:
                await pipeline.aclose()
            done.append("closed")
            return "closed"

        tools = [Do("close", close, effects=["send"], safe=True), Do("too", safe=True)]
        calls = [use("close"), use("too")] if how == "in parallel" else [use("close")]
        main: list[object] = [[work("kid")] if how == "in a sub-agent" else calls, "x"]
        model = model_of({"main": main, "kid": [calls, "x"]})
        pipeline = pipeline_of(world, model, agent("kid"), tools=tools)
        result = await pipeline.run("go", raise_on_error=False)
        assert (result.status, done) == ("suspended", ["closed"])
        assert world.monotonic() == 0

    simulate(main)


def test_closing_waits_for_a_run_that_was_stopped_while_it_was_being_resumed() -> None:
    class Slow(MemoryJournal):
        async def posts(self, stream: str) -> list[Post]:
            await asyncio.sleep(2)
            return await super().posts(stream)

    async def main(world: SimulatedWorld) -> None:
        def stop(*_: object) -> str:
            return "stopped" if pipeline.shut_down() else ""

        tools, journal = [Do("stop", stop)], Slow(world)
        pipeline = make(world, [[use("stop")], "x"], tools=tools, journal=journal)
        result = await pipeline.run("go", raise_on_error=False)
        resumed = asyncio.ensure_future(pipeline.resume(result.run_id, raise_on_error=False))
        await world.sleep(1)
        pipeline.shut_down()
        await pipeline.aclose()
        assert (world.monotonic(), (await resumed).status) == (2, "suspended")

    simulate(main)


def test_closing_waits_for_no_run_of_another_loop() -> None:
    begun, over = threading.Event(), threading.Event()

    async def stay(*_: object) -> str:
        begun.set()
        while not over.is_set():
            await asyncio.sleep(0.001)
        return "stayed"

    pipeline = make(RealWorld(), [[use("stay")], "x"], tools=[Do("stay", stay, effects=["send"])])
    thread = threading.Thread(target=pipeline.run_sync, args=["go"], kwargs=QUIET)
    thread.start()
    try:
        assert begun.wait(5)
        pipeline.shut_down()
        asyncio.run(asyncio.wait_for(pipeline.aclose(), 5))
        assert thread.is_alive()
    finally:
        over.set()
        thread.join()


def test_wrong_input_is_told() -> None:
    async def main(world: SimulatedWorld) -> None:
        manager, pipeline = SessionManager(), chat(world)
        with pytest.raises(ConfigError, match="remembers nothing"):
            manager.create(make(world, "x", "minimal"))
        with pytest.raises(ConfigError, match="pipeline"):
            manager.create("chat")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="session_id must be text, not int"):
            manager.create(pipeline, 7)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="contains half a character"):
            manager.create(pipeline, "a\udc80")
        with pytest.raises(ConfigError, match="session_id must be text, not NoneType"):
            await manager.open(pipeline, None)  # type: ignore[arg-type]
        with pytest.raises(PipelineError, match="no session 'nope'") as unknown:
            await manager.open(pipeline, "nope")
        assert unknown.value.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN
        for _ in range(2):
            await manager.create(pipeline).run("x")
        with pytest.raises(PipelineError, match="Several sessions"):
            await manager.open(pipeline, "session")
        assert manager.get("nope") is None
        assert not await manager.delete("nope")
        with pytest.raises(ConfigError, match="warn_s"):
            FreshnessPolicy(warn_s=30, idle_s=10)

    simulate(main)


def test_run_sync_says_what_to_write_instead() -> None:
    async def main(world: SimulatedWorld) -> None:
        session = SessionManager().create(chat(world))
        with pytest.raises(PipelineError) as inside:
            session.run_sync("x")
        assert "session.run(" in inside.value.hint

    simulate(main)


def test_a_host_may_name_its_sessions() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = chat(world)
        alice = SessionManager().create(pipeline, "alice")
        await alice.run("I am Alice")
        await alice.aclose()
        manager = SessionManager()
        again = manager.create(pipeline, "alice")
        assert (await again.run("who?")).text == "I am Alice | who?"
        with pytest.raises(ConfigError, match="already"):
            manager.create(pipeline, "alice")

    simulate(main)
