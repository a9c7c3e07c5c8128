"""The part of a conversation that the model sees, kept up to date at a cost that depends only on
what is new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import overload

from lorimer.core.history import History
from lorimer.core.messages import Message, canonical_message
from lorimer.core.record import record


@record
class Selection:
    """Which messages of a conversation are shown: those in `kept`, then `notes`, then everything
    from `start` on. Messages that `kept` names without their neighbours must have neither calls
    nor results of calls."""

    start: int
    kept: tuple[int, ...] = ()
    """Indexes before `start`, ascending."""
    notes: tuple[Message, ...] = ()
    """Messages of the user role; not part of the conversation."""

    def joined(self, other: Selection) -> Selection:
        """Both selections, from the later start on, with everything that either keeps before it."""
        start = max(self.start, other.start)
        kept = sorted({each for each in (*self.kept, *other.kept) if each < start})
        return Selection(start, tuple(kept), (*self.notes, *other.notes))


class Excerpt:
    """What one selection shows of one conversation, as a History that grows with it."""

    __slots__ = ("_digest", "_taken", "selection", "shown")

    def __init__(self, history: History, selection: Selection) -> None:
        self.selection = selection
        self.shown = History()
        """The messages, valid for every provider."""
        for index in selection.kept:
            self.shown.append(history[index], clean=True)
        for note in selection.notes:
            self.shown.append(note, clean=True)
        self._taken = selection.start
        self._digest = history.digest_at(selection.start)
        self.follow(history)
        self.shown.mend(0)

    def fits(self, history: History, selection: Selection) -> bool:
        """Whether it is an excerpt of this conversation with this selection."""
        return selection == self.selection and history.digest_at(self._taken) == self._digest

    def follow(self, history: History) -> History:
        """Add the messages since the last time."""
        for message in history.since(self._taken):
            self.shown.append(message, clean=True)
        self._taken, self._digest = len(history), history.digest
        return self.shown


def excerpt(history: History, selection: Selection) -> History:
    """What a selection shows. Costs only what is new, as long as the selection stays the same."""
    if not selection.start:
        return history
    known = history.excerpt
    if known is not None and known.fits(history, selection):
        return known.follow(history)
    made = history.excerpt = Excerpt(history, selection)
    return made.shown


class Trailed(Sequence[Message]):
    """A conversation, or an excerpt, followed by one message that is not part of it. That message
    comes last, so that everything before it stays the same from call to call and providers can
    cache it."""

    __slots__ = ("_last", "digest", "said")

    def __init__(self, messages: History, last: Message) -> None:
        self.said = messages
        self._last = last
        body = canonical_message(last)
        self.digest = blake2b(messages.digest + body, digest_size=16).digest()
        """As in a History."""

    @property
    def pictured(self) -> list[int]:
        """As in a History."""
        return self.said.pictured

    def __len__(self) -> int:
        return len(self.said) + 1

    def __iter__(self) -> Iterator[Message]:
        yield from self.said
        yield self._last

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        length = len(self.said)
        return self._last if index in (length, -1) else self.said[index + (index < 0)]


def stands_alone(message: Message) -> bool:
    """Whether it holds neither calls nor results, so that it can be shown without its
    neighbours."""
    return not any(block.type in ("tool_use", "tool_result") for block in message.content)


def may_begin(message: Message) -> bool:
    """Whether an excerpt may begin with it: it does not answer calls of the message before."""
    return not any(block.type == "tool_result" for block in message.content)
