"""Stage 11, through pipelines: reviewers see calls before they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.messages import ToolUse
from lorimer.core.result import PipelineResult
from lorimer.core.review import Call, Finding
from lorimer.models.registry import Models
from lorimer.stages.s11_reviewers import CallReviewer
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools.hooks import Answer
from tests.core.support import Change, Do, held, make, only, use
from tests.stages.contract import Probe, Seen
from tests.stages.support import choose

KEY = "AKIAABCDEFGHIJKLMNOP"


def reviewed(action: str, **options: Any) -> Change:
    return choose("tool_review", "reviewers", ["sensitive"], sensitive={"action": action})


class Asked:
    """Says yes or no, and remembers what it was asked."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.reasons: list[str] = []

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        self.reasons.append(reason)
        return self.answer


def run(
    calls: list[ToolUse], change: Change, **options: Any
) -> tuple[PipelineResult, Do, list[Mapping[str, JSON]], list[Any]]:
    """The result, the tool, the signals, and the flags."""

    async def main(world: SimulatedWorld) -> Any:
        tool, seen, told = Do("send", effects=["send"]), Seen([]), []
        pipeline = make(world, [calls, "done"], change=change, tools=[tool], **options)
        pipeline.register_stage(Probe(seen))
        pipeline.on("tool_review.flag", lambda event: told.append(event.data))
        result = await pipeline.run("go")
        assert seen.state is not None
        return result, tool, told, seen.state.shared.get("tool_review_flags")

    return simulate(main)


def test_an_annotated_call_is_made_and_told_to_whoever_runs_the_agent() -> None:
    calls = [use("send", "a", text="hello"), use("send", "b", text=f"my key is {KEY}")]
    result, tool, told, flags = run(calls, reviewed("annotate"))
    assert len(tool.calls) == 2
    assert [step.is_error for step in result.steps] == [False, False]
    flag = {
        "tool_use_id": "b",
        "tool": "send",
        "reviewer": "sensitive",
        "action": "annotate",
        "reason": "its arguments hold an AWS key",
    }
    assert told == [flag]
    assert flags == [{"iteration": 0, **flag}]


def test_a_blocked_call_is_not_made_and_the_refusal_is_recorded() -> None:
    result, tool, told, _ = run([use("send", deep=[{"er": KEY}])], reviewed("block"))
    assert tool.calls == []
    assert "the reviewer 'sensitive' refused this call of send" in str(result.steps[0].content)
    decision = only(result.events, "decision")
    assert decision["code"] == ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED.value
    assert (decision["rule"], decision["reason"]) == ("the reviewer 'sensitive'", "policy.review")
    assert told[0]["action"] == "block"


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked_although_the_tool_was_granted(answer: bool) -> None:
    person = Asked(answer)
    result, tool, _, _ = run([use("send", text=KEY)], reviewed("ask"), approver=person)
    assert "the reviewer 'sensitive' wants it to be asked: its arguments hold" in person.reasons[0]
    assert bool(tool.calls) == answer
    assert result.steps[0].is_error != answer


def test_where_nobody_can_be_asked_the_call_is_refused() -> None:
    result, tool, _, _ = run([use("send", text=KEY)], reviewed("ask"))
    assert tool.calls == []
    assert "nobody is there to ask" in str(result.steps[0].content)


def test_what_a_hook_makes_of_a_call_is_reviewed_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        tool = Do("send", effects=["send"])
        calls = [use("send", text="hello")]
        pipeline = make(world, [calls, "done"], change=reviewed("block"), tools=[tool])
        pipeline.hook("PreToolUse")(lambda told: Answer(change={"text": KEY}))
        result = await pipeline.run("go")
        assert tool.calls == []
        assert "the reviewer 'sensitive' refused" in str(result.steps[0].content)

    simulate(main)


def test_a_call_that_a_tool_makes_is_reviewed_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        tool = Do("send", effects=["send"])

        async def act(input: object, context: Any) -> Any:
            return await context.call("send", {"text": KEY})

        pipeline = make(
            world,
            [[use("outer")], "done"],
            change=reviewed("block"),
            tools=[tool, Do("outer", act)],
        )
        result = await pipeline.run("go")
        assert tool.calls == []
        assert "the reviewer 'sensitive' refused" in str(result.steps[0].content)

    simulate(main)


def test_without_the_stage_nobody_reviews() -> None:
    def change(manifest: EnvironmentManifest) -> None:
        reviewed("block")(manifest)
        manifest.stages["tool_review"].active = False

    _, tool, told, flags = run([use("send", text=KEY)], change)
    assert (len(tool.calls), told, flags) == (1, [], None)


