"""What `compile` makes of a manifest: immutable, shared by all runs of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.stage import AnyStage


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages to run, in order, and the bounds to keep."""

    manifest: EnvironmentManifest
    digest: str
    """Hash of the manifest: facts name it by this."""
    limits: Limits
    setup: tuple[AnyStage, ...]
    """Stages 1 to 5, once, before the first model call."""
    recurring: tuple[AnyStage, ...]
    """Those of them that run again before every later call."""
    loop: tuple[AnyStage, ...]
    """Stages 6 to 16."""
    surface: tuple[AnyStage, ...]
    """Stages 17 to 21, once, when the loop has ended well."""

    @property
    def stages(self) -> tuple[AnyStage, ...]:
        """All of them, in order."""
        return self.setup + self.loop + self.surface

    @property
    def converses(self) -> bool:
        """It has a Context stage, so it remembers the runs before."""
        return any(stage.name == "context" for stage in self.setup)
