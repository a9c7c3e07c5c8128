"""The events of a run as lines for a person, the same for a live run and a recorded one.

It takes facts (and a few signals) and keeps totals. This is the only place that puts events into
words; `progress.py` and `timeline.py` print the lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Self, TypeAlias

from lorimer.cli.text import cost, count, duration, flow, on_line, one_line, short_id, tokens
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.fact_data import nano_of, result_text, text_of, usage_of, use_at, uses_of
from lorimer.core.facts import PHASE, STEP
from lorimer.core.jsonable import JSON, dumps, objects_of
from lorimer.core.receipt import Receipt
from lorimer.core.request import NO_USAGE, Usage

Line: TypeAlias = list[tuple[str, str]]
"""Pieces of text, each with a rich style."""

GOOD: Final = ("  ✓ ", "green")
REFUSED: Final = ("  ✗ ", "yellow")
"""The first pieces of lines that are truncated rather than continued on a second line."""

TOLD: Final = (
    *("stage.enter", "api.retry", "api.model_routed", "api.stream_restart"),
    *("tool.call_start", "tool.progress", "run.resumed", "hook.failed", "hook.refused"),
    *("model.intent", "model.reply", "tool.result", "effect", "decision"),
)
"""The events of a live run that are shown."""

_CALL_WIDTH: Final = 60
_TEXT_WIDTH: Final = 400
_SUBJECTS: Final = ("command", "file_path", "path", "pattern", "query", "url", "name", "id")
_STEPS: Final = re.compile(r"(?:step \S+: (\w+)|replayed)\n")
"""How a result about steps of code begins, and tells what ran: `esg/agent/record.py`."""
_STEP: Final = re.compile(r"^([✓✗]) ([\w.-]+)", re.MULTILINE)
_THINKING: Final = "the model is thinking"
_RUNNING: Final = "running tools"
_WAITING: Final[Mapping[str, str]] = {
    "api": _THINKING,
    "tool": _RUNNING,
    "emit": "finishing",
    "persist": "finishing",
    "yield": "finishing",
}
"""What a run is doing, by stage; in any other stage it is `working`."""
_CHANGED: Final[Mapping[str, str]] = {
    "UserPromptSubmit": "the prompt",
    "PreToolUse": "a call",
    "PostToolUse": "a result",
    "PostToolFailure": "a result",
}
"""What a hook changed, by its point."""


class Story:
    """One run as it happens or, if `recorded`, from its journal."""

    def __init__(self, *, recorded: bool = False, streamed: bool = False) -> None:
        """`streamed`: the model's texts are shown elsewhere, as they arrive."""
        self._recorded = recorded
        self._streamed = streamed
        self.usage: Usage = NO_USAGE
        self.cost_nano = 0
        self.turns = 0
        self.calls = 0
        """Tool calls that have a result."""
        self.refused: list[str] = []
        """Rules that would have allowed calls that were refused."""
        self.doing = "starting"
        self._uses: Sequence[Mapping[str, JSON]] = ()
        self._began: dict[str, float] = {}
        self._intended: dict[str, float] = {}
        """Start times of calls without a result yet, by key."""
        self._done: set[str] = set()
        self._denied: set[str] = set()
        """Calls of this turn that a person refused."""
        self._no_rule: set[str] = set()
        """Calls of this turn that were refused because no rule allows them."""

    @classmethod
    def of(cls, facts: Iterable[Event]) -> Self:
        """A story whose totals are those of a recorded run."""
        story = cls()
        for fact in facts:
            story.count(fact)
        return story

    def count(self, fact: Event) -> None:
        """Add a fact to the totals without showing it: it happened earlier."""
        for _ in self.tell(fact):
            pass

    def tell(self, event: Event) -> Iterator[Line]:
        """The lines for one event; most have none."""
        return map(_shown, self._lines(event))

    def _lines(self, event: Event) -> Iterator[Line]:
        data = event.data
        match event.type:
            case "stage.enter":
                self.doing = _WAITING.get(event.stage, "working")
            case "model.intent":
                self.turns = max(self.turns, event.iteration + 1)
                if self._recorded and "target" in data:  # a live one is told by api.model_routed
                    yield [("  ↷ ", "yellow"), (f"asking {one_line(str(data['target']), 60)}", "")]
            case "model.reply":
                yield from self._reply(data)
            case "tool.call_start":
                self._began[str(data.get("tool_use_id"))] = event.time
                self.doing = one_line(call_text(data), _CALL_WIDTH)
            case "tool.progress":
                self.doing = one_line(f"{data.get('name')}: {data.get('text')}", _CALL_WIDTH)
            case "tool.intent":
                self._intended[str(data.get("key"))] = event.time
            case "decision":
                key = str(data.get("key"))
                if data.get("code") and key not in self._denied:
                    self._no_rule.add(key)
            case "tool.result":
                yield self._result(data, event.time)
            case "api.retry":
                wait = data.get("delay_s")
                seconds = duration(wait) if isinstance(wait, int | float) else "a while"
                self.doing = f"waiting {seconds} to ask again"
                yield [
                    ("  ↻ ", "yellow"),
                    (f"asking again in {seconds}: {one_line(str(data.get('error')), 80)} ", ""),
                    (f"({data.get('code')})", "dim"),
                ]
            case "api.model_routed":
                self.doing = _THINKING
                yield [
                    ("  ↷ ", "yellow"),
                    (f"{data.get('from')} does not answer, asking {data.get('to')}: ", ""),
                    (f"{one_line(str(data.get('error')), 80)} ", ""),
                    (f"({data.get('reason')})", "dim"),
                ]
            case "api.stream_restart":
                yield [("  ↷ ", "yellow"), ("the answer begins anew", "")]
            case "run.resumed":
                self.doing = _RUNNING if len(self._done) < len(self._uses) else _THINKING
                facts = data.get("facts")
                known = count(facts, "recorded fact") if isinstance(facts, int) else "its journal"
                yield [("  ↺ ", "cyan"), (f"going on after {known}", "")]
            case "effect":
                yield from self._effect(data)
            case "child":
                named = (
                    f"{data.get('agent')} ({data['task']})" if "task" in data else data.get("agent")
                )
                yield [("  ⤷ ", "blue"), (f"{named} ", ""), (short_id(str(data.get("run"))), "dim")]
            case "hook.failed" | "hook.refused":
                yield [("  ! ", "yellow"), (one_line(str(data.get("error")), 160), "")]
            case "compacted":
                yield [("  ⤓ ", "cyan"), (compacted_text(data), "dim")]
            case "run.suspended":
                yield [("  ■ ", "yellow"), (f"suspended ({data.get('code')})", "")]
            case _:
                pass

    def _reply(self, data: Mapping[str, JSON]) -> Iterator[Line]:
        self._charge(data)
        self._uses = uses_of(data)
        text = text_of(data)
        for kept in (self._intended, self._done, self._denied, self._no_rule):
            kept.clear()
        if self._uses and text.strip() and not self._streamed:
            yield [("  ● ", "blue"), (one_line(text, _TEXT_WIDTH), "italic")]
        error = data.get("error")
        if isinstance(error, Mapping) and self._recorded:  # a live one is told by api.retry
            what = one_line(str(error.get("message")), 120)
            yield [("  ✗ ", "red"), (f"the call failed: {what} ({error.get('code')})", "red")]

    def _effect(self, data: Mapping[str, JSON]) -> Iterator[Line]:
        self._charge(data)
        kind, _, key = str(data.get("key", "")).partition(":")
        # only decisions that a person did not make have a reason
        if kind == "approval" and data.get("approved") is False and not data.get("why"):
            self._denied.add(key)
        if kind == "hook" and "change" in data:
            what = _CHANGED.get(key.partition(":")[0], "")
            yield [("  ↷ ", "yellow"), (f"the hook {data.get('hook')} changed {what}", "")]
        elif kind == "abandoned":
            yield [("  ■ ", "yellow"), (f"a {key.partition(':')[0]} call was cut off", "")]
        elif kind == PHASE:
            how = str(data.get("instead") or data.get("status"))
            yield [("  ⤶ ", "blue"), (f"{data.get('name')} ", ""), (how, "dim")]
        elif self._recorded:
            yield from _recorded_effect(kind, data)

    def _result(self, data: Mapping[str, JSON], time: float) -> Line:
        self.calls += 1
        key = str(data.get("key"))
        self._done.add(key)
        use = use_at(self._uses, key) or {"name": "?"}
        started = self._began.pop(str(use.get("id")), None)
        began = self._intended.pop(key, started)  # the intent follows the person's answer
        took = f"  {duration(time - began)}" if began is not None else ""
        bad = data.get("is_error") is True
        refused = data.get("error") == ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED.value
        hooked = str(data.get("error")).startswith("exec.hook.")
        mark = REFUSED if refused or hooked else ("  ✗ ", "red") if bad else GOOD
        name, subject = str(use.get("name", "?")), subject_of(use)
        if refused and key in self._no_rule:
            self.refused.append(f"{name}({subject})")
        return [
            mark,
            (f"{name} ", "bold"),
            (one_line(_about(use), _CALL_WIDTH), ""),
            (took, "dim"),
            (
                f"  {_gist(result_text(data.get('content')), 200 if bad else 60)}",
                "red" if bad else "dim",
            ),
        ]

    def unfinished(self, *, at_work: bool) -> Iterator[Line]:
        """The calls that were started and have no result: `at_work`, they are still running."""
        for key in self._intended:
            use = use_at(self._uses, key) or {"name": "?"}
            what = "running" if at_work else "begun, no result: may have taken effect"
            line = [
                ("  ? ", "yellow"),
                (f"{use.get('name', '?')} ", "bold"),
                (one_line(_about(use), _CALL_WIDTH), ""),
                (f"  {what}", "dim" if at_work else "yellow"),
            ]
            yield _shown(line)

    def _charge(self, data: Mapping[str, JSON]) -> None:
        self.usage += usage_of(data)
        self.cost_nano += nano_of(data)

    @property
    def sums(self) -> str:
        """Turns, tokens and cost so far, for the live line."""
        spent = cost(self.cost_nano, self.usage.total)
        return f"turn {max(self.turns, 1)} · {flow(self.usage)} · {spent}"


