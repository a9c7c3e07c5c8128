"""Agents of a manifest whose model plays a script, run whole and from every fact on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lorimer import Pipeline
from lorimer.core.journal import Journal
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.request import Request
from lorimer.core.result import PipelineResult
from lorimer.core.world import World
from lorimer.testing import ScriptedModel, SimulatedWorld
from tests.core.support import check_history, held, make

Replies = Sequence[Sequence[ToolUse] | str]


class Script(ScriptedModel):
    """Answers by how often the conversation was answered already, so that it goes on in a resumed
    run where it was; keeps what each of its requests showed."""

    def __init__(self, replies: Replies) -> None:
        self.shown: dict[int, list[str]] = {}
        """The tools of each request, by its number."""
        self.told: dict[int, list[str]] = {}
        """The results that were new in each."""

        def play(request: Request) -> Any:
            at = sum(message.role == "assistant" for message in request.messages)
            tools = [spec.name for spec in request.tools]
            assert self.shown.setdefault(at, tools) == tools
            last = request.messages[-1]
            self.told[at] = [
                str(block.content) for block in last.content if isinstance(block, ToolResultBlock)
            ]
            return replies[at]

        super().__init__(play)


def agent(
    world: World,
    model: ScriptedModel,
    built_in: Sequence[str],
    *,
    preset: str = "agent",
    deferred: Sequence[str] = (),
    journal: Journal | None = None,
    change: Callable[[EnvironmentManifest], None] | None = None,
    **options: Any,
) -> Pipeline:
    """A preset's agent with these shipped tools in its manifest."""

    def named(manifest: EnvironmentManifest) -> None:
        manifest.tools.built_in = list(built_in)
        manifest.tools.deferred = list(deferred)
        if change is not None:
            change(manifest)

    return make(world, model, preset, change=named, journal=journal, **options)


async def resumed_everywhere(
    world: SimulatedWorld,
    replies: Replies,
    built_in: Sequence[str],
    again: Callable[[PipelineResult, Script], None],
    **options: Any,
) -> Script:
    """Run a script whole; then, for each of its facts, as if the process had died after it. `again`
    looks at every result; requests have to show the same tools."""
    model = Script(replies)
    whole = await agent(world, model, built_in, **options).run("go")
    again(whole, model)
    seen = dict(model.shown)
    for upto in range(1, len(whole.events)):
        journal = await held(world, whole.events[:upto], whole.session_id)
        result = await agent(world, model, built_in, journal=journal, **options).resume(
            whole.run_id
        )
        check_history(result.messages)
        assert [m.to_json() for m in result.messages] == [m.to_json() for m in whole.messages]
        again(result, model)
        assert model.shown == seen, upto
    return model
