"""The pure fold of facts into a conversation: its messages and its runs.

Nothing here waits, uses a clock or stores more than the result. The cost of a fact does not depend
on the length of the conversation.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.history import RecordedCount
from lorimer.core.jsonable import JSON, dumps, utf8
from lorimer.core.messages import (
    Message,
    ToolResultBlock,
    ToolUse,
    content_from_json,
    content_to_json,
    message_from_json,
)
from lorimer.core.receipt import Receipt
from lorimer.core.request import MOST, NO_USAGE, Usage
from lorimer.core.wellformed import answers, without_empty_end
from lorimer.journal.codec import DAMAGE_HINT

MAX_SNAPSHOT: Final = 1 << 30
"""Most bytes of an unpacked snapshot: a larger one is considered damaged, and the facts are
read."""

_VERSION: Final = 1


@dataclass(slots=True)
class RunSummary:
    """One run of a conversation. Its figures are sums over the replies until run.end has them."""

    run_id: str
    started: float
    """Wall clock, seconds."""
    status: str = ""
    """The status in run.end; "": unfinished."""
    code: str = ""
    usage: Usage = NO_USAGE
    """Including failed attempts."""
    cost_nano: int = 0
    iterations: int = 0

    @property
    def unfinished(self) -> bool:
        """Whether it has no run.end, so that it can be resumed."""
        return not self.status

    def to_json(self) -> dict[str, JSON]:
        """Plain data, as snapshots store it."""
        return {
            "run_id": self.run_id,
            "started": self.started,
            "status": self.status,
            "code": self.code,
            "usage": self.usage.to_json(),
            "cost": self.cost_nano,
            "iterations": self.iterations,
        }


class Fold:
    """The state of a fold: `apply` facts in order, read `messages` and `runs`.

    Results of tools wait in `pending` until all of their iteration are known to be there, as shown
    by the next model.intent, run.start or run.end; then they become one user message.
    """

    __slots__ = (
        "_asked",
        "_called",
        "begun",
        "counted",
        "messages",
        "pending",
        "receipt",
        "runs",
        "seq",
    )

    def __init__(self) -> None:
        self.seq = 0
        """Seq of the last fact applied."""
        self.messages: list[Message] = []
        self.runs: list[RunSummary] = []
        self.pending: dict[int, ToolResultBlock] = {}
        """Results by the index of their call in the last reply."""
        self.begun: set[int] = set()
        """Indexes of calls in it that may have taken effect, because there is an intent."""
        self.counted: RecordedCount | None = None
        """The last prompt whose tokens a provider has counted."""
        self.receipt: Receipt | None = None
        """The receipt of the last compaction."""
        self._asked: RecordedCount | None = None
        """The last request, if its tokens have not been counted."""
        self._called: tuple[Message | None, list[ToolUse]] = (None, [])
        """The last message whose calls were determined, and those calls."""

    @property
    def unfinished(self) -> bool:
        """Whether the last run has no run.end."""
        return bool(self.runs) and self.runs[-1].unfinished

    def apply(self, fact: Event) -> None:
        """Apply one fact. Raises JournalError, and changes nothing, when its data is not valid for
        its kind or does not follow what came before. Unknown kinds are ignored."""
        try:
            match fact.type:
                case "model.reply":
                    self._reply(fact)
                case "tool.result":
                    self._result(fact.data)
                case "tool.intent":
                    self._intended(fact.data)
                case "model.intent":
                    self._intent(fact)
                case "effect":
                    self._charge(fact)
                case "run.start":
                    self.close()
                    self.runs.append(RunSummary(fact.run_id, fact.time))
                case "run.end":
                    self._end(fact)
                case "compacted":
                    self.receipt = Receipt.from_json(fact.data)
                case "forked":
                    self._forked(fact.data)
                case _:
                    pass
        except ValueError as error:
            whose = f" of run {fact.run_id!r}" if fact.run_id else ""  # a fork's first has none
            raise JournalError(
                f"fact {fact.seq} ({fact.type}){whose} does not fit: {str(error)[:500]}",
                hint=DAMAGE_HINT,
                cause=error,
            ) from error
        if fact.seq is not None:
            self.seq = fact.seq

    def _forked(self, data: Mapping[str, JSON]) -> None:
        messages = [message_from_json(item) for item in _list(data.get("messages"))]
        receipt = Receipt.from_json(data["compacted"]) if "compacted" in data else None
        if self.messages or self.runs:
            raise ValueError("the conversation has begun already")
        self.messages, self.receipt = messages, receipt

    def _intent(self, fact: Event) -> None:
        data = fact.data
        added: list[Message] = []
        if "messages" in data:
            added = [message_from_json(item) for item in _list(data["messages"])]
        run = self._run(fact)
        self._flush()
        for message in added:
            self._add(message)
        run.iterations = max(run.iterations, fact.iteration + 1)
        self._asked = RecordedCount(len(self.messages), 0, str(fact.data.get("hash", "")))

    def _reply(self, fact: Event) -> None:
        data = fact.data
        self._run(fact)
        message = None
        if "content" in data and "error" not in data:
            message = message_from_json({"role": "assistant", "content": data["content"]})
        self._charge(fact)
        asked, self._asked = self._asked, None
        if message is not None:
            if asked is not None:
                self._count(asked, data)
            self._flush()
            self._add(message)

    def _add(self, message: Message) -> None:
        kept = without_empty_end(message)  # as `History` stores it
        if kept is not None:
            self.messages.append(kept)

    def _charge(self, fact: Event) -> None:
        data = fact.data
        if "usage" not in data and "cost" not in data:
            return
        usage = Usage.from_json(_object(data.get("usage", {})))
        cost = _whole(data.get("cost", 0))
        if usage != NO_USAGE or cost:
            run = self._run(fact)
            run.usage = run.usage + usage
            run.cost_nano += cost

    def _count(self, asked: RecordedCount, data: Mapping[str, JSON]) -> None:
        extra = data.get("extra")
        usage = Usage.from_json(_object(data.get("usage", {})))
        tokens = usage.prompt_tokens
        if tokens and not (isinstance(extra, Mapping) and extra.get("usage_estimated")):
            self.counted = RecordedCount(asked.length, tokens, asked.hash)

    def _result(self, data: Mapping[str, JSON]) -> None:
        key, calls = data.get("key"), self._calls()
        if not isinstance(key, str) or not key.isdecimal() or int(key) >= len(calls):
            raise ValueError(f"there is no call {key!r} in the reply before it")
        content = content_from_json(data.get("content", ""))
        index = int(key)
        self.pending[index] = ToolResultBlock(
            calls[index].id, content, data.get("is_error") is True
        )

    def _calls(self) -> list[ToolUse]:
        """The calls that wait for results: those of the last message, if it is a reply."""
        last = self.messages[-1] if self.messages else None
        if last is not None and last is not self._called[0]:  # once for all its results
            self._called = (last, last.tool_uses if last.role == "assistant" else [])
        return self._called[1]

    def _intended(self, data: Mapping[str, JSON]) -> None:
        key = data.get("key")
        if not isinstance(key, str) or not key.isdecimal() or int(key) >= len(self._calls()):
            raise ValueError(f"there is no call {key!r} in the reply before it")
        self.begun.add(int(key))

    def _end(self, fact: Event) -> None:
        data = fact.data
        usage = Usage.from_json(_object(data.get("usage", {})))
        cost, iterations = _whole(data.get("cost", 0)), _whole(data.get("iterations", 0))
        status, code = data.get("status"), data.get("code", "")
        if not isinstance(status, str) or not status or not isinstance(code, str):
            raise ValueError("status and code must be text")
        run = self._run(fact)
        self.close()
        run.status, run.code = status, code
        run.usage, run.cost_nano, run.iterations = usage, cost, iterations

    def _run(self, fact: Event) -> RunSummary:
        if not self.runs or self.runs[-1].run_id != fact.run_id:
            raise ValueError("its run has not been started")
        return self.runs[-1]

    def _flush(self) -> None:
        """Turn the results into a message."""
        if self.pending:
            self.close()

    def close(self) -> None:
        """No more results follow: every unanswered call of the last reply is answered."""
        calls = self._calls()
        if calls:
            done = {result.tool_use_id: result for result in self.pending.values()}
            self.messages.append(answers(calls, done, self.begun))
            self.pending = {}
            self.begun = set()

    def to_json(self) -> dict[str, JSON]:
        """The whole state as plain data, from which `Fold.from_json` continues."""
        return {
            "version": _VERSION,
            "seq": self.seq,
            "messages": [message.to_json() for message in self.messages],
            "runs": [run.to_json() for run in self.runs],
            "begun": sorted(self.begun),
            "pending": [
                [index, content_to_json(result.content), result.is_error]
                for index, result in self.pending.items()
            ],
            **_counts("counted", self.counted),
            **_counts("asked", self._asked),
            **({} if self.receipt is None else {"receipt": self.receipt.to_json()}),
        }

    def dump(self) -> bytes:
        """`to_json` in the form of snapshots: compressed, since conversations repeat themselves."""
        data = self.to_json()
        body = utf8(data)  # four times as fast as `dumps`
        return zlib.compress(dumps(data).encode("utf-8", "surrogatepass") if body is None else body)

    @classmethod
    def from_json(cls, data: JSON) -> Fold:
        """The reverse of `to_json`. Raises JournalError: `exec.journal.version` for one of a newer
        version, `exec.journal.failed` for an invalid one."""
        state = cls()
        try:
            whole = _object(data)
            if _whole(whole.get("version")) > _VERSION:
                raise JournalError(
                    "a snapshot was written by a newer version of lorimer",
                    code=ExecutorErrorCode.EXEC_JOURNAL_VERSION,
                    hint="Update lorimer; the facts themselves can be read.",
                )
            state.seq = _whole(whole.get("seq"))
            state.messages = [message_from_json(item) for item in _list(whole.get("messages"))]
            state.runs = [_run_from_json(_object(item)) for item in _list(whole.get("runs"))]
            state.begun = {_whole(item) for item in _list(whole.get("begun"))}
            calls = state._calls()
            for item in _list(whole.get("pending")):
                index, content, is_error = _list(item)
                position = _whole(index)
                state.pending[position] = ToolResultBlock(
                    calls[position].id, content_from_json(content), is_error is True
                )
            state.counted = _count_from_json(whole.get("counted"))
            state._asked = _count_from_json(whole.get("asked"))
            if whole.get("receipt") is not None:  # also written by a version that stored none
                state.receipt = Receipt.from_json(whole["receipt"])
        except (ValueError, IndexError, OverflowError) as error:
            raise JournalError(f"a snapshot is damaged: {error}", cause=error) from error
        return state

    @classmethod
    def load(cls, body: bytes) -> Fold:
        """The reverse of `dump`. Raises as `from_json` does."""
        try:
            text = zlib.decompressobj().decompress(body, MAX_SNAPSHOT)
            data = json.loads(text.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError, zlib.error) as error:
            raise JournalError(f"a snapshot is damaged: {error}", cause=error) from error
        return cls.from_json(cast(JSON, data))


def fold(facts: Iterable[Event], base: Fold | None = None) -> Fold:
    """The state after `facts`, which follow `base`; `base` itself is not changed.

    For any split of a stream's facts, `fold(later, fold(earlier))` equals `fold(all)`. Raises
    JournalError at an inconsistent fact.
    """
    state = Fold() if base is None else Fold.from_json(base.to_json())
    for fact in facts:
        state.apply(fact)
    return state


def _run_from_json(data: Mapping[str, JSON]) -> RunSummary:
    started = data.get("started")
    if not isinstance(started, int | float):
        raise ValueError("a run has no start")
    return RunSummary(
        _text(data.get("run_id")),
        float(started),
        _text(data.get("status")),
        _text(data.get("code")),
        Usage.from_json(_object(data.get("usage"))),
        _whole(data.get("cost")),
        _whole(data.get("iterations")),
    )


def _counts(name: str, count: RecordedCount | None) -> dict[str, JSON]:
    return {} if count is None else {name: [count.length, count.tokens, count.hash]}


def _count_from_json(data: JSON) -> RecordedCount | None:
    if data is None:  # also written by a version that stored none
        return None
    length, tokens, digest = _list(data)
    return RecordedCount(_whole(length), _whole(tokens), _text(digest))


def _text(value: JSON) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _whole(value: JSON) -> int:
    if not isinstance(value, int) or not -MOST < value < MOST:
        raise ValueError(f"{value!r} is not a whole number, or too large")
    return value


def _list(value: JSON) -> Sequence[JSON]:
    if isinstance(value, str) or not isinstance(value, (list, tuple, Sequence)):
        raise ValueError(f"{value!r} is not a list")
    return value


def _object(value: JSON) -> Mapping[str, JSON]:
    if not isinstance(value, (dict, Mapping)):  # by far the most frequent type, first
        raise ValueError(f"{value!r} is not an object")
    return value
