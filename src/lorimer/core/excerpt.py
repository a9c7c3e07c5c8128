"""A part of a conversation for the model to see, kept up with the conversation at no more than the
cost of what is new."""

from __future__ import annotations

from lorimer.core.history import History
from lorimer.core.messages import Message
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


def stands_alone(message: Message) -> bool:
    """It holds neither calls nor results, so it can be shown without its neighbours."""
    return not any(block.type in ("tool_use", "tool_result") for block in message.content)


def may_begin(message: Message) -> bool:
    """What is shown may begin with it: it does not answer calls of the message before."""
    return not any(block.type == "tool_result" for block in message.content)
