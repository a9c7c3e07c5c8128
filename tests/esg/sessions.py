"""Sessions to test, and what Python itself makes of the same steps."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable

from lorimer.esg import StepExecutor

NUMPY = importlib.util.find_spec("numpy") is not None
if NUMPY:
    importlib.import_module("numpy")  # before any test that puts `sys.modules` back: once is all


def session_of(*sources: str) -> StepExecutor:
    """A session whose steps `s0`, `s1`, ... have run."""
    session = StepExecutor()
    for number, source in enumerate(sources):
        result = session.execute(f"s{number}", source)
        assert result.ok, result.failure
    return session


def natively(sources: Iterable[str]) -> dict[str, object]:
    """The names after all of them, run in one plain namespace."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for source in sources:
        exec(source, namespace)
    return namespace


def anew(session: StepExecutor) -> dict[str, object]:
    """The names after running all steps of a session as they are now, anew."""
    return natively(map(session.graph.source, session.graph.steps))
