"""Tables of the reference: made from the code, or compared with it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator, Mapping

import pytest

from lorimer import (
    ExecutorErrorCode,
    Limits,
    Pipeline,
    PipelineBuilder,
    PipelinePresets,
    PipelineResult,
)
from lorimer.cli.fail import EXIT_CODES
from lorimer.core.errors import APIError
from lorimer.core.events import FACT_KINDS, SIGNALS, Event
from lorimer.core.messages import TextBlock, ThinkingBlock, ToolUse
from lorimer.core.mutation import UpdateStageConfig
from lorimer.core.request import Usage
from lorimer.core.result import STATUSES
from lorimer.journal.memory import MemoryJournal
from lorimer.models import Models, Price
from lorimer.presets import PRESETS
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult
from tests.docs import made
from tests.docs.pages import ROOT, Page, doc

MADE: Mapping[tuple[str, str], Callable[[], str]] = {
    ("manifest.md", "fields"): made.manifest_fields,
    ("tools.md", "tools"): made.shipped_tools,
    ("manifest.md", "stages"): made.stages,
    ("using.md", "options"): made.options,
    ("cli.md", "commands"): made.commands,
    ("events.md", "order"): made.event_order,
}


@pytest.mark.parametrize(("page", "part"), MADE)
def test_made_parts_are_up_to_date(page: str, part: str) -> None:
    content = f"\n{MADE[page, part]()}\n"
    if os.environ.get("LORIMER_WRITE_DOCS"):
        doc(page).make(part, content)
        return
    assert doc(page).made(part) == content, (
        f"docs/{page} is older than the code: run LORIMER_WRITE_DOCS=1 pytest tests/docs"
    )


# --- using.md --------------------------------------------------------------------------------

USING = doc("using.md")


def _public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_calls_of_a_pipeline_are_there() -> None:
    rows = [row[0] for row in USING.rows("## What it does")]
    named = {name.partition("(")[0] for row in rows for name in re.findall(r"`(\w+\()", row)}
    assert {"run", "resume", "mutate", "aclose"} <= named <= _public(Pipeline)


def test_every_field_of_a_result_has_its_row() -> None:
    named = {name for row in USING.rows("## What comes back") for name in _names(row[0])}
    inside = {"history", "length", "to_json"}
    assert named == _public(PipelineResult) - inside


# --- errors.md -------------------------------------------------------------------------------

ERRORS = doc("errors.md")


def test_every_code_has_its_row() -> None:
    rows = {row[0].strip("`"): row for row in ERRORS.rows("## Codes")}
    assert len(rows) == len(ERRORS.rows("## Codes"))
    assert set(rows) == {code.value for code in ExecutorErrorCode}
    for code in ExecutorErrorCode:
        _, category, again, means, todo = rows[code.value]
        assert category == code.category.value, code
        assert again == ("yes" if code.is_recoverable else "no"), code
        assert means and (todo or means.startswith("Not used yet")), code


def test_codes_that_are_not_used_are_said_to_be() -> None:
    used = set(_used_codes())
    for code, _, _, means, _ in ERRORS.rows("## Codes"):
        name = ExecutorErrorCode(code.strip("`")).name
        assert means.startswith("Not used yet") == (name not in used), code


def _used_codes() -> Iterator[str]:
    """Codes that the source names anywhere but in the tables of errors.py; there, the defaults of
    the exceptions."""
    for file in (ROOT / "src" / "lorimer").rglob("*.py"):
        text = file.read_text("utf-8")
        if file.name == "errors.py" and file.parent.name == "core":
            yield from re.findall(r"default_code = ExecutorErrorCode\.(\w+)", text)
        else:
            yield from re.findall(r"\b(?:ExecutorErrorCode|_Code|_C)\.(EXEC_\w+)", text)


def test_every_status_has_its_row() -> None:
    assert {row[0].strip("`") for row in ERRORS.rows("## Statuses")} == set(STATUSES)


def test_every_exit_code_has_its_row() -> None:
    rows = ERRORS.rows("## Exit codes of the command line")
    assert {int(code): means for code, means in rows} == dict(EXIT_CODES)


# --- manifest.md -----------------------------------------------------------------------------


def test_every_preset_has_its_row() -> None:
    rows = {row[0].strip("`"): row for row in doc("manifest.md").rows("## Presets and builder")}
    assert set(rows) == set(PRESETS)
    for name, write in PRESETS.items():
        manifest = write()
        there = [entry.order for entry in manifest.stages]
        said = rows[name][1]
        numbers: list[int] = []
        for part in re.findall(r"\d+(?: to \d+)?", said):
            first, _, last = part.partition(" to ")
            numbers += range(int(first), int(last or first) + 1)
        assert numbers == there or (said == "all" and len(there) == len(made.CATALOGUE))
        assert int(rows[name][2]) == manifest.limits.max_turns


def test_every_method_of_the_builder_is_named() -> None:
    named = set(re.findall(r"\bwith_\w+", doc("manifest.md").text))
    assert named == {name for name in _public(PipelineBuilder) if name.startswith("with_")}


# --- events.md -------------------------------------------------------------------------------

EVENTS = doc("events.md")


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_kind_of_fact_is_named() -> None:
    rows = {name for row in EVENTS.rows("## Facts") for name in _names(row[0])}
    assert rows | {"child"} == set(FACT_KINDS)


def test_every_signal_is_named() -> None:
    rows = {name for row in EVENTS.rows("## Signals") for name in _names(row[0])}
    assert rows == set(SIGNALS)
    assert rows == set(_sent()) | {"events.dropped", "session.end"}


def _sent() -> Iterator[str]:
    """The first argument of every `signal(...)` and `announce(...)` in the source."""
    for file in (ROOT / "src" / "lorimer").rglob("*.py"):
        text = file.read_text("utf-8")
        if ".signal(" not in text and ".announce(" not in text:
            continue
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("signal", "announce")
                and node.args
            ):
                yield from _values(node.args[0], tree)


def _values(node: ast.expr, tree: ast.Module) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _values(body, tree)
            yield from _values(orelse, tree)
        case ast.JoinedStr(values=[ast.Constant(value=str(head)), *_]) if head == "loop.":
            yield from ("loop.continue", "loop.complete", "loop.error")
        case ast.Name(id=name):
            for other in ast.walk(tree):
                if isinstance(other, ast.Assign) and any(
                    isinstance(t, ast.Name) and t.id == name for t in other.targets
                ):
                    yield from _values(other.value, tree)
        case _:
            return


class _Works(Tool):
    """Does what its arguments say."""

    description = "works"
    input_schema = {"type": "object", "properties": {"fail": {"type": "boolean"}}}  # noqa: RUF012

    def __init__(self, name: str, effects: str, *, idempotent: bool = False) -> None:
        self.name = name
        self.effects = frozenset(effects.split())
        self.idempotent = idempotent

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        context.progress("half")
        if input.get("fail"):
            raise ValueError("as asked")
        return ToolResult("fine")


def _events() -> list[Event]:
    """The events of runs that between them do everything that an event tells of."""

    async def main(world: SimulatedWorld) -> list[Event]:
        replies = [
            [
                ThinkingBlock("hm", "signature"),
                TextBlock("I work."),
                ToolUse("a", "look", {}),
                ToolUse("b", "change", {"fail": True}),
                ToolUse("c", "put", {}),
                ToolUse("d", "Write", {"file_path": "x", "content": "y"}),
                ToolUse("e", "Write", {"file_path": "z", "content": "y"}),
            ],
            APIError("overloaded", code=ExecutorErrorCode.EXEC_API_SERVER_ERROR),
            "done",
            APIError("no", code=ExecutorErrorCode.EXEC_API_BAD_REQUEST),
        ]
        model = ScriptedModel(
            replies, price=Price(3, 15), usage=Usage(input_tokens=9, output_tokens=9)
        )
        journal = MemoryJournal(world)
        heard: list[object] = []
        pipeline = PipelinePresets.agent(
            model="scripted:m",
            models=Models(providers={"scripted": model}),
            journal=journal,
            world=world,
            tools=[
                _Works("look", "read"),
                _Works("change", "write"),
                _Works("put", "write", idempotent=True),
            ],
            built_in=("Write",),
            workspace=".",
            approver=_Says(False),
            bindings={"me": heard.append},
        )
        pipeline.swap_strategy("emit", "emitters", "text", {"target": "me"})
        limits = Limits(max_cost_usd=1.0)
        events = [event async for event in pipeline.run_stream("go", limits=limits)]
        events += [event async for event in pipeline.run_stream("again")]
        return events

    return [*simulate(main), *simulate(_failing_over)]


async def _failing_over(world: SimulatedWorld) -> list[Event]:
    cut = [TextBlock("half"), APIError("cut", code=ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE)]
    providers = {"one": ScriptedModel([cut, cut]), "two": ScriptedModel(["", "whole"])}
    pipeline = PipelinePresets.minimal(
        model="one:m,two:m",
        models=Models(providers=providers),
        journal=MemoryJournal(world),
        world=world,
    )
    pipeline.mutate(UpdateStageConfig(stage="api", config={"after_release": "restart"}))
    return [event async for event in pipeline.run_stream("go")]


class _Says:
    def __init__(self, answer: bool) -> None:
        self._answer = answer

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        return self._answer


def _told(page: Page, heading: str) -> dict[str, tuple[set[str], set[str]]]:
    """Event -> what its data always has, what it may have."""
    told: dict[str, tuple[set[str], set[str]]] = {}
    for row in page.rows(heading):
        maybe = set(re.findall(r"`(\w+)` \(maybe\)", row[1]))
        for name in _names(row[0]):
            told[name] = (set(_names(row[1])) - maybe, maybe)
    return told


def test_data_of_events_is_as_told() -> None:
    facts, signals = _told(EVENTS, "## Facts"), _told(EVENTS, "## Signals")
    usage = set(Usage.__slots__ if hasattr(Usage, "__slots__") else Usage.__dataclass_fields__)
    ended = signals["pipeline.complete"][0]
    seen: dict[str, list[set[str]]] = {}
    for event in _events():
        keys = set(event.data)
        always, maybe = facts[event.type] if event.is_fact else signals[event.type]
        if event.type == "pipeline.error":
            always = always | ended
        if event.type in ("api.response", "token.tracked"):
            keys -= usage
        if event.type == "effect":
            keys -= {"approved", "why"}
        assert always <= keys <= always | maybe, (event.type, keys)
        seen.setdefault(event.type, []).append(keys)
    for kind in ("model.intent", "model.reply", "tool.intent", "tool.result", "iteration.end"):
        always, maybe = facts[kind]
        # a decision needs a rule that allows, a hook is one that changes a call, and only real
        # providers give ids
        assert set.union(*seen[kind]) | {"decision", "hook", "id"} >= always | maybe, kind
    assert {"decision", "effect", "api.retry", "stage.error", "tool.progress"} <= set(seen)
    assert {"api.model_routed", "api.stream_restart"} <= set(seen)
