"""Stage 2, strategies that show little of a long conversation: an outline, or the part related to
the question."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from pydantic import Field

from lorimer.core.excerpt import Selection, stands_alone
from lorimer.core.history import History
from lorimer.core.messages import user_message
from lorimer.core.outline import shortened_line
from lorimer.core.stage import Settings
from lorimer.core.state import PipelineState
from lorimer.core.vectors import Vectors
from lorimer.stages.s02_compaction import ALL
from lorimer.stages.s02_context import ContextStrategy

_LINE_CHARS: Final = 100


class ProgressiveDisclosure(ContextStrategy):
    """The first message, a table of contents, and the most recent turns. The model reads the rest
    with the tool `recall`."""

    name = "progressive_disclosure"
    description = "The first message, an outline of the turns in between, the most recent turns."

    class Config(Settings):
        recent_turns: int = Field(5, ge=1)
        """User turns that are shown completely."""
        summary_threshold: int = Field(10, ge=1)
        """Up to this many messages, all are shown."""
        max_lines: int = Field(40, ge=1)
        """Maximum lines of the outline: one for each turn, the newest ones."""

    config: Config

    async def load(self, state: PipelineState) -> Selection:
        history, config = state.messages, self.config
        start = history.turn(config.recent_turns)
        if start <= 1 or len(history) <= config.summary_threshold:
            return ALL
        return Selection(start, (0,), (user_message(self._outline(history, start)),))

    def _outline(self, history: History, start: int) -> str:
        turns = [at for at in history.turns(self.config.recent_turns, self.config.max_lines) if at]
        lines = [f"{at + 1}: {shortened_line(history[at].text, _LINE_CHARS)}" for at in turns]
        if turns and turns[0] > 1:
            lines.insert(0, "(...)")
        return "\n".join(
            [
                f"[From the program, not from the user: messages 2 to {start} of this conversation "
                "are not shown; the tool recall, if you have it, gives them by number. What the "
                "user said in them begins so:]",
                *lines,
            ]
        )


class _Index:
    """Index of the first messages of one conversation, by content."""

    def __init__(self) -> None:
        self.texts = Vectors()
        self._digest: bytes | None = History().digest

    def is_of(self, history: History) -> bool:
        """Whether the conversation begins with the indexed messages."""
        return history.digest_at(self.texts.length) == self._digest

    def extend(self, history: History, end: int) -> None:
        """Add the messages before `end` that are not indexed yet."""
        for at in range(self.texts.length, end):
            message = history[at]
            self.texts.add(message.text if stands_alone(message) else "")
            self._digest = history.digest_at(at + 1)


class VectorSearch(ContextStrategy):
    """The most recent turns, and the earlier messages most similar to the last question. The index
    is in memory and based on hashed words: no external requests, and deterministic."""

    name = "vector_search"
    description = (
        "The last recent_turns turns, and the top_k earlier messages most similar to the input."
    )

    class Config(Settings):
        recent_turns: int = Field(5, ge=1)
        """User turns that are shown completely."""
        top_k: int = Field(5, ge=1, le=100)
        """Maximum earlier messages; calls and their results are not included."""
        min_score: float = Field(0.1, ge=0, le=1)
        """Minimum similarity, as the cosine of the two vectors."""

    config: Config

    def __init__(self) -> None:
        # conversations that are still in use; rebuilt if gone
        self._indexes: WeakKeyDictionary[History, _Index] = WeakKeyDictionary()

    async def load(self, state: PipelineState) -> Selection:
        history = state.messages
        start = history.turn(self.config.recent_turns)
        if start <= 1:
            return ALL
        index = self._indexes.get(history)
        if index is None or not index.is_of(history):
            index = self._indexes[history] = _Index()
        index.extend(history, start)
        asked, config = history[history.turn(1)].text, self.config
        found = index.texts.search(asked, config.top_k, min_score=config.min_score, before=start)
        return Selection(start, tuple(sorted(found)))
