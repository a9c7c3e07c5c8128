"""A bare RunContext for work outside of any pipeline: no stages, no listeners, and nothing is
recorded. Limits apply, and effects are counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from zlib import crc32

from lorimer.core.bus import Bus, Listeners
from lorimer.core.cancel import Stopped
from lorimer.core.context import RunContext
from lorimer.core.events import Event
from lorimer.core.first_wait import on_first_wait
from lorimer.core.journal import LedgerEntry, Post
from lorimer.core.limits import Bounds, Limits
from lorimer.core.world import World

T = TypeVar("T")


async def alone(work: Callable[[RunContext], Awaitable[T]], limits: Limits, world: World) -> T:
    """Run `work` as a run of its own that leaves no record. Raises LimitError when its time is
    up."""
    name = world.new_id("run")
    run = RunContext(
        id=name,
        stream=name,
        epoch=0,
        seed=crc32(name.encode()),
        world=world,
        journal=_NullJournal(),
        bounds=Bounds(limits, world.monotonic()),
        listeners=Listeners(Bus()),
    )
    run.enter()
    run.begin_iteration(0)
    try:
        with run.cancellation.scope:
            return await on_first_wait(work(run), run.wait)
    except Stopped:
        if run.cancellation.interrupted is not None:
            raise run.cancellation.interrupted from None
    finally:
        run.leave()
    raise run.bounds.timed_out()  # nobody else cancels it


class _NullJournal:
    """Accepts facts and discards them: see `core.journal.RunJournal`."""

    durable = False

    async def append(
        self,
        stream: str,
        epoch: int,
        facts: Sequence[Event],
        *,
        sync: bool,
        ledger: LedgerEntry | None = None,
    ) -> int:
        return 0

    def never_began(self, intent: Event) -> bool:
        return False

    async def posts(self, stream: str) -> list[Post]:
        return []

    def watch(self, stream: str, tell: Callable[[], None]) -> Callable[[], None]:
        return _nothing


def _nothing() -> None:
    pass
