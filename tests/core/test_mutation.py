"""Changes of a manifest: each is a function; a pipeline makes all or none, and its live runs take
them up before their next model call, the same again when they are resumed or replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

import pytest

from lorimer import ConfigError, EnvironmentManifest, ExecutorErrorCode, Pipeline
from lorimer.core import mail, mutation
from lorimer.core.cancel import Reason
from lorimer.core.catalogue import Catalogue
from lorimer.core.context import Safety
from lorimer.core.errors import MutationError, MutationLocked
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import StageEntry, ToolBinding
from lorimer.core.mutation import Change, apply, plain, read
from lorimer.core.request import Request
from lorimer.core.result import PipelineResult
from lorimer.core.stage import Stage, Strategy
from lorimer.core.state import PipelineState
from lorimer.journal import MemoryJournal
from lorimer.journal.recording import recorded
from lorimer.journal.replay import VOLATILE
from lorimer.journal.verify import verify
from lorimer.models.registry import Models
from lorimer.presets import preset_manifest
from lorimer.session import SessionManager
from lorimer.stages.catalogue import catalogue
from lorimer.stages.s03_system import PromptBuilder
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, held, kinds, make, only, use

Edit = Callable[[EnvironmentManifest], None]


def agent() -> EnvironmentManifest:
    manifest = preset_manifest("agent", model="scripted:echo")
    manifest.stages["guard"].strategies["guards"] = ["token_budget", "cost_budget"]
    manifest.stages["guard"].strategy_configs["guards"] = {"cost_budget": {"max_cost_usd": 2.0}}
    return manifest


def entry(name: str, **changed: Any) -> Edit:
    def edit(manifest: EnvironmentManifest) -> None:
        for field, value in changed.items():
            setattr(manifest.stages[name], field, value)

    return edit


def section(name: str, **changed: Any) -> Edit:
    def edit(manifest: EnvironmentManifest) -> None:
        part = getattr(manifest, name)
        for field, value in changed.items():
            setattr(part, field, value)

    return edit


def limits(manifest: EnvironmentManifest) -> None:
    manifest.limits = replace(manifest.limits, max_turns=7)
    manifest.metadata.name = "other"
    manifest.permissions.deny = ["Bash"]


def removed(manifest: EnvironmentManifest) -> None:
    manifest.stages.root.remove(manifest.stages["cache"])


def inserted(manifest: EnvironmentManifest) -> None:
    manifest.stages.root.insert(0, StageEntry(order=1, name="input", config={}))


BUDGET: dict[str, JSON] = {"cost_budget": {"max_cost_usd": 2.0}}

EACH: list[tuple[dict[str, JSON], Edit]] = [
    (
        {
            "kind": "swap_strategy",
            "stage": "context",
            "slot": "strategy",
            "strategy": "hybrid",
            "config": {"max_recent_turns": 3},
        },
        entry(
            "context",
            strategies={"strategy": "hybrid"},
            strategy_configs={"strategy": {"max_recent_turns": 3}},
        ),
    ),
    (
        {
            "kind": "swap_strategy",
            "stage": "guard",
            "slot": "guards",
            "strategy": "cost_budget",
            "config": {"max_cost_usd": 1.0},
        },
        entry(
            "guard",
            strategies={"guards": ["cost_budget"]},
            strategy_configs={"guards": {"cost_budget": {"max_cost_usd": 1.0}}},
        ),
    ),
    (
        {
            "kind": "update_strategy_config",
            "stage": "api",
            "slot": "retry",
            "config": {"max_retries": 1},
        },
        entry("api", strategy_configs={"retry": {"max_retries": 1}}),
    ),
    (
        {
            "kind": "update_strategy_config",
            "stage": "guard",
            "slot": "guards",
            "strategy": "token_budget",
            "config": {"min_remaining_tokens": 5},
        },
        entry(
            "guard",
            strategy_configs={"guards": {**BUDGET, "token_budget": {"min_remaining_tokens": 5}}},
        ),
    ),
    (
        {
            "kind": "update_stage_config",
            "stage": "system",
            "config": {"prompt": "Be brief."},
        },
        entry("system", config={"prompt": "Be brief."}),
    ),
    (
        {"kind": "set_stage_active", "stage": "cache", "active": False},
        entry("cache", active=False),
    ),
    ({"kind": "remove_stage", "stage": "cache"}, removed),
    (
        {
            "kind": "replace_stage",
            "stage": "think",
            "by": {"order": 8, "name": "think", "strategies": {"processor": "filter"}},
        },
        entry("think", strategies={"processor": "filter"}),
    ),
    (
        {
            "kind": "add_to_chain",
            "stage": "loop",
            "slot": "guards",
            "strategy": "identical",
            "config": {"warn_after": 2},
            "at": 0,
        },
        entry(
            "loop",
            strategies={"guards": ["identical", "error_streak"]},
            strategy_configs={"guards": {"identical": {"warn_after": 2}}},
        ),
    ),
    (
        {"kind": "add_to_chain", "stage": "loop", "slot": "guards", "strategy": "identical"},
        entry("loop", strategies={"guards": ["error_streak", "identical"]}),
    ),
    (
        {
            "kind": "remove_from_chain",
            "stage": "guard",
            "slot": "guards",
            "strategy": "cost_budget",
        },
        entry("guard", strategies={"guards": ["token_budget"]}, strategy_configs={}),
    ),
    (
        {
            "kind": "reorder_chain",
            "stage": "guard",
            "slot": "guards",
            "order": ["cost_budget", "token_budget"],
        },
        entry("guard", strategies={"guards": ["cost_budget", "token_budget"]}),
    ),
    (
        {"kind": "set_stage_model", "stage": "api", "model": {"temperature": 0.5}},
        entry("api", model_override={"temperature": 0.5}),
    ),
    (
        {"kind": "update_model_config", "settings": {"temperature": 0.0, "max_tokens": 99}},
        section("model", temperature=0.0, max_tokens=99),
    ),
    (
        {
            "kind": "update_pipeline_config",
            "limits": {"max_turns": 7},
            "metadata": {"name": "other"},
            "permissions": {"deny": ["Bash"]},
        },
        limits,
    ),
    (
        {"kind": "update_tools", "tools": {"built_in": ["think"]}},
        section("tools", built_in=["think"]),
    ),
    (
        {"kind": "set_tool_scope", "stage": "tool", "allowed": ["a", "b"], "blocked": ["b"]},
        entry("tool", tool_binding=ToolBinding(allowed=["a", "b"], blocked=["b"])),
    ),
    (
        {"kind": "bind_tool", "stage": "tool", "tool": "a"},
        entry("tool", tool_binding=ToolBinding(allowed=["a"])),
    ),
    (
        {"kind": "unbind_tool", "stage": "tool", "tool": "a"},
        entry("tool", tool_binding=ToolBinding(blocked=["a"])),
    ),
    (
        {"kind": "set_implementation", "stage": "context", "implementation": "mine"},
        entry("context", implementation="mine"),
    ),
]


def before() -> EnvironmentManifest:
    manifest = agent()
    manifest.stages["loop"].strategies["guards"] = ["error_streak"]
    return manifest


@pytest.mark.parametrize(
    ("change", "expected"), EACH, ids=[f"{at}-{c['kind']}" for at, (c, _) in enumerate(EACH)]
)
def test_each_change_is_a_function_of_the_manifest(
    change: Mapping[str, JSON], expected: Edit
) -> None:
    given, wanted = before(), before()
    expected(wanted)
    after = apply(given, [read(change)], catalogue())
    assert after.to_dict() == wanted.to_dict()
    assert given == before()
    assert read(plain(read(change))) == read(change)


def test_every_kind_of_change_is_tried() -> None:
    tried = {str(change["kind"]) for change, _ in EACH}
    # these need code of the host, and have tests of their own
    tried |= {"register_stage", "restore_snapshot"}
    kinds = {
        str(kind.model_fields["kind"].default)
        for kind in vars(mutation).values()
        if isinstance(kind, type) and issubclass(kind, Change) and "kind" in kind.model_fields
    }
    assert kinds == tried


def test_binding_and_unbinding_undo_each_other() -> None:
    scope: dict[str, JSON] = {"kind": "set_tool_scope", "stage": "tool", "allowed": ["a"]}
    scoped = apply(agent(), [read(scope)], catalogue())
    changes = [
        read({"kind": kind, "stage": "tool", "tool": "b"}) for kind in ("bind_tool", "unbind_tool")
    ]
    assert apply(scoped, changes, catalogue()) == scoped
    opened: dict[str, JSON] = {"kind": "set_tool_scope", "stage": "tool"}
    assert apply(scoped, [read(opened)], catalogue()) == agent()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "swap_stategy"}, "'swap_stategy'"),
        ({"kind": "remove_stage", "stage": "cash"}, "no 'cash' stage; did you mean 'cache'"),
        ({"kind": "remove_stage", "stage": "api"}, "'api' is missing and required"),
        ({"kind": "remove_stage", "stage": "cache", "force": True}, "force"),
        (
            {"kind": "add_to_chain", "stage": "context", "slot": "strategy", "strategy": "hybrid"},
            "holds one strategy",
        ),
        (
            {"kind": "add_to_chain", "stage": "guard", "slot": "guards", "strategy": "cost_budget"},
            "has 'cost_budget' already",
        ),
        (
            {"kind": "add_to_chain", "stage": "guard", "slot": "gards", "strategy": "x"},
            "no slot 'gards'; did you mean 'guards'",
        ),
        (
            {"kind": "remove_from_chain", "stage": "guard", "slot": "guards", "strategy": "x"},
            "has no 'x'",
        ),
        (
            {"kind": "reorder_chain", "stage": "guard", "slot": "guards", "order": ["x"]},
            "holds token_budget, cost_budget",
        ),
        (
            {"kind": "update_strategy_config", "stage": "guard", "slot": "guards", "config": {}},
            "is a chain: say which",
        ),
        (
            {
                "kind": "update_strategy_config",
                "stage": "guard",
                "slot": "guards",
                "strategy": "cost_bugdet",
                "config": {},
            },
            "has no 'cost_bugdet'",
        ),
        (
            {"kind": "replace_stage", "stage": "cache", "by": {"order": 5, "name": "guard"}},
            "has a 'guard' stage already",
        ),
        (
            {"kind": "set_implementation", "stage": "cache", "implementation": "mine"},
            "'mine'",
        ),
        (
            {"kind": "update_model_config", "settings": {"max_tokens": 0}},
            "max_tokens",
        ),
        ({"kind": "update_pipeline_config", "limits": {"max_turn": 1}}, "max_turn"),
        ({"kind": "update_tools", "tools": {"built_in": ["Raed"]}}, "did you mean 'Read'"),
        (
            {"kind": "set_tool_scope", "stage": "tool", "blocked": ["Bsh"]},
            "this agent has no tool 'Bsh'",
        ),
        ({"kind": "bind_tool", "stage": "api", "tool": "x"}, "the 'api' stage calls no tools"),
        (
            {"kind": "set_stage_model", "stage": "api", "model": {"temprature": 1}},
            "did you mean 'temperature'",
        ),
        (
            {"kind": "set_stage_model", "stage": "cache", "model": {"temperature": 1}},
            "asks no model",
        ),
        (
            {"kind": "register_stage", "entry": {"order": 4, "name": "guard"}},
            "has a 'guard' stage already",
        ),
        ({"kind": "register_stage", "entry": {"order": 4, "name": "mine"}}, "no stage 'mine'"),
        ({"kind": "restore_snapshot", "manifest": {"version": "9"}}, "version"),
        (
            {"kind": "replace_stage", "stage": "cache", "by": {"order": 5, "name": "input"}},
            "input",
        ),
    ],
    ids=lambda value: str(value.get("kind")) if isinstance(value, dict) else "",
)
def test_a_change_that_does_not_fit_is_refused_and_changes_nothing(
    change: dict[str, JSON], why: str
) -> None:
    pipeline = Pipeline(agent(), tools=[Do("a")])
    was = (pipeline.manifest.to_dict(), pipeline.plan)
    fits: dict[str, JSON] = {"kind": "remove_stage", "stage": "think"}
    with pytest.raises(MutationError) as caught:
        pipeline.mutate(fits, change)
    assert caught.value.code is ExecutorErrorCode.EXEC_MUTATION_INVALID
    assert why in str(caught.value)
    assert (pipeline.manifest.to_dict(), pipeline.plan) == was
    assert pipeline.change_log == ()


def test_what_was_put_into_a_manifest_by_hand_is_checked_with_its_next_change() -> None:
    given = agent()
    given.stages["api"].config["patience"] = float("nan")
    fits: dict[str, JSON] = {"kind": "remove_stage", "stage": "think"}
    with pytest.raises(MutationError, match=r"stages\[6\].config.patience: is not JSON"):
        apply(given, [read(fits)], catalogue())


def test_a_manifest_that_is_used_again_for_another_pipeline_is_the_runs_own() -> None:
    """It is stored with the run as it was compiled, whatever becomes of the caller's object."""

    async def main(world: SimulatedWorld) -> None:
        journal, manifest = MemoryJournal(world), preset_manifest("chat", model="scripted:echo")
        pipelines: list[Pipeline] = []
        for name in ("one", "two"):
            manifest.metadata.name = name
            pipelines.append(Pipeline(manifest, journal=journal, world=world))
        for name, pipeline in zip(("one", "two"), pipelines, strict=True):
            result = await pipeline.run("hi")
            assert await verify(journal, result.run_id) == []
            stored = (await recorded(journal, result.run_id)).manifest
            assert stored["metadata"]["name"] == name  # type: ignore[index]

    simulate(main)


