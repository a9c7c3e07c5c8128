"""`lorimer steps`: a script with cells, or a notebook, as a graph of steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from lorimer.cli.fail import Fault, suggest
from lorimer.cli.text import one_line, visible

if TYPE_CHECKING:
    from lorimer.core.jsonable import JSON
    from lorimer.esg import ExecutionStateGraph, StepExecutor, StepResult
    from lorimer.esg.cells import Cell

_LOOK_S = 0.3
"""How often a watched file is looked at."""

_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group()
def steps() -> None:
    """Run a script with cells (`# %%`) or a notebook step by step, and after an edit only what is
    stale; show and explain its graph.

    Steps are run in this process, with all that you may do: run your own files only.
    """


@steps.command()
@_file
@click.option("--watch", is_flag=True, help="Go on: run what is stale whenever FILE is saved.")
def run(file: Path, watch: bool) -> None:
    """Run all steps of FILE. Exit code 1 if one raises."""
    from lorimer.esg import StepExecutor
    from lorimer.esg.cells import load

    session = StepExecutor()
    seen = _stamp(file)  # before it is read: what is saved while the steps run counts
    load(session.graph, _cells(file))
    sys.path.insert(0, str(file.resolve().parent))
    ok = _replayed(session)
    if watch:
        _watch(session, file, seen)
    elif not ok:
        raise SystemExit(1)


@steps.command()
@_file
@click.option("--json", "as_json", is_flag=True, help="Steps and edges as one JSON object.")
def show(file: Path, as_json: bool) -> None:
    """Show who makes what each step of FILE reads. Nothing is run."""
    graph = _graph(file)
    if as_json:
        nodes = [{**graph.get_node(step), "outputs": {}} for step in graph.steps]
        click.echo(json.dumps({"steps": nodes, "edges": graph.edges()}, ensure_ascii=False))
        return
    wide = max([len(step) for step in graph.steps], default=0)
    for step in graph.steps:
        node = graph.get_node(step)
        by: dict[str, list[str]] = {}
        for name, maker in node["makers"].items():
            by.setdefault(maker, []).append(name)
        reads = "; ".join([f"{', '.join(names)} of {maker}" for maker, names in by.items()])
        lost = [name for name, _ in graph.unresolved(step).items()]
        click.echo(
            f"{click.style(step.ljust(wide), bold=True)}  "
            f"makes {', '.join(node['writes']) or 'nothing'}"
            + (f"; reads {reads}" if reads else "")
            + (click.style(f"; nobody makes {', '.join(lost)}", fg="red") if lost else "")
            + (click.style(f"; no Python: {node['error']}", fg="red") if node["error"] else "")
        )


@steps.command()
@_file
@click.argument("step")
def explain(file: Path, step: str) -> None:
    """Say what STEP of FILE reads from whom, and who reads what it makes. Nothing is run."""
    graph = _graph(file)
    click.echo(graph.explain(_known(graph, step)))


@steps.command()
@_file
@click.argument("target", metavar="NAME|STEP")
def export(file: Path, target: str) -> None:
    """Write the steps of FILE that make a name, or that a step needs, as a script.

    Nothing is run.
    """
    graph = _graph(file)
    if target not in graph and not graph.last_writer(target):
        raise Fault(f"{file} has no step and no name {target!r}{suggest(target, graph.steps)}")
    click.echo(graph.script(graph.backward_slice(target)), nl=False)


def _graph(file: Path) -> ExecutionStateGraph:
    from lorimer.esg import ExecutionStateGraph
    from lorimer.esg.cells import load

    graph = ExecutionStateGraph()
    load(graph, _cells(file))
    return graph


def _known(graph: ExecutionStateGraph, step: str) -> str:
    if step not in graph:
        raise Fault(
            f"there is no step {step!r}{suggest(step, graph.steps)}",
            hint=f"Steps: {one_line(', '.join(graph.steps))}",
        )
    return step


def _cells(file: Path) -> list[Cell]:
    from lorimer.esg.cells import of_notebook, of_script

    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".ipynb":
            return of_notebook(cast("JSON", json.loads(text)))
        return of_script(text)
    except OSError as error:
        raise Fault(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Fault(f"{file}: {error}") from error


def _replayed(session: StepExecutor) -> bool:
    """Run what is stale, and tell it."""
    done = session.replay(lambda result: _tell(session, result))
    count = len(session.graph)
    for step in done.blocked:
        click.secho(f"- {step}  needs what a failed step did not make", fg="yellow")
    ran = len({*done.ran})
    click.secho(f"{ran} of {count} steps run", dim=True)
    return done.ok


def _tell(session: StepExecutor, result: StepResult) -> None:
    from lorimer.esg import diagnose, generate_patch

    mark, colour = ("✓", "green") if result.ok else ("✗", "red")
    head = f"{click.style(mark, fg=colour)} {click.style(result.step_id, bold=True)}"
    click.echo(f"{head}  {result.seconds:.2f} s")
    for text in (result.stdout, result.stderr, result.shown):
        if text:
            click.echo(visible(text.rstrip("\n")))
    if result.failure is None:
        return
    click.echo(visible(result.failure.traceback.rstrip("\n")))
    report = diagnose(result, session.graph)
    for finding in report.findings[:3]:
        click.secho(f"  {visible(finding.message)}", fg="yellow")
    patch = generate_patch(report, session.graph)
    if patch:
        click.echo(visible(patch.diff.rstrip("\n")))


def _watch(session: StepExecutor, file: Path, seen: tuple[int, int] | None) -> None:
    """Until Ctrl-C; `seen` is the stamp that the file had before it was read."""
    import anyio

    from lorimer.esg.cells import load
    from lorimer.world import RealWorld

    async def look() -> None:
        nonlocal seen
        world = RealWorld()
        while True:
            await world.sleep(_LOOK_S)
            now = _stamp(file)
            if now == seen or now is None:
                continue
            seen = now
            try:
                load(session.graph, _cells(file))
            except Fault as fault:
                click.secho(fault.message, fg="red", err=True)
                continue
            _replayed(session)

    click.secho(f"watching {file}; Ctrl-C ends", dim=True)
    anyio.run(look)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        info = file.stat()
    except OSError:  # being replaced
        return None
    return info.st_mtime_ns, info.st_size
