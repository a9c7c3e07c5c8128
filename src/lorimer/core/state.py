"""What the stages of one run speak through: typed fields, one instance a run."""

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
"""In `state.shared`: how good the last answer was that stage 14 judged, 0 to 1."""
FEEDBACK: Final = "evaluation_feedback"
"""In `state.shared`: what was said about it."""
MISFIT: Final = "structured_output_error"
"""In `state.shared`: why the last answer is not the data that stage 9 looks for; "": it is."""


class Decision(StrEnum):
    """What happens after an iteration."""

    CONTINUE = "continue"
    COMPLETE = "complete"
    ERROR = "error"


def decided(said: str) -> Decision:
    """What a host's own stage has written as text. Raises StageError for what is no decision."""
    try:
        return Decision(said)
    except ValueError:
        known = ", ".join([each.value for each in Decision])
        raise StageError(
            f"A stage decided {said!r}; a decision is one of {known}.",
            hint="Set state.decision to a member of lorimer.core.state.Decision.",
        ) from None


class PipelineState:
    """One run, one task. Shipped stages speak through the typed fields; a custom stage may keep
    plain data of its own in `shared`."""

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
        """What the caller gave."""
        messages.redactor = run.redactor
        self.messages = messages
        """The whole conversation, append-only."""
        self.began = messages.length
        """Where its part of them begins."""
        self.recorded_length = messages.length
        """How many of the messages are recorded; the next model.intent holds the rest."""
        self.context: Sequence[Message] = messages
        """What of it goes to the model: stage 2 decides."""
        self.volatile: dict[str, str] = {}
        """What the model is told behind the conversation, in this call only, by who says it: what
        changes from run to run, and would spoil what providers can cache if it stood before."""
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
        self.signal = ""
        """What the last reply says of itself, where stage 9 looks for that: `complete`, ...; the
        detail beside it."""
        self.signal_detail = ""
        self.decision: Decision | None = None
        """What this iteration came to; None: nobody has decided yet."""
        self.reason = ""
        """Why that decision."""
        self.failure: LorimerError | None = None
        """What ends the run, where a stage has decided for ERROR and has an error of its own."""
        self.trail: Trail | None = None
        """The last turns, for the guards of stage 16; None: they have not looked yet."""
        self.held_back = 0
        """How often a hook has kept the run from its end."""
        self.text = ""
        """The answer so far: the text of the last response."""
        self.output: object = None
        """What stage 21 made of it; None: the text."""
        self.shared: dict[str, JSON] = {}
        self.models = ""
        """Whom stage 6 asks in this run: a spec or a chain without tiers and aliases; "": it has
        asked nobody yet."""
        self.unsupported: tuple[tuple[str, str, str], ...] = ()
        """Provider, model and field of what was left out of requests, once it was told."""

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
        if self.recorded_length != self.messages.length:
            raise StageError(
                "A message was added between a reply and the results of its calls; add it "
                "before the next model call instead."
            )
        self.messages.append(message, plain, clean=True)
        self.recorded_length = self.messages.length

    def unrecorded(self) -> list[Message]:
        """The messages that no fact tells of yet; they count as told once this returns."""
        fresh = self.messages.since(self.recorded_length)
        self.recorded_length = self.messages.length
        return fresh

    def mark_unrecorded(self, messages: Sequence[Message]) -> None:
        """What `unrecorded` returned was not recorded after all."""
        self.recorded_length -= len(messages)

    def close_turn(self) -> None:
        """Make the history what a later run may build on: without an input that no model saw,
        with a result for every call, and fit for every provider."""
        history = self.messages
        history.truncate(self.recorded_length)
        last = history[-1] if history.length else None
        if last is not None and last.role == "assistant" and (waiting := last.tool_uses):
            done = {block.tool_use_id: block for block in self.results}
            history.append(answers(waiting, done, self._begun()), clean=True)
        history.mend(self.began)
        self.recorded_length = history.length

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
