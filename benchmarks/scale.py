"""How much one measurement does, and what it gives. Imports next to nothing: it is part of what
rows 8 and 9 measure."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

Figures: TypeAlias = dict[str, float]
"""What one case measured, by name."""


class NotHere(Exception):
    """A case cannot be measured on this machine; says why."""


class Scale(NamedTuple):
    """How much one measurement does."""

    batches: int = 5
    """A round's figure is the median over so many."""
    runs: int = 400
    """Runs of one iteration in a batch."""
    tool_runs: int = 40
    """Runs of ten tool iterations in a batch."""
    iterations: tuple[int, int] = (1_000, 10_000)
    """Lengths of the long runs."""
    turns: tuple[int, int] = (500, 5_000)
    """Turns of the chat that are looked at."""
    warm: int = 200
    """Iterations or turns before that."""
    window: int = 41
    """So many neighbours give the median cost of one iteration or turn."""
    durable: tuple[int, int] = (200, 1_000)
    """Iterations of the durable runs; their sizes on disk give the slope."""
    wire_runs: int = 8
    """Runs of ten tool turns over the wire."""
    deltas: int = 2_000
    streams: int = 3
    """Answers of that many deltas."""
    crowd: int = 1_000
    """Runs at once."""
    latency_s: float = 0.05
    """Of each of their model calls."""
    synced: int = 50
    """Calls of each of 100 durable runs at once."""
    resumed: int = 1_000
    """Iterations of the run that is resumed."""
    pending: int = 1_000
    """Interrupted runs that are resumed at once."""
    steps: int = 10_000
    """Steps of the graph."""
    loops: int = 300_000
    """Rounds of a step's loop."""
    numbers: int = 12_500_000
    """Of arrays that steps work with: 100 MB."""


SCALES: Final = {
    "full": Scale(),
    "quick": Scale(batches=3, runs=100, tool_runs=10, wire_runs=3, streams=1),
    "smoke": Scale(
        2, 2, 1, (16, 24), (14, 18), 3, 3, (30, 60), 1, 20, 1, 5, 0.001, 1, 5, 3, 120, 500, 4_000
    ),
}
