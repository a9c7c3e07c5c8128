"""What a strategy has to show before it may be selectable: an effect that only it has, seen from
outside, of a pipeline made of a manifest. The effects themselves: `effects.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.limits import Limits
from lorimer.core.manifest import EnvironmentManifest, StageEntry
from lorimer.core.messages import Message
from lorimer.core.request import Request, Usage
from lorimer.core.result import PipelineResult
from lorimer.core.stage import Slot, Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.journal import SQLiteJournal
from lorimer.memory import InMemory, MemoryItem
from lorimer.models.pricing import Price
from lorimer.models.registry import Models
from lorimer.pipeline import Pipeline
from lorimer.presets import preset_manifest
from lorimer.stages import catalogue
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do

Key = tuple[str, str, str]
"""Stage, slot, strategy."""


@dataclass
class Seen:
    """What became of the runs of an effect."""

    requests: list[Request]
    """All that the model was asked."""
    results: list[PipelineResult] = field(default_factory=list)
    signals: list[Event] = field(default_factory=list)
    said: list[JSON] = field(default_factory=list)
    """What functions of the host's got."""
    state: PipelineState | None = None
    """At the end of a run that ended well."""
    took_s: float = 0.0
    remembered: list[MemoryItem] = field(default_factory=list)
    """What the memory has of the sky, at the end."""
    order: list[str] = field(default_factory=list)
    """`+name` and `-name`: a tool began, ended."""

    @property
    def result(self) -> PipelineResult:
        return self.results[-1]

    @property
    def code(self) -> str:
        return self.result.code.value if self.result.code is not None else ""

    @property
    def sent(self) -> Sequence[Message]:
        """What the last request held."""
        return self.requests[-1].messages

    @property
    def reasons(self) -> list[str]:
        """Of the ends of the iterations."""
        facts = self.result.events
        return [str(f.data.get("reason", "tool_calls")) for f in facts if f.type == "iteration.end"]

    def told(self, type: str) -> list[Mapping[str, JSON]]:
        """The data of signals of a type."""
        return [event.data for event in self.signals if event.type == type]


@dataclass(frozen=True)
class Effect:
    """How to see that a strategy is at work."""

    shows: Callable[[Seen], bool]
    """True where it is, false where another one is in its place."""
    replies: Sequence[Any] | Callable[[Request], Any] = ("done",)
    config: Mapping[str, JSON] = field(default_factory=dict)
    """Of the strategy."""
    inputs: Sequence[JSON] = ("go",)
    change: Callable[[EnvironmentManifest], None] | None = None
    limits: Limits | None = None
    remembers: Sequence[MemoryItem] | None = None
    """What the memory has before; None: there is no memory."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the pipeline."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Of the scripted model."""
    clashes: frozenset[str] = frozenset()
    """Strategies of other slots of its stage under which it has nothing to do, as
    `slot.strategy`: they decide before it."""


class Probe(Stage[object, object]):
    """Looks at the state near the end of a run."""

    name = "probe"
    order = 20

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def execute(self, input: object, state: PipelineState) -> object:
        self.seen.state = state
        return input


def declared() -> dict[str, dict[str, Slot[Strategy]]]:
    """Every stage with its slots."""
    known = catalogue()
    return {name: dict(known.stage(name).slots()) for name in known.names}


def keys() -> list[Key]:
    """Every strategy of every slot of every stage."""
    return [
        (stage, slot.name, name)
        for stage, slots in declared().items()
        for slot in slots.values()
        for name in slot.known
    ]


def tools_of(seen: Seen) -> list[Do]:
    """`look` gives the same each time, `count` something new, `fail` fails, `wait` polls; `slow`
    and `quick` take 5 s and 1 s and may run beside others, `peek` takes 5 s and may begin early."""

    def timed(name: str, seconds: float) -> Do:
        async def act(input: object, context: Any) -> str:
            seen.order.append(f"+{name}")
            await context.world.sleep(seconds)
            seen.order.append(f"-{name}")
            return name

        return Do(name, act, safe=name != "rude")

    counted = iter(range(1000))

    def fail(input: object, context: object) -> str:
        raise RuntimeError(f"no {next(counted)}")

    peek = timed("peek", 5)
    peek.early = True
    wait = Do("wait")
    wait.polling = True
    return [
        Do("look"),
        Do("other"),
        Do("count", lambda _, context: str(next(counted))),
        Do("fail", fail),
        wait,
        peek,
        timed("slow", 5),
        timed("quick", 1),
        timed("rude", 2),
    ]


def manifest_of(chosen: Mapping[str, Mapping[str, Any]], effect: Effect) -> EnvironmentManifest:
    """The agent preset with these strategies. `chosen`: stage, slot, (names, configurations)."""
    manifest = preset_manifest("agent", model="scripted:m")
    if effect.change is not None:
        effect.change(manifest)
    for stage, slots in chosen.items():
        entry: StageEntry = manifest.stages[stage]
        for slot, (names, config) in slots.items():
            entry.strategies[slot] = names
            entry.strategy_configs.pop(slot, None)
            if config:
                entry.strategy_configs[slot] = config
    return EnvironmentManifest.from_dict(manifest.to_dict())  # as from a file


def play(effect: Effect, chosen: Mapping[str, Mapping[str, Any]]) -> Seen:
    """The runs of an effect, with these strategies in the manifest."""

    async def main(world: SimulatedWorld) -> Seen:
        replies = effect.replies
        model = ScriptedModel(
            replies if callable(replies) else list(replies),
            usage=Usage(100, 10),
            price=Price(1.0, 1.0),
            **effect.model,
        )
        seen = Seen(model.requests)
        memory = InMemory()
        await memory.put(effect.remembers or ())
        journal = SQLiteJournal(":memory:", world=world, threads=False)
        pipeline = Pipeline(
            manifest_of(chosen, effect),
            tools=tools_of(seen),
            models=Models(
                providers={
                    "scripted": model,
                    "openai": ScriptedModel(lambda _: "done", name="small"),
                    "google": ScriptedModel(lambda _: "done", name="big"),
                }
            ),
            journal=journal,
            world=world,
            bindings={
                "one": seen.said.append,
                "two": seen.said.append,
                **({} if effect.remembers is None else {"memory": memory}),
                "agree": lambda told: seen.said.append(told) is None,
            },
            **effect.options,
        )
        pipeline.register_stage(Probe(seen))
        pipeline.on("*", seen.signals.append)
        began = world.monotonic()
        for asked in effect.inputs:
            result = await pipeline.run(asked, limits=effect.limits, raise_on_error=False)
            seen.results.append(result)
        seen.took_s = world.monotonic() - began
        seen.remembered = [*await memory.search("sky", limit=9)]
        await pipeline.aclose()
        await journal.close()
        return seen

    return simulate(main)
