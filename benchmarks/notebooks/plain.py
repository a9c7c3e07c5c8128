"""Running steps from the first to the last in one namespace: what a replay has to come to."""

from __future__ import annotations

import ast
import contextlib
import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from time import process_time
from typing import Any

from benchmarks.notebooks.place import Place, apart
from benchmarks.notebooks.value import masked, of_names


@dataclass(slots=True)
class Full:
    """A full run."""

    outputs: list[str] = field(default_factory=list[str])
    """What each step printed and showed, and its figures."""
    changed: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """Name -> digest of what each step changed; empty text: deleted."""
    final: dict[str, str] = field(default_factory=dict[str, str])
    failed: dict[int, str] = field(default_factory=dict[int, str])
    cpu_s: float = 0.0


def full(steps: list[str], place: Place, limit_s: float) -> Full | str:
    """All steps, in a process of their own."""
    found = apart(lambda: asdict(_full(steps)), place, limit_s)
    if isinstance(found, str):
        return found
    found["failed"] = {int(number): text for number, text in found["failed"].items()}
    return Full(**found)


def _full(steps: list[str]) -> Full:
    run, names, began = Full(), new_names(), process_time()
    before = of_names(names)
    for number, step in enumerate(steps):
        output, error = run_step(step, names)
        if error:
            run.failed[number] = error
        after = of_names(names)
        run.outputs.append(output)
        run.changed.append(difference(before, after))
        before = after
    run.final, run.cpu_s = before, process_time() - began
    return run


def new_names() -> dict[str, object]:
    """The namespace before the first step."""
    return {"__name__": "__main__"}


def run_step(step: str, names: dict[str, object]) -> tuple[str, str]:
    """What it printed and showed, and why it raised. Its figures are closed, as notebooks do."""
    out = io.StringIO()
    shown = error = ""
    value: object = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            tree = ast.parse(step)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "<step>", "exec", dont_inherit=True), names)
            if isinstance(last, ast.Expr):
                code = compile(ast.Expression(last.value), "<step>", "eval", dont_inherit=True)
                value = eval(code, names)
                shown = "" if value is None else repr(value)
    except (Exception, SystemExit) as raised:  # noqa: BLE001 - told to the caller
        error = f"{type(raised).__name__}: {raised}"
    pictures = [*_of_value(value), *_figures(value)]
    return "\n".join([masked(out.getvalue()), masked(shown), *filter(None, pictures)]), error


def _of_value(value: object) -> list[str]:
    """What it gives of itself when it is asked as a notebook asks: that may fill its caches."""
    for method in ("_repr_png_", "_repr_html_"):
        if callable(function := getattr(type(value), method, None)):
            with contextlib.suppress(Exception):
                found: object = function(value)
                return [picture(found)] if isinstance(found, bytes) else []
            return []
    return []


def _figures(value: object) -> list[str]:
    """The figure that is the value, then those that are open. They are closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    if isinstance(value, pyplot.Figure):
        figures = [value, *(each for each in figures if each is not value)]
    pyplot.close("all")
    return [_drawn(each) for each in figures]


def _drawn(figure: Any) -> str:
    written = io.BytesIO()
    with contextlib.suppress(Exception):
        figure.savefig(written, format="png", dpi=100, bbox_inches="tight")
    return picture(written.getvalue()) if written.getvalue() else ""


def picture(data: bytes) -> str:
    """A picture, as a word."""
    return f"picture {blake2b(data, digest_size=8).hexdigest()}"


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """What is another after than before; empty: gone."""
    names: Iterable[str] = before.keys() | after.keys()
    return {n: after.get(n, "") for n in sorted(names) if before.get(n) != after.get(n)}
