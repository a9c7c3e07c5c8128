"""Facts and signals: one class, two lives.

A *fact* has a sequence number, is journalled and never dropped. A *signal* (`seq` is None)
exists only while someone listens. What each kind of fact holds is said by the TypedDicts here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from gc import is_tracked
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict, cast

from pydantic_core import PydanticSerializationError, to_json

from lorimer.core.jsonable import JSON

if TYPE_CHECKING:
    from lorimer.core.result import PipelineResult

FACT_KINDS: Final = (
    "run.start",
    "model.intent",
    "model.reply",
    "tool.intent",
    "tool.result",
    "effect",
    "decision",
    "mutated",
    "child",
    "compacted",
    "iteration.end",
    "run.suspended",
    "run.end",
    "effect.intent",
    "forked",
)
"""Every kind of fact, in the order in which their short codes were given out: add at the end."""

SIGNALS: Final = (
    "pipeline.start session.start session.end run.resumed pipeline.complete pipeline.error "
    "stage.enter stage.exit stage.bypass stage.error input.normalized context.built "
    "memory.retrieved memory.updated memory.failed summary.written context.compacted "
    "system.built guard.check cache.applied api.request text.delta thinking.delta "
    "tool.input_delta api.retry api.model_routed api.stream_restart "
    "llm_client.feature_unsupported api.response token.tracked think.processed "
    "parse.complete tool.execute_start tool.call_start tool.progress step.started "
    "step.finished step.stale step.replayed step.patched tool.call_complete "
    "tool.execute_complete tool_review.flag agent.orchestrate_start "
    "agent.orchestrate_complete subagent.spawned subagent.completed evaluate.complete "
    "hitl.request hitl.decision loop.continue loop.complete loop.error loop.guard "
    "emit.complete hook.failed hook.refused checkpoint.due yield.complete events.dropped"
).split()
"""Every signal that Lorimer sends; stages of others may send their own."""

_PICTURES: Final[Mapping[str, str]] = {"run.start": "input", "tool.result": "content"}
"""Where a list, instead of a text, is one of blocks that are not made of text alone."""
_LISTS: Final = (list, tuple)


class Event:
    """Something that happened in a run. Treat as immutable: journals and listeners share it."""

    __slots__ = ("_data", "iteration", "run_id", "seq", "stage", "time", "type")

    def __init__(
        self,
        type: str,
        data: Mapping[str, JSON],
        run_id: str = "",
        iteration: int = 0,
        time: float = 0.0,
        stage: str = "",
        seq: int | None = None,
    ) -> None:
        self.type = type
        """Dotted name: a kind of fact, or a signal such as `text.delta`."""
        self._data: Mapping[str, JSON] | bytes = data
        self.run_id = run_id
        self.iteration = iteration
        """0-based number of the model call it belongs to."""
        self.stage = stage
        """Name of the stage that was running, "" between stages."""
        self.time = time
        """Wall clock, seconds since the epoch."""
        self.seq = seq
        """Position in the stream, from 1; None: a signal."""

    @property
    def data(self) -> Mapping[str, JSON]:
        """What happened, typed by a TypedDict per kind. Of a packed event it is made anew each time
        that it is asked for."""
        data = self._data
        return json.loads(data) if isinstance(data, bytes) else data

    @data.setter
    def data(self, data: Mapping[str, JSON]) -> None:
        self._data = data

    @property
    def text(self) -> str:
        """Of `text.delta`, `thinking.delta` and `tool.progress`, and of what else has a text: it;
        "": it has none."""
        text = self.data.get("text")
        return text if isinstance(text, str) else ""

    @property
    def result(self) -> PipelineResult | None:
        """Of `pipeline.complete` and `pipeline.error`, which come last: the run's result. None: of
        any other."""
        if not self.type.startswith("pipeline."):
            return None
        return cast("PipelineResult | None", cast("object", self.data.get("result")))

    def pack(self) -> None:
        """Keep the data as bytes, for who keeps many events for long: it takes less room, and the
        garbage collector has one thing to look at in place of half a dozen. What it does not look
        at anyway stays as it is, and what has no JSON, such as half a surrogate pair; also what may
        hold pictures, which would be there twice: they are the conversation's own texts."""
        data = self._data
        if is_tracked(data):  # bytes never are
            if self.type in _PICTURES and type(self.data.get(_PICTURES[self.type])) in _LISTS:
                return
            try:
                self._data = to_json(data)
            except PydanticSerializationError:
                return

    @property
    def is_fact(self) -> bool:
        """Journalled, numbered, never dropped."""
        return self.seq is not None

    def to_json(self) -> dict[str, JSON]:
        """A plain form for other programs (`--output-format stream-json`, export)."""
        return {
            "type": self.type,
            "run_id": self.run_id,
            "iteration": self.iteration,
            "stage": self.stage,
            "time": self.time,
            "seq": self.seq,
            "data": {
                key: value
                for key, value in self.data.items()
                if key != "result" or not self.type.startswith("pipeline.")
            },
        }

    def __repr__(self) -> str:
        at = f" #{self.seq}" if self.seq is not None else ""
        return f"<Event {self.type}{at} i={self.iteration} {dict(self.data)!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return (self.type, self.seq, self.iteration, self.run_id, self.time, self.data) == (
            other.type,
            other.seq,
            other.iteration,
            other.run_id,
            other.time,
            other.data,
        )

    __hash__ = None  # type: ignore[assignment]


