"""What a stage may have of its own: tools, a model, code."""

from __future__ import annotations

from typing import Any

import pytest

from lorimer import ConfigError, EnvironmentManifest, Pipeline, PipelineBuilder
from lorimer.assembly import check_manifest, spec_of
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import SubAgent, ToolBinding
from lorimer.core.request import Request, ToolSpec
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.models.registry import Models
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, held, make, use


@pytest.mark.parametrize(
    ("binding", "shown"),
    [
        (ToolBinding(allowed=["look"]), ["look"]),
        (ToolBinding(blocked=["take"]), ["look", "put"]),
        (ToolBinding(allowed=["look", "take"], blocked=["take"]), ["look"]),
        (ToolBinding(allowed=[]), []),
    ],
    ids=["allowed", "blocked", "both", "none"],
)
def test_outside_of_its_binding_a_call_is_an_error_for_the_model(
    binding: ToolBinding, shown: list[str]
) -> None:
    calls = [use("look"), use("take"), use("put"), use("gone")]
    model = ScriptedModel([calls, "done"])

    async def main(world: SimulatedWorld) -> None:
        def change(manifest: EnvironmentManifest) -> None:
            manifest.stages["tool"].tool_binding = binding

        tools = [Do("look"), Do("take"), Do("put")]
        pipeline = make(world, model, tools=tools, change=change)
        result = await pipeline.run("go")
        assert result.text == "done"
        done = {step.tool: step for step in result.steps}
        for tool in tools:
            assert done[tool.name].is_error == (tool.name not in shown)
            assert len(tool.calls) == (tool.name in shown)
            if tool.name not in shown:
                told = f"exec.tool.access_denied: this agent may not call {tool.name}"
                assert told in str(done[tool.name].content)
        assert "exec.tool.unknown" in str(done["gone"].content)
        assert [spec.name for spec in model.requests[0].tools] == shown
        assert (await pipeline.replay(result.run_id)).divergence is None

    simulate(main)


def test_a_name_in_a_binding_that_is_no_tool_is_refused() -> None:
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.stages["tool"].tool_binding = ToolBinding(
        allowed=["look", "mcp__later__x"], blocked=["lok"]
    )
    with pytest.raises(ConfigError) as caught:
        Pipeline(manifest, tools=[Do("look")])
    assert caught.value.problems == (
        "stages[10].tool_binding: this agent has no tool 'lok'; did you mean 'look'? Known: look.",
    )


def guarded(binding: ToolBinding | None, **config: Any) -> Any:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.stages["tool"].tool_binding = binding
        manifest.stages["guard"].strategies["guards"] = ["permission"]
        manifest.stages["guard"].strategy_configs["guards"] = {"permission": config}

    return change


