"""The receipt of a compaction: what the model is no longer shown, and by which rule.

Nothing is lost by compaction: the conversation in the journal stays complete, and a receipt refers
to its messages. What is compacted is decided in `stages/s02_compaction.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorimer.core.jsonable import JSON
from lorimer.core.messages import Message
from lorimer.core.record import record


@record
class Receipt:
    """One compaction, as its fact `compacted` records it. Messages are referred to by their 0-based
    index in the conversation."""

    rule: str
    """The compactor that made it."""
    start: int
    """The first message that it hid."""
    end: int
    """All messages before this one are hidden, except for `kept`."""
    kept: tuple[int, ...]
    """The pinned messages before `end`; an earlier compaction may have hidden some of them."""
    dropped: tuple[int, ...]
    """Messages that an earlier compaction kept and this one did not."""
    recap: str
    """What the model reads instead of all hidden messages, including those of earlier
    compactions."""
    digest: str
    """Digest of the conversation's first `end` messages, which identifies the conversation."""
    before: int
    """Approximate tokens that the model would have been shown."""
    after: int
    """Approximate tokens that it is shown."""
    error: str = ""
    """Code of the error of the summariser, if its fallback was used."""

    @property
    def indexes(self) -> list[int]:
        """The indexes of the messages that this compaction hid."""
        kept = set(self.kept)
        fresh = [index for index in range(self.start, self.end) if index not in kept]
        return [*self.dropped, *fresh]

    @property
    def count(self) -> int:
        """How many messages are hidden, by this compaction and earlier ones."""
        return self.end - len(self.kept)

    def removed(self, messages: Sequence[Message]) -> list[Message]:
        """The messages that this compaction hid from the model, unchanged. `messages` is the
        conversation, for instance `result.messages`. Raises ValueError if that is too short."""
        if len(messages) < self.end:
            raise ValueError(f"the receipt is about {self.end} messages, not {len(messages)}")
        return [messages[index] for index in self.indexes]

    def to_json(self) -> dict[str, JSON]:
        """Plain data, lossless."""
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
