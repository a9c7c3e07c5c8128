"""Decisions of a run's phases (`stages/s06_phases.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lorimer.core.events import Event
from lorimer.core.facts import PHASE
from lorimer.journal.explain.in_force import ManifestInForce
from lorimer.journal.explain.reason import Explanation, Origin, because

_INSTEAD: Final = {
    "fallback": ("its fallback replaces the output of the phase", "fallback"),
    "salvaged": ("the end of its transcript replaces the output of the phase", ""),
}


def phase_of(key: str, in_force: ManifestInForce) -> tuple[str, Origin] | None:
    """Why a child was started under this key; None: it is not a phase."""
    number = key.removeprefix(PHASE)
    if not key.startswith(PHASE) or not number.isdecimal():
        return None
    why = f"it is phase {int(number) + 1} of the run's work"
    return why, in_force.of_stage("api", f"config.phases[{int(number)}]")


def of_phase(fact: Event, in_force: ManifestInForce) -> Iterator[Explanation]:
    """Explains an effect."""
    kind, _, number = str(fact.data.get("key")).partition(":")
    if kind == PHASE and number.isdecimal():
        instead = _INSTEAD.get(str(fact.data.get("instead")))
        if instead is not None:
            what, below = instead
            path = f"config.phases[{int(number)}]" + (f".{below}" if below else "")
            why = f"the phase {fact.data.get('name')} ended as {fact.data.get('status')}"
            why += f" ({fact.data['code']})" if "code" in fact.data else ""
            yield because(fact, "child", what, why, in_force.of_stage("api", path))