@pytest.mark.parametrize(
    ("binding", "config", "shown"),
    [
        (None, {}, ["look", "take", "put"]),
        (None, {"allowed_tools": ["look"]}, ["look"]),
        (None, {"allowed_tools": ["look", "put"], "blocked_tools": ["put"]}, ["look"]),
        (ToolBinding(allowed=["take"]), {"blocked_tools": ["put"]}, ["take"]),
        (ToolBinding(blocked=["put"]), {"allowed_tools": ["put", "take"]}, ["take"]),
        (ToolBinding(allowed=["look", "put"]), {"allowed_tools": ["put", "take"]}, ["put"]),
        (ToolBinding(allowed=[]), {"allowed_tools": ["look"]}, []),
    ],
)
@pytest.mark.parametrize("executor", ["partition", "streaming"])
def test_of_a_binding_and_the_guard_of_permission_the_stricter_holds(
    binding: ToolBinding | None, config: dict[str, Any], shown: list[str], executor: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        tools = [Do("look"), Do("take"), Do("put")]
        for tool in tools:
            tool.early = True
        bound = guarded(binding, **config)

        def change(manifest: EnvironmentManifest) -> None:
            bound(manifest)
            manifest.stages["tool"].strategies["executor"] = executor

        model = ScriptedModel([[use("look"), use("take"), use("put")], "done"])
        pipeline = make(world, model, tools=tools, change=change)
        result = await pipeline.run("go")
        assert [[spec.name for spec in each.tools] for each in model.requests] == [shown, shown]
        assert [tool.name for tool in tools if tool.calls] == shown
        for step in result.steps:
            assert step.is_error == (step.tool not in shown)
        if "take" not in shown:
            assert "exec.tool.access_denied: this agent may not call take" in str(result.messages)
        assert (await pipeline.replay(result.run_id)).divergence is None
        whole = list(result.events)
        for cut in range(1, len(whole) - 1):  # killed anywhere, it comes to the same
            again = make(
                world,
                ScriptedModel(lambda request: model_reply(request)),
                tools=[Do("look"), Do("take"), Do("put")],
                change=change,
                journal=await held(world, whole[:cut]),
            )
            resumed = await again.resume(result.run_id)
            assert resumed.messages == result.messages

    def model_reply(request: Request) -> Any:
        return "done" if len(request.messages) > 1 else [use("look"), use("take"), use("put")]

    simulate(main)


def test_a_guard_of_permission_names_tools_that_there_are() -> None:
    manifest = preset_manifest("agent", model="scripted:m")
    guarded(None, allowed_tools=["look", "mcp__later__x"], blocked_tools=["lok", "Bash"])(manifest)
    with pytest.raises(ConfigError) as caught:
        Pipeline(manifest, tools=[Do("look")])
    assert caught.value.problems == (
        "stages[4].strategy_configs.guards.permission: this agent has no tool 'lok'; did you mean "
        "'look'? Known: look.",
    )
    guarded(None, blocked_tools="look")(manifest)
    with pytest.raises(ConfigError, match=r"guards\.permission\.blocked_tools: .*list"):
        Pipeline(manifest, tools=[Do("look")])


def test_what_a_guard_of_permission_blocks_may_come_from_a_variable() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["done"])
        change = guarded(None, blocked_tools=["${TOOL}"])
        tools = [Do("look"), Do("take")]
        await make(world, model, tools=tools, change=change, variables={"TOOL": "take"}).run("go")
        assert [spec.name for spec in model.requests[0].tools] == ["look"]

    simulate(main)


def test_a_guard_of_permission_changed_in_a_live_run_holds_from_the_next_call_on() -> None:
    async def main(world: SimulatedWorld) -> None:
        def tighten(input: object, context: object) -> str:
            pipeline.mutate(
                {
                    "kind": "update_strategy_config",
                    "stage": "guard",
                    "slot": "guards",
                    "strategy": "permission",
                    "config": {"blocked_tools": ["take"]},
                }
            )
            return "so"

        model = ScriptedModel([[use("look")], [use("take")], "done"])
        taken = Do("take")
        pipeline = make(world, model, tools=[Do("look", tighten), taken], change=guarded(None))
        result = await pipeline.run("go")
        assert [[s.name for s in each.tools] for each in model.requests] == [
            ["look", "take"],
            ["look"],
            ["look"],
        ]
        assert taken.calls == []
        assert (await pipeline.replay(result.run_id)).divergence is None

    simulate(main)


class Offering(Stage[object, object]):
    """Offers a tool that is nobody's."""

    name = "offering"
    order = 3
    every_call = True

    async def execute(self, input: object, state: PipelineState) -> object:
        state.tools = (*state.tools, ToolSpec("take", "Takes.", {"type": "object"}))
        return input


def test_a_guard_of_permission_stops_a_run_that_would_offer_more() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(["never asked"])
        change = guarded(None, allowed_tools=["look"])
        pipeline = make(world, model, tools=[Do("look")], change=change)
        pipeline.register_stage(Offering())
        result = await pipeline.run("go", raise_on_error=False)
        assert (result.status, model.calls) == ("rejected", 0)
        assert "The guard 'permission' stopped the run: a stage offers the model take" in (
            result.error
        )

    simulate(main)


def test_a_stage_asks_another_model() -> None:
    one, two = ScriptedModel(["from one"]), ScriptedModel(["from two"])

    async def main(world: SimulatedWorld) -> None:
        manifest = preset_manifest("minimal", model="one:m")
        manifest.model.temperature = 1.0
        manifest.stages["api"].model_override = {"model": "two:m", "max_tokens": 77}
        assert spec_of(manifest) == "two:m"
        models = Models(providers={"one": one, "two": two})
        pipeline = Pipeline(manifest, models=models, world=world)
        assert (await pipeline.run("go")).text == "from two"

    simulate(main)
    [request] = two.requests
    assert (request.max_tokens, request.temperature) == (77, 1.0)
    assert one.requests == []


