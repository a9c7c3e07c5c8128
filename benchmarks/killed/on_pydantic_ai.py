"""The agent on pydantic-ai with `DBOSDurability` on SQLite. The run is a DBOS workflow, the tool a
DBOS step, as the documentation says for tools with I/O; `launch` recovers what was interrupted.

Variant: `dbos`.
"""

from __future__ import annotations

import asyncio
import sys

from dbos import DBOS, SetWorkflowID
from pydantic_ai import Agent
from pydantic_ai.durable_exec.dbos import DBOSDurability
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from benchmarks.killed.work import DESCRIPTION, PROMPT, TOOL, Work, call_id


async def main(work: Work) -> None:
    DBOS(
        config={
            "name": "killed",
            "system_database_url": f"sqlite:///{work.folder / 'runs.sqlite'}",
            "application_version": "1",
        }
    )

    async def ask(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        results = [
            str(part.content)
            for message in messages
            for part in message.parts
            if isinstance(part, ToolReturnPart | RetryPromptPart)
        ]
        with work.model_call(results) as n:
            await asyncio.sleep(work.pause_s)
        if n is None:
            return ModelResponse([TextPart(work.final)])
        return ModelResponse([ToolCallPart(TOOL, {"n": n}, call_id(n))])

    agent = Agent(FunctionModel(ask), name="killed", capabilities=[DBOSDurability()])

    @agent.tool_plain(name=TOOL, description=DESCRIPTION)
    @DBOS.step()
    async def append(n: int) -> str:
        with work.tool_call(n) as result:
            await asyncio.sleep(work.pause_s)
        return result

    @DBOS.workflow()
    async def run() -> str:
        return (await agent.run(PROMPT)).output

    DBOS.launch()
    if await DBOS.get_workflow_status_async("killed") is None:
        with SetWorkflowID("killed"):
            handle = await DBOS.start_workflow_async(run)
    else:
        handle = await DBOS.retrieve_workflow_async("killed")
    work.done(await handle.get_result())
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(Work(sys.argv[1:])))
