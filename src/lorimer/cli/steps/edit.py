"""`lorimer steps edit` and `convert`: write files of steps. Nothing is run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from lorimer.cli.fail import Fault
from lorimer.cli.printing import padding
from lorimer.cli.standard_input import is_typed, piped
from lorimer.cli.steps.file import (
    NOTEBOOK,
    cells_of,
    file_argument,
    graph_of,
    known,
    text_of,
    unresolved,
    without_mark,
    write,
)
from lorimer.cli.text import count, on_line, visible
from lorimer.core.linediff import unified

if TYPE_CHECKING:
    from lorimer.core.jsonable import JSON
    from lorimer.esg import ExecutionStateGraph
    from lorimer.esg.notebooks.cells import Cell


@click.command()
@file_argument
@click.argument("step")
@click.option("--code", help="The new text; `-` reads it from standard input.")
@click.option("--dry-run", is_flag=True, help="Only show what would run again.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def edit(file: Path, step: str, code: str | None, dry_run: bool, yes: bool) -> None:
    """Replace the code of STEP in FILE: in $EDITOR, or by --code. The rest of FILE is not changed.

    Shows what would run again, and why, before FILE is written. Nothing is run; to do that, leave
    `lorimer steps run FILE --watch` running in another terminal.
    """
    graph = graph_of(file)
    cell = cells_of(file)[graph.steps.index(known(graph, step))]
    new = _new_text(cell.source, code)
    if new is None or new.strip("\n") == cell.source:
        click.echo("nothing changed")
        return
    new = new.strip("\n")
    if not new.strip():
        raise Fault(f"step {step!r} would be empty", hint=f"Delete its cell in {file} instead.")
    _tell(file, graph, step, cell, new)
    if dry_run:
        return
    if code is None and not yes and is_typed() and not click.confirm(f"Write {file}?"):
        return
    write(file, _replaced(file, cell, new))
    click.secho(f"{file} is written", dim=True)


def _new_text(old: str, code: str | None) -> str | None:
    if code == "-":
        try:
            return piped()
        except UnicodeDecodeError:
            raise Fault("the new text is not UTF-8 text") from None
    if code is not None:
        return code
    try:
        return click.edit(old + "\n", extension=".py")
    except click.ClickException as error:
        raise Fault(error.message, hint="Set EDITOR, or give the text by --code.") from error


def _tell(file: Path, graph: ExecutionStateGraph, step: str, cell: Cell, new: str) -> None:
    """Show the difference, and what it makes stale in a session that has run all steps."""
    from rich.cells import cell_len

    from lorimer.esg.notebooks.cells import without_magics

    for each in graph.steps:
        graph.record_output(each, {})
    old = cell.source.splitlines()
    for line in unified(old, new.splitlines(), step, end=""):
        click.echo(visible(line))
    graph.edit_step(step, without_magics(replace(cell, source=new)).source)
    if error := graph.get_node(step)["error"]:
        raise Fault(f"the new text of {step!r} is not valid Python: {error}")
    plan = graph.plan()
    click.echo(
        f"\n{count(len(plan), 'step')} of {len(graph)} would run again, judging by their code:"
    )
    names = [on_line(planned.step) for planned in plan]
    width = min(max(map(cell_len, names), default=0), 20)
    for name, planned in zip(names, plan, strict=True):
        shown = click.style(name, bold=True) + padding(name, width)
        click.echo(f"  {shown}  {on_line(planned.reasons[0])}")
    for name, later in unresolved(file, graph, step).items():
        told = f"only {later} makes, which comes later" if later else "no step makes"
        click.secho(on_line(f"  {step} reads {name}, which {told}"), fg="yellow")


def _replaced(file: Path, cell: Cell, new: str) -> str:
    from lorimer.esg.analysis.text import lines_of
    from lorimer.esg.notebooks.cells import is_mark

    text, (first, end) = text_of(file), cell.place
    if file.suffix == NOTEBOOK:
        return _in_notebook(text, first, new)
    if end == 0:
        raise Fault(f"{file} is a marimo notebook: edit it there, or convert it first")
    if any(is_mark(line) for line in new.split("\n")):
        raise Fault("a line of the new text begins with `# %%`, which would start another step")
    lines = lines_of(text)
    close = "\r\n" if lines[first].endswith("\r\n") else "\n"
    made = [line + close for line in new.split("\n")]
    if not lines[end - 1].endswith("\n"):
        made[-1] = made[-1].removesuffix(close)
    return "".join([*lines[:first], *made, *lines[end:]])


def _in_notebook(text: str, number: int, new: str) -> str:
    """The notebook with one cell's source replaced, and its formatting kept."""
    whole = json.loads(without_mark(text))
    cell = cast("dict[str, JSON]", whole["cells"][number])
    in_lines = isinstance(cell["source"], list)
    plain = text.isascii()
    bare = without_mark(text).rstrip("\n")
    layouts = [
        i for i in (1, 2, 4, None) if json.dumps(whole, indent=i, ensure_ascii=plain) == bare
    ]
    indent, plain = (layouts[0], plain) if layouts else (1, False)
    cell["source"] = new.splitlines(keepends=True) if in_lines else new
    return text.replace(bare, json.dumps(whole, indent=indent, ensure_ascii=plain))


@click.command()
@file_argument
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--marimo", is_flag=True, help="OUT is a marimo notebook.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
def convert(file: Path, out: Path, marimo: bool, force: bool) -> None:
    """Convert FILE to another format: OUT ends in .py (cells with `# %%`) or .ipynb.

    FILE may be a script, a Jupyter or a marimo notebook. Prose is kept, outputs are not. Notebook
    magics become comments in a script (`# magic: ...`), and magics again in a notebook.
    """
    from lorimer.esg.graph.questions import StepError
    from lorimer.esg.notebooks.formats import to_marimo, to_notebook, to_script

    if out.suffix not in (".py", NOTEBOOK) or (marimo and out.suffix != ".py"):
        raise Fault(f"{out} has to end in .py{'' if marimo else ' or .ipynb'}")
    if out.exists() and not force:
        raise Fault(f"{out} already exists", hint="--force overwrites it.")
    cells = cells_of(file, prose=True)
    make = to_marimo if marimo else to_notebook if out.suffix == NOTEBOOK else to_script
    try:
        text = make(cells)
    except StepError as error:
        raise Fault(str(error)) from error
    write(out, text)
    click.secho(f"{count(len(cells), 'cell')} written to {out}", dim=True)
