"""What a step reads and writes, from its text alone.

`analyse` walks the syntax tree once, in the order of execution, with the scopes of the language:
class bodies see the module, methods do not see the class, the first iterable of a comprehension
belongs outside it, a function's body runs when somebody uses the function. A name counts as read
when a value from *before* the step can reach it: what only may have been assigned (`if`, `for`,
`try`) hides nothing. What the text cannot tell (`exec` of a variable, `import *`) is said to be
unknown; the log of the run corrects it (`observe` in graph.py).
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
    """What the text of one step tells about it."""

    reads: frozenset[str] = frozenset()
    """Names whose value from before the step may be used, those of builtins aside."""
    writes: frozenset[str] = frozenset()
    """Names that may be bound, deleted or changed in place."""
    kills: frozenset[str] = frozenset()
    """Those of `writes` whose earlier value is gone whatever happens."""
    reads_unknown: bool = False
    """It may read any name: `exec` of a variable, `globals()`."""
    writes_unknown: bool = False
    """It may write any name: the same, and `import *`."""
    builtins: tuple[str, ...] = ()
    """Names of builtins that it reads: a step before it may hide one."""

    @classmethod
    def of_run(
        cls, reads: Iterable[str], writes: Iterable[str], kills: Iterable[str], *, saw_all: bool
    ) -> Analysis:
        """What a run has shown. `saw_all`: it looked at the namespace as a whole."""
        names, hidden = _split(reads)
        return cls(names, frozenset(writes), frozenset(kills), saw_all, builtins=hidden)


def analyse(source: str) -> Analysis:
    """Reads and writes of a step. Raises SyntaxError, with the place, if it is not Python."""
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
    """The names that a step takes from the steps before it; builtins are left out.

    Raises SyntaxError.
    """
    return set(analyse(source).reads)


def _split(reads: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Names, and apart from them those of builtins."""
    every = frozenset(reads)
    return every - BUILTINS, tuple(sorted(every & BUILTINS))


def lines_of(source: str) -> list[str]:
    """The lines of a text with their ends, as Python counts them: a form feed ends none."""
    return [*io.StringIO(source, newline="")]


def get_writes(source: str) -> set[str]:
    """The names that a step binds, deletes or changes in place. Raises SyntaxError."""
    return set(analyse(source).writes)
