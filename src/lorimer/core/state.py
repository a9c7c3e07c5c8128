"""What the stages of one run speak through: typed fields, one instance a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, overload

from lorimer.core.errors import ExecutorErrorCode, StageError
from lorimer.core.jsonable import JSON, fingerprint
from lorimer.core.messages import (
    NO_MARKS,
    CacheMarks,
    DocumentBlock,
    ImageBlock,
    Message,
    Request,
    Response,
    ToolResultBlock,
    ToolSpec,
    ToolUse,
    Usage,
)

if TYPE_CHECKING:
    from lorimer.core.context import RunContext


class Decision(StrEnum):
    """What happens after an iteration."""

    CONTINUE = "continue"
    COMPLETE = "complete"
    ERROR = "error"


IMAGE_TOKENS: Final = 2_000
"""What a picture is taken to cost; providers scale larger ones down to less."""
DOCUMENT_TOKENS: Final = 3_000
"""What a document costs at least; one that is only linked, ten times as much."""


def weight(message: Message, body: bytes) -> int:
    """The size of a message for estimates, in bytes of about 4 a token: its JSON, but media by
    what they come to and not by their base64. `body` is that JSON."""
    size = len(body)
    for block in message.content:
        parts = block.content if isinstance(block, ToolResultBlock) else (block,)
        if isinstance(parts, str):
            continue
        for part in parts:
            if isinstance(part, ImageBlock):
                size += 4 * IMAGE_TOKENS - len(part.data)
            elif isinstance(part, DocumentBlock):
                tokens = len(part.data) // 40 if part.data else 9 * DOCUMENT_TOKENS
                size += 4 * (DOCUMENT_TOKENS + tokens) - len(part.data)
    return size


class History(Sequence[Message]):
    """The conversation: append-only, with running sums, so that no call costs more because the
    history is longer."""

    __slots__ = ("_items", "_marks", "_turns", "call_ids")

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self._items: list[Message] = []
        self._marks: list[tuple[bytes, int]] = [(b"", 0)]
        self._turns: list[int] = []
        self.call_ids: set[str] = set()
        """The ids of all calls in it."""
        for message in messages:
            self.append(message)

    def append(self, message: Message, plain: Mapping[str, JSON] | None = None) -> None:
        """Add one message at the end. `plain` is its `to_json`, where the caller has it."""
        body = fingerprint(plain if plain is not None else message.to_json())
        digest, size = self._marks[-1]
        mark = blake2b(digest + body, digest_size=16).digest()
        self._marks.append((mark, size + weight(message, body)))
        if message.role == "assistant":
            for block in message.content:
                if isinstance(block, ToolUse):
                    self.call_ids.add(block.id)
        elif not any(isinstance(block, ToolResultBlock) for block in message.content):
            self._turns.append(len(self._items))
        self._items.append(message)

    def truncate(self, length: int) -> None:
        """Forget the messages from `length` on: an input that no model ever saw."""
        del self._items[length:]
        del self._marks[length + 1 :]
        while self._turns and self._turns[-1] >= length:
            self._turns.pop()

    def turn(self, back: int) -> int:
        """Index at which the last `back` turns of the user begin, 0 if there are not so many. A
        turn begins with a user message that holds no results, so never between a call and its
        results."""
        return self._turns[-back] if back <= len(self._turns) else 0

    @property
    def digest(self) -> bytes:
        """A hash over all messages in order; equal histories have equal digests."""
        return self._marks[-1][0]

    @property
    def size(self) -> int:
        """Of all messages, for estimates: bytes, about 4 a token; see `weight`."""
        return self._marks[-1][1]

    def since(self, index: int) -> list[Message]:
        """The messages from `index` on."""
        return self._items[index:]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._items)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        return self._items[index]


NOT_RUN: Final = "Not run: the run ended first."

OUTCOME_UNKNOWN: Final = (
    f"ERROR {ExecutorErrorCode.EXEC_TOOL_OUTCOME_UNKNOWN.value}: this call was begun, and the run "
    "ended before its result was there. Check whether it took effect before you repeat it."
)


def answers(
    calls: Sequence[ToolUse],
    done: Mapping[str, ToolResultBlock],
    begun: Collection[int] = (),
) -> Message:
    """One user message with a result for every call, in call order: providers demand it. A call
    without one is said not to have been run; or, when its index is in `begun`, that nobody knows
    what became of it."""
    return Message(
        "user",
        tuple(
            [
                done.get(call.id)
                or ToolResultBlock(
                    call.id, OUTCOME_UNKNOWN if index in begun else NOT_RUN, is_error=True
                )
                for index, call in enumerate(calls)
            ]
        ),
    )


class PipelineState:
    """One run, one task. Shipped stages speak through the typed fields; a custom stage may keep
    plain data of its own in `shared`."""

    __slots__ = (
        "cache",
        "calls",
        "context",
        "decision",
        "input",
        "iteration",
        "messages",
        "noted",
        "output",
        "reason",
        "request",
        "response",
        "results",
        "run",
        "shared",
        "system",
        "text",
        "thinking",
        "tools",
    )

    def __init__(self, run: RunContext, messages: History, input: JSON) -> None:
        self.run = run
        """The run's context: effects, signals, limits, world."""
        self.input = input
        """What the caller gave."""
        self.messages = messages
        """The whole conversation, append-only."""
        self.noted = len(messages)
        """How many of them facts already tell of; the next model.intent holds the rest."""
        self.context: Sequence[Message] = messages
        """What of it goes to the model: stage 2 decides."""
        self.iteration = 0
        """0-based number of the model call."""
        self.system = ""
        self.tools: tuple[ToolSpec, ...] = ()
        self.cache: CacheMarks = NO_MARKS
        self.request: Request | None = None
        self.response: Response | None = None
        """Of this iteration."""
        self.calls: list[ToolUse] = []
        """The calls of this iteration's response."""
        self.results: list[ToolResultBlock] = []
        """Their results, in call order."""
        self.thinking: list[str] = []
        """Reasoning texts of this run, as stage 8 left them."""
        self.decision: Decision | None = None
        """What this iteration came to; None: nobody has decided yet."""
        self.reason = ""
        """Why that decision."""
        self.text = ""
        """The answer so far: the text of the last response."""
        self.output: object = None
        """What stage 21 made of it; None: the text."""
        self.shared: dict[str, JSON] = {}

    def begin_turn(self) -> None:
        """Forget what belongs to one iteration."""
        self.response = None
        self.calls = []
        self.results = []
        self.decision = None
        self.reason = ""

    def add_recorded(self, message: Message, plain: Mapping[str, JSON] | None = None) -> None:
        """Add a reply or the results of its calls: what facts of their own already hold. `plain`
        is its `to_json`, where the caller has it."""
        if self.noted != len(self.messages):
            raise StageError(
                "A message was added between a reply and the results of its calls; add it "
                "before the next model call instead."
            )
        self.messages.append(message, plain)
        self.noted += 1

    def unrecorded(self) -> list[Message]:
        """The messages that no fact tells of yet; they count as told once this returns."""
        fresh = self.messages.since(self.noted)
        self.noted = len(self.messages)
        return fresh

    def untold(self, messages: Sequence[Message]) -> None:
        """What `unrecorded` returned was not recorded after all."""
        self.noted -= len(messages)

    def close_turn(self) -> None:
        """Make the history what a later run may build on: without an input that no model saw,
        and with a result for every call."""
        self.messages.truncate(self.noted)
        if self.messages and self.messages[-1].role == "assistant":
            waiting = self.messages[-1].tool_uses
            if waiting:
                done = {block.tool_use_id: block for block in self.results}
                self.messages.append(answers(waiting, done, self._begun()))
        self.noted = len(self.messages)

    def _begun(self) -> set[int]:
        """The calls of this iteration that an intent tells of."""
        keys: set[int] = set()
        for fact in reversed(self.run.facts):
            if fact.iteration != self.run.iteration:
                break
            if fact.type == "tool.intent":
                keys.add(int(str(fact.data["key"])))
        return keys

    @property
    def context_size(self) -> int:
        """Of what goes to the model: bytes, about 4 a token; media by what they come to."""
        context = self.context
        if isinstance(context, History):
            return context.size
        return sum([weight(message, fingerprint(message.to_json())) for message in context])

    @property
    def usage(self) -> Usage:
        """Tokens of this run so far, failed and abandoned attempts included."""
        return self.run.spend.usage

    @property
    def cost_nano(self) -> int:
        """Nano-dollars of this run so far."""
        return self.run.spend.nano

    @property
    def cost_usd(self) -> float:
        """US dollars of this run so far."""
        return self.run.spend.nano / 1e9
