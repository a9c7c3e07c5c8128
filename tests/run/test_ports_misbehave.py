"""Whatever a host plugs in raises, hangs or lies: each run has one end with the right status, what
went wrong beside it is told, nothing escapes and nothing is left. Rows 15, 17, 82."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lorimer.core.messages import Message, ToolUse
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.journal.recording import facts_of
from lorimer.run import (
    FixedPalette,
    Invocation,
    Ports,
    RunnableAgent,
    RunResult,
    RunStep,
    SessionTools,
    ToolSession,
)
from lorimer.run.attachments import Attachments
from lorimer.run.delivery import Artifact, Target
from lorimer.run.inputs import InputFile
from lorimer.run.lowering import DEFAULTS
from lorimer.testing import simulate
from lorimer.tools import Tool, ToolContext, ToolInput, ToolResult
from tests.run.support import executor_of, model_of, use

LONG_S = 100_000.0
AGENT = RunnableAgent("boss", prompt="boss", tools=("work",), agents=("worker",), critic=True)
WORKER = RunnableAgent("worker", prompt="worker", tools=("work",))

HOW = ("raises", "hangs", "lies", "gives nothing", "cancels", "raises at once", "gives at once")
"""cancels: something that it waits for was cancelled. The last two: what should be async is not."""


class Faulty:
    """Misbehaves at one place, in one way; anywhere else it is as it should be."""

    def __init__(self, world: World, place: str, how: str) -> None:
        self.world = world
        self.place = place
        self.how = how
        self.reached = False

    def at(self, place: str, good: Any = None) -> Awaitable[Any]:
        """What an async method gives."""
        if place != self.place:
            return self._good(good)
        self.reached = True
        if self.how == "raises at once":
            raise RuntimeError("broken at once")
        if self.how == "gives at once":
            return "nonsense"  # type: ignore[return-value]
        return self._bad()

    def now(self, place: str, good: Any = None) -> Any:
        """What one gives that must not wait."""
        if place != self.place:
            return good
        self.reached = True
        if self.how.startswith("raises"):
            raise RuntimeError("broken")
        if self.how == "cancels":
            raise asyncio.CancelledError
        return None if self.how == "gives nothing" else "nonsense"

    async def _good(self, good: Any) -> Any:
        await asyncio.sleep(0)
        return good

    async def _bad(self) -> Any:
        if self.how == "raises":
            await asyncio.sleep(0)
            raise RuntimeError("broken")
        if self.how == "hangs":
            await self.world.sleep(LONG_S)
        if self.how == "cancels":
            raise asyncio.CancelledError
        return None if self.how == "gives nothing" else "nonsense"


class Audit:
    def __init__(self, faulty: Faulty) -> None:
        self.faulty = faulty

    def start(self, run: Any) -> Any:
        return self.faulty.at("audit.start", self)

    def step(self, step: Any) -> Any:
        return self.faulty.now("audit.step")

    def tool(self, tool: Any) -> Any:
        return self.faulty.now("audit.tool")

    def log(self, *args: Any) -> Any:
        return None

    def close(self, close: Any) -> Any:
        return self.faulty.at("audit.close")


class Parked(Attachments):
    def __init__(self, faulty: Faulty) -> None:
        super().__init__()
        self.faulty = faulty

    def open(self, run_id: str, parent_run_id: str = "") -> None:
        self.faulty.now("attachments.open")
        super().open(run_id, parent_run_id)

    def drain(self, run_id: str) -> Any:
        return self.faulty.now("attachments.drain", super().drain(run_id))

    def close(self, run_id: str) -> None:
        self.faulty.now("attachments.close")
        super().close(run_id)


class Everything:
    """The other ports, and what goes with a call."""

    limit_s = 60.0

    def __init__(self, faulty: Faulty) -> None:
        self.faulty = faulty
        self.tools: Sequence[Any] = ()

    def admit(self, agent: Any, asked: Any, ledger: Any) -> Any:
        return self.faulty.at("budget.admit", ())

    def supervise(self, run: Any) -> Any:
        return self.faulty.now("critic.supervise", self)

    def look(self, seen: Any) -> Any:
        return self.faulty.at("critic.look")

    def deliver(self, target: Any, output: str, artifacts: Any) -> Any:
        return self.faulty.at("delivery.deliver", "m1")

    def deliver_error(self, target: Any, error: Any) -> Any:
        return self.faulty.at("delivery.deliver_error")

    def stage(self, run_id: str, id: str, file: Any) -> Any:
        return self.faulty.at("input_files.stage")

    def read(self, run_id: str, id: str, offset: int, limit: int) -> Any:
        return self.faulty.at("input_files.read", b"text")

    def drop(self, run_id: str) -> Any:
        return self.faulty.at("input_files.drop")

    def is_admin(self, caller_id: str) -> Any:
        return self.faulty.at("identity.is_admin", False)

    def groups(self, caller_id: str) -> Any:
        return self.faulty.at("identity.groups", ())

    def make(self, session: ToolSession) -> Any:
        return self.faulty.at("session.make", Own(self.faulty))

    def on_step(self, step: RunStep) -> Any:
        return self.faulty.at("on_step")


class Own(SessionTools):
    def __init__(self, faulty: Faulty) -> None:
        self.faulty = faulty

    def post_run(self, result: RunResult, messages: Sequence[Message]) -> Any:
        return self.faulty.at("session.post_run", [Artifact("a", "b", b"c")])

    def cleanup(self) -> Any:
        return self.faulty.at("session.cleanup")


class Palette(FixedPalette):
    def __init__(self, faulty: Faulty) -> None:
        super().__init__([WORKER])
        self.faulty = faulty

    def agent(self, name: str) -> Any:
        return self.faulty.at("palette.agent", WORKER)


class Work(Tool):
    name = "work"
    effects = frozenset({"read"})

    def __init__(self, faulty: Faulty) -> None:
        self.faulty = faulty

    def execute(self, input: ToolInput, context: ToolContext) -> Any:
        return self.faulty.at("tool", ToolResult("done"))


def says(world: World) -> Callable[[Request], Any]:
    """The boss works, gives work, waits a while and reads its file; the worker works."""

    def reply(request: Request) -> Any:
        said = sum(message.role == "assistant" for message in request.messages)
        if request.system == "worker":
            return ([use("work")], "worked")[said] if said else use("work", id="w")
        return (
            use("work", id="a"),
            use("agent__worker", id="b", prompt="work"),
            [ToolUse("c", "read_input", {"id": file_of(request)})],
            "done",
        )[said]

    return reply


def file_of(request: Request) -> str:
    """Its id, as the model was told; nothing, where it could not be kept."""
    found = re.search(r"^- ([\w-]+):", request.messages[0].text, re.MULTILINE)
    return found[1] if found else "?"


async def played(
    world: World, place: str, how: str, *, fails: bool = False
) -> tuple[RunResult, Faulty]:
    faulty = Faulty(world, place, how)
    ports = Everything(faulty)
    given: Any = ports
    executor = executor_of(
        model_of(says(world), latency_s=4.0),
        tools=[Work(faulty)],
        limits=replace(DEFAULTS, tool_timeout_s=5.0),
        world=world,
        ports=Ports(
            audit=Audit(faulty),  # type: ignore[arg-type]
            attachments=Parked(faulty),
            budget=given,
            critic=given,
            delivery=given,
            input_files=given,
            identity=given,
            palette=Palette(faulty),
        ),
    )
    asked = Invocation(
        caller_id="ann",
        input_files=(InputFile("a.txt", b"text", "text/plain"),),
        session_tools=ports.make,
        delivery=Target("mail", "ann"),
        on_step=ports.on_step,
    )
    agent = RunnableAgent("boss", model="nowhere:x") if fails else AGENT
    result = await executor.run(agent, "go", asked)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left
    for row in await executor.journal.runs():
        facts = await facts_of(executor.journal, row)
        ends = [str(fact.data["status"]) for fact in facts if fact.type == "run.end"]
        assert ends == [result.status] if row.run_id == result.run_id else len(ends) == 1
    return result, faulty


AFTER = {
    "audit.start": "ok",
    "audit.step": "ok",
    "audit.tool": "ok",
    "audit.close": "ok",
    "attachments.open": "ok",
    "attachments.drain": "ok",
    "attachments.close": "ok",
    "budget.admit": "rejected",
    "critic.supervise": "ok",
    "critic.look": "ok",
    "delivery.deliver": "ok",
    "input_files.stage": "ok",
    "input_files.read": "ok",
    "input_files.drop": "ok",
    "identity.is_admin": "ok",
    "identity.groups": "ok",
    "palette.agent": "error",
    "session.make": "error",
    "session.post_run": "ok",
    "session.cleanup": "ok",
    "on_step": "ok",
    "tool": "ok",
}


def test_where_nothing_misbehaves_there_is_nothing_to_tell() -> None:
    result, _ = simulate(lambda world: played(world, "", ""))
    assert (result.status, result.output, result.warnings) == ("ok", "done", [])
    assert [step.kind for step in result.steps] == ["work", "agent__worker", "read_input"]
    assert [step.state for step in result.steps] == ["complete"] * 3
    assert [each.name for each in result.artifacts] == ["a"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("place", AFTER)
def test_row_17_whatever_misbehaves_a_run_has_one_end(place: str, how: str) -> None:
    async def main(world: World) -> tuple[RunResult, Faulty, float]:
        result, faulty = await played(world, place, how)
        return result, faulty, world.monotonic()

    result, faulty, took = simulate(main)
    assert faulty.reached
    assert result.status == AFTER[place], result.exception
    assert took < 180
    assert how == "hangs" or not [told for told in result.warnings if "took longer" in told]
    if result.status == "ok":
        assert result.output == "done"


@pytest.mark.parametrize("how", HOW)
def test_row_17_an_error_that_cannot_be_delivered_stays_the_runs_own(how: str) -> None:
    result, faulty = simulate(lambda w: played(w, "delivery.deliver_error", how, fails=True))
    assert faulty.reached
    assert (result.status, "nowhere:x" in result.error) == ("error", True)
