"""The effective settings of a command (all layers merged), and agents composed with them.
`lorimer.environment.settings` says what each layer may contain."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorimer.cli import agent, policy_files
from lorimer.cli.places import config_directory
from lorimer.core.documents import parse
from lorimer.core.jsonable import texts_of
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.world import SandboxMode
from lorimer.environment.settings import (
    Composed,
    Layer,
    Settings,
    Source,
    beneath_manifest,
    layer_of,
    layer_of_environment,
    layered,
    over_preset,
)
from lorimer.stages.catalogue import catalogue

if TYPE_CHECKING:
    from lorimer.cli.options import Terms

PROJECT: Final = Path(".lorimer") / "settings.toml"


def user_file() -> Path:
    """`settings.toml` in the user's directory for settings."""
    return config_directory() / "settings.toml"


def effective_settings(workspace: Path | None) -> Settings:
    """The settings for runs in a workspace (None: the current folder). Raises ConfigError for an
    invalid file or variable: unreadable settings are never skipped."""
    folder = (workspace or Path.cwd()).resolve()
    found: list[Layer] = []
    for path, source in ((user_file(), Source.USER), (folder / PROJECT, Source.PROJECT)):
        text = policy_files.text_of(path)
        if text is not None and text.strip():
            found.append(layer_of(parse(text, ".toml", str(path)), source, str(path)))
    return layered([*found, layer_of_environment(os.environ)])


@dataclass(frozen=True, slots=True)
class ComposedAgent:
    """An agent, and where each of its values comes from."""

    manifest: EnvironmentManifest
    origins: Mapping[str, str]
    """Path to the origin of its value; values without one are defaults."""


def preset(name: str, settings: Settings) -> ComposedAgent:
    """A preset, overridden by the settings. Raises Fault for an unknown one, with the most similar
    name."""
    return _described(over_preset(agent.preset(name).to_dict(), settings, catalogue()))


def load(path: Path, settings: Settings) -> ComposedAgent:
    """A manifest's file, which overrides the settings. Raises ConfigError naming every error."""
    return _described(beneath_manifest(agent.document(path), settings, catalogue()))


def _described(composed: Composed) -> ComposedAgent:
    return ComposedAgent(EnvironmentManifest.from_dict(composed.data), composed.origins)


def with_settings(terms: Terms, settings: Settings) -> Terms:
    """The terms of a run, with the settings where the command line says nothing."""
    run = settings.table("run")
    sandboxes: dict[str, SandboxMode] = {"auto": "auto", "require": "require", "off": "off"}
    return replace(
        terms,
        sandbox=terms.sandbox or sandboxes.get(str(run.get("sandbox", ""))),
        network=terms.network or texts_of(run.get("network")),
        env=terms.env or texts_of(run.get("env")),
        notes=settings.notes,
    )
