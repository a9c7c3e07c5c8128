"""What a step reads and writes, determined from its code alone.

`analyse` walks the syntax tree once, in execution order, with Python's scoping rules: class bodies
see the module, methods do not see the class, the first iterable of a comprehension is evaluated
outside it, a function's body runs when the function is used. A name counts as read when a value
from *before* the step can reach it: an assignment that may not happen (`if`, `for`, `try`) hides
nothing. What the code does not tell (`exec` of a variable, `import *`) is marked unknown; the log
of the run corrects it (`observe` in graph.py).
"""

from __future__ import annotations

import builtins
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lorimer.esg.analysis.parsing import tree_of
from lorimer.esg.analysis.statements import Statements

BUILTINS: Final = frozenset(dir(builtins)) | {"__file__", "__path__", "__annotations__"}


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the code of one step tells about it."""

    reads: frozenset[str] = frozenset()
    """Names whose value from before the step may be used, except builtins."""
    writes: frozenset[str] = frozenset()
    """Names that may be bound, deleted or changed in place."""
    kills: frozenset[str] = frozenset()
    """Those of `writes` whose earlier value is gone in any case."""
    reads_unknown: bool = False
    """It may read any name: `exec` of a variable, `globals()`."""
    writes_unknown: bool = False
    """It may write any name: the same, and `import *`."""
    builtins: tuple[str, ...] = ()
    """Builtins that it reads: an earlier step may shadow one."""

    @classmethod
    def of_run(
        cls, reads: Iterable[str], writes: Iterable[str], kills: Iterable[str], *, saw_all: bool
    ) -> Analysis:
        """The result of a run. `saw_all`: it looked at the namespace as a whole."""
        names, hidden = _split(reads)
        return cls(names, frozenset(writes), frozenset(kills), saw_all, builtins=hidden)


def analyse(source: str) -> Analysis:
    """Reads and writes of a step. Raises SyntaxError, with the position, if it is not Python."""
    walk = Statements()
    walk.future = "__future__" in source
    walk.walrus_used = ":=" in source or "exec" in source
    walk.body(tree_of(source).body)
    walk.finish()
    writes = frozenset(walk.writes)
    reads, hidden = _split(walk.reads)
    return Analysis(
        reads,
        writes,
        writes if walk.covered >= writes else writes & walk.covered,
        walk.unknown_reads,
        walk.unknown_writes,
        hidden,
    )


def get_reads(source: str) -> set[str]:
    """The names that a step takes from earlier steps, without builtins.

    Raises SyntaxError.
    """
    return set(analyse(source).reads)


def _split(reads: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Names, and separately those of builtins."""
    every = frozenset(reads)
    return every - BUILTINS, tuple(sorted(every & BUILTINS))


def lines_of(source: str) -> list[str]:
    """The lines of a text with their line ends, as Python counts them: a form feed ends no line."""
    return [*io.StringIO(source, newline="")]


def get_writes(source: str) -> set[str]:
    """The names that a step binds, deletes or changes in place. Raises SyntaxError."""
    return set(analyse(source).writes)
