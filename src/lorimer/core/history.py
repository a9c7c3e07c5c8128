"""The conversation as a run has it: append-only, with running sums."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, overload

from lorimer.core.jsonable import JSON, fingerprint, utf8
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ToolResultBlock,
    ToolUse,
    message_from_json,
)
from lorimer.core.receipt import Receipt
from lorimer.core.record import record
from lorimer.core.redaction import Redactor
from lorimer.core.request import ToolSpec
from lorimer.core.wellformed import fits, misplaced, readable, repaired, without_empty_end

if TYPE_CHECKING:
    from lorimer.core.excerpt import Excerpt
    from lorimer.core.pins import Pins

IMAGE_TOKENS: Final = 2_000
"""The assumed size of a picture; providers scale larger ones down to less."""
DOCUMENT_TOKENS: Final = 3_000
"""The least assumed size of a document; one given by URL counts ten times as much."""


def weight(message: Message, body: bytes) -> int:
    """The size of a message for estimates, in bytes of about 4 per token: its JSON, with media
    counted by their assumed size rather than their base64. `body` is that JSON."""
    return len(body) + sum([_excess(block) for block in message.content])


def _excess(block: Block) -> int:
    """By how much the assumed size of media exceeds their base64; may be negative."""
    if isinstance(block, ToolResultBlock):
        return 0 if isinstance(block.content, str) else sum([_excess(b) for b in block.content])
    if isinstance(block, ImageBlock):
        return 4 * IMAGE_TOKENS - len(block.data)
    if isinstance(block, DocumentBlock):
        tokens = len(block.data) // 40 if block.data else 9 * DOCUMENT_TOKENS
        return 4 * (DOCUMENT_TOKENS + tokens) - len(block.data)
    return 0


@record
class PromptCount:
    """The provider's token count of a prompt: the first messages of a conversation, and what
    surrounded them."""

    length: int
    """Number of messages."""
    digest: bytes
    """Their tokens."""
    tokens: int
    model: str
    system: str
    tools: tuple[ToolSpec, ...]


@record
class RecordedCount:
    """The last provider count that the facts contain, with the hash of the request it belongs
    to."""

    length: int
    """Number of messages of the conversation in that request."""
    tokens: int
    hash: str
    """The request's hash, as in the fact of its intent."""


