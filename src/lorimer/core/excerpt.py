"""A part of a conversation for the model to see, kept up with the conversation at no more than the
cost of what is new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import overload

from lorimer.core.history import History
from lorimer.core.messages import Message, canonical_message
from lorimer.core.record import record


@record
class Selection:
    """Which messages of a conversation are shown: those of `kept`, then `notes`, then all from
    `start` on. What stands alone in `kept` is in order by itself: messages without calls and
    results of calls."""

    start: int
    kept: tuple[int, ...] = ()
    """Places before `start`, ascending."""
    notes: tuple[Message, ...] = ()
    """Of the user's side; not part of the conversation."""

    def joined(self, other: Selection) -> Selection:
        """What both of them show from the later start on, and what either keeps before."""
        start = max(self.start, other.start)
        kept = sorted({each for each in (*self.kept, *other.kept) if each < start})
        return Selection(start, tuple(kept), (*self.notes, *other.notes))


class Excerpt:
    """What one selection shows of one conversation, as a History that grows with it."""

    __slots__ = ("_digest", "_taken", "selection", "shown")

    def __init__(self, history: History, selection: Selection) -> None:
        self.selection = selection
        self.shown = History()
        """The messages, fit for every provider."""
        for index in selection.kept:
            self.shown.append(history[index], clean=True)
        for note in selection.notes:
            self.shown.append(note, clean=True)
        self._taken = selection.start
        self._digest = history.digest_at(selection.start)
        self.follow(history)
        self.shown.mend(0)

    def fits(self, history: History, selection: Selection) -> bool:
        """It is of this conversation, and shows this selection of it."""
        return selection == self.selection and history.digest_at(self._taken) == self._digest

    def follow(self, history: History) -> History:
        """Take in what was said since."""
        for message in history.since(self._taken):
            self.shown.append(message, clean=True)
        self._taken, self._digest = len(history), history.digest
        return self.shown


def excerpt(history: History, selection: Selection) -> History:
    """What a selection shows. Costs what is new, while the selection stays the same."""
    if not selection.start:
        return history
    known = history.excerpt
    if known is not None and known.fits(history, selection):
        return known.follow(history)
    made = history.excerpt = Excerpt(history, selection)
    return made.shown


class Trailed(Sequence[Message]):
    """A conversation, or what is shown of it, and one message behind it that is not part of it. It
    comes last, so that what stands before it stays the same from call to call, and providers can
    cache it."""

    __slots__ = ("_last", "digest", "said")

    def __init__(self, messages: History, last: Message) -> None:
        self.said = messages
        self._last = last
        body = canonical_message(last)
        self.digest = blake2b(messages.digest + body, digest_size=16).digest()
        """As that of a History."""

    @property
    def pictured(self) -> list[int]:
        """As of a History."""
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
    """It holds neither calls nor results, so it can be shown without its neighbours."""
    return not any(block.type in ("tool_use", "tool_result") for block in message.content)


def may_begin(message: Message) -> bool:
    """What is shown may begin with it: it does not answer calls of the message before."""
    return not any(block.type == "tool_result" for block in message.content)
