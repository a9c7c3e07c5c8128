"""Stage 20, Persist: when a snapshot of the conversation's fold is stored, so that opening it is
fast. The facts are journalled anyway; how a run is resumed is in `journal/conversation.py`."""

from __future__ import annotations

from pydantic import Field

from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState


class Cadence(Strategy):
    """Decides whether this run ends with a snapshot."""

    def due(self, position: int, snapshot_at: int) -> bool:
        """`position` facts are in the stream, the last snapshot stands for `snapshot_at`."""
        raise TypeError(f"{type(self).__name__} has no due method")


class OnGrowth(Cadence):
    """Each time the stream has grown by a share: few snapshots, and opening stays fast."""

    name = "on_growth"
    description = "When the stream has grown by min_facts and by ratio since the last snapshot."

    class Config(Settings):
        min_facts: int = Field(2000, ge=1)
        ratio: float = Field(1.0, gt=0)

    config: Config

    def due(self, position: int, snapshot_at: int) -> bool:
        grown = position - snapshot_at
        return grown >= max(self.config.min_facts, snapshot_at * self.config.ratio)


class EveryNFacts(Cadence):
    """Every so many facts."""

    name = "every_n_facts"
    description = "Each time n facts were added."

    class Config(Settings):
        n: int = Field(1000, ge=1)

    config: Config

    def due(self, position: int, snapshot_at: int) -> bool:
        return position - snapshot_at >= self.config.n


class PersistStage(Stage[object, object]):
    """Asks the cadence; the snapshot itself is stored after the run's last fact.
    Bypassed where the journal does not outlive the process."""

    name = "persist"
    order = 20
    category = "finalize"

    cadence = Slot(
        Cadence,
        default="on_growth",
        known={
            "on_growth": "lorimer.stages.s20_persist:OnGrowth",
            "every_n_facts": "lorimer.stages.s20_persist:EveryNFacts",
        },
    )

    def should_bypass(self, state: PipelineState) -> bool:
        return not state.run.journal.durable

    async def execute(self, input: object, state: PipelineState) -> object:
        run = state.run
        run.snapshot_due = self.cadence.due(run.position, run.snapshot_at)
        if run.snapshot_due:
            run.signal("checkpoint.due", {"facts": run.position - run.snapshot_at})
        return input