class History(Sequence[Message]):
    """The conversation: append-only, with running sums, so that no call costs more because the
    history is longer."""

    __slots__ = (
        "_digests",
        "_needs_mending",
        "_items",
        "_sizes",
        "_turns",
        "_waiting",
        "__weakref__",
        "call_ids",
        "counted",
        "digest",
        "excerpt",
        "length",
        "pictured",
        "pins",
        "receipt",
        "recorded",
        "redactor",
        "size",
    )

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self._items: list[Message] = []
        self.length = 0
        """Number of messages: `len()`, which takes five times as long."""
        self.pictured: list[int] = []
        """Indexes of the messages with pictures, in order."""
        self.digest: bytes = b""
        """A hash over all messages in order; equal histories have equal digests."""
        self.size: int = 0
        """Size of all messages for estimates, in bytes of about 4 per token; see `weight`."""
        self._digests = [self.digest]
        self._sizes = [self.size]
        self._turns: list[int] = []
        self._waiting: tuple[str, ...] = ()
        """Calls of the last message, which the next message has to answer."""
        self._needs_mending = False
        """Whether something may be out of order, so that `mend` has to check."""
        self.call_ids: dict[str, int] = {}
        """The ids of all calls, each with the index of the first message that has it."""
        self.counted: PromptCount | None = None
        """The last provider count of this conversation; kept under a cost limit only."""
        self.redactor: Redactor | None = None
        """Removes secrets from messages that a run adds; None: no secrets are known, or the
        messages come from a journal."""
        self.recorded: RecordedCount | None = None
        """The provider's count from another process, read from the facts."""
        self.receipt: Receipt | None = None
        """The last compaction: which messages the model is no longer shown."""
        self.pins: Pins | None = None
        """Which messages are pinned, once it was compacted: see `pins.py`."""
        self.excerpt: Excerpt | None = None
        """The last excerpt shown to the model, if not everything: see `excerpt.py`."""
        for message in messages:
            self.append(message)

    def append(
        self, message: Message, plain: Mapping[str, JSON] | None = None, *, clean: bool = False
    ) -> bool:
        """Append one message, in the form that `without_empty_end` gives it. Returns False if
        nothing is left of it. `plain` is its `to_json`, if the caller has it. Secrets are removed,
        unless it is `clean`: what was recorded, or is about to be, stays as it is."""
        kept = without_empty_end(message)
        if kept is None:
            return False
        body = utf8(plain if plain is not None and kept is message else kept.to_json())
        if body is None:
            kept = readable(kept)
            body = fingerprint(kept.to_json())
        if self.redactor is not None and not clean and self.redactor.finds(body):
            struck = self.redactor.json(kept.to_json())
            kept, body = message_from_json(struck), fingerprint(struck)
        items, role, waiting = self._items, kept.role, self._waiting
        size, at = len(body), len(items)
        named: list[str] = []  # the calls that it makes or answers
        for block in kept.content:
            kind = type(block)
            if kind is TextBlock:
                continue
            if isinstance(block, ToolUse) and role == "assistant":
                if block.id in self.call_ids:
                    self._needs_mending = True
                self.call_ids.setdefault(block.id, at)
                named.append(block.id)
            elif isinstance(block, ToolResultBlock) and role == "user":
                named.append(block.tool_use_id)
                if not isinstance(block.content, str):
                    size += _excess(block)
                    self._note_pictures(block.content, at)
            else:
                self._needs_mending |= not fits(role, block)
                size += _excess(block)
                self._note_pictures((block,), at)
        if role == "assistant":
            if waiting or not items or "" in named:
                self._needs_mending = True
            self._waiting = tuple(named)
        elif named:
            if len(named) != len(kept.content) or tuple(named) != waiting:
                self._needs_mending = True
            self._waiting = ()
        else:
            if waiting:
                self._needs_mending = True
                self._waiting = ()
            self._turns.append(at)
        self.digest = blake2b(self.digest + body, digest_size=16).digest()
        self._digests.append(self.digest)
        self.size += size
        self._sizes.append(self.size)
        items.append(kept)
        self.length = at + 1
        return True

    def _note_pictures(self, blocks: Sequence[Block], at: int) -> None:
        pictured = self.pictured
        if any(isinstance(each, ImageBlock) for each in blocks) and pictured[-1:] != [at]:
            pictured.append(at)

    def truncate(self, length: int) -> None:
        """Drop the messages from `length` on."""
        if length >= self.length:
            return
        self._needs_mending = True
        for message in self._items[length:]:
            for use in message.tool_uses:
                if self.call_ids.get(use.id, -1) >= length:
                    del self.call_ids[use.id]
        del self._items[length:]
        self.length = length
        del self._digests[length + 1 :]
        del self._sizes[length + 1 :]
        self.digest, self.size = self._digests[-1], self._sizes[-1]
        while self._turns and self._turns[-1] >= length:
            self._turns.pop()
        while self.pictured and self.pictured[-1] >= length:
            self.pictured.pop()
        if self.receipt is not None and self.receipt.end > length:
            self.receipt = None

    def mend(self, since: int) -> None:
        """Repair the messages from `since` on, in time that depends on their number only. Earlier
        messages have been repaired already, and their calls answered."""
        if not self._needs_mending and not self._waiting:
            return
        fresh = self._items[since:]
        calls = self.call_ids
        if misplaced(fresh, (lambda call_id: calls[call_id] < since) if since else None):
            self.truncate(since)
            for message in repaired(fresh, calls.__contains__ if since else None):
                self.append(message, clean=True)

    def turn(self, back: int) -> int:
        """Index at which the last `back` user turns begin, 0 if there are fewer. A turn begins with
        a user message without tool results, so never between a call and its results."""
        return self._turns[-back] if back <= len(self._turns) else 0

    def turns(self, back: int, most: int) -> list[int]:
        """Where the user turns before the last `back` begin: the `most` newest of them."""
        end = max(0, len(self._turns) - back)
        return self._turns[max(0, end - most) : end]

    def size_from(self, index: int) -> int:
        """The size of the messages from `index` on."""
        return self.size - self._sizes[index]

    def begins_with(self, counted: PromptCount) -> bool:
        """Whether it begins with the counted messages."""
        length = counted.length
        return length <= len(self._items) and self._digests[length] == counted.digest

    def digest_at(self, length: int) -> bytes | None:
        """The digest of the first `length` messages; None: there are fewer."""
        return self._digests[length] if length < len(self._digests) else None

    def first_within(self, size: int) -> int:
        """Index of the first message from which on everything fits into `size`."""
        return bisect_left(self._sizes, self.size - size)

    def adopt_receipt(self, receipt: Receipt | None) -> None:
        """Adopt the receipt of an earlier compaction, if it is about these messages."""
        digest = self.digest_at(receipt.end) if receipt is not None else None
        if receipt is not None and digest is not None and digest.hex() == receipt.digest:
            self.receipt = receipt

    def since(self, index: int) -> list[Message]:
        """The messages from `index` on."""
        return self._items[index:]

    def __reduce__(self) -> tuple[type[History], tuple[tuple[Message, ...]]]:
        """Only the messages are stored or copied: never the secrets that are removed from them."""
        return History, (tuple(self._items),)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Message]:
        return iter(self._items)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        return self._items[index]
