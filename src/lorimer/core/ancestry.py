"""The chain of runs that led to a run, and the checks before a child run starts: depth, number of
descendants, and that no agent is given work by itself.

The chain is in memory, in a context variable that is set in a run's own task: so everything that a
tool of the run starts is a descendant, whether a sub-agent (`session/family.py`) or a run of an
executor (`run/executor.py`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextvars import ContextVar
from typing import Final

from lorimer.core.errors import ExecutorErrorCode, LimitError
from lorimer.core.limits import Limits

_CURRENT: Final[ContextVar[Ancestry | None]] = ContextVar("lorimer_ancestry", default=None)


class Ancestry:
    """A run and the chain of its ancestors."""

    __slots__ = ("_above", "_agent", "_begun", "_limits", "_over", "_root", "run_id")

    def __init__(
        self, run_id: str, agent: Hashable, limits: Limits, above: Ancestry | None = None
    ) -> None:
        """`agent`: identity of the agent, as `admit` compares it; `limits`: those of the run."""
        self.run_id = run_id
        self._agent = agent
        self._limits = limits
        self._above = above
        self._root: Ancestry = self if above is None else above._root
        self._begun = 0
        """For the root: how many descendants it has had."""
        self._over = False

    def admit(self, agent: Hashable, name: str) -> None:
        """Check whether a run of `agent`, called `name`, may start as a child of this one. Raises
        LimitError if the agent is already at work above (`exec.child.ancestor`), if the child would
        be deeper than `max_depth` of a run above allows (`exec.child.depth`), or if it would exceed
        `max_descendants` of the root (`exec.child.descendants`)."""
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
        """Count runs that were started below this one."""
        self._root._begun += runs

    @property
    def ancestors(self) -> Iterator[str]:
        """The ids of the runs above, nearest first."""
        line = self._above
        while line is not None:
            yield line.run_id
            line = line._above

    @property
    def nearest_live(self) -> Ancestry | None:
        """This run, or its nearest ancestor that has not ended."""
        line: Ancestry | None = self
        while line is not None and line._over:
            line = line._above
        return line

    def child(self, run_id: str, agent: Hashable, limits: Limits) -> Ancestry:
        """The chain of a child of this run."""
        return Ancestry(run_id, agent, limits, self)

    def enter(self) -> None:
        """The current task belongs to this run, until `leave`."""
        _CURRENT.set(self)

    def leave(self) -> None:
        """The current task belongs to whatever it did before `enter`. What the run has left behind
        in other tasks is no longer below it."""
        self._over = True
        _CURRENT.set(self._above)


def enter_run(run_id: str, agent: Hashable, name: str, limits: Limits) -> Ancestry:
    """Enter a run of `agent`, called `name`, in the current task, as a child of the run that the
    task belongs to, if any; `leave` ends that. Raises LimitError as `Ancestry.admit` does."""
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
    """The run that the current task belongs to, unless that has ended; None: there is none."""
    line = _CURRENT.get()
    return None if line is None else line.nearest_live
