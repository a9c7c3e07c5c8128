"""What the stages of one run share: typed fields, one instance per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from lorimer.core.errors import LorimerError, StageError
from lorimer.core.history import History, weight
from lorimer.core.jsonable import JSON, fingerprint
from lorimer.core.messages import Message, ToolResultBlock, ToolUse
from lorimer.core.request import NO_MARKS, CacheMarks, Request, Response, ToolSpec, Usage
from lorimer.core.trail import Trail
from lorimer.core.wellformed import answers

if TYPE_CHECKING:
    from lorimer.core.context import RunContext


SCORE: Final = "evaluation_score"
"""In `state.shared`: the score of the last answer that stage 14 judged, 0 to 1."""
FEEDBACK: Final = "evaluation_feedback"
"""In `state.shared`: the comment on that answer."""
MISFIT: Final = "structured_output_error"
"""In `state.shared`: why the last answer is not the data that stage 9 expects; "": it is."""


class Decision(StrEnum):
    """What happens after an iteration."""

    CONTINUE = "continue"
    COMPLETE = "complete"
    ERROR = "error"


def decided(said: str) -> Decision:
    """A decision that a host's own stage may have written as text. Raises StageError for an invalid
    one."""
    try:
        return Decision(said)
    except ValueError:
        known = ", ".join([each.value for each in Decision])
        raise StageError(
            f"A stage decided {said!r}; a decision is one of {known}.",
            hint="Set state.decision to a member of lorimer.core.state.Decision.",
        ) from None


class PipelineState:
    """The state of one run, used by its task only. Shipped stages communicate through the typed
    fields; a custom stage may keep plain data of its own in `shared`."""

    __slots__ = (
        "began",
        "cache",
        "calls",
        "context",
        "decision",
        "failure",
        "held_back",
        "input",
        "iteration",
        "messages",
        "models",
        "recorded_length",
        "reliefs",
        "output",
        "reason",
        "request",
        "response",
        "results",
        "run",
        "shared",
        "signal",
        "signal_detail",
        "system",
        "text",
        "thinking",
        "tools",
        "trail",
        "unsupported",
        "volatile",
    )

    def __init__(self, run: RunContext, messages: History, input: JSON) -> None:
        self.run = run
        """The run's context: effects, signals, limits, world."""
        self.input = input
        """The caller's input."""
        messages.redactor = run.redactor
        self.messages = messages
        """The whole conversation, append-only."""
        self.began = messages.length
        """Index at which the messages of this run begin."""
        self.recorded_length = messages.length
        """How many of the messages are recorded; the next model.intent records the rest."""
        self.context: Sequence[Message] = messages
        """The messages that go to the model, chosen by stage 2."""
        self.volatile: dict[str, str] = {}
        """Text sent behind the conversation in this call only, by its source: what changes from run
        to run, and would defeat the provider's cache if it came earlier."""
        self.iteration = 0
        """0-based number of the model call."""
        self.system = ""
        self.tools: tuple[ToolSpec, ...] = ()
        self.cache: CacheMarks = NO_MARKS
        self.request: Request | None = None
        self.reliefs = 0
        """How often the prompt of this iteration was made shorter because it did not fit."""
        self.response: Response | None = None
        """Of this iteration."""
        self.calls: list[ToolUse] = []
        """The calls of this iteration's response."""
        self.results: list[ToolResultBlock] = []
        """Their results, in call order."""
        self.thinking: list[str] = []
        """Reasoning texts of this run, as stage 8 left them."""
        self.signal = ""
        """The signal in the last reply that stage 9 found, such as `complete`; with its detail."""
        self.signal_detail = ""
        self.decision: Decision | None = None
        """The outcome of this iteration; None: not decided yet."""
        self.reason = ""
        """The reason for the decision."""
        self.failure: LorimerError | None = None
        """The error that ends the run, if a stage has decided for ERROR and has one."""
        self.trail: Trail | None = None
        """The last turns, for the guards of stage 16; None: not determined yet."""
        self.held_back = 0
        """How often a hook has kept the run from ending."""
        self.text = ""
        """The answer so far: the text of the last response."""
        self.output: object = None
        """The output made by stage 21; None: the text."""
        self.shared: dict[str, JSON] = {}
        self.models = ""
        """Whom stage 6 calls in this run: a spec or chain with tiers and aliases resolved; "": it
        has not called a model yet."""
        self.unsupported: tuple[tuple[str, str, str], ...] = ()
        """Provider, model and field of what was left out of requests, once that was reported."""

    def begin_turn(self) -> None:
        """Reset the fields of an iteration."""
        self.reliefs = 0
        self.response = None
        self.calls = []
        self.results = []
        self.decision = None
        self.reason = ""

    def add_recorded(self, message: Message, plain: Mapping[str, JSON] | None = None) -> None:
        """Add a reply, or the results of its calls, which facts of their own record. `plain` is its
        `to_json`, if the caller has it."""
        if self.recorded_length != self.messages.length:
            raise StageError(
                "A message was added between a reply and the results of its calls; add it "
                "before the next model call instead."
            )
        self.messages.append(message, plain, clean=True)
        self.recorded_length = self.messages.length

    def unrecorded(self) -> list[Message]:
        """The messages that no fact contains yet; they count as recorded once this returns."""
        fresh = self.messages.since(self.recorded_length)
        self.recorded_length = self.messages.length
        return fresh

    def mark_unrecorded(self, messages: Sequence[Message]) -> None:
        """The messages that `unrecorded` returned were not recorded after all."""
        self.recorded_length -= len(messages)

    def close_turn(self) -> None:
        """Prepare the history for later runs: without an input that no model saw, with a result for
        every call, and valid for every provider."""
        history = self.messages
        history.truncate(self.recorded_length)
        last = history[-1] if history.length else None
        if last is not None and last.role == "assistant" and (waiting := last.tool_uses):
            done = {block.tool_use_id: block for block in self.results}
            history.append(answers(waiting, done, self._begun()), clean=True)
        history.mend(self.began)
        self.recorded_length = history.length

    def _begun(self) -> set[int]:
        """This iteration's calls for which an intent is recorded."""
        keys: set[int] = set()
        for fact in reversed(self.run.facts):
            if fact.iteration != self.run.iteration:
                break
            key = str(fact.data.get("key"))
            if fact.type == "tool.intent" and key.isdecimal() and len(key) < 10:
                keys.add(int(key))
        return keys

    @property
    def context_size(self) -> int:
        """Size of the messages that go to the model, in bytes of about 4 per token, with media at
        their assumed size."""
        context = self.context
        if isinstance(context, History):
            return context.size
        return sum([weight(message, fingerprint(message.to_json())) for message in context])

    @property
    def usage(self) -> Usage:
        """Tokens of this run so far, including failed and aborted attempts."""
        return self.run.spend.usage

    @property
    def cost_nano(self) -> int:
        """Nano-dollars of this run so far."""
        return self.run.spend.nano

    @property
    def cost_usd(self) -> float:
        """US dollars of this run so far."""
        return self.run.spend.nano / 1e9