def _recorded_effect(kind: str, data: Mapping[str, JSON]) -> Iterator[Line]:
    """The lines for an effect that is shown by other means while the run is live."""
    if kind == "approval":
        word, colour = ("yes", "green") if data.get("approved") is True else ("no", "red")
        yield [("  ? ", "yellow"), ("a person was asked and said ", ""), (word, colour)]
    elif kind == "question":
        said = one_line(str(data.get("answer") or "nothing"), 120)
        yield [("  ? ", "yellow"), ("a person was asked and said ", ""), (said, "")]
    elif kind == STEP:
        mark = ("    ✗ ", "red") if data.get("is_error") is True else ("    ✓ ", "green")
        told = one_line(result_text(data.get("content")), 120)
        yield [mark, (f"{data.get('tool')}: {told}", "")]
    elif kind == "tasks":
        for task in objects_of(data.get("tasks")):
            told = one_line(str(task.get("text")), 120)
            yield [("  ⤶ ", "blue"), (f"{task.get('id')} {task.get('status')}: {told}", "")]


def _shown(line: Line) -> Line:
    """The line with every piece escaped: all may contain untrusted text, also the names of tools,
    which a model may have invented."""
    return [(on_line(text), style) for text, style in line]


def compacted_text(data: Mapping[str, JSON]) -> str:
    """What a compaction did."""
    receipt = Receipt.from_json(data)
    failed = f"; the summariser failed ({one_line(receipt.error)})" if receipt.error else ""
    return (
        f"{count(len(receipt.indexes), 'message')} of the conversation out of view, by "
        f"{one_line(receipt.rule, 40)}: {tokens(receipt.before)} to {tokens(receipt.after)} "
        f"tokens{failed}"
    )


