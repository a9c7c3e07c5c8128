"""The folder of one demo: the data, the task, the agent's manifest, and its journal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Final

from lorimer.cli.demo.actor import MODEL
from lorimer.cli.fail import Fault
from lorimer.core.manifest import EnvironmentManifest
from lorimer.presets import agent_manifest

RULES: Final = ("step", "edit_step", "replay", "diagnose", "Write(report.md)")
"""The agent's allow rules; reading needs none."""
TOOLS: Final = ("Glob", "Grep", "Read", "Write", "steps")
DATA: Final = ("README.md", "population-2010.csv", "population-2020.csv")

PRICES: Final = {"input_per_million": 3.0, "output_per_million": 15.0}
"""US dollars per million tokens of the script: made up, so that there is a cost to show."""
COST_LIMIT_USD: Final = 1.0
"""The limit for a real model."""

_SYSTEM: Final = (
    "You are a careful data analyst. You work in a folder through tools, with relative paths, "
    "and do exactly what the task says."
)


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one demo."""

    root: Path

    @property
    def workspace(self) -> Path:
        """The folder in which the agent works."""
        return self.root / "workspace"

    @property
    def journal(self) -> Path:
        return self.root / "journal.db"

    @property
    def manifest(self) -> Path:
        return self.root / "agent.yaml"

    @property
    def task(self) -> Path:
        return self.root / "task.md"

    @property
    def report(self) -> Path:
        return self.workspace / "report.md"

    @property
    def chart(self) -> Path:
        return self.workspace / "chart.svg"

    @property
    def log(self) -> Path:
        """The log, with a line for each time that the last step of the analysis really ran."""
        return self.workspace / "runs.log"


def choose_folder(given: Path | None) -> Folder:
    """The folder in `--dir`, which must be new or empty; else the first unused name of the form
    `lorimer-demo` here. Raises Fault."""
    if given is None:
        number = 1
        while (path := Path("lorimer-demo" if number == 1 else f"lorimer-demo-{number}")).exists():
            number += 1
        return Folder(path)
    if given.exists() and (not given.is_dir() or any(given.iterdir())):
        raise Fault(f"--dir: {given} exists, and is not an empty folder")
    return Folder(given)


def lay_out(folder: Folder, manifest: EnvironmentManifest) -> None:
    """Write the files of the demo. Raises OSError."""
    here = files("lorimer.cli.demo")
    (folder.workspace / "data").mkdir(parents=True)
    for name in DATA:
        text = here.joinpath("data", name).read_text("utf-8")
        (folder.workspace / "data" / name).write_text(text, "utf-8")
    folder.task.write_text(here.joinpath("task.md").read_text("utf-8"), "utf-8")
    manifest.save(folder.manifest)


def describe_agent(model: str | None, *, priced: bool) -> EnvironmentManifest:
    """The demo's agent; `model` None: the script, at made-up prices. `priced`: the model has a
    price, so a cost limit can be enforced."""
    manifest = agent_manifest(
        model=model or f"anthropic:{MODEL}", system_prompt=_SYSTEM, max_turns=25
    )
    manifest.metadata.name = "lorimer-demo"
    manifest.metadata.description = "Looks at census data, analyses it, writes a report."
    manifest.tools.built_in = list(TOOLS)
    limit = COST_LIMIT_USD if priced and model else None
    manifest.limits = replace(manifest.limits, timeout_s=600.0, max_cost_usd=limit)
    if model is None:
        manifest.stages["token"].strategies["calculator"] = "custom_pricing"
        manifest.stages["token"].strategy_configs["calculator"] = dict(PRICES)
    return manifest