def test_what_was_put_into_a_manifest_by_hand_is_no_part_of_earlier_and_live_runs() -> None:
    async def main(world: SimulatedWorld) -> None:
        calls = [[use("look", f"c{n}")] for n in range(5)]
        model = ScriptedModel([*calls, "done", "again"], latency_s=1)
        agent = make(world, model, tools=[Do("look")])

        async def begin(run: Coroutine[Any, Any, PipelineResult]) -> asyncio.Task[PipelineResult]:
            task = asyncio.get_running_loop().create_task(run)
            await world.sleep(1.5)
            return task

        def change(window: int) -> None:
            agent.manifest.stages["context"].config["window"] = window
            agent.mutate({"kind": "update_model_config", "settings": {"max_tokens": window // 10}})

        task = await begin(agent.run("go", raise_on_error=False))
        agent.cancel(Reason.SHUTDOWN)
        result = await task
        assert result.status == "suspended"
        change(9_000)
        task = await begin(agent.resume(result.run_id))
        change(10_000)
        result = await task
        assert kinds(result.events).count("mutated") == 1
        assert await verify(agent.journal, result.run_id) == []
        assert (await agent.replay(result.run_id)).divergence is None
        second = await agent.run("go on")
        assert await verify(agent.journal, second.run_id) == []
        stored = (await recorded(agent.journal, second.run_id)).manifest
        assert stored == agent.manifest.to_dict()

    simulate(main)


def test_a_batch_is_made_at_once_or_not_at_all() -> None:
    class Mine(PromptBuilder):
        name = "mine"

        def build(self, prompt: str, state: PipelineState) -> str:
            return "mine"

    pipeline = Pipeline(agent())
    was = (pipeline.manifest.to_dict(), pipeline.plan)

    def broken() -> None:
        with pipeline.batch():
            pipeline.swap_strategy("system", "builder", Mine)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    with pytest.raises(MutationError), pipeline.batch():
        pipeline.mutate({"kind": "remove_stage", "stage": "parse"})
    with pytest.raises(MutationError, match="no strategy 'mine'"):
        pipeline.swap_strategy("system", "builder", "mine")
    assert (pipeline.manifest.to_dict(), pipeline.plan) == was
    with pipeline.batch():
        pipeline.mutate({"kind": "remove_stage", "stage": "parse"})  # in between it cannot be run
        pipeline.swap_strategy("system", "builder", Mine)
        pipeline.mutate({"kind": "register_stage", "entry": {"order": 9, "name": "parse"}})
        with pytest.raises(MutationError, match="open already"), pipeline.batch():
            pass
    assert pipeline.manifest.stages["system"].strategies == {"builder": "mine"}
    assert len(pipeline.change_log) == 1


def test_what_is_locked_stays_as_it_is() -> None:
    pipeline = Pipeline(agent())
    pipeline.lock("context", "model")
    other: dict[str, JSON] = {"kind": "update_model_config", "settings": {"temperature": 1.0}}
    snapshot: dict[str, JSON] = {
        "kind": "restore_snapshot",
        "manifest": preset_manifest("minimal", model="scripted:echo").to_dict(),
    }
    for change in (other, snapshot, {"kind": "remove_stage", "stage": "context"}):
        with pytest.raises(MutationLocked) as caught:
            pipeline.mutate(change)
        assert caught.value.code is ExecutorErrorCode.EXEC_MUTATION_LOCKED
    with pytest.raises(MutationLocked), pipeline.batch():
        pipeline.mutate(other)
    pipeline.mutate({"kind": "update_stage_config", "stage": "system", "config": {"prompt": "x"}})
    pipeline.unlock("model")
    pipeline.mutate(other)
    assert pipeline.manifest.model.temperature == 1.0
    with pytest.raises(MutationError, match="nothing called 'contxt' to lock; did you mean 'cont"):
        pipeline.lock("contxt")


def test_the_log_says_what_was_changed_and_when() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["hi"], "agent")
        await world.sleep(5)
        pipeline.mutate(
            {"kind": "update_model_config", "settings": {"temperature": 1.0}},
            {"kind": "set_stage_active", "stage": "cache", "active": False},
        )
        (logged,) = pipeline.change_log
        assert logged.time == world.time()
        assert logged.digest == pipeline.plan.digest
        cache = {"order": 5, "name": "cache", "strategies": {"strategy": "aggressive_cache"}}
        assert logged.parts == {
            "model": ({"model": "scripted:m"}, {"model": "scripted:m", "temperature": 1.0}),
            "stages.cache": (cache, {**cache, "active": False}),
        }
        assert [change["kind"] for change in logged.changes] == [  # type: ignore[index,call-overload]
            "update_model_config",
            "set_stage_active",
        ]

    simulate(main)


# --- live runs ---------------------------------------------------------------------------------


def prompts(model: ScriptedModel) -> list[str]:
    return [request.system for request in model.requests]


def to_prompt(text: str) -> dict[str, JSON]:
    return {"kind": "update_stage_config", "stage": "system", "config": {"prompt": text}}


def mutated(facts: list[Event]) -> list[int]:
    return [fact.iteration for fact in facts if fact.type == "mutated"]


def test_a_live_run_takes_a_change_up_before_its_next_model_call() -> None:
    model = ScriptedModel([[use("look", "1")], [use("look", "2")], "done"])

    async def main(world: SimulatedWorld) -> None:
        def look(input: object, context: object) -> str:
            if len(model.requests) == 1:
                pipeline.mutate(to_prompt("new"), {"kind": "remove_stage", "stage": "cache"})
            return "seen"

        pipeline = make(world, model, tools=[Do("look", look)])
        pipeline.mutate(to_prompt("old"))
        digest = pipeline.plan.digest
        result = await pipeline.run("go")
        assert mutated(result.events) == [1]
        (fact,) = [fact for fact in result.events if fact.type == "mutated"]
        assert result.events[0].data["manifest"] == digest
        assert fact.data["manifest"] == pipeline.plan.digest
        assert fact.data["changes"] == [
            to_prompt("new"),
            {"kind": "remove_stage", "stage": "cache"},
        ]
        replayed = await pipeline.replay(result.run_id)
        assert replayed.divergence is None
        assert replayed.result.text == "done"

    simulate(main)
    assert prompts(model) == ["old", "new", "new"]


def test_a_change_while_a_call_is_prepared_holds_from_the_next_one_on() -> None:
    model = ScriptedModel([[use("look")], "two"])

    class Slow(Stage[object, object]):
        name, order, category, every_call = "slow", 4, "pre_flight", True

        async def execute(self, input: object, state: PipelineState) -> object:
            async def wait() -> Mapping[str, JSON]:
                await state.run.world.sleep(10)
                return {}

            await state.run.effect("slow", "", wait, request=b"", safety=Safety.READ_ONLY)
            return input

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, model, tools=[Do("look")])
        pipeline.register_stage(Slow())
        pipeline.mutate(to_prompt("old"))
        run = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(5)
        pipeline.mutate(to_prompt("new"))
        pipeline.mutate(to_prompt("newer"))
        result = await run
        assert mutated(result.events) == [1]
        assert (await pipeline.replay(result.run_id)).divergence is None

    simulate(main)
    assert prompts(model) == ["old", "newer"]


def test_a_change_while_a_run_is_about_to_begin_is_not_missed() -> None:
    model = ScriptedModel(["one"])

    class Late(MemoryJournal):
        async def put(self, digest: str, body: bytes) -> None:
            await world_of[0].sleep(1)
            await super().put(digest, body)

    world_of: list[SimulatedWorld] = []

    async def main(world: SimulatedWorld) -> None:
        world_of.append(world)
        pipeline = make(world, model, journal=Late(world))
        pipeline.mutate(to_prompt("old"))
        run = asyncio.ensure_future(pipeline.run("go"))
        await world.sleep(0.5)
        pipeline.mutate(to_prompt("new"))
        result = await run
        assert result.events[0].data["manifest"] == pipeline.plan.digest
        assert mutated(result.events) == []

    simulate(main)
    assert prompts(model) == ["new"]


def test_tools_and_models_of_a_live_run_are_changed() -> None:
    other = ScriptedModel(["from the other"])
    model = ScriptedModel([[use("think", thought="hm")], [use("think", thought="hm")]])

    async def main(world: SimulatedWorld) -> None:
        def change(manifest: EnvironmentManifest) -> None:
            manifest.tools.built_in = ["think", "now"]

        pipeline = make(world, model, change=change)

        @pipeline.on("tool.call_complete")
        def _(event: Event) -> None:
            if event.iteration == 0:
                pipeline.mutate({"kind": "unbind_tool", "stage": "tool", "tool": "think"})
            else:
                pipeline.mutate(
                    {"kind": "update_model_config", "settings": {"model": "other:m"}},
                    {"kind": "update_tools", "tools": {"built_in": ["now"]}},
                    {"kind": "set_tool_scope", "stage": "tool"},
                )

        models = pipeline.models
        assert isinstance(models, Models)
        models.register("other", other)
        result = await pipeline.run("go")
        assert result.text == "from the other"
        first, second = result.steps
        assert (first.is_error, second.is_error) == (False, True)
        assert "exec.tool.access_denied: this agent may not call think" in str(second.content)
        assert [[spec.name for spec in request.tools] for request in model.requests] == [
            ["think", "now"],
            ["now"],
        ]
        assert (await pipeline.replay(result.run_id)).divergence is None

    simulate(main)
    assert [spec.name for spec in other.requests[0].tools] == ["now"]


def told(facts: list[Event]) -> list[tuple[str, int, dict[str, JSON]]]:
    """Facts without what may differ."""
    return [
        (f.type, f.iteration, {k: v for k, v in f.data.items() if k not in VOLATILE})
        for f in facts
        if f.type not in ("run.suspended", "run.start")
    ]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_changed_in_turn_k_killed_anywhere_resumed_and_replayed(at: int) -> None:
    """The same facts, whichever fact was the last that the first process had written."""

    def script(request: Request) -> Any:
        turn = sum(message.role == "assistant" for message in request.messages)
        return "done" if turn == 4 else [use("look", f"c{turn}", turn=turn)]

    def pipeline_in(
        world: SimulatedWorld, journal: MemoryJournal | None = None
    ) -> tuple[Pipeline, ScriptedModel]:
        model = ScriptedModel(script)

        def look(input: Mapping[str, object], context: object) -> str:
            if input["turn"] == at - 1:
                pipeline.mutate(
                    to_prompt(f"changed in {at}"),
                    {"kind": "set_stage_active", "stage": "think", "active": False},
                )
            return f"saw {input['turn']}"

        pipeline = make(world, model, tools=[Do("look", look)], journal=journal)
        return pipeline, model

    async def main(world: SimulatedWorld) -> None:
        first, model = pipeline_in(world)
        result = await first.run("go")
        facts = list(result.events)
        place = next(i for i, fact in enumerate(facts) if fact.type == "mutated")
        assert mutated(facts) == [at]
        for cut in range(1, len(facts)):
            if cut == place:
                continue  # one row with the fact before it
            if facts[cut].type == "iteration.end" and facts[cut].iteration == at - 1:
                continue  # asked for, and nothing of it written: see below
            again, model = pipeline_in(world, await held(world, facts[:cut]))
            resumed = await again.resume(result.run_id)
            assert resumed.text == "done"
            assert told(resumed.events) == told(facts), f"cut after {cut} facts"
            replayed = await again.replay(result.run_id)
            assert replayed.divergence is None, f"cut after {cut} facts"
            # a pipeline that was never changed replays it too
            fresh, _ = pipeline_in(world, again.journal)  # type: ignore[arg-type]
            assert (await fresh.replay(result.run_id)).divergence is None
            for request in model.requests:
                turn = sum(message.role == "assistant" for message in request.messages)
                assert request.system == (f"changed in {at}" if turn >= at else "")

    simulate(main)


def test_a_change_that_was_asked_for_and_not_written_is_not_made_after_a_crash() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, [[use("look")], "done"], tools=[Do("look")])
        pipeline.on("tool.call_complete", lambda _: pipeline.mutate(to_prompt("new")))
        result = await pipeline.run("go")
        cut = next(i for i, fact in enumerate(result.events) if fact.type == "iteration.end")
        model = ScriptedModel(["done"])
        journal = await held(world, result.events[:cut])
        again = make(world, model, tools=[Do("look")], journal=journal)
        resumed = await again.resume(result.run_id)
        assert (resumed.text, mutated(list(resumed.events))) == ("done", [])
        assert prompts(model) == [""]

    simulate(main)


