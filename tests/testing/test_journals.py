"""The kit for whoever writes a journal: ours keep its promises, and what is broken is found."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorimer.core.events import Event
from lorimer.core.journal import Balance, Journal, RunRow
from lorimer.core.jsonable import JSON
from lorimer.core.purse import Purse
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.testing.journals import PROMISES, Promise, TurnedWorld, check


@pytest.mark.parametrize("kind", ["memory", "sqlite", "sqlite-inline"])
@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_ours_keep_each_promise(promise: Promise, kind: str, tmp_path: Path) -> None:
    def opened(world: TurnedWorld) -> Journal:
        if kind == "memory":
            return MemoryJournal(world)
        return SQLiteJournal(tmp_path / "runs.db", world=world, threads=kind == "sqlite")

    promise.run(opened)


class _Forgets(MemoryJournal):
    """Says that it is durable, and is not."""

    durable = True


class _Unfenced(MemoryJournal):
    async def append(self, stream: str, epoch: int, facts: Sequence[Event], **how: Any) -> int:
        line = self._streams.get(stream)
        return await super().append(stream, line.epoch if line else epoch, facts, **how)


class _TakesTwice(MemoryJournal):
    async def post(self, stream: str, id: str, message: Mapping[str, JSON]) -> bool:
        line = self._streams.get(stream)
        if line is not None:
            line.taken = None
        return await super().post(stream, id, message)


class _DropsAnything(MemoryJournal):
    async def drop(self, stream: str, *, before: float) -> bool:
        line = self._streams.get(stream)
        if line is not None:
            line.owner = ""
        return await super().drop(stream, before=before)


class _DropsMoney(MemoryJournal):
    async def append(self, stream: str, epoch: int, facts: Sequence[Event], **how: Any) -> int:
        return await super().append(stream, epoch, facts, sync=how["sync"])


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (_Forgets, "what_was_acknowledged_is_there_when_it_is_opened_again"),
        (_Unfenced, "only_who_holds_a_stream_writes_to_it"),
        (_TakesTwice, "a_post_waits_until_a_fact_takes_it"),
        (_DropsAnything, "only_what_is_over_is_dropped_and_then_whole"),
        (_DropsMoney, "money_moves_with_the_facts"),
    ],
)
def test_what_is_broken_is_found(broken: type[MemoryJournal], promise: str) -> None:
    assert check(MemoryJournal) == ""
    report = check(broken)
    assert f"{promise}: " in report, report


# --- as faults of other stores would be ---------------------------------------------------------


class _Ends(MemoryJournal):
    """Ends where a follower would wait."""

    def read(
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        return super().read(stream, after)


class _Rewrites(MemoryJournal):
    """As a store of binary JSON: its keys are sorted."""

    async def read(  # type: ignore[override]
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        async for fact in super().read(stream, after, follow=follow):
            yield self.rewritten(fact, dict(sorted(fact.data.items())))

    def rewritten(self, fact: Event, data: Mapping[str, JSON]) -> Event:
        return Event(fact.type, data, fact.run_id, fact.iteration, fact.time, fact.stage, fact.seq)


class _ForgetsStages(_Rewrites):
    def rewritten(self, fact: Event, data: Mapping[str, JSON]) -> Event:
        return Event(fact.type, fact.data, fact.run_id, fact.iteration, fact.time, "", fact.seq)


class _IgnoresCase(MemoryJournal):
    """As a collation that ignores the case of names."""

    async def claim(self, stream: str, owner: str, ttl: float) -> int:
        return await super().claim(stream.lower(), owner, ttl)

    async def append(self, stream: str, epoch: int, facts: Sequence[Event], **how: Any) -> int:
        return await super().append(stream.lower(), epoch, facts, **how)

    def read(
        self, stream: str, after: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        return super().read(stream.lower(), after, follow=follow)


class _NeverBegan(MemoryJournal):
    def never_began(self, intent: Event) -> bool:
        return True


class _IgnoresWindows(MemoryJournal):
    async def used(self, purse: Purse) -> Balance:
        return await self.balance(purse.name)


class _ChargesTwice(MemoryJournal):
    async def append(self, stream: str, epoch: int, facts: Sequence[Event], **how: Any) -> int:
        ledger = how.pop("ledger", None)
        entry = replace(ledger, below=0) if ledger is not None else None
        return await super().append(stream, epoch, facts, ledger=entry, **how)


class _LosesShares(MemoryJournal):
    async def shares(self, name: str) -> Mapping[str, Balance]:
        return {run: share for run, share in (await super().shares(name)).items() if run}


class _LimitsFirst(MemoryJournal):
    async def runs(
        self, *, limit: int = 50, stream: str = "", unfinished: bool = False
    ) -> list[RunRow]:
        rows = await super().runs(limit=limit)
        return [
            row for row in rows if stream in ("", row.stream) and not (unfinished and row.status)
        ]


class _WholeIds(MemoryJournal):
    async def find_run(self, run_id: str) -> RunRow | None:
        row = await super().find_run(run_id)
        return row if row is not None and row.run_id == run_id else None


class _KeepsSnapshots(MemoryJournal):
    async def drop(self, stream: str, *, before: float) -> bool:
        kept = await self.snapshot(stream)
        dropped = await super().drop(stream, before=before)
        if kept is not None:
            await self.put_snapshot(stream, *kept)
        return dropped


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (_Ends, "a_follower_is_told"),
        (_Rewrites, "facts_come_back_as_they_were_written"),
        (_ForgetsStages, "facts_come_back_as_they_were_written"),
        (_IgnoresCase, "streams_are_apart"),
        (_NeverBegan, "only_who_holds_a_stream_writes_to_it"),
        (_IgnoresWindows, "a_purse_counts_its_window_and_no_money_twice"),
        (_ChargesTwice, "a_purse_counts_its_window_and_no_money_twice"),
        (_LosesShares, "a_purse_counts_its_window_and_no_money_twice"),
        (_LimitsFirst, "runs_are_listed_and_found"),
        (_WholeIds, "runs_are_listed_and_found"),
        (_KeepsSnapshots, "only_what_is_over_is_dropped_and_then_whole"),
    ],
)
def test_what_is_subtly_broken_is_found(broken: type[MemoryJournal], promise: str) -> None:
    asked = [each for each in PROMISES if str(each) == promise]
    assert f"{promise}: " in check(broken, asked)
    assert check(MemoryJournal, asked) == ""
