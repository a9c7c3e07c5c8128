"""Changes of a preset's manifest."""

from __future__ import annotations

from typing import Any

from lorimer.core.manifest import EnvironmentManifest
from tests.core.support import Change


def choose(stage: str, slot: str, strategy: str | list[str], **config: Any) -> Change:
    """Put a strategy with its configuration into a slot."""

    def change(manifest: EnvironmentManifest) -> None:
        entry = manifest.stages[stage]
        entry.strategies[slot] = strategy
        if config:
            entry.strategy_configs[slot] = config

    return change


def configure(stage: str, **config: Any) -> Change:
    """Configure the stage itself."""

    def change(manifest: EnvironmentManifest) -> None:
        manifest.stages[stage].config.update(config)

    return change