def test_a_run_whose_change_cannot_be_made_again_is_suspended() -> None:
    class Mine(PromptBuilder):
        name = "mine"

        def build(self, prompt: str, state: PipelineState) -> str:
            return "mine"

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel([[use("look")], "done"])
        pipeline = make(world, model, tools=[Do("look")])
        pipeline.on(
            "tool.call_complete", lambda _: pipeline.swap_strategy("system", "builder", Mine)
        )
        result = await pipeline.run("go")
        assert prompts(model) == ["", "mine"]
        cut = next(i for i, fact in enumerate(result.events) if fact.type == "mutated") + 1
        journal = await held(world, result.events[:cut])
        without = make(world, ["done"], tools=[Do("look")], journal=journal)
        failed = await without.resume(result.run_id, raise_on_error=False)
        assert (failed.status, failed.code) == (
            "suspended",
            ExecutorErrorCode.EXEC_JOURNAL_DIVERGED,
        )
        assert "there is no strategy 'mine'" in failed.error
        with_it = make(world, ["done"], tools=[Do("look")], journal=journal, catalogue=known(Mine))
        assert (await with_it.resume(result.run_id)).text == "done"

    simulate(main)


def known(kind: type[Strategy]) -> Catalogue:
    found = catalogue()
    found.add_strategy("system", "builder", "mine", kind)
    return found


