"""A run to call tools in: memory journal, real world, no engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from lorimer.core.bus import Bus, Listeners
from lorimer.core.context import RunContext
from lorimer.core.events import Event
from lorimer.core.history import History
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Bounds, Limits
from lorimer.core.messages import ToolResultBlock, ToolUse
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.journal.memory import MemoryJournal
from lorimer.tools import Tool, ToolContext, ToolInput, ToolRegistry, ToolResult, Toolset
from lorimer.world.real import RealWorld

T = TypeVar("T")


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(main())


class Act(Tool):
    """Does what it is made with."""

    name = "act"
    input_schema = {"type": "object", "properties": {"x": {}}}  # noqa: RUF012

    def __init__(self, act: Callable[[ToolInput, ToolContext], Any], **attributes: Any) -> None:
        self.act = act
        self.calls = 0
        for name, value in attributes.items():
            setattr(self, name, value)

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.calls += 1
        result = self.act(input, context)
        return await result if asyncio.iscoroutine(result) else result


class Bench:
    """One run; `again()` gives the same run resumed from what its journal holds."""

    def __init__(
        self,
        journal: MemoryJournal,
        context: RunContext,
        bus: Bus,
        limits: Limits,
    ) -> None:
        self.journal = journal
        self.context = context
        self.bus = bus
        self.limits = limits
        self.state = PipelineState(context, History(), "")

    @classmethod
    async def make(
        cls,
        *,
        limits: Limits = Limits(),
        world: World | None = None,
        facts: Sequence[Event] = (),
        bus: Bus | None = None,
    ) -> Bench:
        world = world or RealWorld()
        journal = MemoryJournal(world)
        epoch = await journal.claim("s_test", "me", 60)
        if facts:
            await journal.append("s_test", epoch, facts, sync=True)
        bus = bus or Bus()
        context = RunContext(
            id="r_test",
            stream="s_test",
            epoch=epoch,
            seed=1,
            world=world,
            journal=journal,
            bounds=Bounds(limits, world.monotonic()),
            listeners=Listeners(bus),
            recorded=facts,
        )
        context.begin_iteration(0)
        return cls(journal, context, bus, limits)

    async def again(self, upto: int | None = None) -> Bench:
        """The run resumed, with its first `upto` facts."""
        facts = [
            Event(f.type, f.data, run_id=f.run_id, iteration=f.iteration, time=f.time, seq=f.seq)
            for f in self.context.facts[:upto]
        ]
        return await Bench.make(limits=self.limits, facts=facts)

    async def call(
        self,
        tools: Toolset,
        name: str,
        input: Mapping[str, JSON] | None = None,
        *,
        index: int = 0,
        raw: str = "",
    ) -> ToolResultBlock:
        use = ToolUse(f"call_{index}", name, input or {}, raw)
        return await tools.dispatch(use, index, self.state)

    @property
    def facts(self) -> list[tuple[str, dict[str, Any]]]:
        """The facts of tools as (type, data)."""
        return [(fact.type, dict(fact.data)) for fact in self.context.facts]

    @property
    def kinds(self) -> list[str]:
        return [fact.type for fact in self.context.facts]


def toolset(*tools: Tool, granted: bool = True, **options: Any) -> Toolset:
    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool, granted=granted)
    return Toolset(registry, **options)


async def one_call(
    tool: Tool, input: Mapping[str, JSON] | None = None, *, limits: Limits = Limits()
) -> ToolResultBlock:
    bench = await Bench.make(limits=limits)
    return await bench.call(toolset(tool), tool.name, input)


@contextmanager
def going_on(context: RunContext) -> Generator[None]:
    """As the engine has a run: it can be cancelled in here, and that ends with it."""
    context.enter()
    try:
        with context.cancellation.scope:
            yield
    finally:
        context.alarm.stop()
