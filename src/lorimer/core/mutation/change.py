"""The base class of changes, and what changes of one stage or one slot have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from lorimer.core.errors import MutationError, nearest
from lorimer.core.manifest import EnvironmentManifest, StageEntry
from lorimer.core.stage import Slot, Strategy


class Declared(Protocol):
    """Where the slots of stages are looked up: a catalogue."""

    def slots(self, stage: str, implementation: str = "") -> Mapping[str, Slot[Strategy]]:
        """The slots of a stage by name. Raises ConfigError when there is no such stage."""
        ...


class Change(BaseModel):
    """One change. `kind` says which, in JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @abstractmethod
    def edit(self, draft: EnvironmentManifest, declared: Declared) -> None:
        """Make the change in a manifest owned by the caller. Raises MutationError."""


class StageChange(Change):
    stage: str
    """Name of the stage."""

    def entry(self, draft: EnvironmentManifest) -> StageEntry:
        if self.stage not in draft.stages:
            known = [entry.name for entry in draft.stages]
            raise MutationError(
                f"this agent has no {self.stage!r} stage{nearest(self.stage, known)}"
            )
        return draft.stages[self.stage]


class SlotChange(StageChange):
    slot: str

    def held(self, draft: EnvironmentManifest, declared: Declared) -> tuple[list[str], bool]:
        """The strategies in the slot, and whether it is a chain."""
        entry = self.entry(draft)
        slots = declared.slots(entry.name, entry.implementation)
        if self.slot not in slots:
            raise MutationError(
                f"the {self.stage!r} stage has no slot {self.slot!r}{nearest(self.slot, slots)}"
            )
        slot = slots[self.slot]
        chosen = entry.strategies.get(self.slot, list(slot.default))
        return (list(chosen) if isinstance(chosen, list) else [chosen]), slot.chain

    def chain(self, draft: EnvironmentManifest, declared: Declared) -> list[str]:
        """The strategies in the chain."""
        held, chain = self.held(draft, declared)
        if not chain:
            raise MutationError(f"{self.stage}.{self.slot} holds one strategy: it is not a chain")
        return held

    def settle(self, draft: EnvironmentManifest, held: list[str]) -> None:
        """Replace the strategies in the chain; configurations of removed ones are dropped."""
        entry = self.entry(draft)
        entry.strategies[self.slot] = held
        configs = entry.strategy_configs.pop(self.slot, {})
        kept = {name: config for name, config in configs.items() if name in held}
        if kept:
            entry.strategy_configs[self.slot] = kept
