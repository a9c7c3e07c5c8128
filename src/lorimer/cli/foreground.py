"""Puts a run together (journal, pipeline, rules, approver, screen) and drives it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorimer.cli import agent
from lorimer.cli.approve import TerminalApprover, can_ask
from lorimer.cli.call import Call
from lorimer.cli.drive import Drive
from lorimer.cli.owner import own_name
from lorimer.cli.progress import screen_for
from lorimer.cli.store import opened, store_path
from lorimer.cli.story import Story
from lorimer.pipeline import Pipeline
from lorimer.world import RealWorld

if TYPE_CHECKING:
    from lorimer.cli.progress import Screen
    from lorimer.cli.run import Terms
    from lorimer.core.events import Event
    from lorimer.core.limits import Limits
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.core.world import World
    from lorimer.journal.sqlite import SQLiteJournal
    from lorimer.models.registry import Models
    from lorimer.tools.permissions import Rule


async def begin(
    manifest: EnvironmentManifest, task: str, limits: Limits, terms: Terms
) -> int:
    """Run a new task to its end; the exit code."""
    world = RealWorld()
    models = agent.connect(manifest, terms.base_url, terms.api_key_env, world)
    rules = agent.rules_for(terms.allow, manifest)
    workspace = (terms.workspace or Path.cwd()).resolve()
    call = Call(str(workspace), terms.base_url or "", terms.allow, terms.api_key_env or "")
    story = Story()
    screen = screen_for(story, world, quiet=terms.output.quiet)
    async with opened(store_path(terms.store), world) as journal:
        pipeline = assemble(manifest, models, rules, workspace, journal, world, screen)

        async def remember(event: Event) -> None:
            await call.keep(journal, event.run_id)

        pipeline.on("run.start", remember)
        async with pipeline:
            drive = Drive(pipeline, story, screen, terms.output, world)
            return await drive.run(
                lambda: pipeline.run(task, limits=limits, raise_on_error=False)
            )


def assemble(
    manifest: EnvironmentManifest,
    models: Models,
    rules: list[Rule],
    workspace: Path,
    journal: SQLiteJournal,
    world: World,
    screen: Screen,
) -> Pipeline:
    """The pipeline of a command: its journal is the store, its approver the terminal."""
    return Pipeline(
        manifest,
        models=models,
        journal=journal,
        world=world,
        rules=rules,
        approver=TerminalApprover(screen.paused) if can_ask() else None,
        workspace=workspace,
        owner=own_name(),
    )
