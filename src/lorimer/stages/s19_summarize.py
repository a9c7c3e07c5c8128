"""Stage 19, Summarize: summaries of runs, for people and memory; compaction is `s02_compaction.py`.

Compaction decides what the model sees of a long conversation; this stage does not affect that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lorimer.core.bindings import Bindings
from lorimer.core.jsonable import JSON
from lorimer.core.memory import MemoryItem
from lorimer.core.record import record
from lorimer.core.stage import Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.stages.s18_memory import MemoryStage, remember, written

SUMMARY: Final = "turn_summary"
"""In `state.shared`: the summary of this run, as `RunSummary.to_json`."""
GRADES: Final[Mapping[str, float]] = {"low": 0.25, "medium": 0.5, "high": 0.75, "critical": 1.0}
"""The importance of a run, and its value in a memory."""


@record
class RunSummary:
    """The summary of a run."""

    text: str
    facts: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def to_json(self, grade: str) -> dict[str, JSON]:
        """The plain form, with the importance of the run."""
        return {
            "text": self.text,
            "facts": list(self.facts),
            "entities": list(self.entities),
            "tags": list(self.tags),
            "importance": grade,
        }


class Summarizer(Strategy):
    """Writes the summary of a run."""

    absent: bool = False
    """It never writes one."""

    async def summarize(self, state: PipelineState) -> RunSummary | None:
        """The summary; None: there is nothing to summarise. External requests have to go through
        `state.run.effect`."""
        raise TypeError(f"{type(self).__name__} has no summarize method")


class Importance(Strategy):
    """Rates the importance of a run."""

    def grade(self, summary: RunSummary, state: PipelineState) -> str:
        """One of GRADES. Must be fast, and deterministic for a given run."""
        raise TypeError(f"{type(self).__name__} has no grade method")


class SummarizeStage(Stage[object, object]):
    """Summarises a run that has succeeded: for `state.shared["turn_summary"]`, the signal
    `summary.written`, and the memory of stage 18, if there is one. Bypassed without a
    summarizer."""

    name = "summarize"
    order = 19
    category = "finalize"
    bypass_reason = "no summarizer is chosen"
    bypass_path = "strategies.summarizer"

    summarizer = Slot(
        Summarizer,
        default="no_summary",
        known={
            "no_summary": "lorimer.stages.s19_strategies:NoSummary",
            "rule_based": "lorimer.stages.s19_strategies:RuleBased",
        },
    )
    importance = Slot(
        Importance,
        default="fixed",
        known={
            "fixed": "lorimer.stages.s19_strategies:Fixed",
            "heuristic": "lorimer.stages.s19_strategies:Heuristic",
        },
    )

    def bind(self, bindings: Bindings) -> None:
        stage = bindings.stages.get("memory")
        self._memory_stage = stage if isinstance(stage, MemoryStage) else None

    def should_bypass(self, state: PipelineState) -> bool:
        return self.summarizer.absent

    async def execute(self, input: object, state: PipelineState) -> object:
        summary = await self.summarizer.summarize(state)
        if summary is None:
            return input
        run = state.run
        grade = self.importance.grade(summary, state)
        told = summary.to_json(grade)
        state.shared[SUMMARY] = told
        run.signal("summary.written", told)
        memory = None if self._memory_stage is None else self._memory_stage.memory
        if memory is not None or written(state, "summary"):
            item = MemoryItem(
                f"{run.id}.summary",
                "\n".join([summary.text, *[f"- {fact}" for fact in summary.facts]]),
                "summary",
                run.now,
                run.stream,
                GRADES[grade],
                False,
                (*summary.tags, *summary.entities),
            )
            await remember(memory, "summary", [item], state)
        return input