class ErrorData(TypedDict):
    """An error as facts keep it."""

    code: str
    message: str
    hint: NotRequired[str]
    status: NotRequired[int]
    retry_after_s: NotRequired[float]
    released: NotRequired[int]
    """Of a model call: characters of its answer that listeners had been given."""
    partial: NotRequired[str]
    """Of a model call: the text of its answer, where another attempt may go on from it."""


class Parent(TypedDict):
    """Where a fork left another run; or the run that a child is part of."""

    run: str
    iteration: int
    """0-based: of a fork, the last iteration that it took over; of a child, the one it began in."""
    agent: NotRequired[str]
    """Of a child: which sub-agent it is."""


class Forked(TypedDict):
    """`forked`: the first fact of a conversation that goes on from the middle of another."""

    parent: Parent
    messages: Sequence[JSON]
    """All that was said until then."""
    compacted: NotRequired[Mapping[str, JSON]]
    """The receipt of its last compaction until then."""


class Invoked(TypedDict, total=False):
    """What a host tells of a run that it begins."""

    agent: str
    subject: str
    """The id under which the host keeps the agent, where it is not its name."""
    version: int
    """Which version of it, where it is one that is saved; from 1."""
    caller: str
    channel: str
    parent: str
    """The run that it belongs to in the host's eyes."""
    inputs: Mapping[str, JSON]


class RunStart(TypedDict):
    """`run.start`: synced before the run's id is told."""

    run_id: str
    input: JSON
    manifest: str
    """Hash under which the manifest is stored."""
    seed: int
    """Of the run's dice."""
    limits: NotRequired[Mapping[str, JSON]]
    """Only when they are not the manifest's."""
    parent: NotRequired[Parent]
    """Of a fork: where it left its parent; of a child: whose it is."""
    title: NotRequired[str]
    """Of a fork without an input of its own: what its parent was called."""
    invocation: NotRequired[Invoked]
    """Of a run of an executor."""
    budgets: NotRequired[Sequence[Mapping[str, JSON]]]
    """The shared accounts that it is charged to, as `core.purse.Purse.to_json` gives them."""
    refused: NotRequired[Mapping[str, JSON]]
    """The error that it ends with before it has called anything."""


class ModelIntent(TypedDict):
    """`model.intent`: a model is about to be called. Visible before the call."""

    key: str
    hash: str
    messages: NotRequired[Sequence[JSON]]
    """Messages added to the conversation since the last fact, other than replies and results."""
    reserve: NotRequired[int]
    """Nano-dollars set aside."""
    target: NotRequired[str]
    """Who is asked, when it is not the first model of its chain."""
    nudge: NotRequired[str]
    """What the question ends with after an empty answer. Not part of the conversation."""


class ModelReply(TypedDict, total=False):
    """`model.reply`: what came back, or how it failed. Visible before anyone acts on it."""

    key: str
    content: Sequence[JSON]
    stop: str
    usage: Mapping[str, int]
    cost: int
    """Nano-dollars."""
    model: str
    id: str
    error: ErrorData


