"""What the stages of one run speak through: typed fields, one instance a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, overload

from lorimer.core.errors import StageError
from lorimer.core.jsonable import JSON, fingerprint
from lorimer.core.messages import (
    NO_MARKS,
    CacheMarks,
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


class History(Sequence[Message]):
    """The conversation: append-only, with running sums, so that no call costs more because the
    history is longer."""

    __slots__ = ("_items", "_marks")

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self._items: list[Message] = []
        self._marks: list[tuple[bytes, int]] = [(b"", 0)]
        for message in messages:
            self.append(message)

    def append(self, message: Message, plain: Mapping[str, JSON] | None = None) -> None:
        """Add one message at the end. `plain` is its `to_json`, where the caller has it."""
        body = fingerprint(plain if plain is not None else message.to_json())
        digest, size = self._marks[-1]
        self._marks.append((blake2b(digest + body, digest_size=16).digest(), size + len(body)))
        self._items.append(message)

    def truncate(self, length: int) -> None:
        """Forget the messages from `length` on: an input that no model ever saw."""
        del self._items[length:]
        del self._marks[length + 1 :]

    @property
    def digest(self) -> bytes:
        """A hash over all messages in order; equal histories have equal digests."""
        return self._marks[-1][0]

    @property
    def size(self) -> int:
        """Bytes of all messages in canonical JSON: about 4 a token."""
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


def answers(calls: Sequence[ToolUse], done: Mapping[str, ToolResultBlock]) -> Message:
    """One user message with a result for every call, in call order: providers demand it. A call
    without one is said not to have been run."""
    return Message(
        "user",
        tuple(
            [
                done.get(call.id)
                or ToolResultBlock(call.id, "Not run: the run ended first.", is_error=True)
                for call in calls
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
                self.messages.append(answers(waiting, done))
        self.noted = len(self.messages)

    @property
    def usage(self) -> Usage:
        """Tokens of this run so far, failed and abandoned attempts included."""
        return self.run.usage

    @property
    def cost_nano(self) -> int:
        """Nano-dollars of this run so far."""
        return self.run.spent_nano

    @property
    def cost_usd(self) -> float:
        """US dollars of this run so far."""
        return self.run.spent_nano / 1e9
