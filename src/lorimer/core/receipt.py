"""The receipt of a compaction: what the model is not shown any more, and by which rule.

Nothing is lost by compaction: the conversation in the journal stays whole, and a receipt names the
messages of it. Who decides what is taken out: `stages/s02_compaction.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorimer.core.jsonable import JSON
from lorimer.core.messages import Message
from lorimer.core.record import record


@record
class Receipt:
    """One compaction, as its fact `compacted` tells it. Messages are named by their place in the
    conversation, from 0."""

    rule: str
    """The compactor that did it."""
    start: int
    """The first message that it took out."""
    end: int
    """All before this one are out, but for `kept`."""
    kept: tuple[int, ...]
    """The pinned ones before `end`, of earlier compactions too."""
    dropped: tuple[int, ...]
    """What an earlier one had kept, and this one did not."""
    recap: str
    """What the model reads in place of all that is out, of earlier compactions too."""
    digest: str
    """Of the conversation's first `end` messages: whether a conversation is the one that it is
    of."""
    before: int
    """Tokens of what the model would have been shown, about."""
    after: int
    """Tokens of what it is shown, about."""
    error: str = ""
    """The code of why the summariser failed, where its fallback did it."""

    @property
    def indexes(self) -> list[int]:
        """The places of the messages that this compaction took out."""
        kept = set(self.kept)
        fresh = [index for index in range(self.start, self.end) if index not in kept]
        return [*self.dropped, *fresh]

    @property
    def count(self) -> int:
        """How many messages are out, by this compaction and those before it."""
        return self.end - len(self.kept)

    def removed(self, messages: Sequence[Message]) -> list[Message]:
        """The messages that this compaction took out of what the model sees, as they were.
        `messages` are the conversation, for instance `result.messages`. Raises ValueError when
        that is too short to be it."""
        if len(messages) < self.end:
            raise ValueError(f"the receipt is about {self.end} messages, not {len(messages)}")
        return [messages[index] for index in self.indexes]

    def to_json(self) -> dict[str, JSON]:
        """The plain form; lossless."""
        data: dict[str, JSON] = {
            "rule": self.rule,
            "start": self.start,
            "end": self.end,
            "kept": list(self.kept),
            "dropped": list(self.dropped),
            "recap": self.recap,
            "digest": self.digest,
            "before": self.before,
            "after": self.after,
        }
        if self.error:
            data["error"] = self.error
        return data

    @classmethod
    def from_json(cls, data: JSON) -> Receipt:
        """The reverse of `to_json`. Raises ValueError naming what is wrong."""
        if not isinstance(data, Mapping):
            raise ValueError("a receipt must be an object")
        numbers = [_number(data, name) for name in ("start", "end", "before", "after")]
        start, end, before, after = numbers
        if not start < end:
            raise ValueError("a receipt's 'end' must come after its 'start'")
        kept, dropped = _places(data, "kept", end), _places(data, "dropped", start)
        texts = [_text(data, name) for name in ("rule", "recap", "digest")]
        error = data.get("error", "")
        return cls(
            texts[0],
            start,
            end,
            kept,
            dropped,
            texts[1],
            texts[2],
            before,
            after,
            error if isinstance(error, str) else "",
        )


def _number(data: Mapping[str, JSON], name: str) -> int:
    value = data.get(name)
    if type(value) is not int or value < 0:
        raise ValueError(f"a receipt's {name!r} must be a number, not below 0")
    return value


def _places(data: Mapping[str, JSON], name: str, end: int) -> tuple[int, ...]:
    given = data.get(name)
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"a receipt's {name!r} must be a list")
    places = [each for each in given if type(each) is int]
    if len(places) < len(given) or places != sorted({*places}):
        raise ValueError(f"a receipt's {name!r} must be ascending numbers")
    if places and not 0 <= places[0] <= places[-1] < end:
        raise ValueError(f"a receipt's {name!r} must lie before {end}")
    return tuple(places)


def _text(data: Mapping[str, JSON], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise ValueError(f"a receipt's {name!r} must be text")
    return value