class Broken(CallReviewer):
    name = "broken"

    def find(self, call: Call) -> Finding | None:
        raise RuntimeError("no idea")


class Shy(CallReviewer):
    """One of the host's own."""

    name = "shy"

    def reason(self, call: Call) -> str:
        return "it is loud" if "!" in "".join(call.texts) else ""


def test_of_several_reviewers_the_strictest_is_told_first_and_all_are_flagged() -> None:
    change = choose(
        "tool_review",
        "reviewers",
        ["size", "sensitive"],
        size={"action": "ask", "max_chars": 1},
        sensitive={"action": "block"},
    )
    person = Asked(True)
    result, tool, told, _ = run([use("send", text=KEY)], change, approver=person)
    assert tool.calls == [] and person.reasons == []
    assert "the reviewer 'sensitive' refused this call of send" in str(result.steps[0].content)
    assert [flag["reviewer"] for flag in told] == ["sensitive", "size"]


def test_a_reviewer_of_the_hosts_own_and_one_that_fails() -> None:
    async def main(world: SimulatedWorld) -> None:
        tool = Do("send")
        calls = [use("send", "a", text="hey"), use("send", "b", text="hey!")]
        pipeline = make(world, [calls, calls, "done"], tools=[tool])
        pipeline.swap_strategy("tool_review", "reviewers", Shy, {"action": "block"})
        result = await pipeline.run("go")
        assert len(tool.calls) == 2, "one of each reply"
        assert "it is loud" in str(result.steps[1].content)
        pipeline = make(world, [calls, "done"], tools=[tool])
        pipeline.swap_strategy("tool_review", "reviewers", [Broken])
        result = await pipeline.run("go")
        assert [step.is_error for step in result.steps] == [True, True]
        assert "it failed: RuntimeError" in str(result.steps[0].content)

    simulate(main)


def test_a_resumed_run_finds_the_same_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        calls = [use("send", "a", text=KEY), use("send", "b", text="hello")]

        def build(replies: list[Any], seen: Seen, **options: Any) -> Any:
            tool = Do("send", effects=["send"], idempotent=True)
            pipeline = make(world, replies, change=reviewed("block"), tools=[tool], **options)
            pipeline.register_stage(Probe(seen))
            return pipeline

        first = Seen([])
        whole = await build([calls, "done"], first).run("go")
        flags = first.state.shared["tool_review_flags"] if first.state is not None else None
        for cut in range(2, len(whole.events) - 1):
            later = Seen([])
            journal = await held(world, whole.events[:cut])
            replies = [calls, "done"] if cut < 3 else ["done"]
            resumed = await build(replies, later, journal=journal).resume(whole.run_id)
            assert [step.is_error for step in resumed.steps] == [True, False]
            assert later.state is not None
            assert later.state.shared["tool_review_flags"] == flags

    simulate(main)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("rm -rf build", True),
        ("rm -f notes.txt", False),
        ("rm -v -r x", True),
        ("git push --force origin main", True),
        ("git push origin main", False),
        ("git reset --hard HEAD~1", True),
        ("psql -c 'DROP TABLE users'", True),
        ("echo rmdir", False),
        ("shutdown now", True),
        ("terraform destroy", True),
        ("ls -r", False),
    ],
)
def test_commands_that_cannot_be_undone(command: str, found: bool) -> None:
    change = choose("tool_review", "reviewers", ["destructive"])
    _, _, told, _ = run([use("send", command=command)], change)
    assert bool(told) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-----BEGIN RSA PRIVATE KEY-----", True),
        ("Authorization: Bearer abcdefghijklmnopqrstuvwxyz", True),
        ("api_key = 'a1b2c3d4e5f6g7h8'", True),
        ('{"password": "correct-horse-battery"}', True),
        ("password: $PASSWORD_FROM_ENV", False),
        ("the token count is 1234567890123", False),
        ("a secret garden", False),
    ],
)
def test_keys_and_passwords(text: str, found: bool) -> None:
    _, _, told, _ = run([use("send", text=text)], reviewed("annotate"))
    assert bool(told) == found


def test_the_agent_preset_reviews_and_lets_ordinary_calls_alone() -> None:
    async def main(world: SimulatedWorld) -> None:
        tool = Do("send", effects=["send"])
        model = ScriptedModel([[use("send", text="x" * 300_000)], [use("send", text="hi")], "done"])
        pipeline = PipelinePresets.agent(
            model="scripted:m",
            models=Models(providers={"scripted": model}),
            tools=[tool],
            world=world,
        )
        result = await pipeline.run("go")
        assert [step.is_error for step in result.steps] == [True, False]
        assert "more than 250,000" in str(result.steps[0].content)

    simulate(main)
