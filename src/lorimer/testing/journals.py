"""A conformance kit for implementations of a journal: what each of them guarantees, one by one.

    @pytest.mark.parametrize("promise", PROMISES, ids=str)
    def test_my_journal(promise, tmp_path):
        promise.run(lambda world: MyJournal(tmp_path / "runs", world=world))

Without pytest: `print(check(lambda world: MyJournal(new_path(), world=world)))`. The
requirements are defined in `lorimer.core.journal`. Whether a commit survives `kill -9` or a power
failure is not tested here: see `marks.py` and `audit.py`, and the campaigns of this repository.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.journal import Balance, LedgerEntry
from lorimer.core.jsonable import JSON
from lorimer.core.purse import Purse
from lorimer.testing.journal_bench import (
    Bench,
    Opener,
    Promise,
    TurnedWorld,
    as_text,
    refused,
)
from lorimer.testing.promises import broken

__all__ = ["PROMISES", "Bench", "Opener", "Promise", "TurnedWorld", "check"]

PATIENCE_S: Final = 10.0
"""Seconds within which code that waits for a stream is notified of its growth."""
_CONFLICT: Final = ExecutorErrorCode.EXEC_JOURNAL_CONFLICT


def check(open: Opener, promises: Sequence[Promise] = ()) -> str:
    """Test all of them, or those given, and report: "" if all are kept, else a paragraph for each
    that is not. Call it from synchronous code."""
    return broken(promises or PROMISES, open)


# --- facts ------------------------------------------------------------------------------------


async def facts_come_back_as_they_were_written(on: Bench) -> None:
    """Facts are read in order, numbered from 1 on, also after a given number, with everything that
    an Event has."""
    epoch, journal = await on.claim(), on.journal
    numbers: list[JSON] = [1, 2.5, 0.1 + 0.2, 1e-7, 2**60 + 1, 2.0, None, True, "x"]
    letters: dict[str, JSON] = {"z": "e\u0301", "a": "\x00\x7f", "": " "}
    odd = on.note("é\u2028\U0001f984", "run_b", deep={"b": numbers, "a": letters}, zero=0)
    odd.stage, odd.iteration = "tool", 3
    rows = [[on.start()], [on.note("1"), odd], [on.note("2")], [on.end()]]
    seq = 0
    for row in rows:
        seq += len(row)
        assert await journal.append("s", epoch, row, sync=row[0].type == "run.end") == seq
    written = [fact for row in rows for fact in row]
    assert [fact.seq for fact in written] == [1, 2, 3, 4, 5], "seq is set on what was given"
    for after in range(7):
        assert await on.told(after=after) == [as_text(fact) for fact in written[after:]], after
    assert await on.facts("nobody's") == []
    assert await journal.check("s") == []


async def streams_are_apart(on: Bench) -> None:
    """What is written to one stream is in no other."""
    names = ("one", "two", "One", "one ", "on_", "on%", "one/two", "../one", "\xe9", "e\u0301")
    for name in names:
        epoch = await on.claim(name)
        await on.journal.append(name, epoch, [on.note(name, f"run_{name}")], sync=False)
    for name in names:
        assert [(fact.seq, fact.data["key"]) for fact in await on.facts(name)] == [(1, name)], name


async def what_was_acknowledged_is_there_when_it_is_opened_again(on: Bench) -> None:
    """Facts, documents, posts and the list of runs, of a journal that says that it is durable."""
    if not on.journal.durable:
        return
    await on.ran("s", "run_a")
    await on.journal.put("digest", b"document")
    await on.journal.post("s", "p", {"kind": "text"})
    await on.journal.close()
    again = on.again(on.world)
    try:
        facts = [fact async for fact in again.read("s")]
        assert [fact.type for fact in facts] == ["run.start", "run.end"]
        assert await again.get("digest") == b"document"
        assert [post.id for post in await again.posts("s")] == ["p"]
        assert [row.status for row in await again.runs()] == ["ok"]
    finally:
        await again.close()


async def a_follower_is_told(on: Bench) -> None:
    """A follower gets existing facts and new ones, in order, also while it waits for them."""
    epoch = await on.claim()
    await on.journal.append("s", epoch, [on.note("0")], sync=False)
    async with aclosing(on.journal.read("s", follow=True)) as reading:
        for number in range(3):
            fact = await asyncio.wait_for(anext(reading), PATIENCE_S)
            assert fact.data["key"] == str(number)
            await on.journal.append("s", epoch, [on.note(str(number + 1))], sync=number == 1)

    async def next_fact() -> Event | None:
        return await anext(waiting, None)

    async with aclosing(on.journal.read("s", 4, follow=True)) as waiting:
        for number in (4, 5):
            coming = asyncio.create_task(next_fact())
            await on.world.sleep(0.02)
            rows = [on.note(f"{number}a"), on.note(f"{number}b")]
            await on.journal.append("s", epoch, rows, sync=number == 4)
            first = await asyncio.wait_for(coming, PATIENCE_S)
            assert first is not None, "it ended instead of waiting"
            second = await asyncio.wait_for(anext(waiting), PATIENCE_S)
            assert [first.data["key"], second.data["key"]] == [f"{number}a", f"{number}b"]


# --- one writer -------------------------------------------------------------------------------


async def only_who_holds_a_stream_writes_to_it(on: Bench) -> None:
    """An append without the latest claim is refused (C8), and nothing of it is stored."""
    journal = on.journal
    old = await on.claim(owner="a")
    on.world.ahead_s += 31
    new = await on.claim(owner="b")
    assert new > old
    for epoch in (old, new + 1, 0):
        async with refused(_CONFLICT):
            entry = LedgerEntry("run_a", 5, 7)
            await journal.append("s", epoch, [on.start()], sync=True, ledger=entry)
    assert await on.facts() == []
    assert await journal.runs() == []
    assert await journal.balance("run_a") == Balance()
    begun = on.start()
    assert await journal.append("s", new, [begun], sync=True) == 1
    assert not journal.never_began(begun), "it did: append has returned"


async def a_claim_holds_until_it_has_run_out_or_is_given_back(on: Bench) -> None:
    """Another owner is refused meanwhile; the same one renews it, in the same epoch. Anybody can
    query the owner, and the expiry."""
    journal, world = on.journal, on.world
    assert await journal.holder("s") is None
    first = await on.claim(owner="a")
    held = await journal.holder("s")
    assert held is not None
    assert held[0] == "a"
    assert 29 < held[1] - world.time() < 30.001
    world.ahead_s += 20
    assert await on.claim(owner="a") == first
    world.ahead_s += 20
    async with refused(_CONFLICT):
        await on.claim(owner="b")
    await journal.release("s", first)
    assert await journal.holder("s") is None
    second = await on.claim(owner="b")
    assert second > first
    await journal.release("s", first)  # an older one: has no effect
    async with refused(_CONFLICT):
        await on.claim(owner="a")
    async with refused(_CONFLICT):
        await journal.renew("s", first, 30.0)
    world.ahead_s += 31
    held = await journal.holder("s")
    assert held is not None
    assert held[0] == "b"
    assert held[1] < world.time()
    await journal.renew("s", second, 30.0)  # it had expired, and nobody has claimed it since
    async with refused(_CONFLICT):
        await on.claim(owner="a")


# --- runs and money ---------------------------------------------------------------------------


async def a_run_begins_once_and_ends_once(on: Bench) -> None:
    """A second start, another run before that, and an end without an open run are refused (C1)."""
    epoch, journal = await on.claim(), on.journal
    await journal.append("s", epoch, [on.start()], sync=True)
    for wrong in (on.start(), on.start("run_b"), on.end("run_b")):
        async with refused(_CONFLICT):
            await journal.append("s", epoch, [wrong], sync=True)
    await journal.append("s", epoch, [on.end()], sync=True)
    for wrong in (on.end(), on.start()):
        async with refused(_CONFLICT):
            await journal.append("s", epoch, [wrong], sync=True)
    assert [fact.type for fact in await on.facts()] == ["run.start", "run.end"]


async def runs_are_listed_and_found(on: Bench) -> None:
    """Runs are listed newest first; by stream, without an end, and by the beginning of an id."""
    journal = on.journal
    await on.ran("s", "run_ab")
    epoch = await on.claim("t")
    await journal.append("t", epoch, [on.note("before"), on.start("run_ac")], sync=True)
    assert [row.run_id for row in await journal.runs()] == ["run_ac", "run_ab"]
    assert [row.run_id for row in await journal.runs(limit=1)] == ["run_ac"]
    assert [row.run_id for row in await journal.runs(unfinished=True)] == ["run_ac"]
    [row] = await journal.runs(stream="s", limit=1)
    assert (row.run_id, row.status, row.iterations, row.first) == ("run_ab", "ok", 1, 1)
    await on.ran("u", "run_dog")
    assert [row.run_id for row in await journal.runs(unfinished=True, limit=1)] == ["run_ac"]
    found = await journal.find_run("run_ac")
    assert found is not None
    assert (found.stream, found.status, found.ended, found.first) == ("t", "", None, 2)
    assert await journal.find_run("run_ab") == row
    begins = await journal.find_run("run_d")
    assert begins is not None
    assert begins.run_id == "run_dog"
    for unknown in ("", "run_x", "run%", "r_n_ab", "RUN_AB", "un_ab"):
        assert await journal.find_run(unknown) is None, unknown
    async with refused(ExecutorErrorCode.EXEC_RUN_UNKNOWN):
        await journal.find_run("run_")


async def money_moves_with_the_facts(on: Bench) -> None:
    """Costs are applied together with the facts or not at all; and never more than a purse
    holds."""
    epoch, journal = await on.claim(), on.journal
    purse = Purse("job:1", 100)
    entry = LedgerEntry("run_a", 60, purses=(purse,))
    await journal.append("s", epoch, [on.start()], sync=True, ledger=entry)
    async with refused(ExecutorErrorCode.EXEC_BUDGET_EXCEEDED):
        await journal.append("s", epoch, [on.note("too dear")], sync=True, ledger=entry)
    assert await journal.balance("run_a") == await journal.used(purse) == Balance(60, 0)
    settled = LedgerEntry("run_a", -60, 25, purses=(purse,))
    await journal.append("s", epoch, [on.note("paid")], sync=False, ledger=settled)
    assert await journal.balance("run_a") == await journal.used(purse) == Balance(0, 25)
    assert dict(await journal.shares("job:1")) == {"run_a": Balance(0, 25)}
    late = LedgerEntry("run_a", 0, 80, purses=(purse,))
    for _ in range(2):  # it is spent, whatever the purse holds
        await journal.append("s", epoch, [on.note("dearer")], sync=False, ledger=late)
    assert await journal.used(purse) == Balance(0, 185)
    more = LedgerEntry("run_a", 1, purses=(purse,))
    async with refused(ExecutorErrorCode.EXEC_BUDGET_EXCEEDED):
        await journal.append("s", epoch, [on.note("one more")], sync=False, ledger=more)
    assert [fact.data.get("key") for fact in await on.facts()] == [None, "paid", "dearer", "dearer"]


async def a_purse_counts_its_window_and_no_money_twice(on: Bench) -> None:
    """What was spent before a purse's window no longer counts, what is reserved does. What child
    runs have spent is not taken from it again, and it outlives the runs that it paid for."""
    epoch, journal = await on.claim(), on.journal
    always, hourly = Purse("job:1", 100), Purse("hour:1", 100, 3600.0)
    entry = LedgerEntry("run_a", 20, 70, purses=(always, hourly))
    await journal.append("s", epoch, [on.start()], sync=True, ledger=entry)
    assert await journal.used(hourly) == Balance(20, 70)
    child = LedgerEntry("run_a", 0, 30, purses=(always, hourly), below=30)
    await journal.append("s", epoch, [on.note("child")], sync=True, ledger=child)
    assert await journal.balance("run_a") == Balance(20, 100)
    assert await journal.used(always) == Balance(20, 70), "the child has charged it already"
    on.world.ahead_s += 2 * 3600
    epoch = await on.claim()
    assert await journal.used(hourly) == Balance(20, 0)
    assert await journal.used(always) == Balance(20, 70)
    last = LedgerEntry("run_a", -20, 0, purses=(always, hourly))
    await journal.append("s", epoch, [on.end()], sync=True, ledger=last)
    await journal.release("s", epoch)
    assert await journal.drop("s", before=on.world.time() + 60)
    assert await journal.balance("run_a") == Balance()
    assert await journal.used(always) == await journal.balance("job:1") == Balance(0, 70)
    assert dict(await journal.shares("job:1")) == {"": Balance(0, 70)}


# --- beside the facts -------------------------------------------------------------------------


async def documents_and_snapshots_are_kept(on: Bench) -> None:
    """A document is stored under its hash; for a stream, the snapshot that covers most is kept."""
    journal = on.journal
    assert await journal.get("d") is None
    await journal.put("d", b"\x00one")
    await journal.put("d", b"\x00one")
    assert await journal.get("d") == b"\x00one"
    await on.claim()
    assert await journal.snapshot("s") is None
    await journal.put_snapshot("s", 5, b"five")
    await journal.put_snapshot("s", 3, b"three")
    assert await journal.snapshot("s") == (5, b"five")


async def a_post_waits_until_a_fact_takes_it(on: Bench) -> None:
    """A post is known by its id, before and after it was consumed; a refused append consumes
    none."""
    epoch, journal = await on.claim(), on.journal
    assert await journal.post("s", "p", {"kind": "text", "text": "ü"})
    assert not await journal.post("s", "p", {"kind": "another"})
    assert await journal.post("s", "q", {})
    assert [(post.id, dict(post.message)) for post in await journal.posts("s")] == [
        ("p", {"kind": "text", "text": "ü"}),
        ("q", {}),
    ]
    async with refused(_CONFLICT):
        await journal.append("s", epoch + 1, [on.note("x", posts=["p"])], sync=True)
    assert len(await journal.posts("s")) == 2
    await journal.append("s", epoch, [on.start(), on.note("x", posts=["p"])], sync=True)
    assert [post.id for post in await journal.posts("s")] == ["q"]
    assert not await journal.post("s", "p", {"kind": "text"})
    async with refused():
        await journal.post("nobody's", "p", {})


async def who_watches_is_told_of_posts(on: Bench) -> None:
    """A watcher is notified of posts to that stream, until it unsubscribes."""
    await on.claim()
    await on.claim("t")
    told, other = asyncio.Event(), asyncio.Event()
    end = on.journal.watch("s", told.set)
    stop = on.journal.watch("t", other.set)
    stop()
    await on.journal.post("s", "p", {})
    await on.journal.post("t", "p", {})
    await asyncio.wait_for(told.wait(), PATIENCE_S)
    end()
    assert not other.is_set()


# --- what becomes of old streams --------------------------------------------------------------


async def only_what_is_over_is_dropped_and_then_whole(on: Bench) -> None:
    """Neither what somebody holds, nor what has no end or ended later, is dropped. A former holder
    may not write to a later stream of that name."""
    journal, world = on.journal, on.world
    held = await on.ran("held", "run_held")
    epoch = await on.claim("open")
    await journal.append("open", epoch, [on.start("run_open")], sync=True)
    await journal.release("open", epoch)
    old = await on.ran("old", "run_old")
    await journal.post("old", "p", {})
    await journal.put_snapshot("old", 2, b"fold")
    await journal.release("old", old)
    begun = world.time() - 60
    assert not await journal.drop("old", before=begun), "it ended later"
    later = world.time() + 60
    assert await journal.compact("open", before=later) is None
    kept = await on.facts("old")
    assert await journal.compact("old", before=later) is not None
    assert await on.facts("old") == kept, "compacting changes no fact"
    for name in ("held", "open", "nobody's"):
        assert not await journal.drop(name, before=later), name
    assert await journal.drop("old", before=later)
    assert await on.facts("old") == []
    assert await journal.find_run("run_old") is None
    assert await journal.snapshot("old") is None
    assert await journal.posts("old") == []
    assert len(await on.facts("held")) == 2
    async with refused(_CONFLICT):
        await journal.append("old", old, [on.start("run_new")], sync=True)
    new = await on.claim("old")
    assert new > old
    assert await journal.append("old", new, [on.start("run_new")], sync=True) == 1
    assert await journal.append("held", held, [on.note("x", "run_held")], sync=True) == 3


async def documents_that_no_run_names_are_swept(on: Bench) -> None:
    """Only while nobody holds a stream: a holder may be about to begin a run that refers to one."""
    journal = on.journal
    epoch = await on.ran("s", "run_a")
    for digest in ("m", "call:run_a", "nobody's"):
        await journal.put(digest, b"x")
    assert await journal.sweep() == 0
    assert await journal.get("nobody's") == b"x"
    await journal.release("s", epoch)
    assert await journal.sweep() == 1
    assert await journal.get("nobody's") is None
    assert await journal.get("m") == await journal.get("call:run_a") == b"x"


async def a_closed_journal_takes_nothing(on: Bench) -> None:
    """A closed journal reports that it is closed. Closing it twice is harmless."""
    epoch = await on.claim()
    await on.journal.close()
    await on.journal.close()
    async with refused():
        await on.journal.append("s", epoch, [on.start()], sync=False)


PROMISES: Final[tuple[Promise, ...]] = tuple(
    Promise(ask)
    for ask in (
        facts_come_back_as_they_were_written,
        streams_are_apart,
        what_was_acknowledged_is_there_when_it_is_opened_again,
        a_follower_is_told,
        only_who_holds_a_stream_writes_to_it,
        a_claim_holds_until_it_has_run_out_or_is_given_back,
        a_run_begins_once_and_ends_once,
        runs_are_listed_and_found,
        money_moves_with_the_facts,
        a_purse_counts_its_window_and_no_money_twice,
        documents_and_snapshots_are_kept,
        a_post_waits_until_a_fact_takes_it,
        who_watches_is_told_of_posts,
        only_what_is_over_is_dropped_and_then_whole,
        documents_that_no_run_names_are_swept,
        a_closed_journal_takes_nothing,
    )
)
"""All of them. The names are stable."""
