"""The kit for whoever writes a journal: ours keep its promises, and what is broken is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON
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
