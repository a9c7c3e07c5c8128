"""Facts and signals: one class, two lifetimes.

A *fact* has a sequence number, is journalled and never dropped. A *signal* (`seq` is None) exists
only while someone listens. The TypedDicts here define the data of each kind of fact.
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
"""Every kind of fact, in the order in which their short codes were assigned: append new ones."""

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
"""Fields whose value, if it is a list rather than a text, is a list of blocks with more than text.
"""
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
        """What happened, typed by one TypedDict per kind. For a packed event it is decoded on each
        access."""
        data = self._data
        return json.loads(data) if isinstance(data, bytes) else data

    @data.setter
    def data(self, data: Mapping[str, JSON]) -> None:
        self._data = data

    @property
    def text(self) -> str:
        """The text of a `text.delta`, `thinking.delta`, `tool.progress` or any other event that has
        one; empty for the rest."""
        text = self.data.get("text")
        return text if isinstance(text, str) else ""

    @property
    def result(self) -> PipelineResult | None:
        """The run's result, for `pipeline.complete` and `pipeline.error`, which come last; None for
        any other event."""
        if not self.type.startswith("pipeline."):
            return None
        return cast("PipelineResult | None", cast("object", self.data.get("result")))

    def pack(self) -> None:
        """Store the data as bytes, for holders of many events: this takes less space, and the
        garbage collector has one object to visit instead of half a dozen. Left unpacked are data
        that the collector does not visit anyway, data that JSON cannot express, such as half a
        surrogate pair, and data that may hold images, which would be stored twice: they share their
        text with the conversation."""
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
        """Whether it is journalled, numbered and never dropped."""
        return self.seq is not None

    def to_json(self) -> dict[str, JSON]:
        """Plain data for other programs (`--output-format stream-json`, export)."""
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
    """An error as facts store it."""

    code: str
    message: str
    hint: NotRequired[str]
    status: NotRequired[int]
    retry_after_s: NotRequired[float]
    released: NotRequired[int]
    """For a model call: number of characters of its answer that listeners had received."""
    partial: NotRequired[str]
    """For a model call: the text of its answer, from which another attempt may continue."""


class Parent(TypedDict):
    """Where a fork left another run; or the parent of a child run."""

    run: str
    iteration: int
    """0-based: for a fork, the last iteration it took over; for a child, the one that started
    it."""
    agent: NotRequired[str]
    """For a child: which sub-agent it is."""


class Forked(TypedDict):
    """`forked`: the first fact of a conversation that continues another from the middle."""

    parent: Parent
    messages: Sequence[JSON]
    """All messages up to that point."""
    compacted: NotRequired[Mapping[str, JSON]]
    """The receipt of its last compaction before that point."""


class Invoked(TypedDict, total=False):
    """What a host records about a run that it starts."""

    agent: str
    subject: str
    """The id under which the host stores the agent, if that differs from its name."""
    version: int
    """The version of a saved agent; from 1."""
    caller: str
    channel: str
    parent: str
    """The run that the host considers its parent."""
    inputs: Mapping[str, JSON]


class RunStart(TypedDict):
    """`run.start`: synced before the run's id is returned."""

    run_id: str
    input: JSON
    manifest: str
    """Hash under which the manifest is stored."""
    seed: int
    """Seed of the run's dice."""
    limits: NotRequired[Mapping[str, JSON]]
    """Only if they differ from the manifest's."""
    parent: NotRequired[Parent]
    """Where a fork left its parent; or the parent of a child."""
    title: NotRequired[str]
    """For a fork without an input of its own: the id of the parent run."""
    invocation: NotRequired[Invoked]
    """For a run of an executor."""
    budgets: NotRequired[Sequence[Mapping[str, JSON]]]
    """The shared accounts that are charged, as `core.purse.Purse.to_json` gives them."""
    refused: NotRequired[Mapping[str, JSON]]
    """The error with which it ends before it has called anything."""


class ModelIntent(TypedDict):
    """`model.intent`: a model is about to be called. Visible before the call."""

    key: str
    hash: str
    messages: NotRequired[Sequence[JSON]]
    """Messages added to the conversation since the last fact, except replies and results."""
    reserve: NotRequired[int]
    """Nano-dollars reserved."""
    target: NotRequired[str]
    """Which model is called, if it is not the first of its chain."""
    nudge: NotRequired[str]
    """Text appended to the request after an empty answer. Not part of the conversation."""


