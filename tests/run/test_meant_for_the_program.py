"""Exceptions that are meant for the program, such as a `pytest.fail` or a KeyboardInterrupt in a
callback of the host's: they reach the caller, and the run has ended by then like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from lorimer import Pipeline, PipelinePresets, tool
from lorimer.core.events import Event
from lorimer.core.manifest import SubAgent
from lorimer.core.messages import ToolUse
from lorimer.core.request import Request
from lorimer.journal import MemoryJournal
from lorimer.journal.verify import verify
from lorimer.models import Models
from lorimer.models.scripted import Answer, Reply
from lorimer.presets import preset_manifest
from lorimer.run import AuditLog, Executor, Invocation, Ports, RunnableAgent
from lorimer.run.steps import RunStep
from lorimer.run.stores import MemoryAudit
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import ToolRegistry


class ForTheProgram(BaseException):
    pass


@tool(effects=["send"])
async def send() -> str:
    """Send."""
    return "sent"


def models(*replies: Reply) -> Models:
    return Models(providers={"scripted": ScriptedModel(replies)})


CALL: Answer = [ToolUse("c1", "send", {})]


def raising(then: Sequence[Answer]) -> Callable[[Request], Answer]:
    """A model that raises at its first call."""
    left = iter(then)
    calls = 0

    def reply(request: Request) -> Answer:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ForTheProgram
        return next(left)

    return reply


class Asked:
    def __init__(self, *, raises: bool = True) -> None:
        self.raises = raises

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        if self.raises:
            self.raises = False
            raise ForTheProgram
        return True


async def run_it(pipeline: Pipeline, *, streamed: bool) -> None:
    if not streamed:
        await pipeline.run("go", raise_on_error=False)
        return
    async for _ in pipeline.run_stream("go"):
        pass


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("raised_by", ["approver", "listener", "model"])
def test_the_run_has_ended_and_its_conversation_goes_on(raised_by: str, streamed: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal, registry = MemoryJournal(world), ToolRegistry()
        registry.register(send, granted=False)
        replies: list[Answer] = (
            ["done", CALL, "done"] if raised_by == "model" else [CALL, CALL, "done"]
        )
        model = ScriptedModel(raising(replies) if raised_by == "model" else replies)
        pipeline = PipelinePresets.agent(
            model="scripted:m",
            models=Models(providers={"scripted": model}),
            tools=registry,
            approver=Asked(raises=raised_by == "approver"),
            journal=journal,
            world=world,
        )
        heard = 0

        def listen(event: Event) -> None:
            nonlocal heard
            heard += 1
            if heard == 1 and raised_by == "listener":
                raise ForTheProgram

        pipeline.on("tool.call_start", listen)
        with pytest.raises(ForTheProgram):
            await run_it(pipeline, streamed=streamed)
        [row] = await journal.runs()
        assert row.status == "error"
        assert "ForTheProgram" in str((await pipeline.result(row.run_id)).error)
        assert (await pipeline.run("again")).status == "ok"
        for row in await journal.runs():
            assert not await verify(journal, row.run_id)
        assert len(asyncio.all_tasks()) == 1

    simulate(main)


def test_a_sub_agent_that_is_left_with_it_has_ended_and_its_parent_is_told() -> None:
    def reply(request: Request) -> Answer:
        if request.system == "You help.":
            return CALL
        if request.messages[-1].text:
            return [ToolUse("c1", "Agent", {"subagent_type": "helper", "prompt": "Help."})]
        return "done"

    async def main(world: SimulatedWorld) -> None:
        journal, registry = MemoryJournal(world), ToolRegistry()
        registry.register(send, granted=False)
        manifest = preset_manifest("agent", model="scripted:m")
        manifest.agents = [
            SubAgent(name="helper", description="Helps.", prompt="You help.", tools=["send"])
        ]
        pipeline = Pipeline(
            manifest,
            models=Models(providers={"scripted": ScriptedModel(reply)}),
            tools=registry,
            approver=Asked(),
            journal=journal,
            world=world,
        )
        result = await pipeline.run("go")
        assert result.steps[0].is_error and "ForTheProgram" in str(result.steps[0].content)
        rows = await journal.runs()
        assert [row.status for row in rows] == ["error", "ok"]
        for row in rows:
            assert not await verify(journal, row.run_id)
        assert len(asyncio.all_tasks()) == 1

    simulate(main)


def test_an_executor_has_closed_its_audit_and_can_be_closed() -> None:
    def stop(step: RunStep) -> None:
        raise ForTheProgram

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        log = AuditLog(MemoryAudit(), world=world, threads=False)
        executor = Executor(
            models=models(CALL, "done"),
            tier="scripted:m",
            tools=[send],
            journal=journal,
            world=world,
            ports=Ports(audit=log),
        )
        asked = Invocation(run_id="job_1", on_step=stop)
        with pytest.raises(ForTheProgram):
            await executor.run(RunnableAgent("a", tools=("send",)), "go", asked)
        assert (await executor.result("job_1")).status == "error"
        [audited] = await log.runs()
        assert audited.close is not None and audited.close.status == "error"
        async with asyncio.timeout(60):
            await executor.aclose()
        await log.close()

    simulate(main)