def test_a_live_run_of_an_earlier_manifest_is_changed_too_or_nothing_is() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel([[use("look")], "done"])

        def look(input: object, context: object) -> str:
            with pytest.raises(MutationError, match="no 'cache' stage"):
                pipeline.mutate({"kind": "set_stage_active", "stage": "cache", "active": False})
            pipeline.mutate(to_prompt("new"))
            return "seen"

        def change(manifest: EnvironmentManifest) -> None:
            manifest.stages.root.remove(manifest.stages["cache"])

        first = make(world, [[use("look")]], tools=[Do("look")], change=change)
        result = await first.run("go", raise_on_error=False)
        journal = await held(world, result.events[:2])
        pipeline = make(world, model, tools=[Do("look", look)], change=change, journal=journal)
        with pipeline.batch():
            pipeline.mutate({"kind": "register_stage", "entry": {"order": 5, "name": "cache"}})
            pipeline.mutate(to_prompt("of later runs"))
        resumed = await pipeline.resume(result.run_id)
        assert resumed.text == "done"
        assert mutated(list(resumed.events)) == [1]

    simulate(main)


def test_a_run_in_a_session_is_changed() -> None:
    model = ScriptedModel([[use("look")], "done", "next"])

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, model, tools=[Do("look", lambda *_: change())])

        def change() -> str:
            pipeline.mutate(to_prompt("new"))
            return "seen"

        session = SessionManager().create(pipeline)
        first = await session.run("go")
        assert mutated(list(first.events)) == [1]
        assert (await session.replay(first.run_id)).divergence is None
        assert mutated(list((await session.run("more")).events)) == []

    simulate(main)
    assert prompts(model) == ["", "new", "new"]