class ModelReply(TypedDict, total=False):
    """`model.reply`: the answer, or the failure. Visible before anyone acts on it."""

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
    """For a call whose input a hook has changed: its `effect` says to what, and by whom."""


class ToolResultFact(TypedDict, total=False):
    """`tool.result`: what the model will be shown. Visible before that."""

    key: str
    content: JSON
    is_error: bool
    error: str
    """Error code, if the call failed."""
    hash: str
    """Hash of the call, if there was no intent to hold it."""
    decision: str
    """For a call without an intent: what allowed it, unless that is a plain allow. For a tool that
    the model is not shown: why it is not."""


class IterationEnd(TypedDict):
    """`iteration.end`: shares a row with the next model.intent."""

    decision: NotRequired[str]
    """Absent: `continue`."""
    reason: NotRequired[str]
    """Absent: `tool_calls`."""
    times: Sequence[int | None]
    """Microseconds in each stage of the iteration, in order; None: bypassed. The first iteration
    begins with stages 1 to 5, later ones with those that run before every call."""


class Effect(TypedDict, total=False):
    """`effect`: an effect other than a model or tool call, such as an approval. Under a key that
    begins with `abandoned:`, the cost of an aborted call; with `reconcile:`, that an interrupted
    tool call did not take effect, synced before it is repeated."""

    key: str
    hash: str
    usage: Mapping[str, int]
    cost: int
    error: ErrorData
    outcome: str
    """For an interrupted call: `not_done`."""
    runs: Sequence[str]
    """Child runs that have ended and are paid for with this."""


class ChildFact(TypedDict):
    """`child`: a child run is about to begin, on the stream with its own id."""

    key: str
    """The call that starts it."""
    run: str
    agent: str
    task: NotRequired[str]
    """For a background child: what the model calls it."""
    input: NotRequired[str]
    """For a background child: its task."""
    mode: NotRequired[str]
    """`plan`: it may only read, as its parent."""
    heard: NotRequired[Sequence[str]]
    """Tools by which its parent had read untrusted content."""


class DecisionFact(TypedDict):
    """`decision`: a call was refused. An allow that is not a plain one is recorded in the
    intent."""

    key: str
    tool: str
    code: str
    rule: str
    """Who or what refused it."""


class Compacted(TypedDict):
    """`compacted`: which part of the conversation the model is no longer shown. The messages
    themselves stay where they are. See `receipt.py`."""

    key: str
    rule: str
    """The compactor."""
    start: int
    end: int
    """The messages from `start` up to `end`, 0-based and exclusive, are hidden, except those
    kept."""
    kept: Sequence[int]
    dropped: Sequence[int]
    """Hidden messages among those that an earlier compaction had kept."""
    recap: str
    """The text that the model reads instead of all messages hidden so far."""
    digest: str
    """Digest of the first `end` messages."""
    before: int
    after: int
    """Approximate tokens of what the model is shown."""
    error: NotRequired[str]
    """Code of the error of the summariser, if a rule without a model replaced it."""


class Mutated(TypedDict):
    """`mutated`: from here on the run has another manifest. Recorded before the stages that prepare
    the model call of its iteration; a resumed or replayed run changes it at the same place."""

    changes: Sequence[JSON]
    """Changes, each as `core/mutation` defines them."""
    manifest: str
    """Hash of the resulting manifest."""
    posts: NotRequired[Sequence[str]]
    """Ids of the messages that asked for changes, including refused ones."""
    refused: NotRequired[Sequence[JSON]]
    """Changes that were refused: `code` and `why`, and the id of the `post`."""


class RunSuspended(TypedDict):
    """`run.suspended`: the run stopped without an end, and can be resumed."""

    code: str


class RunEnd(TypedDict):
    """`run.end`: the only terminal fact, synced, last."""

    status: str
    code: NotRequired[str]
    message: NotRequired[str]
    usage: Mapping[str, int]
    cost: int
    iterations: int
    output: NotRequired[JSON]
    """Output of stage 21, if it differs from the text; None: it was not plain data."""
    posts: NotRequired[Sequence[str]]
    """Ids of messages to the run that no longer have a use."""
