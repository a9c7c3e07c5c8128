"""Resources that a run owns between its calls, such as background programs: all are ended before
its last fact. They live in this process only: a run that is resumed elsewhere starts without them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

O = TypeVar("O", bound="OwnedResource")  # noqa: E741 - the letter that the field would take


class OwnedResource(Protocol):
    """Something that a run started and that continues between its calls."""

    async def end(self) -> None:
        """End it and everything it has started, in bounded time. Called once, from any task of the
        run's loop; does not raise."""
        ...


class OwnedResources:
    """The resources that one run owns, at most one of a class."""

    __slots__ = ("_over", "_things")

    def __init__(self) -> None:
        self._things: dict[type[OwnedResource], OwnedResource] = {}
        self._over = False

    def get(self, kind: type[O]) -> O | None:
        """The resource of that class, if there is one."""
        found = self._things.get(kind)
        return found if isinstance(found, kind) else None

    def own(self, kind: type[O], make: Callable[[], O]) -> O:
        """The resource of that class, created if there is none. Raises RuntimeError once the run
        ends."""
        found = self.get(kind)
        if found is None:
            if self._over:
                raise RuntimeError("the run is ending: it starts nothing more")
            found = self._things[kind] = make()
        return found

    async def end(self) -> asyncio.CancelledError | None:
        """End all of them concurrently, however often this is cancelled meanwhile; returns the
        cancellation, if there was one."""
        self._over = True
        loop = asyncio.get_running_loop()
        things, self._things = self._things, {}
        ending = [loop.create_task(thing.end()) for thing in things.values()]
        cancelled: asyncio.CancelledError | None = None
        while any(not task.done() for task in ending):
            try:
                await asyncio.wait(ending)
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled

    def __bool__(self) -> bool:
        return bool(self._things)
