"""What the conformance kit for journals tests with: `journals.py` has the promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from lorimer.core.errors import ExecutorErrorCode, JournalError, LimitError
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON, dumps
from lorimer.testing.promises import AnyPromise
from lorimer.world.real import RealWorld


class TurnedWorld(RealWorld):
    """The real world, with a wall clock that can be moved forward, to let claims expire."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def time(self) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Wall clock, seconds."""
        return RealWorld.time() + self.ahead_s


Opener: TypeAlias = Callable[[TurnedWorld], Journal]
"""Opens the journal under test, which takes its time from that world: empty for each promise, and
if it is `durable`, the same one again when opened a second time with the same world."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a promise is tested with."""

    journal: Journal
    world: TurnedWorld
    again: Opener

    async def claim(self, stream: str = "s", owner: str = "me") -> int:
        """Claim a stream for 30 s; returns the epoch."""
        return await self.journal.claim(stream, owner, 30.0)

    async def ran(self, stream: str, run_id: str) -> int:
        """Record a run that begins and ends, in a stream that is held; returns the epoch."""
        epoch = await self.claim(stream)
        facts = [self.start(run_id), self.end(run_id)]
        await self.journal.append(stream, epoch, facts, sync=True)
        return epoch

    async def facts(self, stream: str = "s", after: int = 0) -> list[Event]:
        """All facts of a stream after a number."""
        return [fact async for fact in self.journal.read(stream, after)]

    async def told(self, stream: str = "s", after: int = 0) -> list[str]:
        """The facts as text: with the stage, and the keys of their data in order."""
        return [as_text(fact) for fact in await self.facts(stream, after)]

    def fact(self, type: str, run_id: str, **data: JSON) -> Event:
        """A fact of any kind, now."""
        return Event(type, data, run_id, 0, round(self.world.time(), 6))

    def start(self, run_id: str = "run_a", **data: JSON) -> Event:
        """A `run.start`."""
        return self.fact("run.start", run_id, **{"input": "hi", "manifest": "m", "seed": 7, **data})

    def end(self, run_id: str = "run_a", **data: JSON) -> Event:
        """A `run.end`."""
        said: dict[str, JSON] = {"status": "ok", "usage": {}, "cost": 0, "iterations": 1}
        return self.fact("run.end", run_id, **{**said, **data})

    def note(self, key: str, run_id: str = "run_a", **data: JSON) -> Event:
        """An `effect` with a key."""
        return self.fact("effect", run_id, key=key, **data)


def as_text(fact: Event) -> str:
    """All of a fact."""
    return dumps(fact.to_json())


class Promise(AnyPromise[Bench, Opener]):
    """One guarantee of every journal."""

    async def asked(self, open: Opener) -> None:
        """Ask it of an empty journal, which is closed afterwards."""
        world = TurnedWorld()
        journal = open(world)
        try:
            await self.ask(Bench(journal, world, open))
        finally:
            await journal.close()


@asynccontextmanager
async def refused(*codes: ExecutorErrorCode) -> AsyncGenerator[None]:
    """Expects JournalError (LimitError, if a budget refuses) within the block, with one of these
    codes, if any are given."""
    code: ExecutorErrorCode | None = None
    try:
        yield
    except (JournalError, LimitError) as error:
        code = error.code
    assert code is not None, "it was not refused"
    assert not codes or code in codes, f"refused with the code {code}"
