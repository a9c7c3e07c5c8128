"""Stage 2, Context: choose which part of the conversation is sent to the model. Conversations that
get too long: `s02_compaction.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

from pydantic import Field

from lorimer.core.bindings import Bindings
from lorimer.core.excerpt import Selection, excerpt
from lorimer.core.history import History
from lorimer.core.messages import Message
from lorimer.core.stage import Settings, Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.core.wellformed import repaired
from lorimer.models.windows import SMALLEST_WINDOW, USUAL_WINDOW, WindowRoom
from lorimer.stages.s02_compaction import (
    ALL,
    COMPACTORS,
    MAX_RELIEFS,
    CompactionTerms,
    Compactor,
    after,
    compact,
    recorded,
)
from lorimer.stages.s02_retrievers import Retriever
from lorimer.stages.s06_api import spec_in


class ContextStrategy(Strategy):
    """Decides which messages the model sees."""

    async def load(self, state: PipelineState) -> Sequence[Message] | Selection:
        """The messages for the next call: all of `state.messages`, or a Selection of them, whose
        cost does not depend on their length and which compaction may narrow further; or any list,
        which is sent unchanged. Must not change the history; its cost must not grow with it.
        Inconsistent results are repaired afterwards. External requests have to go through
        `state.run.effect`."""
        raise TypeError(f"{type(self).__name__} has no load method")


class SimpleLoad(ContextStrategy):
    """The whole conversation."""

    name = "simple_load"
    description = "The whole conversation."

    async def load(self, state: PipelineState) -> Sequence[Message]:
        return state.messages


class Hybrid(ContextStrategy):
    """The first message and the most recent turns."""

    name = "hybrid"
    description = "The first message and the last max_recent_turns turns of the user."

    class Config(Settings):
        max_recent_turns: int = Field(20, ge=1)

    config: Config

    async def load(self, state: PipelineState) -> Selection:
        start = state.messages.turn(self.config.max_recent_turns)
        return Selection(start, (0,)) if start > 1 else ALL


class ContextStage(Stage[object, object]):
    """Fills `state.context` before every model call."""

    name = "context"
    order = 2
    category = "ingress"
    every_call = True

    class Config(Settings):
        """A pipeline with this stage remembers earlier runs, unless it is stateless."""

        stateless: bool = False
        """Every run starts a new conversation."""
        window: int | None = Field(None, ge=1_000)
        """Tokens that fit into a prompt; None: the smallest window among the models of the chain,
        if known, else 200,000."""
        compact_at: float = Field(0.8, gt=0, le=1)
        """The share of the window at which the compactor is consulted."""
        keep_share: float = Field(0.4, gt=0, lt=1)
        """The share of the window that the newest messages may take, however many the compactor
        would keep."""
        pin_first: bool = True
        """The conversation's first message is not removed, as far as there is room: a fifth of the
        window, less the input of the current run."""
        pin_markers: list[str] = Field(["[pin]"])
        """Nor are user messages that contain one of these, the newest first, as far as there is
        room after that."""

    config: Config

    strategy = Slot(
        ContextStrategy,
        default="simple_load",
        known={
            "simple_load": "lorimer.stages.s02_context:SimpleLoad",
            "hybrid": "lorimer.stages.s02_context:Hybrid",
            "progressive_disclosure": "lorimer.stages.s02_search:ProgressiveDisclosure",
            "vector_search": "lorimer.stages.s02_search:VectorSearch",
        },
    )

    retriever = Slot(
        Retriever,
        default="memory",
        known={
            "none": "lorimer.stages.s02_retrievers:NoRetriever",
            "static": "lorimer.stages.s02_retrievers:StaticRetriever",
            "memory": "lorimer.stages.s02_retrievers:MemoryRetriever",
        },
    )

    compactor = Slot(Compactor, default="summary", known=COMPACTORS)

    @property
    def remembers(self) -> bool:
        """Unless it is stateless."""
        return not self.config.stateless

    def bind(self, bindings: Bindings) -> None:
        self._room = WindowRoom(bindings.models)
        self._spec = spec_in(bindings)
        self._most = self.compactor.most
        # below this, looking up the window is not worth it
        self._least = (self.config.window or SMALLEST_WINDOW) * self.config.compact_at

    async def execute(self, input: object, state: PipelineState) -> object:
        history, run = state.messages, state.run
        chosen = await self.strategy.load(state)
        if chosen is history:
            chosen = ALL
        if isinstance(chosen, Selection):
            known = run.follows_record and await self._follows(state)
            shown = _shown(chosen, history)
            if not known and (tokens := self._too_many(shown, state)):
                terms = self._terms(state)
                many = self._most is not None and len(shown) > self._most
                if many or tokens >= terms.window * terms.compact_at:
                    await compact(self.compactor, terms, chosen, tokens, state)
                    shown = _shown(chosen, history)
            state.context = shown
        else:
            state.context = repaired(_messages(chosen, self.strategy))
        if not state.iteration and not self.retriever.absent(state):
            asked = history[history.turn(1)].text if history else ""
            state.volatile[self.name] = await self.retriever.retrieve(asked, state)
        if run.wants("context.built"):
            run.signal(
                "context.built",
                {
                    "message_count": len(state.context),
                    "estimated_tokens": state.context_size // 4,
                },
            )
        return input

    async def relieve(self, state: PipelineState) -> bool:
        """Compact a prompt that the provider reports as too long, whatever the estimate: as for a
        window of its size, the next time in the same turn of half its size, and so on, at most
        MAX_RELIEFS times. Returns whether anything was removed."""
        history, run = state.messages, state.run
        done = state.reliefs
        if done == MAX_RELIEFS:
            return False
        chosen = await self.strategy.load(state)
        if chosen is history:
            chosen = ALL
        if not isinstance(chosen, Selection):
            return False
        before = history.receipt
        shown, key = _shown(chosen, history), str(done + 1)
        if not (run.follows_record and await self._follows(state, key)):
            tokens = shown.size // 4
            terms = self._terms(state)
            terms = replace(terms, window=min(terms.window, tokens >> done))
            await compact(self.compactor, terms, chosen, tokens, state, key)
        state.context = _shown(chosen, history)
        state.reliefs += 1
        return history.receipt is not before

    def _too_many(self, shown: History, state: PipelineState) -> int:
        """The tokens of what is shown, if they may be too many; else 0."""
        tokens, response = shown.size // 4, state.response
        if response is not None:  # the provider's count, which is more accurate
            tokens = max(tokens, response.usage.total)
        many = self._most is not None and len(shown) > self._most
        return max(1, tokens) if many or tokens >= self._least else 0

    async def _follows(self, state: PipelineState, key: str = "0") -> bool:
        """Whether this call is compacted as recorded, or not at all. A replay works it out again if
        it knows the window; without keys it may not."""
        if state.run.compares and self._window(state) is not None:
            return False
        return await recorded(self.compactor, state, key)

    def _window(self, state: PipelineState) -> int | None:
        """Tokens; None: unknown."""
        return self.config.window or self._room.of(state.models or self._spec)

    def _terms(self, state: PipelineState) -> CompactionTerms:
        config = self.config
        window = self._window(state) or USUAL_WINDOW
        return CompactionTerms(
            window, config.compact_at, config.keep_share, config.pin_first, config.pin_markers
        )


def _shown(chosen: Selection, history: History) -> History:
    receipt = history.receipt
    if chosen is ALL and receipt is None:  # nearly always
        return history
    return excerpt(history, chosen if receipt is None else chosen.joined(after(receipt)))


def _messages(chosen: object, by: ContextStrategy) -> list[Message]:
    """Check what a strategy, which may be the host's, returned. Raises TypeError."""
    found = list(cast("Iterable[object]", chosen)) if isinstance(chosen, Iterable) else [chosen]
    for one in found:
        if not isinstance(one, Message):
            what = f"{'a list with ' if isinstance(chosen, Iterable) else ''}a {type(one).__name__}"
            raise TypeError(
                f"{type(by).__name__}.load returned {what}, and not messages as in state.messages"
            )
    return cast("list[Message]", found)
