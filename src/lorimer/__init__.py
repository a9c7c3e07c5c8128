"""Lorimer executes LLM agents: explicitly, within bounds, durably."""

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
