"""`lorimer steps`: works with a script with cells, or a notebook, as a graph of steps."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Group
from lorimer.cli.fail import Fault, suggest
from lorimer.cli.progress import is_live, last_line
from lorimer.cli.steps.edit import convert, edit
from lorimer.cli.steps.file import cells_of, file_argument, given, graph_of, known, write
from lorimer.cli.steps.show import show
from lorimer.cli.text import count, on_line, one_line, visible

if TYPE_CHECKING:
    from lorimer.esg import StepExecutor, StepResult

_LOOK_S = 0.3
"""Seconds between two looks at a watched file."""


@click.group(cls=Group)
def steps() -> None:
    """Run a script with cells (`# %%`) or a notebook step by step, and after an edit only what is
    stale; show and explain its graph.

    Steps run in this process, with all your rights: run only files that you trust.
    """


for _command in (show, edit, convert):
    steps.add_command(_command)


@steps.command()
@file_argument
@click.option(
    "--watch", is_flag=True, help="Keep running, and run stale steps whenever FILE is saved."
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write code, graph, outputs and figures as a self-contained HTML page.",
)
@click.option("--no-magics", is_flag=True, help="Leave out lines of notebook magics (%, !, ?).")
def run(file: Path, watch: bool, html: Path | None, no_magics: bool) -> None:
    """Run all steps of FILE. Exit code 1 if one raises."""
    from lorimer.esg import StepExecutor
    from lorimer.esg.execution.main import main_of_steps

    if html is not None and not html.parent.is_dir():  # before steps run, which may take long
        raise Fault(f"{html} cannot be written: there is no folder {html.parent}")
    os.environ.setdefault("MPLBACKEND", "agg")  # figures are captured, no window is opened
    session = StepExecutor(given(file), observer=_Running() if is_live() else None)
    seen = _stamp(file)  # before it is read: a save while the steps run has to be noticed
    _load(session, file, no_magics)
    sys.argv = [str(file)]
    sys.path.insert(0, str(file.resolve().parent))
    with main_of_steps():
        ok = _replayed(session)
        _write_page(session, file, html)
        if not no_magics:
            _hint_of_magics(session)
        if watch:
            _watch(session, file, seen, html, no_magics)
        elif not ok:
            raise SystemExit(1)


class _Running:
    """Shows the running step on the terminal's last line."""

    def starting(self, step_id: str) -> None:
        last_line(f"… {one_line(step_id, 60)}")

    def finished(self, result: StepResult) -> None:
        last_line("")


def _load(session: StepExecutor, file: Path, no_magics: bool) -> None:
    from lorimer.esg.notebooks.cells import load, without_magics

    cells = cells_of(file)
    load(session.graph, [without_magics(cell) for cell in cells] if no_magics else cells)


def _write_page(session: StepExecutor, file: Path, html: Path | None) -> None:
    from lorimer.esg.notebooks.page import page

    if html is not None:
        write(html, page(session.graph, session.results, file.name))


def _hint_of_magics(session: StepExecutor) -> None:
    from lorimer.esg.analysis.magics import magics

    found = [step for step in session.graph.steps if magics(session.graph.source(step))]
    if found:
        told = f"notebook magics are not Python ({', '.join(found)}): --no-magics leaves them out"
        click.secho(on_line(told), fg="yellow", err=True)


@steps.command(hidden=True)
@click.argument("words", nargs=-1)
def replay(words: tuple[str, ...]) -> None:
    """Say why there is no such command."""
    told = "values are not kept between processes, so there is nothing to replay"
    raise Fault(told, hint="lorimer steps run FILE --watch runs what is stale after each save.")


@steps.command()
@file_argument
@click.argument("step")
def explain(file: Path, step: str) -> None:
    """Show which steps of FILE provide what STEP reads, and which read what it makes. Nothing is
    run."""
    graph = graph_of(file)
    # whether it is up to date is known only to the process that runs it: `run --watch`
    lines = graph.relations(known(graph, step), given(file))
    click.secho(visible(step), bold=True)
    for line in lines or ["reads nothing from other steps, and makes nothing"]:
        click.echo(f"  {visible(line)}")


@steps.command()
@file_argument
@click.argument("target", metavar="NAME|STEP")
def export(file: Path, target: str) -> None:
    """Print the steps of FILE that a name or a step needs as a script.

    Nothing is run.
    """
    graph = graph_of(file)
    if target not in graph and not graph.last_writer(target):
        names = [name for step in graph.steps for name in graph.get_node(step)["writes"]]
        near = suggest(target, [*graph.steps, *names])
        raise Fault(f"{file} has no step and no name {target!r}{near}")
    click.echo(graph.script(graph.backward_slice(target)), nl=False)


def _replayed(session: StepExecutor) -> bool:
    """Run the stale steps, and show them."""
    done = session.replay(lambda result: _tell(session, result))
    for step in done.blocked:
        click.secho(f"- {on_line(step)}  needs the result of a failed step", fg="yellow")
    ran = len({*done.ran})
    failed = click.style(f", {len({*done.failed})} failed", fg="red") if done.failed else ""
    click.echo(click.style(f"{ran} of {len(session.graph)} steps run", dim=True) + failed)
    return done.ok


def _tell(session: StepExecutor, result: StepResult) -> None:
    from lorimer.esg import diagnose, generate_patch

    mark, colour = ("✓", "green") if result.ok else ("✗", "red")
    head = f"{click.style(mark, fg=colour)} {click.style(on_line(result.step_id), bold=True)}"
    click.echo(f"{head}  {result.seconds:.2f} s")
    for text in (result.stdout, result.stderr, result.shown):
        if text:
            click.echo(visible(text.rstrip("\n")))
    figures = sum(each.kind == "image/png" for each in result.displays)
    if figures:
        click.secho(f"[{count(figures, 'figure')}: --html shows them]", dim=True)
    if result.failure is None:
        return
    click.echo(visible(result.failure.traceback.rstrip("\n")))
    report = diagnose(result, session.graph)
    for message in report.messages[:3]:
        click.secho(f"  {visible(message)}", fg="yellow")
    patch = generate_patch(report, session.graph)
    if patch:
        click.echo(visible(patch.diff.rstrip("\n")))


def _watch(
    session: StepExecutor,
    file: Path,
    seen: tuple[int, int] | None,
    html: Path | None,
    no_magics: bool,
) -> None:
    """Watch the file until Ctrl-C; `seen` is its stamp from before it was read."""
    import anyio

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
                _load(session, file, no_magics)
                _replayed(session)
                _write_page(session, file, html)
            except Fault as fault:
                click.secho(on_line(fault.message), fg="red", err=True)

    click.secho(f"watching {file}; Ctrl-C ends", dim=True)
    anyio.run(look)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        info = file.stat()
    except OSError:  # being replaced
        return None
    return info.st_mtime_ns, info.st_size
