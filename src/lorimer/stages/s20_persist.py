"""Stage 20, Persist: when a snapshot of the conversation's fold is stored, so that opening it is
fast. The facts are journalled anyway; resuming a run is in `journal/conversation.py`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from lorimer.core.context import RunContext
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.events import FACT_KINDS
from lorimer.core.jsonable import JSON
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState


class Cadence(Strategy):
    """Decides whether this run ends with a snapshot."""

    def due(self, run: RunContext) -> bool:
        """`run.position` is the number of facts in the stream; the last snapshot covers the first
        `run.snapshot_at` of them, and `run.runs_since_snapshot` runs have ended since; `run.facts`
        are those of this run so far."""
        raise TypeError(f"{type(self).__name__} has no due method")


class OnGrowth(Cadence):
    """Each time the stream has grown by a given share: few snapshots, and opening stays fast."""

    name = "on_growth"
    description = "When the stream has grown by min_facts and by ratio since the last snapshot."

    class Config(Settings):
        min_facts: int = Field(2000, ge=1)
        ratio: float = Field(1.0, gt=0)

    config: Config

    def due(self, run: RunContext) -> bool:
        grown = run.position - run.snapshot_at
        return grown >= max(self.config.min_facts, run.snapshot_at * self.config.ratio)


class EveryNFacts(Cadence):
    """After a given number of facts."""

    name = "every_n_facts"
    description = "Each time n facts were added."

    class Config(Settings):
        n: int = Field(1000, ge=1)

    config: Config

    def due(self, run: RunContext) -> bool:
        return run.position - run.snapshot_at >= self.config.n


class EveryTurn(Cadence):
    """After each run. Each snapshot costs as much as the conversation is long."""

    name = "every_turn"
    description = "At the end of every run."

    def due(self, run: RunContext) -> bool:
        return True


class EveryNTurns(Cadence):
    """After a given number of turns of the conversation: a user message and its answer, one run."""

    name = "every_n_turns"
    description = "At the end of a run, when n have ended since the last snapshot."

    class Config(Settings):
        n: int = Field(5, ge=1)

    config: Config

    def due(self, run: RunContext) -> bool:
        return run.runs_since_snapshot + 1 >= self.config.n


class OnSignificant(Cadence):
    """After significant events."""

    name = "on_significant"
    description = "After a run with one of these kinds of fact."

    class Config(Settings):
        kinds: list[str] = Field(["tool.intent", "decision", "effect", "compacted"], min_length=1)
        """By default: a tool that changes something, a refused call, another external call, a
        compaction."""

    config: Config

    def configure(self, config: Mapping[str, JSON]) -> None:
        super().configure(config)
        problems = tuple(
            f"kinds[{at}]: there is no fact {kind!r}{nearest(kind, FACT_KINDS)}"
            for at, kind in enumerate(self.config.kinds)
            if kind not in FACT_KINDS
        )
        if problems:
            raise ConfigError("; ".join(problems), problems=problems)

    def due(self, run: RunContext) -> bool:
        return any(fact.type in self.config.kinds for fact in run.facts)


class PersistStage(Stage[object, object]):
    """Consults the cadence; the snapshot itself is stored after the run's last fact. Bypassed if
    the journal is in memory only."""

    name = "persist"
    order = 20
    category = "finalize"
    bypass_reason = "the journal is in memory: it keeps no snapshots"

    cadence = Slot(
        Cadence,
        default="on_growth",
        known={
            "on_growth": "lorimer.stages.s20_persist:OnGrowth",
            "every_n_facts": "lorimer.stages.s20_persist:EveryNFacts",
            "every_turn": "lorimer.stages.s20_persist:EveryTurn",
            "every_n_turns": "lorimer.stages.s20_persist:EveryNTurns",
            "on_significant": "lorimer.stages.s20_persist:OnSignificant",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        return not state.run.journal.durable

    async def execute(self, input: object, state: PipelineState) -> object:
        run = state.run
        run.snapshot_due = self.cadence.due(run)
        if run.snapshot_due:
            run.signal("checkpoint.due", {"facts": run.position - run.snapshot_at})
        return input
