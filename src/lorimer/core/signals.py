"""Signals to listeners while a run is live: nothing here is recorded or changes the run.

Who listens, and how signals reach listeners: `bus.py`. What is recorded: `facts.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from lorimer.core.bus import Listeners
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.redaction import Redactor
from lorimer.core.world import World

_NOBODY: Final[Callable[[str], bool]] = frozenset[str]().__contains__

_NOTHING: Final[Mapping[str, JSON]] = {}


class Signals:
    """A run as its listeners see it: the part of a RunContext that notifies them."""

    __slots__ = (
        "_listeners",
        "has_listeners",
        "id",
        "iteration",
        "redactor",
        "replaying",
        "stage",
        "wants",
        "world",
    )

    def __init__(self, id: str, world: World, listeners: Listeners) -> None:
        self.id = id
        self.world = world
        self.iteration = 0
        self.stage = ""
        """Name of the stage that is running."""
        self.replaying: Collection[object] = ()
        """Recorded facts that have not been answered from yet; empty: the run is live."""
        self._listeners = listeners
        self.redactor: Redactor | None = None
        """Removes secrets from what is recorded and sent; None: no secrets are known."""
        self.has_listeners = listeners.tap is not None or not listeners.bus.silent
        """Whether anyone listens to this run; checked again in each iteration."""
        self.wants: Callable[[str], bool] = self._wants if self.has_listeners else _NOBODY
        """`wants(type)`: whether anyone listens to signals of this type, and this is not a replay.
        Check before building a signal's data: without listeners, the check costs nothing."""

    def _look_for_listeners(self) -> None:
        listeners = self._listeners
        self.has_listeners = listeners.tap is not None or not listeners.bus.silent
        if not self.has_listeners:
            self.wants = _NOBODY
        else:
            self.wants = self._wants if self.replaying else listeners.wants

    def _wants(self, type: str) -> bool:
        return self.has_listeners and not self.replaying and self._listeners.wants(type)

    def signal(self, type: str, data: Mapping[str, JSON] = _NOTHING) -> None:
        """Send a signal to whoever listens, if anyone. While a resumed run answers from its
        journal, signals are not repeated."""
        if not self.wants(type):
            return
        if self.redactor is not None:
            data = self.redactor.json(data, deep=True)
        self._listeners.send(
            Event(type, data, self.id, self.iteration, self.world.time(), self.stage)
        )

    @property
    def follows_stages(self) -> bool:
        """Whether anyone listens to stages, now or once a resumed run has caught up."""
        wants = self._listeners.wants
        return wants("stage.enter") or wants("stage.exit") or wants("stage.bypass")

    def refresh_listeners(self) -> bool:
        """Check again whether anyone listens."""
        self._look_for_listeners()
        return self.has_listeners

    def announce(self, type: str, data: Mapping[str, JSON]) -> None:
        """Send a signal about the run as a whole; also in a replay."""
        if self._listeners.wants(type):
            self._listeners.send(
                Event(type, data, run_id=self.id, iteration=self.iteration, time=self.world.time())
            )

    @property
    def silent(self) -> bool:
        """Whether there are neither pumps nor a stream to end."""
        return self._listeners.idle

    async def close(self) -> None:
        """End the pumps of the listeners."""
        self.wants = _NOBODY  # else it would keep this object alive through itself
        await self._listeners.close()

    @property
    def reader_behind(self) -> bool:
        """The reader of `run_stream` is behind: await `room()` before more is sent."""
        tap = self._listeners.tap
        return tap is not None and tap.full

    async def wait_for_reader(self) -> None:
        """Wait until the reader of `run_stream` has caught up."""
        if self._listeners.tap is not None:
            await self._listeners.tap.room()
