"""`lorimer runs fork`: a new run from the middle of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Whole
from lorimer.cli.options import Terms, asynchronous, execution_options
from lorimer.cli.run_names import run_argument

if TYPE_CHECKING:
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.journal.recording import Recording
    from lorimer.models.hostfile import Host


@click.command()
@run_argument()
@click.argument("prompt", required=False)
@click.option(
    "--after",
    type=Whole(min=1),
    required=True,
    metavar="N",
    help="How many turns the fork keeps, with the results of their calls.",
)
@click.option("-m", "--model", metavar="SPEC", help="Another model. Default: that of the run.")
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another agent, as this file describes it. Default: that of the run.",
)
@execution_options
@asynchronous
async def fork(
    run: str,
    prompt: str | None,
    after: int,
    model: str | None,
    manifest: Path | None,
    terms: Terms,
) -> int:
    """Continue from the middle of a run, in a new session. RUN is an id or its beginning.

    After turn N comes the PROMPT; without one, the model is asked again as it was then: another
    model may do better. It knows what was done until turn N, which is not done again; files are as
    they are now. The original run does not change. `lorimer runs show` numbers its turns.

    \b
    Examples:
      lorimer runs fork run_4f7 --after 3 -m claude-opus-4-6
      lorimer runs fork run_4f7 --after 3 "Leave the tests alone."
    """
    from lorimer.cli import agent, foreground, reading, settings
    from lorimer.cli.call import Call
    from lorimer.cli.store import existing_store, opened
    from lorimer.cli.story import Story
    from lorimer.core.limits import Limits
    from lorimer.journal.recording import recorded
    from lorimer.world import RealWorld
    from lorimer.world.hosts import listed

    world = RealWorld()
    async with opened(existing_store(terms.store), world) as journal:
        row = await reading.find(journal, run)
        parent = await recorded(journal, row.run_id)
        call = await Call.of(journal, row.run_id)
        terms = foreground.as_strict(terms, call)
        terms = settings.with_settings(terms, settings.effective_settings(terms.workspace))
        described = agent.load(manifest) if manifest is not None else _manifest(parent)
        known = foreground.known_models(terms, call)
        if model is not None:
            agent.choose(described, model, None, known)
        if not _same_provider(parent, described, terms, known):
            # its address was that of another provider
            call = replace(call, base_url="", key_variable="")
        prepared = await foreground.prepare(described, terms, world, call)
        now = replace(
            prepared.call,
            rules=terms.allow,
            sandbox=terms.sandbox or "",
            network=listed(terms.network),
            env=agent.names(terms.env),
            mode=terms.permission_mode or terms.at_most or "",
        )
        given = parent.facts[0].data.get("limits")
        limits = Limits.from_json(given) if isinstance(given, Mapping) else described.limits
        return await foreground.drive(
            replace(prepared, call=now),
            Story(),
            journal,
            world,
            lambda pipeline: pipeline.fork(
                parent, after=after, input=prompt, limits=limits, raise_on_error=False
            ),
        )


def _manifest(parent: Recording) -> EnvironmentManifest:
    from lorimer.cli.reading import no_manifest
    from lorimer.core.manifest import EnvironmentManifest

    if parent.manifest is None:
        raise no_manifest(parent.run_id, "Give one: --manifest FILE.")
    return EnvironmentManifest.from_dict(parent.manifest)


def _same_provider(
    parent: Recording, described: EnvironmentManifest, terms: Terms, known: Host
) -> bool:
    """Whether the run used the provider that this agent uses, as far as is known: variables may
    have changed."""
    from lorimer import assembly
    from lorimer.cli.agent import filled, spec_of
    from lorimer.core.variables import names_in

    if parent.manifest is None or any(names_in(assembly.spec_of(_manifest(parent)))):
        return False
    was, now = _manifest(parent), filled(described, terms.env)
    return spec_of(was, known).provider == spec_of(now, known).provider