def test_limits_of_a_live_run_stay_and_so_does_whether_it_remembers() -> None:
    async def main(world: SimulatedWorld) -> None:
        def look(input: object, context: object) -> str:
            pipeline.mutate({"kind": "update_pipeline_config", "limits": {"max_turns": 1}})
            with pytest.raises(MutationError, match="whether it remembers"):
                pipeline.mutate({"kind": "remove_stage", "stage": "context"})
            return "seen"

        pipeline = make(world, [[use("look")], "done", [use("look")]], tools=[Do("look", look)])
        assert (await pipeline.run("go")).text == "done"
        stopped = await pipeline.run("again", raise_on_error=False)
        assert stopped.code is ExecutorErrorCode.EXEC_LOOP_MAX_TURNS
        pipeline.mutate({"kind": "remove_stage", "stage": "context"})
        assert not pipeline.plan.converses

    simulate(main)


def test_a_secret_is_not_put_into_a_live_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        def look(input: object, context: object) -> str:
            with pytest.raises(ConfigError, match="holds a secret"):
                pipeline.mutate(to_prompt("say hunter2hunter2"))
            return "seen"

        pipeline = make(
            world, [[use("look")], "done"], tools=[Do("look", look)], secrets=["hunter2hunter2"]
        )
        result = await pipeline.run("go")
        assert mutated(list(result.events)) == []

    simulate(main)


