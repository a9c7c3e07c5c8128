"""The agent on Lorimer: the preset `agent` with `SQLiteJournal`, resumed with `resume`.

Variants: `unsafe`, the tool as it comes; `idempotent`, the same tool declared so.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from benchmarks.killed.work import DESCRIPTION, PROMPT, TOOL, Work, call_id
from lorimer import PipelinePresets, tool
from lorimer.core.journal import RunRow
from lorimer.core.messages import TextBlock, ToolResultBlock, ToolUse
from lorimer.core.request import Delta, Request, Response, StopReason, response_from_json
from lorimer.core.world import World
from lorimer.journal import SQLiteJournal
from lorimer.models.registry import Models
from lorimer.models.scripted import DEFAULT_USAGE, ScriptedModel


class Model(ScriptedModel):
    """Says what the work says."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    async def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        results = [
            str(block.content)
            for message in request.messages
            for block in message.content
            if isinstance(block, ToolResultBlock)
        ]
        with self._work.model_call(results) as n:
            await asyncio.sleep(self._work.pause_s)
        if n is None:
            yield Response((TextBlock(self._work.final),), StopReason.END_TURN, DEFAULT_USAGE, "x")
        else:
            call = ToolUse(call_id(n), TOOL, {"n": n})
            yield Response((call,), StopReason.TOOL_USE, DEFAULT_USAGE, "x")


async def main(work: Work) -> None:
    @tool(name=TOOL, description=DESCRIPTION, idempotent=work.variant == "idempotent")
    async def append(n: int) -> str:
        with work.tool_call(n) as result:
            await asyncio.sleep(work.pause_s)
        return result

    journal = SQLiteJournal(work.folder / "runs.sqlite")
    agent = PipelinePresets.agent(
        model="scripted:x",
        models=Models(providers={"scripted": Model(work)}),
        tools=[append],
        max_turns=work.turns + 1,
        journal=journal,
        owner="killed",  # so that the next life need not wait for the claim of the last
    )
    async with agent:
        rows = await journal.runs()
        if not rows:
            text = (await agent.run(PROMPT)).text
        elif not rows[0].status:
            text = (await agent.resume(rows[0].run_id)).text
        else:
            text = await _answer(journal, rows[0])
    await journal.close()
    work.done(text)


async def _answer(journal: SQLiteJournal, row: RunRow) -> str:
    """Of a run that had ended before its answer was passed on: the last thing the model said."""
    facts = [fact async for fact in journal.read(row.stream, row.first - 1)]
    last = [fact for fact in facts if fact.type == "model.reply"][-1]
    return response_from_json(last.data).text


if __name__ == "__main__":
    asyncio.run(main(Work(sys.argv[1:])))
