"""What an audit has of the runs to which a run gives work: all of it, as of any run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.messages import ToolUse
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.run import (
    AuditClose,
    AuditLog,
    AuditStart,
    Executor,
    FixedPalette,
    Invocation,
    Phase,
    Ports,
    RunAudit,
    RunnableAgent,
    RunResult,
    Skill,
)
from lorimer.run.stores import MemoryAudit
from lorimer.testing import SimulatedWorld, simulate
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulation import simulate_in
from lorimer.tools import AskLater, Rule, ToolContext, ToolResult, tool
from lorimer.tools.policy.modes import Action
from tests.run.support import executor_of, model_of

pytestmark = pytest.mark.anyio

PAYS = {
    "type": "object",
    "properties": {"euros": {"type": "integer"}},
    "required": ["euros"],
    "additionalProperties": False,
}
DESK = RunnableAgent("desk", prompt="desk", skills=("payer",))
PAYER = RunnableAgent(
    "payer", prompt="payer", tools=("pay",), agents=("clerk",), subject="ann/payer", version=3
)
CLERK = RunnableAgent("clerk", tools=("pay",), phases=(Phase("a", "look"), Phase("b", "write")))
PALETTE = FixedPalette([CLERK], [Skill(PAYER, PAYS)])
ASKED = Invocation(run_id="R", caller_id="bob", channel_id="web")


def reply(request: Request) -> Any:
    said = sum(message.role == "assistant" for message in request.messages)
    name = request.system.split()[-1]
    calls = {
        "desk": ["skill__payer", {"euros": 5}],
        "payer": ["agent__clerk", {"prompt": "book it"}],
        "look": ["pay", {"s": 10}],
        "write": ["pay", {"s": 20}],
    }
    tool_name, given = calls[name]
    if not said:
        return [ToolUse(f"{name}_1", str(tool_name), given)]
    return f"{name} done"


def host(world: World, log: Any, journal: MemoryJournal | None = None) -> Executor:
    @tool(effects=["read"])
    async def pay(s: int, context: ToolContext) -> str:
        """Pay."""
        await context.world.sleep(s)
        return f"paid {s}"

    return executor_of(
        model_of(reply, latency_s=1.0),
        tools=[pay],
        world=world,
        journal=journal or MemoryJournal(world),
        owner="host",
        ports=Ports(audit=log, palette=PALETTE),
    )


def log_in(world: World, store: MemoryAudit) -> AuditLog:
    return AuditLog(store, world=world, threads=False)


async def line_of(log: AuditLog) -> Sequence[tuple[AuditStart, AuditClose]]:
    """The run, the one that it gave work to, and so on."""
    found: list[tuple[AuditStart, AuditClose]] = []
    at = await log.run("R")
    while at is not None:
        assert at.close is not None
        found.append((at.start, at.close))
        below = await log.children(at.start.run_id)
        assert len(below) <= 1
        at = below[0] if below else None
    return found


async def calls_of(log: AuditLog, run_id: str) -> list[str]:
    return [str(each.data["call_id"]) for each in await log.records(run_id, kind="tool")]


def require_whole(line: Sequence[tuple[AuditStart, AuditClose]]) -> None:
    (_, desk), (one, payer), (two, clerk) = line
    assert [start.name for start, _ in line] == ["desk", "payer", "clerk"]
    assert [start.caller_id for start, _ in line] == ["bob"] * 3
    assert (one.channel_id, two.channel_id) == ("web", "web")
    assert (one.subject, one.version, two.subject, two.version) == ("ann/payer", 3, "clerk", 0)
    assert [end.status for _, end in line] == ["ok"] * 3
    assert [end.output for _, end in line] == ["desk done", "payer done", "write done"]
    assert [end.tool_calls for _, end in line] == [1, 1, 2]
    # what a run cost includes those below it: two calls each, and four in the two phases
    assert (desk.cost_nano, payer.cost_nano, clerk.cost_nano) == (880_000, 660_000, 440_000)
    assert (desk.usage.input_tokens, clerk.usage.input_tokens) == (800, 400)


def test_whoever_is_given_work_is_in_the_audit_with_its_parent_its_calls_and_its_end() -> None:
    async def main(world: World) -> None:
        log = log_in(world, MemoryAudit())
        assert (await host(world, log).run(DESK, "go", ASKED)).status == "ok"
        line = await line_of(log)
        require_whole(line)
        assert [end.runtime_s for _, end in line] == [38.0, 36.0, 34.0]
        ids = [start.run_id for start, _ in line]
        assert [await calls_of(log, each) for each in ids] == [
            ["desk_1"],
            ["payer_1"],
            ["look_1", "write_1"],
        ]
        steps = await log.records(kind="step")
        assert sum(int(str(each.data["cost_nano"])) for each in steps) == line[0][1].cost_nano
        assert [each.start.run_id for each in await log.ancestors(ids[2])] == [ids[1], "R"]
        last = await log.last("ann/payer")
        assert last is not None
        assert last.start.run_id == ids[1]
        assert await log.runs(unfinished=True) == []

    simulate(main)


@pytest.mark.parametrize("how", ["killed", "suspended"])
@pytest.mark.parametrize("at_s", [0.5, 1.5, 2.5, 8.0, 14.5, 20.0, 36.2, 37.5])
def test_what_was_interrupted_is_in_the_audit_as_if_it_had_not_been(how: str, at_s: float) -> None:
    world = SimulatedWorld(1)
    journal, store = MemoryJournal(world), MemoryAudit()

    async def first(world: World) -> None:
        log = log_in(world, store)
        executor = host(world, log, journal)
        going = executor.start(DESK, "go", ASKED)
        await world.sleep(at_s)
        executor.shut_down(0.0)
        assert (await going).status == "suspended"
        runs = await log.runs()
        ends = [each.close.status for each in reversed(runs) if each.close]
        assert len(ends) == len(runs)
        assert ends[0] == "suspended"
        assert set(ends) <= {"suspended", "ok"}

    async def second(world: World) -> list[list[str]]:
        log = log_in(world, store)
        await world.sleep(60)
        assert (await host(world, log, journal).resume(DESK, "R", ASKED)).status == "ok"
        line = await line_of(log)
        require_whole(line)
        assert await log.runs(unfinished=True) == []
        return [await calls_of(log, start.run_id) for start, _ in line]

    if how == "killed":
        with pytest.raises(SimulatedCrash):
            simulate_in(world, first, crash_at_s=at_s)
    else:
        simulate_in(world, first)
    made = simulate_in(world, second)
    assert made == [["desk_1"], ["payer_1"], ["look_1", "write_1"]]


def test_runs_that_a_dead_process_did_not_report_are_reported_with_the_one_above() -> None:
    world = SimulatedWorld(1)
    journal, store = MemoryJournal(world), MemoryAudit()

    async def first(world: World) -> None:
        assert (await host(world, None, journal).run(DESK, "go", ASKED)).status == "ok"

    async def second(world: World) -> None:
        log = log_in(world, store)
        executor = host(world, log, journal)
        rows = await journal.runs()
        parts = [await executor.finish(DESK, each.run_id) for each in rows if each.run_id != "R"]
        assert {each.code for each in parts} == {ExecutorErrorCode.EXEC_CHILD_PART}
        assert await log.runs() == []
        assert (await executor.finish(DESK, "R", ASKED)).status == "ok"
        line = await line_of(log)
        assert [start.name for start, _ in line] == ["desk", "payer", "clerk"]
        assert [end.cost_nano for _, end in line] == [880_000, 660_000, 440_000]

    simulate_in(world, first)
    simulate_in(world, second)


@pytest.mark.parametrize("fault", ["raises", "hangs", "raises at the end", "hangs at the end"])
def test_an_audit_that_fails_for_them_costs_the_run_a_warning_and_leaves_nothing(
    fault: str,
) -> None:
    async def main(world: World) -> RunResult:
        class Failing(AuditLog):
            async def start(self, start: AuditStart) -> RunAudit:
                if start.run_id == "R" or "end" in fault:
                    made = await super().start(start)
                    return made if start.run_id == "R" else Ending(made)
                return await fail()

        class Ending:
            def __init__(self, of: RunAudit) -> None:
                self.step, self.tool, self.log = of.step, of.tool, of.log

            async def close(self, end: AuditClose) -> None:
                await fail()

        async def fail() -> Any:
            if "hangs" in fault:
                await asyncio.Event().wait()
            raise OSError("disk full")

        log = Failing(MemoryAudit(), world=world, threads=False)
        result = await host(world, log).run(DESK, "go", ASKED)
        (root,) = [each for each in await log.runs() if each.start.run_id == "R"]
        assert root.close is not None
        assert root.close.status == "ok"
        return result

    result = simulate(main)
    assert (result.status, result.output, len(result.warnings)) == ("ok", "desk done", 1)


@pytest.mark.parametrize("how", ["raises", "hangs"])
@pytest.mark.parametrize("whose", ["desk", "payer", "clerk"])
def test_an_audit_that_fails_once_has_every_run_in_the_end(whose: str, how: str) -> None:
    async def main(world: World) -> None:
        class Failing(AuditLog):
            failed = False

            async def start(self, start: AuditStart) -> RunAudit:
                if start.name == whose and not self.failed:
                    self.failed = True
                    if how == "raises":
                        raise OSError("busy")
                    await world.sleep(10.5)
                return await super().start(start)

        log = Failing(MemoryAudit(), world=world, threads=False)
        result = await host(world, log).run(DESK, "go", ASKED)
        assert (result.status, len(result.warnings)) == ("ok", 1)
        if (whose, how) == ("desk", "raises"):
            assert await log.runs() == []  # nothing of it, rather than runs without a root
        else:
            require_whole(await line_of(log))
        assert await log.runs(unfinished=True) == []

    simulate(main)


def test_whoever_waited_for_a_person_and_was_given_up_has_that_end_in_the_audit() -> None:
    def both(request: Request) -> Any:
        if len(request.messages) > 1:
            return "end"
        if request.system == "top":
            return [ToolUse("c", "agent__boss", {"prompt": "go"})]
        if request.system == "boss":
            return [ToolUse(name, f"agent__{name}", {"prompt": "go"}) for name in ("asks", "naps")]
        return [ToolUse("c", "send" if request.system == "asks" else "nap", {})]

    async def main(world: World) -> None:
        @tool(effects=["send"])
        async def send() -> str:
            """Send."""
            return "sent"

        @tool(effects=["send"])  # which is given time when the run is to be suspended
        async def nap(context: ToolContext) -> str:
            """Nap."""
            await context.world.sleep(100)
            return "rested"

        log = log_in(world, MemoryAudit())
        asks = RunnableAgent("asks", prompt="asks", tools=("send",))
        naps = RunnableAgent("naps", prompt="naps", tools=("nap",))
        boss = RunnableAgent("boss", prompt="boss", agents=("asks", "naps"))
        executor = executor_of(
            both,
            tools=[send, nap],
            world=world,
            rules=[Rule.parse("send", action=Action.ASK)],
            approver=AskLater(),
            ports=Ports(audit=log, palette=FixedPalette([boss, asks, naps])),
        )
        top = RunnableAgent("top", prompt="top", agents=("boss",), timeout_s=5)
        going = executor.start(top, "go", ASKED)
        await world.sleep(3)
        (waits,) = await log.runs(subject="asks")
        assert waits.close is not None
        assert waits.close.status == "suspended"
        assert (await going).status == "timeout"
        ends = {each.start.name: each.close and each.close.status for each in await log.runs()}
        rows = {row.run_id: row.status for row in await executor.journal.runs()}
        assert rows[waits.start.run_id] == ends["asks"] == "cancelled"
        assert None not in ends.values()
        assert ends["top"] == rows["R"]

    simulate(main)


@pytest.mark.parametrize("within", ["phase", "delegate"])
async def test_a_run_that_a_tool_starts_has_the_run_above_that_the_audit_knows(within: str) -> None:
    @tool(effects=[])
    async def ask() -> ToolResult:
        """Ask."""
        asked = await executor.run(RunnableAgent("oracle", prompt="oracle"), "go")
        return asked.as_tool_result()

    def answer(request: Request) -> Any:
        said = sum(message.role == "assistant" for message in request.messages)
        calls = {"phase": "ask", "clerk": "ask", "boss": "agent__clerk"}
        name = calls.get(request.system.split()[-1])
        given = {"prompt": "go"} if name == "agent__clerk" else {}
        return "end" if said or name is None else [ToolUse("c", name, given)]

    log = AuditLog(MemoryAudit())
    clerk = RunnableAgent("clerk", prompt="clerk", tools=("ask",))
    ports = Ports(audit=log, palette=FixedPalette([clerk]))
    executor = executor_of(answer, tools=[ask], ports=ports)
    agent = RunnableAgent("boss", prompt="boss", agents=("clerk",))
    if within == "phase":
        agent = RunnableAgent("boss", tools=("ask",), phases=(Phase("a", "phase"),))
    for _ in range(2):
        result = await executor.run(agent, "go")
        assert result.status == "ok"
        oracle = await log.last("oracle")
        assert oracle is not None
        above = await log.ancestors(oracle.start.run_id)
        line = ["boss"] if within == "phase" else ["clerk", "boss"]
        assert [each.start.name for each in above] == line
        assert above[-1].start.run_id == result.run_id
