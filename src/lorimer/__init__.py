"""Lorimer executes LLM agents: explicitly, within bounds, durably."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorimer.builder import PipelineBuilder
    from lorimer.core.errors import (
        APIError,
        ConfigError,
        ErrorCategory,
        ExecutorErrorCode,
        LimitError,
        LorimerError,
        PipelineError,
        StageError,
    )
    from lorimer.core.events import Event
    from lorimer.core.limits import Limits
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.core.result import PipelineResult
    from lorimer.models.credentials import CredentialBundle, ProviderCredentials
    from lorimer.pipeline import Pipeline
    from lorimer.presets import PipelinePresets
    from lorimer.tools.decorator import tool

__version__ = "0.1.0"

__all__ = [
    "APIError",
    "ConfigError",
    "CredentialBundle",
    "EnvironmentManifest",
    "ErrorCategory",
    "Event",
    "ExecutorErrorCode",
    "LimitError",
    "Limits",
    "LorimerError",
    "Pipeline",
    "PipelineBuilder",
    "PipelineError",
    "PipelinePresets",
    "PipelineResult",
    "ProviderCredentials",
    "StageError",
    "tool",
]

_HOMES = {
    "builder": ("PipelineBuilder",),
    "core.errors": (
        "APIError",
        "ConfigError",
        "ErrorCategory",
        "ExecutorErrorCode",
        "LimitError",
        "LorimerError",
        "PipelineError",
        "StageError",
    ),
    "core.events": ("Event",),
    "core.limits": ("Limits",),
    "core.manifest": ("EnvironmentManifest",),
    "core.result": ("PipelineResult",),
    "models.credentials": ("CredentialBundle", "ProviderCredentials"),
    "pipeline": ("Pipeline",),
    "presets": ("PipelinePresets",),
    "tools.decorator": ("tool",),
}


def __getattr__(name: str) -> object:
    """Names are imported when they are first used: a program pays for what it needs."""
    for home, names in _HOMES.items():
        if name in names:
            value: object = vars(import_module(f"lorimer.{home}"))[name]
            globals()[name] = value
            return value
    raise AttributeError(f"module 'lorimer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
