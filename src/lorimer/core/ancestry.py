"""The chain of runs that led to a run, and the checks before another is begun below it: depth,
number of descendants, and that no agent is given work by itself.

The chain is kept in memory, in a context variable that is set in a run's own task: so whatever a
tool of the run begins is below it, be it a sub-agent (`session/family.py`) or a run of an executor
(`run/executor.py`).
"""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import ContextVar
from typing import Final

from lorimer.core.errors import ExecutorErrorCode, LimitError
from lorimer.core.limits import Limits

_CURRENT: Final[ContextVar[Ancestry | None]] = ContextVar("lorimer_ancestry", default=None)


class Ancestry:
    """A run, and the chain of those above it."""

    __slots__ = ("_above", "_agent", "_begun", "_limits", "_over", "_root", "run_id")

    def __init__(
        self, run_id: str, agent: Hashable, limits: Limits, above: Ancestry | None = None
    ) -> None:
        """`agent`: who runs, as `admit` compares it; `limits`: of the run."""
        self.run_id = run_id
        self._agent = agent
        self._limits = limits
        self._above = above
        self._root: Ancestry = self if above is None else above._root
        self._begun = 0
        """Of the root: how many runs are below it."""
        self._over = False

    def admit(self, agent: Hashable, name: str) -> None:
        """Whether a run of `agent`, called `name`, may be begun below this one. Raises LimitError:
        it is at work above already (`exec.child.ancestor`), it would be deeper than `max_depth` of
        a run above allows (`exec.child.depth`), or one more than `max_descendants` of the root
        (`exec.child.descendants`)."""
        depth, line = 0, self
        while True:
            depth += 1
            most = line._limits.max_depth
            if line._agent == agent:
                raise LimitError(
                    f"{name!r} is at work on this already: it cannot be given work from here.",
                    code=ExecutorErrorCode.EXEC_CHILD_ANCESTOR,
                    hint="Do it yourself, or give it to another agent.",
                )
            if depth > most:
                raise LimitError(
                    f"a run within a run is at most {most} deep, and this one is.",
                    code=ExecutorErrorCode.EXEC_CHILD_DEPTH,
                    hint="Do it yourself; whoever runs this may raise limits.max_depth.",
                )
            if line._above is None:
                break
            line = line._above
        most = line._limits.max_descendants
        if line._begun >= most:
            raise LimitError(
                f"work was given to other agents {most} times, the limit.",
                code=ExecutorErrorCode.EXEC_CHILD_DESCENDANTS,
                hint="Do it yourself; whoever runs this may raise limits.max_descendants.",
            )

    def count_descendants(self, runs: int = 1) -> None:
        """Count runs that were begun below this one."""
        self._root._begun += runs

    @property
    def nearest_live(self) -> Ancestry | None:
        """This run, or the nearest above it that has not ended."""
        line: Ancestry | None = self
        while line is not None and line._over:
            line = line._above
        return line

    def child(self, run_id: str, agent: Hashable, limits: Limits) -> Ancestry:
        """The chain of a run that is begun below this one."""
        return Ancestry(run_id, agent, limits, self)

    def enter(self) -> None:
        """From here on the present task is this run's, until `leave`."""
        _CURRENT.set(self)

    def leave(self) -> None:
        """The present task is again what it was when it entered. What it has left behind in other
        tasks is below the run no more."""
        self._over = True
        _CURRENT.set(self._above)


def enter_run(run_id: str, agent: Hashable, name: str, limits: Limits) -> Ancestry:
    """Enter a run of `agent`, called `name`, in the present task, below the one that the task is
    in, if it is in one; `leave` ends that. Raises LimitError where it may not be, as
    `Ancestry.admit` says."""
    above = current()
    if above is None:
        line = Ancestry(run_id, agent, limits)
    else:
        above.admit(agent, name)
        above.count_descendants()
        line = above.child(run_id, agent, limits)
    line.enter()
    return line


def current() -> Ancestry | None:
    """Of the run in which the present task is; None: in none that says so and goes on."""
    line = _CURRENT.get()
    return None if line is None else line.nearest_live
