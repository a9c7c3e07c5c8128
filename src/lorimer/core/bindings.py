"""Live objects beside the manifest. The manifest names them; it never holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from lorimer.core.errors import ConfigError, nearest
from lorimer.core.limits import Limits
from lorimer.core.manifest import ModelConfig
from lorimer.core.model import ModelResolver
from lorimer.core.stage import AnyStage
from lorimer.core.tool import Toolbox

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bindings:
    """What the host hands to `compile`."""

    models: ModelResolver | None = None
    tools: Toolbox | None = None
    named: Mapping[str, object] = field(default_factory=dict[str, object])
    """Objects that a manifest refers to by name (callbacks, clients)."""
    limits: Limits = field(default_factory=Limits)
    """Filled by compile() from the manifest."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Filled by compile() from the manifest."""
    stages: Mapping[str, AnyStage] = field(default_factory=dict[str, AnyStage])
    """Filled by compile(): the other stages of the plan, by name."""

    def get(self, name: str, kind: type[T], where: str) -> T:
        """The object named `name`. Raises ConfigError saying what is missing or of a wrong type."""
        if name not in self.named:
            raise ConfigError(
                f"{where}: nothing is bound to the name {name!r}{nearest(name, self.named)}",
                hint=f"Pass bindings={{{name!r}: ...}} when you build the pipeline.",
            )
        value = self.named[name]
        if not isinstance(value, kind):
            raise ConfigError(f"{where}: {name!r} is bound to a {type(value).__name__}")
        return value
