"""Why a run went as it did: each kind of decision, of real runs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from lorimer.cli.runs import explain as runs_explain
from lorimer.core.cancel import Reason
from lorimer.core.context import Safety
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.limits import Limits
from lorimer.core.mail import send as mail_send
from lorimer.core.manifest import EnvironmentManifest, ToolBinding
from lorimer.core.messages import TextBlock, ThinkingBlock
from lorimer.core.request import Response, Usage, UsageDelta
from lorimer.core.stage import Slot, Stage
from lorimer.core.state import Decision
from lorimer.journal.explain import KINDS, Explanation, explain
from lorimer.journal.explain.costs import costs
from lorimer.journal.export import export, read_export
from lorimer.journal.recording import Recording, recorded
from lorimer.models import Models
from lorimer.models.generate import generate_as
from lorimer.models.pricing import Price
from lorimer.models.tiers import Tiers
from lorimer.stages.catalogue import catalogue
from lorimer.stages.s05_cache import CacheStrategy
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import NOT_DONE, AskLater, Rule, ToolRegistry
from lorimer.tools.hooks import Answer, FunctionHook
from lorimer.tools.policy.modes import Action
from lorimer.tools.policy.sources import Source
from tests.core.support import Do, held, make, use
from tests.journal.explained import of, told, without_pipeline
from tests.quick import quick
from tests.session.families import agent, model_of, pipeline_of, task, work

CODE = ExecutorErrorCode
CALL = [use("send", to="ann")]


def send() -> Do:
    return Do("send", effects=("send",))


def ungranted(*tools: Do) -> ToolRegistry:
    registry = ToolRegistry()
    for tool in tools:
        registry.register(tool, granted=False)
    return registry


async def explained(
    world: SimulatedWorld, replies: Any, preset: str = "agent", **options: Any
) -> list[Explanation]:
    """One run with these replies, explained."""
    run = options.pop("run", {})
    pipeline = make(world, replies, preset, **options)
    result = await pipeline.run("go", raise_on_error=False, **run)
    return await told(pipeline, result.run_id)


def why(found: list[Explanation], what: str) -> str:
    [line] = [each for each in found if each.what == what]
    return line.why


class Says:
    """A person with one answer."""

    def __init__(self, answer: bool) -> None:
        self._answer = answer

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        return self._answer

    async def approve_again(self, tool: str, summary: str, reason: str) -> bool:
        return self._answer


class Writes:
    """A person who answers in words, after so many seconds."""

    def __init__(self, world: SimulatedWorld, after_s: float) -> None:
        self._world, self._after_s = world, after_s

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        await self._world.sleep(self._after_s)
        return True

    async def ask(self, question: object) -> str:
        await self._world.sleep(self._after_s)
        return "this one"


# --- stages and turns -------------------------------------------------------------------------


def test_stages_that_were_entered_bypassed_and_left_out() -> None:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.stages["cache"].active = False
        manifest.stages["guard"].strategies["guards"] = []

    async def main(world: SimulatedWorld) -> None:
        replies = [[ThinkingBlock("hm"), use("send")], "done"]
        found = await explained(world, replies, tools=[send()], change=change)
        first = of([each for each in found if each.iteration == 0], "stage")
        assert first[0] == ("left out cache", "stages[5].active")
        assert ("bypassed guard", "stages[4].strategies.guards") in first
        assert ("entered think", "stages[8]") in first
        assert ("bypassed evaluate", "stages[14]") in first
        last = of([each for each in found if each.iteration == 1], "stage")
        assert ("entered input", "stages[1]") in first and (
            "entered input",
            "stages[1]",
        ) not in last
        assert ("bypassed think", "stages[8]") in last
        assert why(found, "bypassed tool") == "the reply calls no tool"
        assert last[-5:] == [
            ("bypassed emit", "stages[17].strategies.emitters (default)"),
            ("came to memory", "stages[18]"),
            ("bypassed summarize", "stages[19].strategies.summarizer (default)"),
            ("bypassed persist", "stages[20]"),
            ("entered yield", "stages[21]"),
        ]

    simulate(main)


class Weather(Stage[object, object]):
    name, order = "weather", 1
    bypass_reason = "the sky is clear"

    def should_bypass(self, state: Any) -> bool:
        return True


class Hasty(Stage[object, object]):
    name, order = "hasty", 15

    async def execute(self, input: object, state: Any) -> object:
        state.decision, state.reason = Decision.COMPLETE, "I am in a hurry"
        return input


def test_a_hosts_own_stages_say_themselves_why() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["done"], "chat")
        pipeline.register_stage(Weather())
        pipeline.register_stage(Hasty())
        result = await pipeline.run("go")
        found = await told(pipeline, result.run_id)
        assert why(found, "bypassed weather") == "the sky is clear"
        assert ("was the last", "built in (stage)") in of(found, "turn")
        assert why(found, "was the last") == "a stage said so: I am in a hurry"

    simulate(main)


class Shade(Stage[object, object]):
    name, order = "shade", 5
    strategy = Slot(
        CacheStrategy, default="none", known={"none": "lorimer.stages.s05_cache:NoCache"}
    )

    async def execute(self, input: object, state: Any) -> object:
        return input


def test_the_record_alone_tells_of_a_hosts_own_stages_that_they_were_there() -> None:
    async def main(world: SimulatedWorld) -> None:
        def change(input: Any, context: Any) -> str:
            swap = {"kind": "swap_strategy", "stage": "shade", "slot": "strategy"}
            pipeline.mutate({**swap, "strategy": "none"})
            return "changed"

        pipeline = make(world, [CALL, "x"], tools=[Do("send", change, effects=("send",))])
        pipeline.register_stage(Weather())
        pipeline.register_stage(Shade())
        result = await pipeline.run("go")
        run = await recorded(pipeline.journal, result.run_id)
        known = {line.what: line for line in await told(pipeline, result.run_id)}
        found = explain(run, catalogue())
        assert known["bypassed weather"].why == "the sky is clear"
        assert why(found, "bypassed weather") == Stage.bypass_reason
        first = [each.what for each in found if each.iteration == 0 and each.kind == "stage"]
        assert "entered shade" in first and "entered loop" in first
        last = [each for each in found if each.iteration == 1]
        assert of(last, "change")[0][0].startswith("changed the manifest: swap_strategy")
        assert not of(last, "stage"), "what the change came to is not known here"
        assert of(last, "end") == [("ended ok", "stages[16].strategies.controller (default)")]

    simulate(main)


def test_a_stage_after_the_last_turn_that_has_work() -> None:
    async def main(world: SimulatedWorld) -> None:
        change = _config(summarize={"strategies": {"summarizer": "rule_based"}})
        found = await explained(world, ["x"], change=change)
        assert ("entered summarize", "stages[19]") in of(found, "stage")

    simulate(main)


def _config(**stages: Any) -> Any:
    """A change of entries: stage to field to what is added to it."""

    def change(manifest: EnvironmentManifest) -> None:
        for stage, fields in stages.items():
            entry = manifest.stages[stage]
            for name, value in fields.items():
                setattr(entry, name, {**getattr(entry, name), **value})

    return change


MUST = {
    "strategies": {"strategy": "criteria"},
    "strategy_configs": {"strategy": {"must_contain": ["good"]}},
}


TURNS: dict[str, tuple[Any, Any, str, str]] = {
    "controller": (
        [CALL, CALL, "x"],
        _config(loop={"strategy_configs": {"controller": {"max_turns": 2}}}),
        "was the last",
        "stages[16].strategy_configs.controller.max_turns",
    ),
    "budget": (
        [CALL, CALL, CALL, "x"],
        _config(
            loop={
                "strategies": {"controller": "multi_dim_budget"},
                "strategy_configs": {"controller": {"max_tool_calls": 2}},
            }
        ),
        "was the last",
        "stages[16].strategy_configs.controller.ratio (default)",
    ),
    "signal": (
        ["more\n[CONTINUE]"],
        _config(
            parse={"strategies": {"signal_detector": "regex"}},
            loop={"config": {"early_stop_on": ["continue"]}},
        ),
        "was the last",
        "stages[16].config.early_stop_on",
    ),
    "evaluation": (
        ["bad", "good enough"],
        _config(evaluate=MUST),
        "went on",
        "stages[14].strategies.strategy",
    ),
    "not accepted": (
        ["bad", "bad"],
        _config(evaluate={**MUST, "config": {"max_retries": 1}}),
        "ended the run",
        "stages[14].config.on_failure (default)",
    ),
    "guard": (
        [CALL] * 9,
        _config(loop={"strategies": {"guards": ["identical"]}}),
        "ended the run",
        "stages[16].strategy_configs.guards.identical.stop_after (default)",
    ),
    "single": (
        [CALL],
        _config(loop={"strategies": {"controller": "single_turn"}}),
        "was the last",
        "stages[16].strategies.controller",
    ),
}


@pytest.mark.parametrize("name", TURNS)
def test_why_a_turn_was_not_the_last_or_was(name: str) -> None:
    replies, change, what, origin = TURNS[name]

    async def main(world: SimulatedWorld) -> None:
        found = await explained(world, replies, tools=[send()], change=change)
        assert (what, origin) in of(found, "turn"), of(found, "turn")

    simulate(main)


def test_without_a_loop_there_is_one_turn() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await explained(world, ["x"], "minimal")
        assert of(found, "turn") == [("was the last", "built in (single_turn)")]
        assert why(found, "was the last") == "the agent has no stage that begins another turn"

    simulate(main)


# --- models -----------------------------------------------------------------------------------


def cut_off() -> list[Any]:
    """An answer that breaks off, and is paid for as far as it came."""
    return [UsageDelta(Usage(50, 5)), APIError("cut", code=CODE.EXEC_API_STREAM_INCOMPLETE)]


def down() -> APIError:
    return APIError("it is \x1b[31mdown", code=CODE.EXEC_API_SERVER_ERROR)


async def asked(world: SimulatedWorld, spec: str, *models: Any, **options: Any) -> Any:
    """A run with these models, each a list of replies; who was asked, and by what."""
    providers = {name: ScriptedModel(each) for name, each in zip("ab", models, strict=False)}
    change = options.pop("change", lambda manifest: None)

    def own(manifest: EnvironmentManifest) -> None:
        manifest.model.model = spec
        change(manifest)

    resolver = Models(providers=providers, tiers=Tiers({"quick": "a:m, b:m"}))  # type: ignore[arg-type]
    pipeline = make(world, [], "chat", change=own)
    pipeline = type(pipeline)(
        pipeline.manifest, models=resolver, journal=pipeline.journal, world=world
    )
    result = await pipeline.run("go", raise_on_error=False)
    return await told(pipeline, result.run_id)


def test_which_model_was_asked_and_why_that_one() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await asked(world, "a:m", [down(), "x"])
        assert of(found, "model", "retry", "failover") == [
            ("asked a:m", "model.model"),
            ("asked a:m again", "stages[6].strategies.retry (default)"),
        ]
        assert why(found, "asked a:m again").startswith("attempt 1 failed: it is")

        found = await asked(world, "a:m,b:m", [down(), down()], ["x"])
        assert ("asked b:m instead", "model.model") in of(found, "failover")

        found = await asked(world, "quick", ["x"], [])
        assert of(found, "model") == [
            ("quick stands for a:m, b:m", "host models: quick"),
            ("asked a:m", "model.model"),
        ]

        def own(manifest: EnvironmentManifest) -> None:
            manifest.stages["api"].model_override = {"model": "b:m"}

        found = await asked(world, "a:m", [], ["x"], change=own)
        assert of(found, "model") == [("asked b:m", "stages[6].model_override.model")]

        found = await asked(
            world,
            "a:m",
            [Response((TextBlock("x"),), model="m-20260101")],
            [],
            change=_config(
                api={
                    "strategies": {"router": "adaptive"},
                    "strategy_configs": {"router": {"light": "a:m", "heavy": "b:big"}},
                }
            ),
        )
        assert of(found, "model") == [
            ("asked m-20260101", "stages[6].strategy_configs.router.light")
        ]

    simulate(main)


def test_a_model_that_is_not_asked_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await asked(world, "a:m", [APIError("no", code=CODE.EXEC_API_BAD_REQUEST)])
        assert of(found, "retry", "end") == [
            ("a:m is not asked again", "stages[6].strategies.retry (default)"),
            ("ended error", "model a:m"),
        ]
        empty = await asked(world, "a:m", ["", "now"])
        assert of(empty, "retry") == [
            ("asked a:m again, and told to answer now", "stages[6].strategies.retry (default)")
        ]

    simulate(main)


def test_a_model_that_cools_down_and_a_router_that_may_have_meant_either() -> None:
    async def main(world: SimulatedWorld) -> None:
        models = Models(providers={"a": ScriptedModel([down()] * 2), "b": ScriptedModel(["x"] * 2)})
        pipeline = make(world, [], "chat", change=lambda m: setattr(m.model, "model", "a:m,b:m"))
        pipeline = type(pipeline)(
            pipeline.manifest, models=models, journal=pipeline.journal, world=world
        )
        await pipeline.run("go")
        found = await told(pipeline, (await pipeline.run("go on")).run_id)
        assert of(found, "model", "retry", "failover") == [("asked b:m", "model.model")]
        assert "cooling down" in why(found, "asked b:m")

        router = {
            "strategies": {"router": "adaptive"},
            "strategy_configs": {"router": {"light": "a:m", "heavy": "a:m"}},
        }
        answer = Response((TextBlock("x"),), model="m-20260101")
        found = await asked(world, "a:m", [answer], change=_config(api=router))
        assert of(found, "model") == [("asked m-20260101", "stages[6].strategies.router")]
        assert why(found, "asked m-20260101") == "the router 'adaptive' chose it for this call"

    simulate(main)


def test_a_conversation_that_the_provider_finds_too_long() -> None:
    def say(request: Any) -> Any:
        if sum(len(str(message)) for message in request.messages) > 2_500:
            return APIError("too long", code=CODE.EXEC_API_TOKEN_LIMIT)
        return "and so on"

    change = _config(context={"strategy_configs": {"compactor": {"keep_recent": 1}}})

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(say), "chat", change=change)
        result = await pipeline.run("tell me " * 20)
        while not result.receipts:
            result = await pipeline.run("tell me " * 20)
        found = await told(pipeline, result.run_id)
        assert of(found, "retry") == [
            (
                "asked scripted:m again, with a shorter conversation",
                "stages[2].strategies.compactor (default)",
            )
        ]
        [taken] = [each.why for each in found if each.kind == "compaction"]
        assert taken == "the provider said that the conversation is too long"

    simulate(main)


# --- calls ------------------------------------------------------------------------------------


def test_calls_that_were_allowed_and_by_what() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await explained(world, [CALL, "x"], tools=[send()])
        assert of(found, "tool") == [("allowed send", "the caller (tool send)")]
        tools = ungranted(send(), Do("look", effects=("read",)))
        both = [[use("send", to="ann"), use("look")], "x"]
        user = Rule.parse("look", action=Action.ASK, source=Source.USER)
        found = await explained(world, both, tools=tools, rules=["send", user], approver=Says(True))
        assert of(found, "tool", "person") == [
            ("allowed send", "rule send"),
            ("asked a person about look", "user rule ask look"),
            ("a person said yes", "a person (0:1)"),
            ("allowed look", "a person (0:1)"),
        ]
        found = await explained(world, both, tools=tools, permission_mode="bypass")
        assert ("allowed send", "permission mode bypass") in of(found, "tool")

    simulate(main)


def _reviewed(action: str) -> Any:
    settings = {"action": action, "destructive_tools": ["send"]}
    return _config(
        tool_review={
            "strategies": {"reviewers": ["destructive"]},
            "strategy_configs": {"reviewers": {"destructive": settings}},
        }
    )


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "rule of a user": (
        {"rules": [Rule.parse("send", action=Action.DENY, source=Source.USER, reason="no")]},
        "user rule deny send: no",
    ),
    "mode": ({"permission_mode": "plan"}, "permission mode plan"),
    "nobody": ({}, "built in (policy.nobody)"),
    "person": ({"approver": Says(False)}, "a person (0:0)"),
    "hook": (
        {
            "rules": ["send"],
            "hooks": [FunctionHook("PreToolUse", lambda told: Answer("block", "no"), name="guard")],
        },
        "hook guard",
    ),
    "reviewer": ({"change": _reviewed("block")}, "stages[11].strategies.reviewers"),
    "rule to ask of a user": (
        {"rules": [Rule.parse("send", action=Action.ASK, source=Source.USER)]},
        "user rule ask send",
    ),
    "hook that fails": (
        {"rules": ["send"], "hooks": [FunctionHook("PreToolUse", lambda t: 1 / 0, name="guard")]},
        "hook that failed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_were_refused_and_by_whom(name: str) -> None:
    options, origin = REFUSED[name]

    async def main(world: SimulatedWorld) -> None:
        found = await explained(world, [CALL, "x"], tools=ungranted(send()), **options)
        assert ("refused send", origin) in of(found, "tool"), of(found, "tool", "hook")

    simulate(main)


def test_a_rule_of_the_manifest_is_told_by_its_path() -> None:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.permissions.deny = ["look", "send(ann)"]
        manifest.permissions.ask = ["other"]
        manifest.stages["tool_review"].strategies["reviewers"] = ["destructive"]

    class Shell(Do):
        input_schema = {  # noqa: RUF012
            "type": "object",
            "properties": {"to": {"type": "string"}},
            "required": ["to"],
        }
        subject = "to"

    async def main(world: SimulatedWorld) -> None:
        tools = ungranted(Shell("send", effects=("send",)), Shell("other", effects=("exec",)))
        calls = [use("send", "1", to="ann"), use("other", "2", to="bob"), use("send", "3")]
        found = await explained(
            world, [calls, "x"], tools=tools, change=change, approver=Says(False)
        )
        assert of(found, "tool", "person") == [
            ("refused send", "permissions.deny[1]"),
            ("asked a person about other", "permissions.ask[0]"),
            ("a person said no", "a person (0:1)"),
            ("refused other", "a person (0:1)"),
            ("refused send", "tool send"),
        ]

    simulate(main)


def test_calls_that_limits_and_bindings_kept_from_being_made() -> None:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.limits = Limits(max_calls_per_turn=1)

    async def main(world: SimulatedWorld) -> None:
        many = [[use("send", "1"), use("send", "2")], [use("nope")], "x"]
        found = await explained(world, many, tools=[send()], change=change)
        assert of(found, "tool") == [
            ("allowed send", "the caller (tool send)"),
            ("refused send", "limits.max_calls_per_turn"),
            ("refused nope", "tools.built_in (default)"),
        ]

        def bound(manifest: EnvironmentManifest) -> None:
            manifest.stages["tool"].tool_binding = ToolBinding(blocked=["a"])
            manifest.stages["guard"].strategies["guards"] = ["permission"]
            manifest.stages["guard"].strategy_configs["guards"] = {
                "permission": {"allowed_tools": ["a", "b", "send"], "blocked_tools": ["b"]}
            }

        every = [Do("a"), Do("b"), Do("c"), send()]
        found = await explained(
            world, [[use("a"), use("b"), use("c")], "x"], tools=every, change=bound
        )
        guard = "stages[4].strategy_configs.guards.permission"
        assert of(found, "tool") == [
            ("refused a", "stages[10].tool_binding"),
            ("refused b", f"{guard}.blocked_tools"),
            ("refused c", f"{guard}.allowed_tools"),
        ]

        async def slow(*_: Any) -> str:
            await world.sleep(1000)
            return "late"

        found = await explained(world, [CALL, "x"], tools=[Do("send", slow, effects=("send",))])
        assert of(found, "tool")[1] == ("stopped send", "limits.tool_timeout_s")

    simulate(main)


def test_hooks_that_changed_added_and_held_back() -> None:
    answers = iter([Answer("block", "not yet"), Answer()])
    hooks = [
        FunctionHook("PreToolUse", lambda told: Answer(change={"to": "bob"}), name="first"),
        FunctionHook("PostToolUse", lambda told: Answer(context="by the way"), name="second"),
        FunctionHook("Stop", lambda told: next(answers), name="third"),
        FunctionHook("UserPromptSubmit", lambda told: Answer(context="and"), name="fourth"),
    ]

    async def main(world: SimulatedWorld) -> None:
        found = await explained(world, [CALL, "x", "y"], tools=[send()], hooks=hooks)
        assert of(found, "hook") == [
            ("the hook fourth added text for the model", "hook fourth"),
            ("the hook first changed the call", "hook first"),
            ("the hook second added text for the model", "hook second"),
            ("the hook third refused the end of the run", "hook third"),
        ]
        assert ("allowed send, as the hook has changed it", "the caller (tool send)") in of(
            found, "tool"
        )
        assert of(found, "turn")[1] == ("went on", "hook third")
        no = FunctionHook("UserPromptSubmit", lambda told: Answer("block", "no"), name="door")
        found = await explained(world, ["x"], hooks=[no])
        assert of(found, "end") == [("ended rejected", "hook door")]

    simulate(main)


def test_a_hook_that_wants_a_person_asked() -> None:
    hook = FunctionHook("PreToolUse", lambda told: Answer("ask", "look first"), name="guard")

    async def main(world: SimulatedWorld) -> None:
        found = await explained(
            world, [CALL, "x"], tools=[send()], hooks=[hook], approver=Says(True)
        )
        assert of(found, "hook", "person", "tool") == [
            ("the hook guard wants a person asked about the call", "hook guard"),
            ("asked a person about send", "hook guard"),
            ("a person said yes", "a person (0:0)"),
            ("allowed send", "a person (0:0)"),
        ]

    simulate(main)


class Rings(Do):
    approval = "it rings a bell; loudly"


class Puts(Do):
    input_schema = {"type": "object", "properties": {"at": {"type": "string"}}}  # noqa: RUF012
    subject = "at"
    paths = ("at",)


def test_a_reviewer_and_a_tool_that_want_a_person_asked() -> None:
    async def main(world: SimulatedWorld) -> None:
        found = await explained(
            world, [CALL, "x"], tools=[send()], change=_reviewed("ask"), approver=Says(True)
        )
        assert of(found, "person")[0] == (
            "asked a person about send",
            "stages[11].strategies.reviewers",
        )
        tool = Rings("send", effects=("send",))
        found = await explained(world, [CALL, "x"], tools=[tool], approver=Says(True))
        assert of(found, "person")[0] == ("asked a person about send", "tool send")
        assert why(found, "asked a person about send") == "it rings a bell; loudly"

    simulate(main)


def test_a_rule_that_asks_about_a_link_is_told_without_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "a").symlink_to("there")

    def change(manifest: EnvironmentManifest) -> None:
        manifest.permissions.ask = ["put(b)", "put(a/**)"]

    async def main(world: SimulatedWorld) -> None:
        calls = [[use("put", at="a/x")], "x"]
        options = {"approver": Says(True), "workspace": tmp_path}
        tools = ungranted(Puts("put", effects=("write",)))
        found = await explained(world, calls, tools=tools, change=change, **options)
        assert of(found, "person")[0] == ("asked a person about put", "permissions.ask[1]")
        assert f"a/x leads to {tmp_path}/there/x" in why(found, "asked a person about put")
        user = Rule.parse("put", action=Action.ASK, source=Source.USER)
        found = await explained(world, calls, tools=tools, rules=[user], **options)
        assert of(found, "person")[0] == ("asked a person about put", "user rule ask put")

    simulate(main)


def test_a_mode_that_forbids_one_call_of_a_tool(tmp_path: Path) -> None:
    async def main(world: SimulatedWorld) -> None:
        tools = ungranted(Puts("look"))
        found = await explained(
            world,
            [[use("look", at="/etc/passwd")], "x"],
            tools=tools,
            permission_mode="plan",
            workspace=tmp_path,
        )
        assert of(found, "tool") == [("refused look", "permission mode plan")]

    simulate(main)


def test_calls_that_a_tool_makes() -> None:
    async def both(input: Any, context: Any) -> Any:
        return (await context.call("send", {"to": "bob"})).content

    async def main(world: SimulatedWorld) -> None:
        tools = [send(), Do("both", both, effects=("send",))]
        found = await explained(world, [[use("both")], "x"], tools=tools)
        assert [(e.what, e.key, str(e.origin)) for e in found if e.kind == "tool"] == [
            ("allowed both", "0", "the caller (tool both)"),
            ("allowed send", "0s0", "the caller (tool send)"),
        ]

    simulate(main)


def test_a_tool_that_asks_in_words() -> None:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.tools.built_in = ["AskUserQuestion"]

    async def main(world: SimulatedWorld) -> None:
        tool = "AskUserQuestion"
        replies = [[use(tool, question="Which?", timeout_seconds=5)], "x"]
        for person, said in ((Writes(world, 1), "answered"), (Writes(world, 60), None)):
            found = await explained(world, replies, change=change, approver=person)
            assert of(found, "person") == [
                ("asked a person", f"tool {tool}"),
                ("a person answered" if said else "nobody answered", "a person (0:question:0)"),
            ]
            assert why(found, "asked a person") == f"{tool} asks: Which?"
            if said is None:
                assert why(found, "nobody answered") == "the time for an answer had run out"

    simulate(main)


AGAIN: dict[str, tuple[Any, Any, list[tuple[str, str]]]] = {
    "nobody can tell": (
        None,
        None,
        [("did not make send again", "built in (exec.tool.outcome_unknown)")],
    ),
    "its tool can": (NOT_DONE, None, [("made send again", "tool send")]),
    "a person wants it": (
        None,
        True,
        [
            (
                "asked a person whether to make send again",
                "built in (exec.tool.outcome_unknown)",
            ),
            ("a person said yes", "a person (0:again:0:0)"),
            ("made send again", "a person (0:0)"),
        ],
    ),
    "a person does not": (
        None,
        False,
        [
            (
                "asked a person whether to make send again",
                "built in (exec.tool.outcome_unknown)",
            ),
            ("a person said no", "a person (0:again:0:0)"),
            ("did not make send again", "built in (exec.tool.outcome_unknown)"),
        ],
    ),
}


@pytest.mark.parametrize("name", AGAIN)
def test_whether_an_interrupted_call_was_made_again_and_why(name: str) -> None:
    known, person, expected = AGAIN[name]

    class Sends(Do):
        async def reconcile(self, *_: object) -> Any:
            return known

    async def main(world: SimulatedWorld) -> None:
        tool = Sends("send", effects=("send",))
        whole = await make(world, [CALL, "x"], tools=[tool]).run("go")
        cut = [fact.type for fact in whole.events].index("tool.intent") + 1
        journal = await held(world, whole.events[:cut], whole.session_id)
        approver = None if person is None else Says(person)
        again = make(world, ["x"], tools=[tool], journal=journal, approver=approver)
        await again.resume(whole.run_id)
        found = await told(again, whole.run_id)
        assert of(found, "person", "tool") == [
            ("allowed send", "the caller (tool send)"),
            *expected,
        ]
        assert len(tool.calls) == 1 + (expected[-1][0] == "made send again")

    simulate(main)


# --- ends -------------------------------------------------------------------------------------


def _guarded(manifest: EnvironmentManifest) -> None:
    manifest.stages["guard"].strategies["guards"] = ["iteration"]
    manifest.stages["guard"].strategy_configs["guards"] = {"iteration": {"max_iterations": 1}}


def _limited(manifest: EnvironmentManifest) -> None:
    manifest.limits = Limits(max_turns=1)


class Breaks(Stage[object, object]):
    name, order = "token", 7

    async def execute(self, input: object, state: Any) -> object:
        raise ValueError("[bold]boom")


class Lost(Breaks):
    name, order = "lost", 12


class Hopeless(Stage[object, object]):
    name, order = "hopeless", 15

    async def execute(self, input: object, state: Any) -> object:
        state.decision, state.reason = Decision.ERROR, "It is hopeless."
        return input


ENDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "limit of the manifest": ({"change": _limited}, "ended error", "limits.max_turns"),
    "limit of the caller": (
        {"run": {"limits": {"max_turns": 1}}},
        "ended error",
        "the caller (limits.max_turns)",
    ),
    "money": (
        {"run": {"limits": {"max_cost_usd": 0.0}}},
        "ended budget_exceeded",
        "the caller (limits.max_cost_usd)",
    ),
    "tool calls": (
        {"run": {"limits": {"max_tool_calls": 0}}},
        "ended error",
        "the caller (limits.max_tool_calls)",
    ),
    "guard": ({"change": _guarded}, "ended rejected", "stages[4].strategies.guards"),
    "turns that a stage allows": (
        {
            "change": _config(
                evaluate={
                    "strategies": {"strategy": "binary_classify"},
                    "strategy_configs": {"strategy": {"not_easy_max_turns": 1}},
                }
            )
        },
        "ended error",
        "stages[14].strategy_configs.strategy.not_easy_max_turns",
    ),
    "input": (
        {
            "change": _config(
                input={
                    "strategies": {"validator": "strict"},
                    "strategy_configs": {"validator": {"max_length": 1}},
                }
            )
        },
        "ended error",
        "stages[1]",
    ),
    "answers that were not accepted": (
        {"change": _config(evaluate={**MUST, "config": {"max_retries": 0}})},
        "ended error",
        "stages[14].config.on_failure (default)",
    ),
    "no such host": (
        {"change": lambda manifest: setattr(manifest.model, "model", "nowhere:m")},
        "ended error",
        "host models",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_stopped_a_run(name: str) -> None:
    options, what, origin = ENDS[name]

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel([CALL, "x"], usage=Usage(10, 10), price=Price(1, 1))
        found = await explained(world, model, tools=[send()], **options)
        assert of(found, "end") == [(what, origin)]

    simulate(main)


def test_a_run_that_ran_out_of_time_was_cancelled_or_broke() -> None:
    async def main(world: SimulatedWorld) -> None:
        slow = ScriptedModel(["x"], latency_s=60)
        found = await explained(world, slow, run={"limits": {"timeout_s": 5}})
        assert of(found, "end") == [("ended timeout", "the caller (limits.timeout_s)")]

        pipeline = make(world, ScriptedModel(["x"], latency_s=60))
        pipeline.on("model.intent", lambda event: pipeline.cancel(Reason.CALLER))
        result = await pipeline.run("go", raise_on_error=False)
        assert of(await told(pipeline, result.run_id), "end") == [
            ("ended cancelled", "the caller (cancel)")
        ]

        pipeline = make(world, ScriptedModel(["x"], latency_s=60))
        pipeline.on("model.intent", lambda event: pipeline.cancel(Reason.SHUTDOWN))
        result = await pipeline.run("go", raise_on_error=False)
        assert of(await told(pipeline, result.run_id), "suspended", "end") == [
            ("stopped without an end", "host shutdown")
        ]

        pipeline = make(world, ["x"])
        pipeline.register_stage(Breaks())
        result = await pipeline.run("go", raise_on_error=False)
        found = await told(pipeline, result.run_id)
        assert of(found, "end") == [("ended error", "stages[7]")]
        assert "[bold]boom" in why(found, "ended error")

        pipeline = make(world, ["x"])
        pipeline.register_stage(Lost())
        result = await pipeline.run("go", raise_on_error=False)
        assert of(await told(pipeline, result.run_id), "end") == [("ended error", "stages[lost]")]

        pipeline = make(world, ["x"])
        pipeline.register_stage(Hopeless())
        result = await pipeline.run("go", raise_on_error=False)
        found = await told(pipeline, result.run_id)
        assert of(found, "end") == [("ended error", "built in (stage)")]
        assert "It is hopeless" in why(found, "ended error")

    simulate(main)


# --- what goes on round it --------------------------------------------------------------------


def test_sub_agents_and_who_began_them() -> None:
    def change(manifest: EnvironmentManifest) -> None:
        manifest.stages["agent"].strategies["orchestrator"] = "delegate"

    async def main(world: SimulatedWorld) -> None:
        replies = {
            "main": [[work("digger", "dig")], [task("digger")], "[DELEGATE: digger: more]", "so"],
            "digger": ["gold"],
        }
        pipeline = pipeline_of(world, model_of(replies), agent("digger"), change=change)
        result = await pipeline.run("go", limits={"max_cost_usd": 1.0})
        found = await told(pipeline, result.run_id)
        assert [origin for _, origin in of(found, "child")] == [
            "agents[0]",
            "agents[0]",
            "stages[12].strategies.orchestrator",
        ]
        assert {origin for _, origin in of(found, "turn")} >= {"stages[12].strategies.orchestrator"}
        [child] = [
            fact.data["run"]
            for fact in result.events
            if fact.data.get("key") == "0" and fact.type == "child" and fact.iteration == 0
        ]
        below = await told(pipeline, str(child))
        assert below[0].origin.name == result.run_id
        assert ("limits.max_cost_usd is", "its parent (limits.max_cost_usd)") in [
            (what.rpartition(" ")[0], origin) for what, origin in of(below, "limit")
        ]

    simulate(main)


def test_a_change_of_the_manifest_and_what_holds_after_it() -> None:
    async def main(world: SimulatedWorld) -> None:
        def change(input: Any, context: Any) -> str:
            pipeline.mutate(
                {"kind": "set_stage_active", "stage": "think", "active": False},
                {"kind": "remove_stage", "stage": "evaluate"},
            )
            return "changed"

        tool = Do("send", change, effects=("send",))
        pipeline = make(world, [CALL, "x"], tools=[tool])
        result = await pipeline.run("go")
        found = await told(pipeline, result.run_id)
        [first, second] = of(found, "change")
        assert first[0].startswith('changed the manifest: set_stage_active {"')
        assert second[1] == "the caller (remove_stage)"
        assert ("left out think", "stages[8].active") in of(found, "stage")
        last = of([each for each in found if each.iteration == 1], "stage")
        assert "bypassed evaluate" not in dict(last) and "entered loop" in dict(last)

    simulate(main)


def test_a_compaction() -> None:
    change = _config(
        context={
            "config": {"window": 1000},
            "strategy_configs": {"compactor": {"keep_recent": 2}},
        }
    )

    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(lambda _: "and so on " * 30), "chat", change=change)
        result = await pipeline.run("hello")
        while not result.receipts:
            result = await pipeline.run("tell me " * 30)
        found = await told(pipeline, result.run_id)
        [(what, origin)] = of(found, "compaction")
        assert origin == "stages[2].strategies.compactor (default)"
        assert what.startswith("took messages out of view: ")

    simulate(main)


def test_a_run_that_waits_is_answered_and_goes_on() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, [CALL, "x"], tools=ungranted(send()), approver=AskLater())
        result = await pipeline.run("go", raise_on_error=False)
        found = await told(pipeline, result.run_id)
        assert of(found, "person", "suspended", "end") == [
            ("asked a person about send", "built in (policy.mode)"),
            ("stopped without an end", "a person (runs answer)"),
        ]
        await pipeline.resume(result.run_id, True)
        found = await told(pipeline, result.run_id)
        assert of(found, "resume", "person", "tool")[2:] == [
            ("a person said yes", "a person (0:0)"),
            ("allowed send", "a person (0:0)"),
        ] or of(found, "resume") == [("went on", "the caller (resume)")]
        assert of(found, "resume") == [("went on", "the caller (resume)")]
        assert of(found, "end")[0][0] == "ended ok"

    simulate(main)


def test_an_unfinished_run_and_a_call_of_unknown_outcome() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, [CALL, "x"], tools=[send()])
        whole = await pipeline.run("go")
        cut = [fact.type for fact in whole.events].index("tool.intent") + 1
        journal = await held(world, whole.events[:cut], whole.session_id)
        again = make(
            world, [CALL, "x"], tools=[send()], journal=journal, session_id=whole.session_id
        )
        found = await told(again, whole.run_id)
        assert of(found, "end", "suspended", "retry") == []
        assert of(found, "tool") == [("allowed send", "the caller (tool send)")]

    simulate(main)


def test_a_fork_and_a_message() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel(["x", "y", "z"], latency_s=1), "chat")
        sent = False

        async def say(event: Any) -> None:
            nonlocal sent
            if not sent:
                sent = True
                await mail_send(pipeline.journal, event.run_id, "and then?", id="m1")

        pipeline.on("model.intent", say)
        result = await pipeline.run("go")
        found = await told(pipeline, result.run_id)
        assert ("went on", "the caller (send)") in of(found, "turn")
        fork = await pipeline.fork(result.run_id, after=1, input="else?")
        assert of(await told(pipeline, fork.run_id), "start") == [("begun", "the caller (fork)")]

    simulate(main)


def test_people_who_were_asked_about_an_answer() -> None:
    change = _config(hitl={"strategies": {"requester": "approver"}, "config": {"answers": True}})

    async def main(world: SimulatedWorld) -> None:
        found = await explained(world, ["x"], change=change, approver=Says(False))
        assert of(found, "person", "end") == [
            ("asked a person about the answer", "stages[15].strategies.requester"),
            ("a person said no", "a person (0:hitl)"),
            ("ended rejected", "a person (hitl)"),
        ]
        hitl = {
            "strategies": {"requester": "approver", "timeout": "auto_reject"},
            "config": {"answers": True},
        }
        found = await explained(
            world, ["x"], change=_config(hitl=hitl), approver=Writes(world, 1000)
        )
        timeout = "stages[15].strategies.timeout"
        assert of(found, "person", "turn", "end")[1:] == [
            ("nobody answered", timeout),
            ("ended the run", timeout),
            ("ended rejected", timeout),
        ]
        assert found[-1].why == "A person was asked about the answer, and nobody answered in time"

    simulate(main)


def test_where_the_money_went() -> None:
    async def main(world: SimulatedWorld) -> None:
        tries = iter([cut_off(), "so"])
        replies: dict[str, Any] = {
            "main": [[work("digger", "dig")], lambda request: next(tries)],
            "digger": ["gold"],
        }
        pipeline = pipeline_of(world, model_of(replies), agent("digger"))
        result = await pipeline.run("go", limits={"max_cost_usd": 1.0}, raise_on_error=False)
        await told(pipeline, result.run_id)
        paid = costs(await recorded(pipeline.journal, result.run_id), pipeline.catalogue)
        assert [(each.iteration, each.what, each.who) for each in paid] == [
            (0, "reply", "scripted"),
            (0, "sub-agent", "digger"),
            (1, "failed attempt", "scripted:m"),
            (1, "reply", "scripted"),
        ]
        assert sum(each.nano for each in paid) == result.cost_nano
        json.dumps([each.to_json() for each in paid])

    simulate(main)


class Embeds(Stage[object, object]):
    name, order = "embeds", 5

    async def execute(self, input: object, state: Any) -> object:
        async def call() -> dict[str, Any]:
            return {"usage": {"input_tokens": 7}, "cost": 70}

        await state.run.effect("embed", "0", call, request=b"", safety=Safety.READ_ONLY)
        return input


class Stalls(ScriptedModel):
    """Its second answer has begun, and does not go on."""

    async def stream(self, request: Any, *, world: Any) -> AsyncIterator[Any]:
        if self.calls:
            yield UsageDelta(Usage(50, 5))
            await world.sleep(1000)
        async for each in super().stream(request, world=world):
            yield each


def test_where_money_went_besides_replies() -> None:
    class City(BaseModel):
        name: str

    priced: Any = {"usage": Usage(10, 10), "price": Price(1, 1)}

    async def besides(input: Any, context: Any) -> str:
        model = ScriptedModel(['{"name": "Ulm"}'], **priced)
        return (await generate_as(City, "?", model=model, run=context.run)).name

    async def main(world: SimulatedWorld) -> None:
        model = Stalls([[use("ask")]], **priced)
        pipeline = make(world, model, tools=[Do("ask", besides)])
        pipeline.register_stage(Embeds())
        result = await pipeline.run("go", limits={"timeout_s": 5}, raise_on_error=False)
        await told(pipeline, result.run_id)
        paid = costs(await recorded(pipeline.journal, result.run_id), pipeline.catalogue)
        assert [(each.iteration, each.what, each.who) for each in paid] == [
            (0, "other", "embed"),
            (0, "reply", "scripted"),
            (0, "besides", "scripted"),
            (1, "cut off", "scripted:m"),
        ]
        assert sum(each.nano for each in paid) == result.cost_nano

    simulate(main)


# --- whatever the run -------------------------------------------------------------------------


async def _one_of_all(world: SimulatedWorld) -> tuple[Recording, list[Explanation]]:
    tools = ungranted(send(), Do("look", effects=("read",)))
    pipeline = make(
        world,
        ScriptedModel([[use("send"), use("look"), use("nope\x1b[2J")], down(), [use("look")], "x"]),
        tools=tools,
        rules=["look"],
        approver=Says(True),
    )
    result = await pipeline.run("go", limits={"max_turns": 9})
    return await recorded(pipeline.journal, result.run_id), await told(pipeline, result.run_id)


def test_the_record_alone_says_the_same_also_exported() -> None:
    async def main(world: SimulatedWorld) -> None:
        run, found = await _one_of_all(world)
        assert without_pipeline(run) == found
        journal = await held(world, run.facts, run.session_id)
        manifest = json.dumps(run.manifest).encode()
        await journal.put(run.digest, manifest)
        lines = [line async for line in export(journal, run.run_id)]
        [read] = read_export(lines)
        known = [each for each in without_pipeline(read) if not each.what.endswith(" persist")]
        assert known == [each for each in found if not each.what.endswith(" persist")]
        json.dumps([each.to_json() for each in found])

    simulate(main)


def test_without_a_manifest_no_stage_is_told_and_all_else_is() -> None:
    async def main(world: SimulatedWorld) -> None:
        run, found = await _one_of_all(world)
        bare = explain(replace(run, manifest=None), catalogue())
        told = [(e.kind, e.what) for e in found if e.kind not in ("stage", "model", "failover")]
        kept = [(each.kind, each.what) for each in bare]
        assert [each for each in told if each[0] == "tool"] == [e for e in kept if e[0] == "tool"]
        assert not of(bare, "stage") and of(bare, "end")

    simulate(main)


ODD: list[Any] = [None, -1, "", "\x00[/]", [], [[]], {}, {"a": {}}, True, 1e300]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_facts_are_explained_as_far_as_they_can_be(data: st.DataObject) -> None:
    run = one_of_all()
    facts = [
        Event(f.type, dict(f.data), f.run_id, f.iteration, f.time, seq=f.seq) for f in run.facts
    ]
    for _ in range(data.draw(st.integers(1, 4))):
        fact = data.draw(st.sampled_from(facts))
        changed = dict(fact.data)
        if changed:
            changed[data.draw(st.sampled_from(sorted(changed)))] = data.draw(st.sampled_from(ODD))
            fact.data = changed
    manifest = data.draw(st.sampled_from([run.manifest, None, {"version": "9"}, {"stages": 3}]))
    for each in explain(replace(run, facts=facts, manifest=manifest), catalogue()):
        assert each.what and each.why and each.origin.name


@cache
def one_of_all() -> Recording:
    return simulate(_one_of_all)[0]


@given(st.lists(st.sampled_from(["send", "look", "nope", "both", "down", "text"]), max_size=6))
@settings(max_examples=12, deadline=None)
def test_every_decision_of_any_run_has_a_reason_and_an_origin(script: list[str]) -> None:
    said: dict[str, Any] = {
        "send": CALL,
        "look": [use("look")],
        "nope": [use("nope")],
        "both": [use("send"), use("look")],
        "down": down(),
        "text": "x",
    }

    async def main(world: SimulatedWorld) -> None:
        tools = ungranted(send(), Do("look", effects=("read",)))
        rule = Rule.parse("send", action=Action.DENY, source=Source.USER)
        await explained(
            world,
            [*[said[each] for each in script], "x"],
            tools=tools,
            rules=[rule] if len(script) % 2 else [],
            run={"limits": {"max_turns": 4}},
        )

    simulate(main)


def test_the_command_line_knows_all_kinds_and_the_reasons_all_policies() -> None:
    assert list(KINDS) == runs_explain._KINDS
    stages = [catalogue().stage(name) for name in catalogue().names]
    bypassing = [s for s in stages if type(s).should_bypass is not Stage.should_bypass]
    assert all(s.bypass_reason != Stage.bypass_reason for s in bypassing)


LESS: dict[str, tuple[list[tuple[str, Any]], tuple[str, str, str]]] = {
    "an end without a turn": (
        [("run.end", {"status": "ok"})],
        ("ended ok", "it completed", "built in (run.end)"),
    ),
    "an error that no stage and no limit made": (
        [("run.end", {"status": "error", "code": "exec.sandbox.missing", "message": "None."})],
        ("ended error", "None", "built in (exec.sandbox.missing)"),
    ),
    "a rest that an error made": (
        [("run.suspended", {"code": "exec.journal.conflict"})],
        (
            "stopped without an end",
            "it could not continue (exec.journal.conflict)",
            "built in (exec.journal.conflict)",
        ),
    ),
    "an attempt without an answer": (
        [("model.intent", {"key": "0"}), ("model.intent", {"key": "1"})],
        (
            "asked the agent's model again",
            "attempt 1 was interrupted",
            "stages[6].strategies.retry",
        ),
    ),
    "a call that a sandbox holds": (
        [("tool.intent", {"key": "0", "tool": "run", "decision": "a sandbox holds it"})],
        ("allowed run", "a sandbox holds it", "permission mode sandboxed"),
    ),
    "a call that had not begun": (
        [("effect", {"key": "reconcile:0", "tool": "run", "outcome": "not_begun"})],
        (
            "made run again",
            "it had not begun before the interruption",
            "built in (exec.tool.outcome_unknown)",
        ),
    ),
    "a compaction whose summariser failed": (
        [("compacted", {"rule": "window", "before": 9, "after": 3, "error": "exec.api.unknown"})],
        (
            "took messages out of view: 9 to 3 tokens",
            "the conversation was longer than window allows; its summariser failed "
            "(exec.api.unknown), so a rule without a model was used",
            "stages[2].strategies.compactor",
        ),
    ),
}


@pytest.mark.parametrize("name", LESS)
def test_what_single_facts_tell(name: str) -> None:
    given, expected = LESS[name]
    facts = [("run.start", {"input": "x", "limits": {}}), *given]
    events = [Event(kind, data, run_id="r", seq=at) for at, (kind, data) in enumerate(facts, 1)]
    last = explain(Recording("r", "s", [], events, None), catalogue())[-1]
    assert (last.what, last.why, str(last.origin)) == expected


def test_a_manifest_of_a_later_version_is_read_as_far_as_it_goes() -> None:
    start = Event("run.start", {"input": "x", "limits": {}}, run_id="r", seq=1)
    said = {"code": "exec.loop.max_turns", "status": "max_turns", "message": "."}
    end = Event("run.end", said, run_id="r", seq=2)
    for limits, origin in (({"max_turns": 3}, ""), ("few", " (default)"), (["few"], " (default)")):
        manifest: Any = {"version": "99.0", "limits": limits}
        last = explain(Recording("r", "s", [], [start, end], manifest), catalogue())[-1]
        assert str(last.origin) == f"limits.max_turns{origin}"


def test_a_child_of_an_agent_that_the_manifest_does_not_name() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, [CALL, "x"], tools=[send()])
        run = await recorded(pipeline.journal, (await pipeline.run("go")).run_id)
        child = Event("child", {"key": "0", "run": "r2", "agent": "stranger"}, run.run_id)
        at = [fact.type for fact in run.facts].index("tool.intent") + 1
        found = explain(replace(run, facts=[*run.facts[:at], child, *run.facts[at:]]), catalogue())
        [line] = [each for each in found if each.kind == "child"]
        assert (line.what, line.why) == ("begun stranger as r2", "the model called send")
        assert str(line.origin) == "agents (default)"

    simulate(main)


def test_an_error_made_to_be_slow_to_explain_is_not() -> None:
    start = Event("run.start", {"input": "x", "limits": {}}, run_id="r", seq=1)
    said = "of budget a within " * 2_000
    end = {"status": "budget_exceeded", "code": "exec.budget.exceeded", "message": said}
    recording = Recording("r", "s", [], [start, Event("run.end", end, run_id="r", seq=2)], None)
    with quick():
        assert explain(recording, catalogue())[-1].origin.kind == "budget"


def test_facts_that_are_not_what_they_should_be_are_explained_as_far_as_they_go() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ["x"])
        result = await pipeline.run("go")
        recording = await recorded(pipeline.journal, result.run_id)
        odd = [
            Event("mutated", {"changes": [], "refused": [3, {"code": "c", "why": "no"}]}, "r"),
            Event("child", {"key": "0", "run": "r2", "agent": "stranger"}, "r"),
            Event("effect", {"key": "phase:x", "instead": "fallback"}, "r"),
            Event("effect", {"key": "phase:9", "instead": "fallback", "name": "n"}, "r"),
            Event("decision", {"key": "0", "rule": "manifest rule deny Nope", "code": "c"}, "r"),
            Event("effect", {"key": "approval:0", "approved": False, "late": True}, "r"),
        ]
        end = len(recording.facts) - 1
        facts = [*recording.facts[:end], *odd, *recording.facts[end:]]
        for manifest in (recording.manifest, None):
            whole = replace(recording, facts=facts, manifest=manifest)
            found = explain(whole, pipeline.catalogue)
            assert [each.what for each in found if each.what.startswith("refused a change")] == [
                "refused a change of the manifest"
            ]
            [child] = [each for each in found if each.what.startswith("begun stranger")]
            assert child.origin.name.startswith("stages")
            [phase] = [each for each in found if "fallback replaces" in each.what]
            assert phase.origin.name.endswith("config.phases[9].fallback")
            [no] = [each for each in found if each.what.startswith("refused a call")]
            assert no.origin.name == "permissions.deny"
            [late] = [each for each in found if each.what == "nobody answered"]
            assert late.origin.name == "stages[15].strategies.timeout"
            assert found[-1].what == "ended ok"

    simulate(main)