# --- changes that a message asks for -----------------------------------------------------------


async def asked(pipeline: Pipeline, *changes: Mapping[str, JSON], id: str = "m1") -> bool:
    [row] = [row for row in await pipeline.journal.runs() if not row.status]
    kept = await mail.change(pipeline.journal, row.run_id, changes, id=id)
    await pipeline.world.sleep(0.1)
    return kept


def test_a_run_is_changed_by_a_message_and_no_other_of_its_pipeline() -> None:
    model = ScriptedModel([[use("look", "1")], [use("look", "2")], "done", "next"])
    wanted: list[dict[str, JSON]] = [to_prompt("new"), {"kind": "remove_stage", "stage": "cache"}]

    async def main(world: SimulatedWorld) -> None:
        async def look(input: object, context: object) -> str:
            if len(model.requests) == 1:
                assert await asked(pipeline, *wanted)
                assert not await asked(pipeline, to_prompt("the same message again"))
            return "seen"

        pipeline = make(world, model, tools=[Do("look", look)])
        before = pipeline.manifest
        result = await pipeline.run("go")
        assert mutated(result.events) == [1]
        data = only(result.events, "mutated")
        assert (data["posts"], data["changes"]) == (["m1"], wanted)
        assert "refused" not in data
        [row] = await pipeline.journal.runs()
        taken = await mail.taken(pipeline.journal, row, "m1")
        assert taken is not None
        assert taken.type == "mutated"
        assert await pipeline.journal.posts(row.stream) == []
        assert (await pipeline.replay(result.run_id)).divergence is None
        assert await verify(pipeline.journal, result.run_id) == []
        assert (pipeline.manifest, pipeline.change_log) == (before, ())
        await pipeline.run("more")

    simulate(main)
    assert prompts(model) == ["", "new", "new", ""]