def test_the_judge_is_another_model() -> None:
    opinion = '{"marks": [{"criterion": "answer", "score": 1.0}], "feedback": "fine"}'
    judge = ScriptedModel([opinion])

    async def main(world: SimulatedWorld) -> None:
        def change(manifest: EnvironmentManifest) -> None:
            entry = manifest.stages["evaluate"]
            entry.strategies["strategy"] = "agent_evaluation"
            entry.model_override = {"model": "judge:m", "max_tokens": 99, "temperature": 0.0}

        pipeline = make(world, ["an answer"], change=change)
        models = pipeline.models
        assert isinstance(models, Models)
        models.register("judge", judge)
        assert (await pipeline.run("go")).text == "an answer"

    simulate(main)
    assert [(r.max_tokens, r.temperature) for r in judge.requests] == [(99, 0.0)]


@pytest.mark.parametrize(
    ("stage", "given", "why"),
    [
        (
            "api",
            {"model_override": {"max_token": 1}},
            "stages[6].model_override.max_token: the 'api' stage overrides no such field; "
            "did you mean 'max_tokens'",
        ),
        ("api", {"model_override": {"max_tokens": 0}}, "stages[6].model_override.max_tokens: "),
        (
            "evaluate",
            {"model_override": {"top_p": 1}},
            "stages[14].model_override.top_p: the 'evaluate' stage overrides no such field",
        ),
        (
            "think",
            {"model_override": {"top_p": 1}},
            "stages[8].model_override: the 'think' stage asks no model by this",
        ),
        (
            "think",
            {"tool_binding": {"blocked": ["x"]}},
            "stages[8].tool_binding: the 'think' stage calls no tools",
        ),
        (
            "think",
            {"implementation": "other"},
            "stages[8].implementation: the 'think' stage has no implementation 'other'",
        ),
    ],
    ids=["no field", "bad value", "not of the judge", "no model", "no tools", "no code"],
)
def test_what_a_stage_cannot_have_is_told_with_its_path(
    stage: str, given: dict[str, JSON], why: str
) -> None:
    data = preset_manifest("agent", model="scripted:m").to_dict()
    entries = data["stages"]
    assert isinstance(entries, list)
    [entry] = [entry for entry in entries if isinstance(entry, dict) and entry["name"] == stage]
    entry.update(given)
    [problem] = check_manifest(data)
    assert problem.startswith(why)


def test_they_are_kept_when_a_manifest_is_written() -> None:
    manifest = preset_manifest("agent", model="scripted:m")
    before = manifest.digest
    manifest.stages["tool"].tool_binding = ToolBinding(blocked=["x"])
    manifest.stages["api"].model_override = {"temperature": 0.0}
    manifest.stages["think"].implementation = "other"
    again = EnvironmentManifest.from_dict(manifest.to_dict())
    assert again == manifest
    assert again.digest == manifest.digest != before


@pytest.mark.parametrize("tools", [None, ["look", "take"], ["look"]], ids=["all", "both", "one"])
@pytest.mark.parametrize("by", ["binding", "guard"])
def test_what_an_agent_may_not_call_its_sub_agents_may_not(
    tools: list[str] | None, by: str
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def answer(request: Request) -> Any:
        asked.append((request.system, [spec.name for spec in request.tools]))
        if request.messages[-1].text == "work" and request.system == "You help.":
            return [use("take")]
        return (
            "done"
            if len(request.messages) > 1
            else [use("Agent", subagent_type="helper", prompt="work")]
        )

    async def main(world: SimulatedWorld) -> None:
        taken = Do("take")
        pipeline = (
            PipelineBuilder(
                "boss",
                model="scripted:m",
                models=Models(providers={"scripted": ScriptedModel(answer)}),
                world=world,
                rules=["Agent"],
            )
            .with_tools([Do("look"), taken])
            .with_agent(
                SubAgent(name="helper", description="It helps.", prompt="You help.", tools=tools)
            )
            .with_guard()
            .with_loop(max_turns=9)
        )
        if by == "binding":
            pipeline.manifest.stages["tool"].tool_binding = ToolBinding(
                allowed=["look", "Agent"], blocked=["take"]
            )
        else:
            guarded(None, allowed_tools=["look", "Agent"], blocked_tools=["take"])(
                pipeline.manifest
            )
        result = await pipeline.build().run("go")
        assert (result.text, taken.calls) == ("done", [])

    simulate(main)
    assert asked[0][1] == ["look", "Agent"]
    assert [names for system, names in asked if system == "You help."] == [["look"], ["look"]]
