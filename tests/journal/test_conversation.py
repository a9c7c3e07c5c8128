"""A stream opened for writing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.history import History
from lorimer.core.journal import Journal
from lorimer.core.messages import user_message
from lorimer.core.wellformed import repaired
from lorimer.journal import Conversation, fold
from lorimer.journal.conversation import CLAIM_S
from lorimer.testing import SimulatedWorld, simulate
from tests.core.support import Older
from tests.journal.support import Store, end, fact, facts_of, note, start

Test = Callable[[Journal], Awaitable[None]]


@pytest.fixture(params=["memory", "sqlite", "sqlite-inline"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path / "journal.db")


def run_facts(run: str, text: str, *, ended: bool = True) -> list[Event]:
    message = user_message(text).to_json()
    reply = {"key": "0", "content": [{"type": "text", "text": text.upper()}]}
    facts = [
        start(run),
        fact("model.intent", {"key": "0", "hash": "h", "messages": [message]}, run),
        fact("model.reply", reply, run),
    ]
    return [*facts, end(run)] if ended else facts


async def write(journal: Journal, conversation: Conversation, facts: list[Event]) -> None:
    for one in facts:
        await journal.append(conversation.stream, conversation.epoch, [one], sync=False)
    conversation.add(facts)


def open_(journal: Journal, store: Store, owner: str = "me") -> Awaitable[Conversation]:
    return Conversation.open(journal, "s", owner, store.clock)


def texts(history: History) -> list[str]:
    return [message.text for message in history]


def test_a_conversation_goes_on_where_it_was(store: Store) -> None:
    async def test(journal: Journal) -> None:
        new = await open_(journal, store)
        assert (new.seq, new.snapshot_at, list(new.history), new.unfinished) == (0, 0, [], [])
        await write(journal, new, run_facts("run_a", "one"))
        assert new.seq == 4
        await new.release()
        again = await open_(journal, store, "somebody else")
        assert again.epoch > new.epoch
        assert (again.seq, texts(again.history)) == (4, ["one", "ONE"])
        assert again.history.digest == History(again.history).digest

    store.run(test)


def test_an_unfinished_run_is_kept_apart(store: Store) -> None:
    async def test(journal: Journal) -> None:
        first = await open_(journal, store)
        await write(journal, first, run_facts("run_a", "one"))
        cut = run_facts("run_b", "two", ended=False)
        await write(journal, first, [fact("mutated", {}, "run_a"), *cut])
        assert first.unfinished == cut
        await first.release()
        again = await open_(journal, store)
        assert texts(again.history) == ["one", "ONE"]
        assert again.unfinished == cut
        assert again.seq == 8
        more = [note("x", "run_b"), fact("run.suspended", {}, "run_b")]
        await write(journal, again, more)
        assert again.unfinished == [*cut, *more]
        await write(journal, again, [end("run_b")])
        assert again.unfinished == []
        await again.release()
        ended = await open_(journal, store)
        assert texts(ended.history) == ["one", "ONE", "two", "TWO"]

    store.run(test)


def test_a_run_that_was_given_up_without_an_end_is_history() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = Older(world)
        first = await Conversation.open(journal, "s", "me", world)
        await write(journal, first, run_facts("run_a", "one", ended=False))
        await write(journal, first, run_facts("run_b", "two"))
        assert first.unfinished == []
        await first.release()
        again = await Conversation.open(journal, "s", "me", world)
        assert texts(again.history) == ["one", "ONE", "two", "TWO"]
        assert again.unfinished == []

    simulate(main)


def test_a_snapshot_stands_for_the_ended_runs(store: Store) -> None:
    async def test(journal: Journal) -> None:
        first = await open_(journal, store)
        await first.snapshot()
        assert await journal.snapshot("s") is None  # nothing to keep
        for number in range(3):
            await write(journal, first, run_facts(f"run_{number}", f"text {number}"))
        open_run = run_facts("run_x", "open", ended=False)
        await write(journal, first, open_run)
        await first.snapshot()
        assert first.snapshot_at == 12
        kept = await journal.snapshot("s")
        assert kept is not None
        assert kept[0] == 12
        await first.snapshot()  # nothing new
        await first.release()
        again = await open_(journal, store)
        assert again.snapshot_at == 12
        assert list(again.history) == repaired(fold((await facts_of(journal, "s"))[:12]).messages)
        assert again.unfinished == open_run
        assert again.seq == 15
        await write(journal, again, [end("run_x")])
        await again.snapshot()
        assert again.snapshot_at == 16

    store.run(test)


def test_a_snapshot_of_known_facts_reads_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(journal: Journal) -> None:
        first = await open_(journal, store)
        run_a, run_b = run_facts("run_a", "one"), run_facts("run_b", "two")
        await write(journal, first, run_a)
        with monkeypatch.context() as patch:
            patch.setattr(journal, "read", None)
            await first.snapshot(run_a)
        assert first.snapshot_at == len(run_a)
        await write(journal, first, run_b)
        last = run_facts("run_c", "three")
        await write(journal, first, last)
        await first.snapshot(last)  # run_b was before them: all are read
        await first.release()
        again = await open_(journal, store)
        assert texts(again.history) == ["one", "ONE", "two", "TWO", "three", "THREE"]

    store.run(test)


def test_a_snapshot_that_cannot_be_read_costs_only_time(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(journal: Journal) -> None:
        first = await open_(journal, store)
        await write(journal, first, run_facts("run_a", "one"))
        await journal.put_snapshot("s", 4, b"rubbish")
        await first.release()
        with caplog.at_level(logging.WARNING):
            again = await open_(journal, store)
        assert texts(again.history) == ["one", "ONE"]
        assert "not used" in caplog.text

    store.run(test)


def test_the_claim_is_renewed_and_a_lost_one_is_noticed(store: Store) -> None:
    async def test(journal: Journal) -> None:
        mine = await open_(journal, store)
        await mine.renew()  # fresh: nothing to do
        for _ in range(3):
            store.clock.now += CLAIM_S * 0.9
            await mine.renew()
        with pytest.raises(JournalError):
            await open_(journal, store, "you")
        store.clock.now += CLAIM_S + 1
        yours = await open_(journal, store, "you")
        with pytest.raises(JournalError, match="no longer the writer"):
            await mine.renew()
        await write(journal, yours, run_facts("run_a", "one"))
        await yours.release()
        with pytest.raises(JournalError, match="no longer the writer") as caught:
            await mine.renew()
        assert caught.value.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
        await open_(journal, store, "a third")

    store.run(test)


def test_an_owner_that_wakes_up_takes_nothing_from_one_that_is_slow(store: Store) -> None:
    async def test(journal: Journal) -> None:
        mine = await open_(journal, store)
        store.clock.now += CLAIM_S + 1
        yours = await open_(journal, store, "you")
        store.clock.now += CLAIM_S + 1  # and it does not get to prolong it
        with pytest.raises(JournalError, match="no longer the writer"):
            await mine.check()
        await write(journal, yours, run_facts("run_a", "one"))
        await yours.check()
        with pytest.raises(JournalError, match="'you'"):
            await open_(journal, store)

    store.run(test)


def test_an_owner_that_slept_until_it_heard_of_its_claim_looks_before_it_acts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(journal: Journal) -> None:
        claim = journal.claim

        async def late(stream: str, owner: str, ttl: float) -> int:
            epoch = await claim(stream, owner, ttl)
            store.clock.now += CLAIM_S + 1
            return epoch

        with monkeypatch.context() as patch:
            patch.setattr(journal, "claim", late)
            mine = await open_(journal, store)
        await open_(journal, store, "you")
        with pytest.raises(JournalError, match="no longer the writer"):
            await mine.check()

    store.run(test)


def test_facts_that_do_not_follow_are_refused(store: Store) -> None:
    async def test(journal: Journal) -> None:
        conversation = await open_(journal, store)
        await journal.append("s", conversation.epoch, [note("not told")], sync=False)
        told = [note("told")]
        await journal.append("s", conversation.epoch, told, sync=False)
        with pytest.raises(JournalError, match="continues with fact 2, not 1"):
            conversation.add(told)
        conversation.add([])

    store.run(test)


def test_a_stream_that_does_not_fit_together_gives_its_claim_back(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [fact("model.reply", {"content": 7})], sync=False)
        await journal.release("s", epoch)
        with pytest.raises(JournalError, match=r"fact 1 \(model\.reply\)"):
            await open_(journal, store)
        assert await journal.claim("s", "you", 30) > epoch

    store.run(test)


def test_opening_that_is_cancelled_gives_the_claim_back(store: Store) -> None:
    async def test(journal: Journal) -> None:
        first = await open_(journal, store)
        await write(journal, first, run_facts("run_a", "one"))
        await first.release()
        task = asyncio.ensure_future(open_(journal, store))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        try:
            opened = await task
        except asyncio.CancelledError:
            pass
        else:
            await opened.release()
        await open_(journal, store, "you")

    store.run(test)
