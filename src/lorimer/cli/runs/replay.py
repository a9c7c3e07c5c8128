"""`lorimer runs replay`: replays a run from its facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli.fail import FAILED, OK
from lorimer.cli.options import asynchronous, json_option, store_option
from lorimer.cli.run_names import run_argument
from lorimer.cli.text import count, on_line, one_line, print_json, short_id, visible
from lorimer.core.jsonable import JSON, dumps

if TYPE_CHECKING:
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.journal.recording import Recording
    from lorimer.journal.replay import Divergence, Replayed

_WIDTH: Final = 300


@click.command()
@run_argument()
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replay with the agent in this file: where would it have acted differently?",
)
@json_option("One JSON object.")
@store_option
@asynchronous
async def replay(run: str, manifest: Path | None, as_json: bool, store: str | None) -> int:
    """Replay a recorded run from its facts alone. RUN is an id or its beginning.

    Every answer of the model and every result of a tool comes from the record: nothing is called,
    nothing is written, no key is needed. Shows the first place where the agent, as it is now, acts
    differently from the record. A run without an end is replayed as far as it is recorded.
    Exit codes: 0 as recorded, 1 not so, 2 no such run.
    """
    from lorimer.cli import agent, reading
    from lorimer.cli.call import Call
    from lorimer.cli.store import existing_store, opened
    from lorimer.core.manifest import EnvironmentManifest
    from lorimer.journal.recording import recorded
    from lorimer.models.unasked import Unasked
    from lorimer.pipeline import Pipeline
    from lorimer.world import RealWorld

    world = RealWorld()
    other = agent.load(manifest) if manifest is not None else None
    async with opened(existing_store(store), world) as journal:
        row = await reading.find(journal, run)
        recording = await recorded(journal, row.run_id)
        call = await Call.of(journal, row.run_id)
    if recording.manifest is None and other is None:
        raise reading.no_manifest(row.run_id, "Give one: --manifest FILE.")
    described = other or EnvironmentManifest.from_dict(recording.manifest or {})
    pipeline = Pipeline(
        described,
        models=Unasked(),
        world=world,
        workspace=Path.cwd(),  # no tool is called
    )
    async with pipeline:
        replayed = await pipeline.replay(recording)
    if as_json:
        print_json(_plain(recording, replayed))
    else:
        _print(recording, replayed, described, begun_here=call != Call())
    return OK if replayed.divergence is None else FAILED


def _plain(recording: Recording, replayed: Replayed) -> Mapping[str, JSON]:
    divergence = replayed.divergence
    return {
        "run_id": recording.run_id,
        "status": replayed.result.status,
        "divergence": divergence.to_json() if divergence is not None else None,
    }


def _print(
    recording: Recording, replayed: Replayed, manifest: EnvironmentManifest, *, begun_here: bool
) -> None:
    run = short_id(recording.run_id)
    divergence = replayed.divergence
    if divergence is None:
        what = (
            "ends as recorded" if recording.end is not None else "replays as far as it is recorded"
        )
        facts = count(len(recording.facts), "fact")
        click.echo(click.style(f"✓ {run}: {facts}, and it {what}", fg="green"))
        return
    turn = f"turn {divergence.iteration + 1}"
    head = click.style(f"✗ {run} diverges in {turn}:", fg="red", bold=True)
    what = f"{divergence.type} {divergence.key}".rstrip()
    click.echo(f"{head} {on_line(what)}, {on_line(divergence.why)}")
    for line in _sides(divergence):
        click.echo(line)
    hint = _hint(recording, divergence, manifest, begun_here=begun_here)
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {hint}")


def _sides(divergence: Divergence) -> Iterator[str]:
    ours: Mapping[str, JSON] = divergence.recorded or {}
    theirs: Mapping[str, JSON] = divergence.found or {}
    seq = f" #{divergence.seq}" if divergence.seq else ""
    for name, side, colour in (
        (f"recorded{seq}", divergence.recorded, "red"),
        ("now", divergence.found, "green"),
    ):
        told = "nothing like it"
        if side is not None:
            different = {k: v for k, v in side.items() if ours.get(k) != theirs.get(k)}
            told = one_line(dumps(different), _WIDTH)
        yield f"  {click.style(name, fg=colour)}  {told}"


def _hint(
    recording: Recording,
    divergence: Divergence,
    manifest: EnvironmentManifest,
    *,
    begun_here: bool,
) -> str:
    from lorimer.journal.diff import leaves

    if recording.digest != manifest.digest:
        ours, theirs = (
            dict(leaves(side)) for side in (recording.manifest or {}, manifest.to_dict())
        )
        names = sorted({**ours, **theirs}, key=lambda name: name.partition("[")[0])
        names = [name for name in names if ours.get(name) != theirs.get(name)]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"the manifests differ in {visible(', '.join(names[:5]))}{more}"
    if divergence.type.startswith("model.") and not begun_here:
        return (
            "this run was begun by a program; if it had tools or stages of its own, replay it "
            "there: pipeline.replay(run_id)"
        )
    if divergence.type.startswith("model.") and divergence.recorded and divergence.found:
        return "a model is asked with the conversation, the tools, the system prompt and settings"
    return ""
