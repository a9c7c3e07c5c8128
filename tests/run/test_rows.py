"""The rows of the kernel's specification: each has a test that carries its number, here or in the
test of the part that it belongs to. Here are the table, and the rows that belong to no part."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.messages import Message, ToolUse
from lorimer.core.request import Request
from lorimer.core.wellformed import faults
from lorimer.core.world import World
from lorimer.models import Models, Windows
from lorimer.models.pricing import Price
from lorimer.run import AuditLog, Executor, Invocation, Ports, RunnableAgent, RunResult, RunStep
from lorimer.run.stores import MemoryAudit
from lorimer.testing import ScriptedModel, simulate
from lorimer.tools import ToolContext, tool
from tests.run.support import executor_of

pytestmark = pytest.mark.anyio

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src/lorimer"

ROWS = {*range(1, 57), 62, *range(64, 87), 89, 90}
NOT_BUILT: dict[int, str] = {}
"""Row to the reason."""
OTHERWISE = {
    1: "core imports pydantic and anyio too, and yaml when a document in YAML is read",
    2: "there is one package, and no store is imported before it is used",
    34: "compaction is always on; where no window is known it is taken to be 200,000 tokens",
    36: "the executor's summariser asks no model; where one that does fails, its lines stand in",
    49: "the journal has every fact, so nothing is throttled",
    50: "the interrupted phase goes on in its middle",
    51: "nothing is deleted: a run that has ended is not listed as interrupted",
    52: "as 51; there is no throttle",
    82: "the journal is what there is of checkpoints, and there is no scheduler",
}
"""Rows that are built in another way than they are worded."""

PLACES = ("run", "stages", "tools", "cli/test_examples.py")
"""Tests elsewhere are numbered by another table, that of the ESG."""


def test_every_row_has_a_test_or_a_reason_why_not() -> None:
    shown: set[int] = set()
    for place in PLACES:
        path = TESTS / place
        for file in path.rglob("test_*.py") if path.is_dir() else [path]:
            for numbers in re.findall(r"def test_row_((?:\d+_)+)", file.read_text()):
                shown.update(int(number) for number in numbers.split("_") if number)
    assert ROWS - shown == set(NOT_BUILT)
    assert set(OTHERWISE) <= shown


def test_row_1_core_imports_pydantic_anyio_and_the_standard_library() -> None:
    allowed = {"lorimer", "pydantic", "pydantic_core", "anyio", "typing_extensions"}
    allowed |= sys.stdlib_module_names
    for file in (SOURCE / "core").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:  # what is imported when it is
            if isinstance(node, ast.Import):
                assert {each.name.split(".")[0] for each in node.names} <= allowed, file
            elif isinstance(node, ast.ImportFrom):
                name = str(node.module)
                assert name.split(".")[0] in allowed, file
                assert f"{name}.".startswith("lorimer.core.") or "lorimer" not in name, file


class Resolver(Models):
    """Finds nothing, one way or another, and does not say so."""

    def __init__(self, how: str) -> None:
        super().__init__(providers={"some": lambda spec, context: None})  # type: ignore[dict-item]
        self.how = how

    def targets(self, spec: str) -> Any:
        if self.how == "raises":
            raise KeyError(spec)
        return super().targets(spec) if self.how == "makes nothing" else ()


@pytest.mark.parametrize("how", ["finds nothing", "makes nothing", "raises"])
async def test_row_11_a_resolver_that_gives_no_model_is_an_error_that_says_so(how: str) -> None:
    result = await Executor(models=Resolver(how), tier="some:x").run(RunnableAgent("worker"), "hi")
    assert (result.status, result.run) == ("error", None)
    assert "the model 'some:x' of the agent 'worker' cannot be used" in result.error


def test_row_20_an_error_at_the_deadline_is_an_error_and_no_timeout() -> None:
    async def main(world: World, latency_s: float, answers: bool) -> RunResult:
        error = APIError("no", code=ExecutorErrorCode.EXEC_API_BAD_REQUEST)
        model = ScriptedModel(["late"] if answers else [error], latency_s=latency_s)
        return await executor_of(model, world=world).run(RunnableAgent(timeout_s=10), "hi")

    for latency_s, answers, status in [
        (10.0 - 1e-9, False, "error"),
        (10.0 + 1e-9, False, "timeout"),
        (10.0 - 1e-9, True, "ok"),
    ]:
        result = simulate(lambda world, a=latency_s, b=answers: main(world, a, b))
        assert result.status == status
        assert (result.code is ExecutorErrorCode.EXEC_API_BAD_REQUEST) == (status == "error")


async def test_row_27_each_call_begins_and_ends_once_and_there_are_no_others() -> None:
    @tool(effects=["read"])
    async def echo(text: str) -> str:
        """Say it."""
        return text

    told: list[RunStep] = []
    calls = [ToolUse("1", "echo", {"text": "a"}), ToolUse("2", "gone", {})]
    calls += [ToolUse("3", "echo", {"text": "a"})]
    executor = executor_of([calls, "end"], tools=[echo])
    agent = RunnableAgent(tools=("echo",))
    result = await executor.run(agent, "go", Invocation(on_step=told.append))
    assert [(step.id, step.kind, step.state) for step in result.steps] == [
        ("1", "echo", "complete"),
        ("2", "gone", "error"),
        ("3", "echo", "complete"),
    ]
    assert [step.id for step in told if step.state == "running"] == ["1", "2", "3"]
    for ended in result.steps:
        states = [step.state for step in told if step.id == ended.id]
        assert states == ["running", ended.state]


# --- compaction: stage 2 does it, the executor sets it --------------------------------------------

WORDS = "and so on " * 120
SECRET = "hunter2"
READER = RunnableAgent("reader", prompt="You read.", tools=("read",), max_turns=40)


@tool(effects=["read"])
async def read(context: ToolContext, page: int, password: str) -> str:
    """Read a page."""
    return f"Page {page}. {WORDS}"


def recaps(request: Request) -> bool:
    return request.system.startswith("You keep the memory")


class Reading:
    """An agent that reads 16 pages, in a window of 4,000 tokens unless `window` says otherwise."""

    def __init__(self, window: int = 4_000, summariser: Any = None) -> None:
        self.summariser = summariser
        self.summarised: list[str] = []
        self.shown: list[Sequence[Message]] = []
        model = ScriptedModel(self.reply, price=Price(0.1, 0.1))
        self.models = Models(
            providers={"scripted": model}, windows=Windows({"scripted:*": window} if window else {})
        )
        model.context_window = window or None  # type: ignore[attr-defined]
        self.log = AuditLog(MemoryAudit())
        self.executor = Executor(
            models=self.models, tier="scripted:x", tools=[read], ports=Ports(audit=self.log)
        )

    def reply(self, request: Request) -> Any:
        if recaps(request):
            self.summarised.append(request.messages[-1].text)
            return self.summariser
        self.shown.append(list(request.messages))
        page = len(self.shown)
        if page > 16:
            return "read"
        return [ToolUse(f"c{page}", "read", {"page": page, "password": SECRET})]

    async def run(self) -> RunResult:
        return await self.executor.run(READER, "Read all.", Invocation(caller_id="ann"))

    async def by_model(self) -> Any:
        """The same with a summariser that asks a model of another vendor."""
        manifest = self.executor.manifest(READER)
        manifest.stages["context"].strategies["compactor"] = "llm_summary"
        manifest.stages["context"].strategy_configs["compactor"] = {"model": "scripted:other"}
        return await Pipeline(manifest, models=self.models, tools=[read]).run("Read all.")


def notes(shown: Sequence[Message]) -> list[Message]:
    return [message for message in shown if message.text.startswith("[From the program")]


@pytest.mark.parametrize(("window", "compacts"), [(4_000, True), (100_000, False), (0, False)])
async def test_row_34_compaction_goes_by_the_window_of_the_model(
    window: int, compacts: bool
) -> None:
    reading = Reading(window)
    result = await reading.run()
    assert (result.status, result.output) == ("ok", "read")
    assert any(notes(shown) for shown in reading.shown) == compacts


async def test_row_35_the_middle_is_one_note_and_what_is_round_it_stays_verbatim() -> None:
    reading = Reading()
    result = await reading.run()
    for asked, shown in enumerate(reading.shown):
        assert shown[0] == result.messages[0]
        if note := notes(shown):
            assert [message.role for message in note] == ["user"]
            assert shown[1] is note[0]
            recent = shown[2:]
            said = result.messages[: 1 + 2 * asked]
            assert list(recent) == list(said[-len(recent) :])
    assert notes(reading.shown[-1])
    assert len(result.messages) == 34, "the conversation itself stays whole"


async def test_row_36_a_summariser_that_fails_leaves_the_run_alive() -> None:
    error = APIError("no", code=ExecutorErrorCode.EXEC_API_BAD_REQUEST)
    reading = Reading(summariser=error)
    result = await reading.by_model()
    assert (result.status, result.text) == ("ok", "read")
    assert reading.summarised
    assert {receipt.error for receipt in result.receipts} == {"exec.api.bad_request"}
    assert len(result.messages) == 34


async def test_row_37_a_summariser_sees_no_arguments_and_the_audit_each_compaction() -> None:
    reading = Reading(summariser='{"recap": "Pages were read.", "facts": []}')
    await reading.by_model()
    assert reading.summarised
    assert "Page 1." in reading.summarised[0]
    assert not [text for text in reading.summarised if SECRET in text]
    audited = Reading()
    result = await audited.run()
    fired = [each for each in await audited.log.records(run_id=result.run_id) if each.kind == "log"]
    assert len(fired) == sum(event.type == "compacted" for event in result.run.events) > 0  # type: ignore[union-attr]


async def test_row_38_what_was_folded_is_used_again_and_no_call_parted_from_its_result() -> None:
    reading = Reading(summariser='{"recap": "Pages were read.", "facts": []}')
    result = await reading.by_model()
    compactions = len(result.receipts)
    assert 1 < compactions < sum(bool(notes(shown)) for shown in reading.shown)
    assert len(reading.summarised) == compactions
    for page in range(1, 17):
        assert sum(f"Page {page}." in text for text in reading.summarised) <= 1
    assert not [fault for shown in reading.shown for fault in faults(shown)]
