"""Live objects beside the manifest. The manifest names them; it never holds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import cast

from lorimer.core.errors import ConfigError, nearest
from lorimer.core.hooks import Hooks
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import ModelConfig
from lorimer.core.model import ModelResolver
from lorimer.core.record import record
from lorimer.core.stage import AnyStage
from lorimer.core.tool import Approver, Toolbox


@record
class Bindings:
    """What the host hands to `compile`."""

    models: ModelResolver | None = None
    tools: Toolbox | None = None
    hooks: Hooks | None = None
    approver: Approver | None = None
    """Asks a person."""
    named: Mapping[str, object] = field(default_factory=dict[str, object])
    """Objects that a manifest refers to by name (callbacks, clients)."""
    limits: Limits = field(default_factory=Limits)
    """Filled by compile() from the manifest."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Filled by compile() from the manifest, with what the stage overrides."""
    model_override: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    """Filled by compile(): what the stage overrides of it."""
    stages: Mapping[str, AnyStage] = field(default_factory=dict[str, AnyStage])
    """Filled by compile(): the other stages of the plan, by name."""

    def function(self, name: str, where: str) -> Callable[[JSON], Awaitable[None] | None]:
        """The function bound to `name`. Raises ConfigError saying what is missing or wrong."""
        value = self.named.get(name)
        if value is None:
            raise ConfigError(
                f"{where}: nothing is bound to the name {name!r}{nearest(name, self.named)}",
                hint=f"Pass bindings={{{name!r}: ...}} when you build the pipeline.",
            )
        if not callable(value):
            raise ConfigError(f"{where}: {name!r} is bound to a {type(value).__name__}")
        return cast("Callable[[JSON], Awaitable[None] | None]", value)