REFUSED: list[tuple[dict[str, JSON], str, str]] = [
    (to_prompt("x"), "exec.mutation.locked", "stages.system is locked"),
    (
        {"kind": "swap_strategy", "stage": "api", "slot": "retry", "strategy": "never"},
        "exec.mutation.invalid",
        "no strategy 'never'",
    ),
    ({"kind": "remove_stage", "stage": "api"}, "exec.mutation.invalid", "'api' is missing"),
    ({"kind": "remove_stage", "stage": "context"}, "exec.mutation.invalid", "it remembers cannot"),
    (
        {"kind": "update_pipeline_config", "limits": {"max_turns": 9}},
        "exec.mutation.invalid",
        "limits cannot be changed while a run is going on",
    ),
]


@pytest.mark.parametrize(("change", "code", "why"), REFUSED, ids=[why for _, _, why in REFUSED])
def test_what_a_message_may_not_change_is_refused_whole_and_recorded(
    change: dict[str, JSON], code: str, why: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        async def look(input: object, context: object) -> str:
            await asked(pipeline, {"kind": "remove_stage", "stage": "cache"}, change)
            await asked(pipeline, {"kind": "remove_stage", "stage": "think"}, id="m2")
            return "seen"

        pipeline = make(world, [[use("look", "1")], "done"], tools=[Do("look", look)])
        pipeline.lock("system")
        result = await pipeline.run("go")
        data = only(result.events, "mutated")
        assert data["changes"] == [{"kind": "remove_stage", "stage": "think"}]
        assert data["posts"] == ["m1", "m2"]
        assert isinstance(data["refused"], list)
        [refused] = data["refused"]
        assert (refused["post"], refused["code"]) == ("m1", code)
        assert why in refused["why"]
        assert (await pipeline.replay(result.run_id)).divergence is None
        told = await pipeline.explain(result.run_id)
        assert [each.what for each in told if each.kind == "change"] == [
            'changed the manifest: remove_stage {"stage":"think"}',
            "refused a change of the manifest",
        ]

    simulate(main)


def test_a_secret_is_not_put_into_a_run_by_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "shop-1234567890")

    async def main(world: SimulatedWorld) -> None:
        async def look(input: object, context: object) -> str:
            with pytest.raises(MutationError, match="holds a secret"):
                await asked(pipeline, to_prompt("say shop-1234567890"))
            await asked(pipeline, to_prompt("say hunter2hunter2"))
            return "seen"

        tools = [Do("look", look)]
        pipeline = make(world, [[use("look")], "ok"], tools=tools, secrets=["hunter2hunter2"])
        data = only((await pipeline.run("go")).events, "mutated")
        assert data["changes"] == []
        assert "holds a secret" in str(data["refused"])
        assert "hunter2" not in str(data)

    simulate(main)


def test_changes_of_the_program_and_of_messages_are_made_in_order() -> None:
    model = ScriptedModel([[use("look", "1")], "done"])

    async def main(world: SimulatedWorld) -> None:
        async def look(input: object, context: object) -> str:
            pipeline.mutate({"kind": "set_stage_active", "stage": "cache", "active": False})
            await asked(pipeline, to_prompt("of the message"))
            pipeline.mutate({"kind": "remove_stage", "stage": "think"})
            return "seen"

        pipeline = make(world, model, tools=[Do("look", look)])
        result = await pipeline.run("go")
        changes = only(result.events, "mutated")["changes"]
        assert isinstance(changes, list)
        assert [change["kind"] for change in changes] == [
            *("set_stage_active", "update_stage_config", "remove_stage")
        ]
        assert (await pipeline.replay(result.run_id)).divergence is None
        assert "prompt" not in pipeline.manifest.stages["system"].config

    simulate(main)
    assert prompts(model) == ["", "of the message"]


