"""An agent whose manifest is changed in its second turn; as a program it kills itself with -9 in
the model call of its third: `python -m tests.core.changed_process STORE`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping

from lorimer import Pipeline
from lorimer.core.messages import ToolUse
from lorimer.core.request import Request
from lorimer.journal import SQLiteJournal
from lorimer.models.registry import Models
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.tools import Tool, ToolContext, ToolResult


class Count(Tool):
    """Counts on paper: every call is a line in a file."""

    name = "count"
    description = "Counts."
    effects = frozenset({"write"})
    input_schema = {"type": "object", "properties": {"turn": {"type": "integer"}}}  # noqa: RUF012

    def __init__(self, paper: str) -> None:
        self.paper = paper
        self.after: Callable[[int], None] = lambda _: None

    async def execute(self, input: Mapping[str, object], context: ToolContext) -> ToolResult:
        turn = int(str(input["turn"]))
        with open(self.paper, "a") as paper:
            paper.write(f"{turn}\n")
        self.after(turn)
        return ToolResult(f"counted {turn}")


def agent(store: str, *, dies_in: int | None = None) -> tuple[Pipeline, ScriptedModel]:
    """The pipeline on a store, and its model."""

    def answer(request: Request) -> str | list[ToolUse]:
        turn = sum(message.role == "assistant" for message in request.messages)
        if turn == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done" if turn == 3 else [ToolUse(f"c{turn}", "count", {"turn": turn})]

    def change(turn: int) -> None:
        if turn == 1:
            pipeline.mutate(
                {
                    "kind": "update_stage_config",
                    "stage": "system",
                    "config": {"prompt": "Changed."},
                },
                {"kind": "set_stage_active", "stage": "cache", "active": False},
            )

    tool, model = Count(f"{store}.paper"), ScriptedModel(answer)
    tool.after = change
    pipeline = Pipeline(
        preset_manifest("agent", model="scripted:m"),
        tools=[tool],
        models=Models(providers={"scripted": model}),
        journal=SQLiteJournal(store),
        owner="the same",
    )
    return pipeline, model


if __name__ == "__main__":
    asyncio.run(agent(sys.argv[1], dies_in=2)[0].run("go"))
