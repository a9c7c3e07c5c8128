"""Runs with sub-agents, on a scripted model that knows by the system prompt who is asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorimer.core.journal import Journal, find
from lorimer.core.manifest import EnvironmentManifest, SubAgent
from lorimer.core.messages import ToolUse
from lorimer.core.request import Request, Usage
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.journal.family import descendants
from lorimer.journal.recording import facts_of
from lorimer.journal.verify import verify
from lorimer.models.pricing import Price
from lorimer.models.registry import Models
from lorimer.pipeline import Pipeline
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.tools import Tool, ToolRegistry

Script = Mapping[str, Sequence[Any]]
"""Who is asked (`main`, or a sub-agent) to the replies of each of its runs."""

EACH_NANO = 110_000
"""What one reply costs."""


def work(agent: str, prompt: str = "work", id: str = "", tool: str = "Agent") -> ToolUse:
    return ToolUse(
        id or f"{tool}_{agent}_{prompt}", tool, {"subagent_type": agent, "prompt": prompt}
    )


def task(agent: str, prompt: str = "work") -> ToolUse:
    return work(agent, prompt, tool="TaskCreate")


def about(tool: str, id: str = "t1", **input: Any) -> ToolUse:
    return ToolUse(f"{tool}_{id}_{len(input)}", tool, {"task_id": id, **input})


def script(replies: Script) -> Callable[[Request], Any]:
    def reply(request: Request) -> Any:
        name = request.system.removeprefix("You are ").removesuffix(".")
        said = replies[name if name in replies else "main"]
        answer = said[sum(m.role == "assistant" for m in request.messages)]
        return answer(request) if callable(answer) else answer

    return reply


def agent(name: str, **options: Any) -> SubAgent:
    return SubAgent(name=name, description=f"It is {name}.", prompt=f"You are {name}.", **options)


def model_of(replies: Script, **options: Any) -> ScriptedModel:
    return ScriptedModel(
        script(replies), **{"usage": Usage(100, 10), "price": Price(1.0, 1.0), **options}
    )


def pipeline_of(
    world: World,
    model: ScriptedModel,
    *agents: SubAgent,
    journal: Journal | None = None,
    tools: Sequence[Tool] | ToolRegistry = (),
    change: Callable[[EnvironmentManifest], None] | None = None,
    **options: Any,
) -> Pipeline:
    """The agent preset with these sub-agents."""
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.stages["loop"].strategies["guards"] = []
    manifest.agents = list(agents)
    if change is not None:
        change(manifest)
    return Pipeline(
        EnvironmentManifest.from_dict(manifest.to_dict()),
        tools=tools,
        models=Models(providers={"scripted": model}),
        journal=journal or MemoryJournal(world),
        world=world,
        **options,
    )


async def sound(journal: Journal, run_id: str) -> None:
    """A run and all below it are over, add up, and have nothing wrong with them."""
    row = await find(journal, run_id)
    facts = await facts_of(journal, row)
    rows = [row, *[below async for _, _, below in descendants(journal, facts) if below is not None]]
    for each in rows:
        assert each.status, f"{each.run_id} has no end"
        assert await verify(journal, each.run_id) == []
        held = await journal.balance(each.run_id)
        assert (held.spent, held.reserved) == (each.cost_nano, 0)


async def statuses(journal: Journal, run_id: str) -> list[str]:
    """Of the runs below one, in order."""
    facts = await facts_of(journal, await find(journal, run_id))
    return [row.status if row else "" async for _, _, row in descendants(journal, facts)]


def told(result: Any) -> list[str]:
    """What the model was told: results of calls, and of tasks."""
    return [str(step.content) for step in result.steps]
