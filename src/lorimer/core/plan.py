"""What `compile` makes of a manifest: immutable, shared by all runs of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from lorimer.core.hooks import Hooks
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.stage import AnyStage, Stage


class Step:
    """A stage as the engine runs it: what it looks up for each is looked up once."""

    __slots__ = ("bypass", "execute", "name", "stage")

    def __init__(self, stage: AnyStage) -> None:
        self.stage = stage
        self.name = stage.name
        self.execute = stage.execute
        plain = "should_bypass" not in {name for kind in _own(stage) for name in vars(kind)}
        self.bypass = None if plain else stage.should_bypass
        """None: it is never bypassed."""


def _own(stage: AnyStage) -> list[type]:
    """The classes of a stage that are not Stage itself."""
    return [kind for kind in type(stage).__mro__ if kind not in (Stage, Generic, object)]


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages to run, in order, and the bounds to keep."""

    manifest: EnvironmentManifest
    digest: str
    """Hash of the manifest: facts name it by this."""
    limits: Limits
    setup: tuple[Step, ...]
    """Stages 1 to 5, once, before the first model call."""
    recurring: tuple[Step, ...]
    """Those of them that run again before every later call."""
    loop: tuple[Step, ...]
    """Stages 6 to 16."""
    surface: tuple[Step, ...]
    """Stages 17 to 21, once, when the loop has ended well."""
    converses: bool
    """Its runs share one conversation: a stage of it remembers."""
    hooks: Hooks | None = None

    @property
    def stages(self) -> tuple[AnyStage, ...]:
        """All of them, in order."""
        return tuple(step.stage for step in self.setup + self.loop + self.surface)
