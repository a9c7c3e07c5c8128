"""What every journal promises (`lorimer.core.journal.Journal`)."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.journal import Balance, Journal, LedgerEntry, RunRow
from tests.journal.support import NOW, Store, end, facts_of, iteration, keys, note, start

CONFLICT = ExecutorErrorCode.EXEC_JOURNAL_CONFLICT


@pytest.fixture(params=["memory", "sqlite", "sqlite-inline"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.param, tmp_path / "journal.db")


def test_facts_come_back_equal_numbered_and_in_order(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        written = [start()]
        assert await journal.append("s", epoch, written, sync=True) == 1
        for number in range(1, 4):
            for row in iteration(number):
                last = await journal.append("s", epoch, row, sync=row[0].type == "tool.intent")
                written += row
                assert last == len(written) == row[-1].seq
        written.append(end())
        await journal.append("s", epoch, written[-1:], sync=True)
        assert [event.seq for event in written] == list(range(1, len(written) + 1))
        assert await facts_of(journal, "s") == written
        for after in range(len(written) + 2):  # also from inside a row of several facts
            assert await facts_of(journal, "s", after) == written[after:]

    store.run(test)


def test_a_stage_and_a_foreign_run_id_are_kept(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        early = note("before any run", run="")
        child = note("of another run", run="run_child")
        staged = note("in a stage")
        staged.stage = "api"
        both = note("both", run="run_child")
        both.stage = "tool"
        rows = [[early], [start(), child, staged], [both, note("back")]]
        for row in rows:
            await journal.append("s", epoch, row, sync=False)
        read = await facts_of(journal, "s")
        assert read == [event for row in rows for event in row]
        assert [event.stage for event in read] == ["", "", "", "api", "tool", ""]

    store.run(test)


def test_streams_are_separate(store: Store) -> None:
    async def test(journal: Journal) -> None:
        for name in ("one", "two", "three"):
            epoch = await journal.claim(name, "me", 30)
            await journal.append(name, epoch, [note(f"{name} 1"), note(f"{name} 2")], sync=False)
        assert keys(await facts_of(journal, "two")) == ["two 1", "two 2"]
        assert await facts_of(journal, "two", 2) == []
        assert await facts_of(journal, "nobody's") == []

    store.run(test)


def test_an_append_without_the_claim_changes_nothing(store: Store) -> None:
    async def test(journal: Journal) -> None:
        refused = start()
        with pytest.raises(JournalError) as caught:
            await journal.append("s", 1, [refused], sync=False, ledger=LedgerEntry("a", 5))
        assert caught.value.code is CONFLICT
        old = await journal.claim("s", "me", 30)
        await journal.append("s", old, [note("mine")], sync=True, ledger=LedgerEntry("a", 5))
        store.clock.now += 31
        new = await journal.claim("s", "you", 30)
        assert new > old
        entry = LedgerEntry("a", 100, 100)
        for sync in (False, True):
            with pytest.raises(JournalError) as caught:
                await journal.append("s", old, [refused], sync=sync, ledger=entry)
            assert caught.value.code is CONFLICT
        await journal.append("s", new, [note("yours")], sync=False)
        assert refused.seq is None
        assert keys(await facts_of(journal, "s")) == ["mine", "yours"]
        assert await journal.balance("a") == Balance(5, 0)
        assert await journal.runs() == []

    store.run(test)


def test_a_claim_holds_until_it_ends_is_renewed_or_given_back(store: Store) -> None:
    async def refused(journal: Journal, owner: str) -> None:
        with pytest.raises(JournalError, match="'me'") as caught:
            await journal.claim("s", owner, 10)
        assert caught.value.code is CONFLICT

    async def test(journal: Journal) -> None:
        first = await journal.claim("s", "me", 10)
        store.clock.now += 9
        await refused(journal, "you")
        assert await journal.claim("s", "me", 10) == first
        store.clock.now += 9
        await refused(journal, "you")
        await journal.release("s", first - 1)
        await refused(journal, "you")
        store.clock.now += 2
        assert await journal.claim("s", "me", 10) == first  # late, but nobody came between
        await journal.release("s", first)
        second = await journal.claim("s", "you", 10)
        assert second > first
        await journal.release("s", first)  # of no effect any more
        with pytest.raises(JournalError):
            await journal.claim("s", "me", 10)
        await journal.release("nobody's", 1)

    store.run(test)


def test_a_claim_is_renewed_only_while_it_is_the_last(store: Store) -> None:
    async def refused(journal: Journal, stream: str, epoch: int) -> None:
        with pytest.raises(JournalError, match="no longer the writer") as caught:
            await journal.renew(stream, epoch, 10)
        assert caught.value.code is CONFLICT

    async def taken(journal: Journal, owner: str) -> None:
        with pytest.raises(JournalError, match=f"'{owner}'"):
            await journal.claim("s", "somebody", 10)

    async def test(journal: Journal) -> None:
        await refused(journal, "s", 1)  # nobody ever claimed it
        mine = await journal.claim("s", "me", 10)
        for later in (9, 9, 11):  # the last time, it had run out
            store.clock.now += later
            await journal.renew("s", mine, 10)
            await taken(journal, "me")
        await refused(journal, "s", mine + 1)
        await journal.release("s", mine)
        await refused(journal, "s", mine)
        yours = await journal.claim("s", "you", 10)
        await refused(journal, "s", mine)
        await taken(journal, "you")
        store.clock.now += 11
        await refused(journal, "s", mine)  # nor when that one has run out
        await journal.append("s", yours, [note("yours")], sync=False)
        await journal.renew("s", yours, 10)
        await taken(journal, "you")

    store.run(test)


def test_money_moves_with_the_facts(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        assert await journal.balance("a") == Balance()
        moves = [LedgerEntry("a", 500), LedgerEntry("b", 7), LedgerEntry("a", -500, 321)]
        for entry in moves:
            await journal.append("s", epoch, [note("x")], sync=False, ledger=entry)
        assert await journal.balance("a") == Balance(0, 321)
        assert await journal.balance("b") == Balance(7, 0)
        with pytest.raises(JournalError, match="out of range"):
            await journal.append(
                "s", epoch, [note("x")], sync=False, ledger=LedgerEntry("a", 2**53)
            )
        assert len(await facts_of(journal, "s")) == 3

    store.run(test)


def test_an_append_of_nothing_is_refused(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        with pytest.raises(JournalError, match="at least one fact"):
            await journal.append("s", epoch, [], sync=False)

    store.run(test)


def test_runs_are_listed_newest_first(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epochs = {name: await journal.claim(name, "me", 30) for name in "st"}
        await journal.append("s", epochs["s"], [start("run_1", 0.5, title="Zürich")], sync=True)
        done = end("run_1", 9.25, status="failed", code="exec.x", cost=12, iterations=3)
        await journal.append("s", epochs["s"], [note("x", "run_1"), done], sync=True)
        await journal.append("t", epochs["t"], [start("run_2")], sync=True)
        both = [start("run_3"), end("run_3", status="completed")]
        await journal.append("s", epochs["s"], both, sync=True)
        rows = await journal.runs()
        assert [row.run_id for row in rows] == ["run_3", "run_2", "run_1"]
        assert rows[2] == RunRow(
            "run_1",
            "s",
            round(NOW + 0.5, 6),
            "Zürich",
            "failed",
            round(NOW + 9.25, 6),
            3,
            12,
            "exec.x",
            1,
        )
        assert rows[1] == RunRow("run_2", "t", NOW, "hi", first=1)  # titled by its input
        assert (rows[0].status, rows[0].first) == ("completed", 4)
        assert await journal.runs(limit=2) == rows[:2]
        assert await journal.runs(limit=0) == []

    store.run(test)


@pytest.mark.parametrize(
    ("input", "title"),
    [
        ("two\n words", "two words"),
        ({"text": "of a mapping"}, "of a mapping"),
        ({"rows": [1]}, ""),
        ("long " * 50, ("long " * 50)[:99] + "…"),
        ("half \ud83d", "half ?"),
    ],
)
def test_a_run_without_a_title_has_its_input_as_one(
    store: Store, input: object, title: str
) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [start(input=input)], sync=True)
        assert [row.title for row in await journal.runs()] == [title]

    store.run(test)


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    async def test(journal: Journal) -> None:
        for run in ("run_ab", "run_abc", "run_b", "run_ß"):
            epoch = await journal.claim(run, "me", 30)
            await journal.append(run, epoch, [start(run)], sync=False)

        async def found(prefix: str) -> str:
            row = await journal.find_run(prefix)
            return row.run_id if row else ""

        assert await found("run_abc") == "run_abc"
        assert await found("run_ab") == "run_ab"  # exact, though another begins with it
        assert await found("run_b") == "run_b"
        assert await found("run_ß") == "run_ß"
        assert await found("run_c") == await found("%") == await found("") == ""
        with pytest.raises(JournalError, match="several runs begin with 'run_': run_ab") as caught:
            await found("run_")
        assert caught.value.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN

    store.run(test)


def test_a_run_starts_once_and_ends_once(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        other = await journal.claim("t", "me", 30)

        async def refused(stream: str, *row: object) -> None:
            before = await facts_of(journal, stream)
            with pytest.raises(JournalError) as caught:
                await journal.append(stream, other if stream == "t" else epoch, row, sync=True)  # type: ignore[arg-type]
            assert caught.value.code is CONFLICT
            assert await facts_of(journal, stream) == before

        await refused("s", end("run_a"))
        await refused("s", start("run_a"), start("run_a"))
        await journal.append("s", epoch, [start("run_a")], sync=True)
        await refused("t", start("run_a"))
        await refused("s", start("run_b"))
        await refused("s", end("run_a"), start("run_b"), start("run_c"))
        await refused("t", end("run_a"))
        await refused("s", note("x"), end("run_b"))
        await refused("s", end("run_a"), end("run_a"))
        await journal.append("s", epoch, [end("run_a")], sync=True)
        await refused("s", end("run_a"))
        assert [row.run_id for row in await journal.runs()] == ["run_a"]
        with pytest.raises(JournalError, match="no run id"):
            await journal.append("s", epoch, [start("")], sync=True)

    store.run(test)


def test_documents_are_kept_by_hash(store: Store) -> None:
    async def test(journal: Journal) -> None:
        assert await journal.get("h1") is None
        big = bytes(range(256)) * 1000
        await journal.put("h1", b"one")
        await journal.put("h2", big)
        await journal.put("h1", b"one")
        assert await journal.get("h1") == b"one"
        assert await journal.get("h2") == big

    store.run(test)


def test_the_latest_snapshot_is_kept(store: Store) -> None:
    async def test(journal: Journal) -> None:
        with pytest.raises(JournalError, match="no stream 's'"):
            await journal.put_snapshot("s", 1, b"x")
        await journal.claim("s", "me", 30)
        assert await journal.snapshot("s") is None
        assert await journal.snapshot("t") is None
        await journal.put_snapshot("s", 5, b"five")
        await journal.put_snapshot("s", 9, b"nine" * 50_000)
        await journal.put_snapshot("s", 7, b"late")
        assert await journal.snapshot("s") == (9, b"nine" * 50_000)

    store.run(test)


def test_a_follower_sees_what_was_and_what_comes(store: Store) -> None:
    async def test(journal: Journal) -> None:
        seen: dict[int, list[object]] = {0: [], 1: []}

        async def follow(after: int) -> None:
            async for event in journal.read("s", after, follow=True):
                seen[after].append(event.data["key"])
                if event.data["key"] == "c":
                    return

        followers = [asyncio.create_task(follow(after)) for after in (0, 1)]
        await asyncio.sleep(0.01)  # nobody has claimed the stream yet
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [note("a")], sync=False)
        await asyncio.sleep(0.01)
        await journal.append("s", epoch, [note("b")], sync=True)
        await journal.append("s", epoch, [note("c")], sync=False)
        async with asyncio.timeout(5):
            await asyncio.gather(*followers)
        assert seen == {0: ["a", "b", "c"], 1: ["b", "c"]}

    store.run(test)


def test_a_follower_can_be_cancelled_while_it_waits(store: Store) -> None:
    async def test(journal: Journal) -> None:
        async def follow() -> None:
            async for _ in journal.read("s", follow=True):
                pass

        task = asyncio.create_task(follow())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [note("a")], sync=False)  # wakes nobody

    store.run(test)


def test_a_follower_may_live_on_another_loop(store: Store) -> None:
    if store.kind == "sqlite-inline":
        pytest.skip("without threads a journal belongs to one thread")
    journal = store.open()
    seen: list[object] = []

    async def follow() -> None:
        async for event in journal.read("s", follow=True):
            seen.append(event.data["key"])
            if len(seen) == 20:
                return

    async def write() -> None:
        epoch = await journal.claim("s", "me", 30)
        for number in range(20):
            await journal.append("s", epoch, [note(str(number))], sync=number % 5 == 0)
            await asyncio.sleep(0.001)

    async def abandon() -> None:
        reading = journal.read("s", 99, follow=True)
        task = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(abandon())  # its loop is closed when the stream grows
    follower = threading.Thread(target=lambda: asyncio.run(follow()))
    follower.start()
    asyncio.run(write())
    follower.join(10)
    assert seen == [str(number) for number in range(20)]
    asyncio.run(journal.close())


def test_calls_made_at_once_keep_their_order(store: Store) -> None:
    async def test(journal: Journal) -> None:
        async def write(stream: str) -> None:
            epoch = await journal.claim(stream, "me", 30)
            async with asyncio.TaskGroup() as group:
                for number in range(30):
                    row = [note(f"{number}a"), note(f"{number}b")]
                    group.create_task(
                        journal.append(stream, epoch, row, sync=number % 7 == 0)  # type: ignore[arg-type]
                    )

        await asyncio.gather(*[write(f"s{number}") for number in range(8)])
        expected = [f"{number}{letter}" for number in range(30) for letter in "ab"]
        for number in range(8):
            events = await facts_of(journal, f"s{number}")
            assert keys(events) == expected
            assert [event.seq for event in events] == list(range(1, 61))

    store.run(test)


def test_a_closed_journal_takes_nothing(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.append("s", epoch, [note("a")], sync=False)
        await journal.close()
        for late in (
            journal.append("s", epoch, [note("b")], sync=False),
            journal.post("s", "m", {}),
        ):
            with pytest.raises(JournalError, match="closed"):
                await late

    store.run(test)  # closes it a second time


def test_a_post_waits_until_a_fact_takes_it_and_is_known_by_its_id(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        assert await journal.post("s", "m1", {"text": "first", "n": [1, None, {"ä": "\U0001f600"}]})
        assert await journal.post("s", "m2", {"text": "second"})
        assert not await journal.post("s", "m1", {"text": "again"})
        waiting = await journal.posts("s")
        assert [(post.id, post.message["text"]) for post in waiting] == [
            ("m1", "first"),
            ("m2", "second"),
        ]
        assert waiting[0].message["n"] == [1, None, {"ä": "\U0001f600"}]
        assert waiting[0].time == store.clock.now
        took = note("inbox:")
        took.data = {"key": "inbox:", "posts": ["m1", "nobody's"]}
        await journal.append("s", epoch, [start(), took], sync=False)
        assert [post.id for post in await journal.posts("s")] == ["m2"]
        assert not await journal.post("s", "m1", {"text": "once more"})
        assert [post.id for post in await journal.posts("s")] == ["m2"]

    store.run(test)


def test_a_refused_append_takes_no_post(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await journal.claim("s", "me", 30)
        await journal.post("s", "m1", {})
        took = note("inbox:")
        took.data = {"key": "inbox:", "posts": ["m1"]}
        with pytest.raises(JournalError):
            await journal.append("s", epoch, [took, end()], sync=False)  # no run to end
        assert [post.id for post in await journal.posts("s")] == ["m1"]

    store.run(test)


def test_what_cannot_be_posted_is_refused_and_changes_nothing(store: Store) -> None:
    async def test(journal: Journal) -> None:
        await journal.claim("s", "me", 30)
        bad: list[tuple[str, str, dict]] = [
            ("nobody's", "m", {}),
            ("s", "", {}),
            ("s", "x" * 201, {}),
            ("s", "two\nlines", {}),
            ("s", "m", {"x": object()}),
            ("s", "m", {"x": float("nan")}),
            ("s", "m", {"x": "\ud800"}),
            ("s", "m", {"x": "y" * 1_000_001}),
        ]
        for stream, name, message in bad:
            with pytest.raises(JournalError):
                await journal.post(stream, name, message)
        assert await journal.posts("s") == []
        assert await journal.posts("nobody's") == []
        for number in range(1000):
            await journal.post("s", str(number), {})
        with pytest.raises(JournalError, match="full"):
            await journal.post("s", "one more", {})

    if store.kind != "sqlite":  # a thousand syncs
        store.run(test)


def test_who_watches_a_stream_is_told_of_posts_to_it_alone(store: Store) -> None:
    async def test(journal: Journal) -> None:
        for stream in ("one", "two"):
            await journal.claim(stream, "me", 30)
        told: list[str] = []
        end_one = journal.watch("one", lambda: told.append("one"))
        end_two = journal.watch("two", lambda: told.append("two"))
        await journal.post("one", "m", {})
        await journal.post("one", "m", {})
        await asyncio.sleep(0.001)
        assert set(told) == {"one"}  # where it also looks for what others post, perhaps twice
        end_one()
        end_one()
        told.clear()
        await journal.post("one", "n", {})
        await journal.post("two", "n", {})
        await asyncio.sleep(0.001)
        assert set(told) == {"two"}
        end_two()

    store.run(test)


def test_only_the_runs_without_an_end_are_listed_on_demand(store: Store) -> None:
    async def test(journal: Journal) -> None:
        for number in range(4):
            epoch = await journal.claim(f"s{number}", "me", 30)
            run = f"run_{number}"
            await journal.append(f"s{number}", epoch, [start(run)], sync=False)
            if number % 2:
                await journal.append(f"s{number}", epoch, [end(run)], sync=False)
        assert [row.run_id for row in await journal.runs(unfinished=True)] == ["run_2", "run_0"]
        assert [row.run_id for row in await journal.runs(limit=1, unfinished=True)] == ["run_2"]
        assert len(await journal.runs()) == 4

    store.run(test)


def test_the_runs_of_one_stream(store: Store) -> None:
    async def test(journal: Journal) -> None:
        for name in ("one", "two", "one"):
            epoch = await journal.claim(name, "me", 30)
            run = f"run_{len(await journal.runs())}"
            await journal.append(name, epoch, [start(run), end(run)], sync=False)
        assert [row.run_id for row in await journal.runs(stream="one")] == ["run_2", "run_0"]
        assert [row.run_id for row in await journal.runs(stream="one", limit=1)] == ["run_2"]
        assert await journal.runs(stream="nobody's") == []

    store.run(test)


def test_what_was_written_is_as_it_was_written(store: Store) -> None:
    async def test(journal: Journal) -> None:
        for name in ("one", "two"):
            epoch = await journal.claim(name, "me", 30)
            await journal.append(name, epoch, [start(f"run_{name}")], sync=True)
            for number in range(1, 400):  # more rows than one chunk has
                for row in iteration(number, f"run_{name}"):
                    await journal.append(name, epoch, row, sync=False)
            await journal.release(name, epoch)
            epoch = await journal.claim(name, "you", 30)  # and the chain goes on
            await journal.append(name, epoch, [end(f"run_{name}")], sync=True)
        assert await journal.check("one") == await journal.check("two") == []
        assert await journal.check("nobody's") == []

    store.run(test)


async def ran(journal: Journal, stream: str, *runs: str, at: float = 0.0) -> int:
    """Runs that have ended, 9 s after `at`, on a stream that is held afterwards."""
    epoch = await journal.claim(stream, "me", 30)
    for run in runs:
        begin = start(run, at, manifest=f"of {run}")
        await journal.append(
            stream, epoch, [begin, end(run, at + 9)], sync=True, ledger=LedgerEntry(run, 0, 7)
        )
    return epoch


def test_an_ended_stream_is_dropped_whole_and_others_stay(store: Store) -> None:
    async def test(journal: Journal) -> None:
        for stream in ("old", "other"):
            epoch = await ran(journal, stream, f"{stream}_1", f"{stream}_2")
            await journal.put_snapshot(stream, 2, b"snapshot")
            await journal.release(stream, epoch)
        assert await journal.drop("old", before=NOW + 10) is True
        assert await facts_of(journal, "old") == []
        assert await journal.snapshot("old") is None
        assert await journal.balance("old_1") == Balance()
        assert await journal.find_run("old_1") is None
        assert {row.stream for row in await journal.runs()} == {"other"}
        assert len(await facts_of(journal, "other")) == 4
        assert await journal.snapshot("other") == (2, b"snapshot")
        assert await journal.balance("other_1") == Balance(0, 7)
        assert await journal.drop("old", before=NOW + 10) is False, "it is gone already"

    store.run(test)


def test_what_is_young_unfinished_held_or_unknown_is_not_dropped(store: Store) -> None:
    async def test(journal: Journal) -> None:
        epoch = await ran(journal, "s", "run_1")
        assert await journal.drop("s", before=NOW + 10) is False, "it is held"
        store.clock.now += 31
        assert await journal.drop("s", before=NOW + 9) is False, "it is too young"
        await journal.append("s", epoch, [start("run_2")], sync=True)
        assert await journal.drop("s", before=NOW + 99) is False, "a run has no end"
        assert await journal.drop("nobody's", before=NOW + 99) is False
        assert len(await facts_of(journal, "s")) == 3
        await journal.append("s", epoch, [end("run_2")], sync=True)
        assert await journal.drop("s", before=NOW + 99) is True, "the claim has run out"

    store.run(test)


def test_who_held_a_stream_that_was_dropped_does_not_write_to_its_successor(store: Store) -> None:
    async def test(journal: Journal) -> None:
        old = await ran(journal, "s", "run_1")
        store.clock.now += 31
        assert await journal.drop("s", before=NOW + 99)
        with pytest.raises(JournalError) as caught:
            await journal.append("s", old, [start("run_2")], sync=False)
        assert caught.value.code is CONFLICT
        new = await journal.claim("s", "me", 30)
        assert new > old
        with pytest.raises(JournalError):
            await journal.append("s", old, [start("run_2")], sync=False)
        assert await journal.append("s", new, [start("run_3")], sync=True) == 1
        assert await journal.check("s") == []
        assert [row.first for row in await journal.runs(stream="s")] == [1]

    store.run(test)


def test_documents_that_no_run_names_are_swept_when_nobody_is_about_to_begin_one(
    store: Store,
) -> None:
    async def test(journal: Journal) -> None:
        epochs = [await ran(journal, name, f"run_{name}") for name in ("a", "b")]
        for digest in ("of run_a", "of run_b", "call:run_a", "call:run_b", "nobody's"):
            await journal.put(digest, digest.encode())
        await journal.release("a", epochs[0])
        assert await journal.drop("a", before=NOW + 10)
        assert await journal.sweep() == 0, "b is held"
        await journal.release("b", epochs[1])
        assert await journal.sweep() == 3
        assert await journal.get("of run_a") is None
        assert await journal.get("call:run_a") is None
        assert await journal.get("of run_b") == b"of run_b"
        assert await journal.get("call:run_b") == b"call:run_b"
        assert await journal.sweep() == 0

    store.run(test)