def summary(
    run_id: str, turns: int, calls: int, usage: Usage, nano: int, seconds: float | None
) -> str:
    """What a run used, on one line."""
    parts = [
        count(turns, "turn"),
        count(calls, "tool call"),
        f"{tokens(usage.prompt_tokens)} tokens in, {tokens(usage.output_tokens)} out",
        cost(nano, usage.total),
    ]
    if seconds is not None:
        parts.append(duration(seconds))
    return " · ".join([*parts, short_id(run_id)])


def subject_of(use: Mapping[str, JSON]) -> str:
    """What a call is about: its command, path or pattern, else all its arguments."""
    given = use.get("input")
    if not isinstance(given, Mapping) or not given:
        return str(use.get("raw", ""))
    for name in _SUBJECTS:
        value = given.get(name)
        if isinstance(value, str):
            return value
    return dumps(given)


def call_text(use: Mapping[str, JSON]) -> str:
    """A call as one text: `Bash python x.py`."""
    return f"{use.get('name', '?')} {_about(use)}"


def _about(use: Mapping[str, JSON]) -> str:
    """Like `subject_of`, but shorter if a call gives work to a sub-agent, or has only one
    argument."""
    given = use.get("input")
    if isinstance(given, Mapping):
        if "subagent_type" in given and "prompt" in given:
            return f"{given['subagent_type']}: {given['prompt']}"
        only = next(iter(given.values())) if len(given) == 1 else None
        if isinstance(only, str):
            return only
    return subject_of(use)


def _gist(text: str, width: int) -> str:
    """The first line of a result, and how many more there are."""
    if ran := _STEPS.match(text):
        steps = _STEP.findall(text.partition("\n\n")[0])
        ids = [f"{step} (failed)" if mark == "✗" else step for mark, step in steps]
        text = f"{ran[1] or 'replayed'}, ran {', '.join(ids) or 'nothing'}"
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    more = f" (+{count(len(lines) - 1, 'line')})" if len(lines) > 1 else ""
    return f"{one_line(lines[0], width)}{more}"