def test_a_suspended_run_is_changed_when_it_is_resumed_and_a_message_too_late_is_removed() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = [[use("look")], "done"]
        result = await make(world, replies, tools=[Do("look")]).run("go")
        ends = [at for at, fact in enumerate(result.events) if fact.type == "iteration.end"]
        for until in range(1, ends[-1] + 1):
            journal = await held(world, result.events[:until])
            await mail.change(journal, result.run_id, [to_prompt("new")], id="m1")

            def script(request: Request) -> Any:
                return replies[sum(message.role == "assistant" for message in request.messages)]

            model = ScriptedModel(script)
            again = make(world, model, tools=[Do("look")], journal=journal)
            resumed = await again.resume(result.run_id)
            assert resumed.text == "done"
            first_is_begun = until > 1  # its call is made as it was begun
            second_is_begun = until > ends[0] + 1
            taken_in = [] if second_is_begun else [int(first_is_begun)]
            assert mutated(list(resumed.events)) == taken_in
            assert ("new" in prompts(model)) == bool(taken_in)
            assert (await again.replay(result.run_id)).divergence is None
            [row] = await journal.runs()
            fact = await mail.taken(journal, row, "m1")
            assert fact is not None
            assert fact.type == ("mutated" if taken_in else "run.end")
            assert await journal.posts(row.stream) == []

    simulate(main)


def test_a_change_asked_for_while_one_is_written_builds_on_it() -> None:
    model = ScriptedModel([[use("look", "1")], [use("look", "2")], "done"])

    async def main(world: SimulatedWorld) -> None:
        class Slow(MemoryJournal):
            async def append(self, stream: str, epoch: int, facts: Any, **options: Any) -> int:
                if any(fact.type == "mutated" for fact in facts) and not done:
                    done.append(True)
                    pipeline.mutate({"kind": "set_stage_active", "stage": "cache", "active": False})
                    await world.sleep(1)
                return await super().append(stream, epoch, facts, **options)

        def look(input: object, context: object) -> str:
            if len(model.requests) == 1:
                entry: dict[str, JSON] = {"order": 5, "name": "cache"}
                pipeline.mutate(to_prompt("new"), {"kind": "register_stage", "entry": entry})
            return "seen"

        def without(manifest: EnvironmentManifest) -> None:
            manifest.stages.root.remove(manifest.stages["cache"])

        done: list[bool] = []
        tools = [Do("look", look)]
        pipeline = make(world, model, tools=tools, change=without, journal=Slow(world))
        result = await pipeline.run("go")
        assert mutated(result.events) == [1, 2]
        assert (await pipeline.replay(result.run_id)).divergence is None
        last = [fact for fact in result.events if fact.type == "mutated"][-1]
        assert last.data["manifest"] == pipeline.plan.digest

    simulate(main)
    assert prompts(model) == ["", "new", "new"]


def test_a_tool_that_was_blocked_is_bound_where_all_others_are_allowed() -> None:
    async def main(world: SimulatedWorld) -> None:
        def block(manifest: EnvironmentManifest) -> None:
            manifest.stages["tool"].tool_binding = ToolBinding(blocked=["a", "b"])

        pipeline = make(world, ["x"], tools=[Do("a"), Do("b")], change=block)
        pipeline.mutate({"kind": "bind_tool", "stage": "tool", "tool": "a"})
        binding = pipeline.manifest.stages["tool"].tool_binding
        assert binding is not None
        assert (binding.allowed, binding.blocked) == (None, ["b"])

    simulate(main)


def test_a_refused_change_is_refused_again_and_one_that_comes_to_another_manifest_diverges() -> (
    None
):
    async def main(world: SimulatedWorld) -> None:
        async def look(input: object, context: object) -> str:
            await asked(pipeline, *changes)
            return "seen"

        changes: list[dict[str, JSON]] = [{"kind": "remove_stage", "stage": "api"}]
        pipeline = make(world, [[use("look", "1")], "done"], tools=[Do("look", look)])
        refused = await pipeline.run("go")
        assert only(refused.events, "mutated")["changes"] == []
        assert (await pipeline.replay(refused.run_id)).divergence is None

        changes[:] = [{"kind": "remove_stage", "stage": "think"}]
        journal = MemoryJournal(world)
        pipeline = make(
            world, [[use("look", "1")], "done"], tools=[Do("look", look)], journal=journal
        )
        changed = await pipeline.run("go")
        assert only(changed.events, "mutated")["changes"] == changes
        assert (await pipeline.replay(changed.run_id)).divergence is None
        facts = [
            Event(
                f.type, {**f.data, "manifest": "0" * 32}, f.run_id, f.iteration, f.time, seq=f.seq
            )
            if f.type == "mutated"
            else f
            for f in changed.events
        ]
        recording = replace(await recorded(journal, changed.run_id), facts=facts)
        found = (await pipeline.replay(recording)).divergence
        assert found is not None
        assert "its changes come to another manifest here" in found.why

    simulate(main)
