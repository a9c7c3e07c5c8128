"""Lanes by name, with caps from the host's settings (`config.py`). One lane: `lane.py`."""

from __future__ import annotations

from lorimer.core.world import World
from lorimer.run.config import Config, Settings
from lorimer.run.lanes.lane import Lane, LaneStats


class Lanes:
    """Creates each lane on first access. Its cap is `lanes.<name>.max_concurrent` (at least 1),
    else 4; it is read on every access to the lane, and applied immediately."""

    def __init__(self, config: Config | None = None, *, world: World | None = None) -> None:
        self._settings = Settings(config)
        self._world = world
        self._lanes: dict[str, Lane] = {}

    def __getitem__(self, name: str) -> Lane:
        cap = self._settings.integer(f"lanes.{name}.max_concurrent", 4, least=1)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name, cap, world=self._world)
        elif lane.max_concurrent != cap:
            lane.set_max_concurrent(cap)
        return lane

    def stats(self) -> list[LaneStats]:
        """The stats of all lanes accessed so far, in that order."""
        return [lane.stats() for lane in self._lanes.values()]

    def close(self) -> None:
        """Close them all."""
        for lane in self._lanes.values():
            lane.close()