class ToolIntent(TypedDict):
    """`tool.intent`: synced before an unsafe effect; read-only tools have none."""

    key: str
    hash: str
    effects: str
    idempotent: NotRequired[bool]
    decision: NotRequired[str]
    hook: NotRequired[str]
    """Of a call whose input a hook has changed: to what, and who, says its fact `effect`."""


class ToolResultFact(TypedDict, total=False):
    """`tool.result`: what the model will be told. Visible before it is."""

    key: str
    content: JSON
    is_error: bool
    error: str
    """Code, when the call failed."""
    hash: str
    """Of the call, when there was no intent to hold it."""
    decision: str
    """Of a call without an intent: by what it was allowed, where that is no plain allow. Of one of
    a tool that the model is not shown: why it is not."""


class IterationEnd(TypedDict):
    """`iteration.end`: shares a row with the next model.intent."""

    decision: NotRequired[str]
    """Absent: continue."""
    reason: NotRequired[str]
    """Absent: tool_calls."""
    times: Sequence[int | None]
    """Microseconds in each stage of the iteration, in order; None: bypassed. The first iteration
    begins with stages 1 to 5, a later one with those that run before every call."""


class Effect(TypedDict, total=False):
    """`effect`: an effect that is neither a model's nor a tool's, such as an approval; under a
    key that begins with `abandoned:`, what a cancelled call had cost; with `reconcile:`, that an
    interrupted tool call did not take effect, synced before it is made again."""

    key: str
    hash: str
    usage: Mapping[str, int]
    cost: int
    error: ErrorData
    outcome: str
    """Of an interrupted call: `not_done`."""
    runs: Sequence[str]
    """Runs that are part of this one, have ended, and are paid for with this."""


class ChildFact(TypedDict):
    """`child`: a run that is part of this one is about to begin, on the stream of its own id."""

    key: str
    """The call that it begins with."""
    run: str
    agent: str
    task: NotRequired[str]
    """Of one in the background: what the model calls it."""
    input: NotRequired[str]
    """Of one in the background: what it is to do."""
    mode: NotRequired[str]
    """`plan`: it may only look, as its parent."""
    heard: NotRequired[Sequence[str]]
    """Tools by which its parent had heard words of strangers."""


class DecisionFact(TypedDict):
    """`decision`: a call was refused. An allow that is not a plain one rides in its intent."""

    key: str
    tool: str
    code: str
    rule: str
    """Who or what said no."""


class Compacted(TypedDict):
    """`compacted`: what of the conversation the model is not shown any more; the messages that it
    names stay where they are. See `receipt.py`."""

    key: str
    rule: str
    """The compactor."""
    start: int
    end: int
    """The messages from `start` to before `end`, counted from 0, are out, but for those kept."""
    kept: Sequence[int]
    dropped: Sequence[int]
    """Of those that an earlier compaction had kept."""
    recap: str
    """What the model reads in their place, and in that of those taken out before."""
    digest: str
    """Of the first `end` messages."""
    before: int
    after: int
    """Tokens of what the model is shown, about."""
    error: NotRequired[str]
    """The code of why the summariser failed, where a rule without a model stood in for it."""


class Mutated(TypedDict):
    """`mutated`: from here on the run has another manifest. Before the stages that prepare the
    model call of its iteration; a resumed or replayed run changes it again at the same place."""

    changes: Sequence[JSON]
    """Each a change as `core/mutation.py` has it."""
    manifest: str
    """Hash of what they come to."""
    posts: NotRequired[Sequence[str]]
    """Ids of the messages that asked for changes, refused ones too."""
    refused: NotRequired[Sequence[JSON]]
    """What was asked for and not made: `code` and `why`, and the id of its `post`."""


class RunSuspended(TypedDict):
    """`run.suspended`: the run stopped without an end; it waits to be resumed."""

    code: str


class RunEnd(TypedDict):
    """`run.end`: the one terminal record, synced, last."""

    status: str
    code: NotRequired[str]
    message: NotRequired[str]
    usage: Mapping[str, int]
    cost: int
    iterations: int
    output: NotRequired[JSON]
    """Of stage 21, where it is not the text; None: it was no plain data."""
    posts: NotRequired[Sequence[str]]
    """Ids of messages to the run that are of no use any more."""
