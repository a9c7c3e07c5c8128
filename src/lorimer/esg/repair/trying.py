"""Tries a patch before it is kept.

This happens in a copy of the process (`fork`), so that a patch that fails, hangs or crashes leaves
no trace in the session: no value that could not be copied has to be made again, and a time limit
holds whatever the step does. A copy of a process with several threads may hang for ever on a lock
held by another thread; in that case, and where there is no fork, the patch is tried in place and
reverted.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Final, Protocol

from lorimer.esg.execution.results import Replay
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.steps import Status
from lorimer.esg.patching.patches import PatchResult

_YES: Final = b"y"


class Session(Protocol):
    """What is needed of a session: see `StepExecutor`."""

    graph: ExecutionStateGraph

    def replay(self) -> Replay:
        """Run what is stale."""
        ...


def repair(session: Session, patch: PatchResult, step_id: str, timeout_s: float) -> bool:
    """See `StepExecutor.repair`."""
    graph = session.graph
    if not patch:
        return False
    patch.check(graph)
    if can_fork() and forked(lambda: _helps(session, patch, step_id), timeout_s) is False:
        return False
    before = {each: graph.source(each) for each in patch.hashes}
    order = graph.steps
    if _helps(session, patch, step_id):
        return True
    for each, source in before.items():
        graph.edit_step(each, source)
    last = ""
    for each in order:
        if graph.steps.index(each) != order.index(each):
            graph.move_step(each, after=last)
        last = each
    session.replay()
    return False


def _helps(session: Session, patch: PatchResult, step_id: str) -> bool:
    """Apply it and replay: the step must run, and no other may fail that did not fail before."""
    graph = session.graph
    failed = {each for each in graph.steps if graph.status(each) is Status.FAILED}
    patch.apply(graph)
    done = session.replay()
    return step_id not in {*done.failed, *done.blocked, *done.held} and failed.issuperset(
        done.failed
    )


def can_fork() -> bool:
    """Whether a copy of this process would work: on Linux, from its only thread."""
    return sys.platform == "linux" and threading.active_count() == 1


def forked(check: Callable[[], bool], timeout_s: float) -> bool | None:
    """The result of a check in a copy of this process; also False if the copy ends without an
    answer or is not done in time. None if no copy can be made."""
    read, write = os.pipe()
    try:
        with warnings.catch_warnings():  # for threads of libraries that handle forks themselves
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()  # noqa: TID251 - a copy of this process; no program is started
    except OSError:  # not allowed, or too many processes
        os.close(read)
        os.close(write)
        return None
    if pid == 0:
        try:
            os.close(read)
            os.write(write, _YES if check() else b"n")
        finally:
            os._exit(0)  # flush, close or print nothing of the parent's
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], timeout_s)
        return bool(ready) and os.read(read, 1) == _YES
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
