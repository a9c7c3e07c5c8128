"""Hooks at the points that the engine passes: the input, the end, and what observers are told."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core import mail
from lorimer.core.errors import ExecutorErrorCode, HookError
from lorimer.core.events import Event
from lorimer.core.limits import Limits
from lorimer.core.messages import ToolResultBlock
from lorimer.core.request import Request
from lorimer.core.result import PipelineResult
from lorimer.core.world import Finished, World
from lorimer.journal import MemoryJournal
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import AskLater
from lorimer.tools.hooks import Answer, CommandHook, FunctionHook, Hook
from tests.core.support import Do, check_history, held, kinds, make, only, use

CODE = ExecutorErrorCode
ALL = ("UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop")


def said(request: Request) -> list[str]:
    """The user's texts, in order."""
    return [message.text for message in request.messages if message.role == "user"]


def guard(event: str, answer: object = None, name: str = "guard") -> FunctionHook:
    """A guard that always says the same; an exception is raised."""

    async def ask(told: dict[str, Any]) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return FunctionHook(event, ask, name=name)


# --- the input -----------------------------------------------------------------------------------


def asked(world: World, *hooks: Hook, replies: Any = ("hi",)) -> tuple[Pipeline, ScriptedModel]:
    model = ScriptedModel(list(replies))
    return make(world, model, "chat", hooks=hooks, journal=MemoryJournal(world)), model


def test_a_prompt_is_changed_and_added_to() -> None:
    async def main(world: SimulatedWorld) -> None:
        say = Answer(change="Hello, please.", context="The branch is main.")
        pipeline, model = asked(world, guard("UserPromptSubmit", say))
        result = await pipeline.run("Hello")
        assert said(model.requests[0]) == ["The branch is main.", "Hello, please."]
        assert only(result.events, "run.start")["input"] == "Hello"
        check_history(result.messages)

    simulate(main)


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (Answer("block", "no secrets here"), CODE.EXEC_HOOK_BLOCKED, "rejected"),
        (ValueError("boom"), CODE.EXEC_HOOK_FAILED, "error"),
        (Answer("ask"), CODE.EXEC_HOOK_FAILED, "error"),
        (Answer(change=["a list"]), CODE.EXEC_HOOK_FAILED, "error"),
        ("yes", CODE.EXEC_HOOK_FAILED, "error"),
    ],
    ids=["blocks", "raises", "asks", "odd change", "garbage"],
)
def test_a_prompt_that_is_refused_reaches_no_model(
    answer: object, code: ExecutorErrorCode, status: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline, model = asked(world, guard("UserPromptSubmit", answer))
        with pytest.raises(HookError, match="'guard'") as refused:
            await pipeline.run("Hello")
        assert refused.value.code is code
        assert refused.value.result is not None
        assert refused.value.result.status == status
        assert not model.requests
        assert not refused.value.result.messages

    simulate(main)


def test_an_object_may_be_the_input() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[object] = []
        hook = FunctionHook(
            "UserPromptSubmit",
            lambda told: seen.append(told["prompt"]) or Answer(change={"text": "B"}),  # type: ignore[func-returns-value]
        )
        pipeline, model = asked(world, hook)
        await pipeline.run({"text": "A"})
        assert seen == [{"text": "A"}]
        assert said(model.requests[0]) == ["B"]

    simulate(main)


def test_texts_that_are_sent_to_a_run_are_prompts_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        def look_at(told: dict[str, Any]) -> Answer | None:
            if told["prompt"] == "bad":
                return Answer("block", "no")
            if told["prompt"] == "odd":
                raise ValueError("boom")
            if told["prompt"] == "fine":
                return Answer(context="mind this", change="FINE")
            return Answer(change=told["prompt"].upper())

        journal = MemoryJournal(world)
        model = ScriptedModel([[use("look")], "done"])

        async def look(*_: object) -> str:
            for text in ("good", "bad", "odd", "fine"):
                await mail.send(journal, ids[0], text, id=text)
            await world.sleep(1)
            return "seen"

        pipeline = make(world, model, tools=[Do("look", look)], journal=journal)
        pipeline.hook("UserPromptSubmit", name="censor")(look_at)
        ids: list[str] = []
        refused: list[object] = []
        pipeline.on("run.start", lambda event: ids.append(event.run_id))
        pipeline.on("hook.refused", lambda event: refused.append(event.data["code"]))
        result = await pipeline.run("go")
        assert said(model.requests[1])[-3:] == ["GOOD", "mind this", "FINE"]
        assert refused == ["exec.hook.blocked", "exec.hook.failed"]
        assert result.status == "ok"

    simulate(main)


# --- the end -------------------------------------------------------------------------------------


def test_a_guard_keeps_the_model_at_work() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[tuple[str, int]] = []

        def tested(told: dict[str, Any]) -> Answer | None:
            seen.append((told["text"], told["held_back"]))
            return Answer("block", "Run the tests first.") if told["text"] == "done" else None

        pipeline, model = asked(world, FunctionHook("Stop", tested), replies=["done", "tested"])
        result = await pipeline.run("go")
        assert seen == [("done", 0), ("tested", 1)]
        assert said(model.requests[1]) == ["go", "Run the tests first."]
        assert result.text == "tested"
        [first, last] = [f.data for f in result.events if f.type == "iteration.end"]
        assert (first["reason"], last["decision"]) == ("hook", "complete")
        check_history(result.messages)

    simulate(main)


def test_the_limits_of_the_run_hold_all_the_same() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline, model = asked(world, guard("Stop", Answer("block", "more")), replies=["x"] * 9)
        result = await pipeline.run("go", limits=Limits(max_turns=3), raise_on_error=False)
        assert result.code is CODE.EXEC_LOOP_MAX_TURNS
        assert model.calls == 3

    simulate(main)


@pytest.mark.parametrize(
    "answer",
    [ValueError("boom"), Answer("block"), Answer(change="x"), Answer(context="x"), Answer("ask")],
    ids=["raises", "no reason", "changes", "adds", "asks"],
)
def test_where_nobody_knows_whether_the_work_is_done_the_run_has_failed(answer: object) -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline, _ = asked(world, guard("Stop", answer))
        result = await pipeline.run("go", raise_on_error=False)
        assert result.code is CODE.EXEC_HOOK_FAILED
        assert result.status == "error"
        assert result.text == "hi"
        assert "'guard' (Stop)" in result.error

    simulate(main)


def test_a_reply_with_calls_is_no_end() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[str] = []
        stop = FunctionHook("Stop", lambda told: seen.append(told["text"]))
        model = ScriptedModel([[use("look")], "done"])
        pipeline = make(world, model, tools=[Do("look")], hooks=[stop])
        await pipeline.run("go")
        assert seen == ["done"]

    simulate(main)


# --- interrupted, and again ----------------------------------------------------------------------


class Agent:
    """With a guard at every point, each of which has something to say; counts who was asked."""

    def __init__(self, world: World, journal: MemoryJournal, *, hooked: bool = True) -> None:
        self.asked: list[str] = []
        self.tool = Do("look", lambda given, _: f"saw {given['at']}", effects=("write",))
        model = ScriptedModel(self._reply)
        self.pipeline = make(world, model, tools=[self.tool], journal=journal)
        if hooked:
            for event in ALL:
                self.pipeline.hook(event, name=event)(self._ask)

    def _reply(self, request: Request) -> Any:
        turns = sum(message.role == "assistant" for message in request.messages)
        return [use("look", f"c{turns}", at="a")] if turns % 3 == 0 else f"answer {turns}"

    async def _ask(self, told: dict[str, Any]) -> Answer | None:
        self.asked.append(told["event"])
        match told["event"]:
            case "UserPromptSubmit":
                return Answer(change="go!", context="by the way")
            case "PreToolUse":
                return Answer(change={"at": "b"}, context="mind the step")
            case "PostToolUse":
                return Answer(change=told["tool_output"].upper())
            case _:
                return Answer("block", "go on") if told["text"] == "answer 1" else None


def told(result: PipelineResult) -> list[tuple[str, int, dict[str, Any]]]:
    """The facts, but for times."""
    volatile = ("times", "used_s", "run_id", "seed")
    return [
        (f.type, f.iteration, {k: v for k, v in f.data.items() if k not in volatile})
        for f in result.events
        if f.type != "run.suspended"
    ]


def test_what_guards_have_said_is_recorded_and_not_asked_for_again() -> None:
    """Killed after each fact and resumed: the same facts, and no answer is asked for twice."""

    async def main(world: SimulatedWorld) -> None:
        first = Agent(world, MemoryJournal(world))
        whole = await first.pipeline.run("go")
        assert whole.text == "answer 2"
        assert first.asked == ["UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "Stop"]
        answers = [
            f.type == "effect" and str(f.data["key"]).startswith("hook:") for f in whole.events
        ]
        assert sum(answers) == 5
        for cut in range(1, len(whole.events)):
            journal = await held(world, whole.events[:cut])
            again = Agent(world, journal)
            if whole.events[cut - 1].type == "tool.intent":
                continue  # an unsafe call whose outcome nobody knows: tests/tools/test_hooks.py
            resumed = await again.pipeline.resume(whole.run_id)
            assert told(resumed) == told(whole), cut
            assert again.asked == first.asked[sum(answers[:cut]) :], cut
            begun = "tool.intent" in kinds(whole.events[:cut])
            assert len(again.tool.calls) == (not begun), cut

    simulate(main)


def test_what_guards_have_said_holds_where_they_are_gone() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await Agent(world, MemoryJournal(world)).pipeline.run("go")
        journal = await held(world, whole.events[:-1])
        again = Agent(world, journal, hooked=False)
        resumed = await again.pipeline.resume(whole.run_id)
        assert told(resumed) == told(whole)
        replayed = await Agent(world, journal, hooked=False).pipeline.replay(whole.run_id)
        assert replayed.divergence is None

    simulate(main)


def test_a_replay_asks_no_guard() -> None:
    async def main(world: SimulatedWorld) -> None:
        agent = Agent(world, MemoryJournal(world))
        whole = await agent.pipeline.run("go")
        agent.asked.clear()
        replayed = await agent.pipeline.replay(whole.run_id)
        assert replayed.divergence is None
        assert not agent.asked
        assert replayed.result.text == whole.text

    simulate(main)


def test_a_conversation_goes_on_as_the_guards_have_left_it() -> None:
    """The next run is told what the model was told, not what was said or found first."""

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        agent = Agent(world, journal)
        first = await agent.pipeline.run("go")
        texts = [m.text for m in first.messages if m.role == "user" and m.text]
        assert texts == ["by the way", "go!", "go on"]
        await agent.pipeline.aclose()
        model = ScriptedModel(["fine"])
        later = make(world, model, journal=journal, session_id=first.session_id)
        await later.run("and now")
        assert said(model.requests[0])[-1] == "and now"
        [result] = model.requests[0].messages[3].content
        assert isinstance(result, ToolResultBlock)
        assert result.content == "SAW B\n\nmind the step"

    simulate(main)


# --- observers -----------------------------------------------------------------------------------

TOLD = (
    "PipelineStart",
    "PipelineEnd",
    "StageEnter",
    "StageExit",
    "LoopIterationEnd",
    "PermissionRequest",
    "PermissionDenied",
    "Notification",
)


def watched(
    world: World, tell: Callable[[dict[str, Any]], Any], *events: str, **options: Any
) -> Pipeline:
    model = ScriptedModel([[use("look")], "done"])
    hooks = [FunctionHook(event, tell, name=f"on {event}") for event in events or TOLD]
    options.setdefault("journal", MemoryJournal(world))
    options.setdefault("tools", [Do("look")])
    return make(world, model, hooks=hooks, **options)


def test_observers_are_told_what_happens() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[dict[str, Any]] = []
        result = await watched(world, seen.append).run("go")
        names = [told["event"] for told in seen]
        assert names[0] == "PipelineStart"
        assert names[-1] == "PipelineEnd"
        assert names.count("StageEnter") == names.count("StageExit") > 10
        assert names.count("LoopIterationEnd") == 2
        start, end = seen[0], seen[-1]
        assert (start["prompt"], start["run_id"]) == ("go", result.run_id)
        assert (end["status"], end["iterations"]) == ("ok", 2)
        assert "result" not in end
        stages = [told["stage"] for told in seen if told["event"] == "StageEnter"]
        assert stages[:3] == ["input", "context", "system"]
        ends = [told for told in seen if told["event"] == "LoopIterationEnd"]
        assert [(told["decision"], told["reason"]) for told in ends] == [
            ("continue", "tool_calls"),
            ("complete", "end_turn"),
        ]

    simulate(main)


def test_observers_are_told_who_is_asked_and_what_is_refused() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[dict[str, Any]] = []
        writes = Do("look", effects=("write",))
        pipeline = watched(world, seen.append, tools=[writes], approver=AskLater())
        pipeline.hook("PreToolUse", name="clock")(lambda told: Answer("ask", "late"))
        result = await pipeline.run("go", raise_on_error=False)
        assert result.status == "suspended"
        found = {told["event"]: told for told in seen}
        question = found["PermissionRequest"]
        assert (question["tool_name"], question["summary"]) == ("look", "{}")
        assert "the hook 'clock' wants it to be asked: late" in question["reason"]
        assert found["Notification"]["code"] == "exec.run.waiting"
        assert found["PipelineEnd"]["status"] == "suspended"
        seen.clear()
        refusing = watched(world, seen.append, "PermissionDenied", tools=[writes])
        refusing.hook("PreToolUse", name="never")(lambda told: Answer("block", "no"))
        await refusing.run("go")
        [denied] = seen
        assert (denied["tool_name"], denied["code"]) == ("look", "exec.hook.blocked")

    simulate(main)


def spoil(told: dict[str, Any]) -> Answer:
    """Tries all that it can."""
    for value in told.values():
        if isinstance(value, dict):
            value.clear()
    told.clear()
    return Answer("block", "no", change={"at": "x"}, context="x")


async def slow(told: dict[str, Any]) -> Answer:
    await asyncio.sleep(3600)
    return spoil(told)


async def fails(told: dict[str, Any]) -> None:
    raise ValueError("boom")


def fails_at_once(told: dict[str, Any]) -> None:
    raise ValueError("boom")


@pytest.mark.parametrize(
    "tell", [spoil, slow, fails, fails_at_once], ids=["spoils", "hangs", "fails", "fails at once"]
)
def test_observers_change_nothing(tell: Callable[[dict[str, Any]], Any]) -> None:
    async def main(world: SimulatedWorld) -> None:
        plain = await make(world, ScriptedModel([[use("look")], "done"]), tools=[Do("look")]).run(
            {"text": "go"}
        )
        result = await watched(world, tell).run({"text": "go"})
        assert told(result) == told(plain)
        assert result.status == "ok"
        assert world.monotonic() < 10, "nobody waits for an observer"
        gc.collect()
        assert len(asyncio.all_tasks()) == 1

    simulate(main)


@pytest.mark.parametrize("tell", [fails, fails_at_once], ids=["later", "at once"])
def test_an_observer_that_fails_is_told_of(
    tell: Callable[[dict[str, Any]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: SimulatedWorld) -> list[Event]:
        heard: list[Event] = []

        async def look(*_: object) -> str:
            await world.sleep(1)
            return "seen"

        pipeline = watched(world, tell, "PipelineStart", tools=[Do("look", look)])
        pipeline.on("hook.failed", heard.append)
        await pipeline.run("go")
        return heard

    [failed] = simulate(main)
    assert failed.data == {
        "hook": "on PipelineStart",
        "event": "PipelineStart",
        "error": "The hook 'on PipelineStart' (PipelineStart) failed: ValueError: boom.",
    }
    assert not caplog.text


def test_what_nobody_hears_of_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main(world: SimulatedWorld) -> None:
        await watched(world, fails, "PipelineEnd").run("go")

    simulate(main)
    assert "The hook 'on PipelineEnd' (PipelineEnd) failed: ValueError: boom" in caplog.text


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        (Finished(0, b"garbage", 7, False, 0.1), ""),
        (Finished(1, b"", 0, False, 0.1, errors=b"no bell"), "ended with exit code 1: no bell"),
        (Finished(2, b"", 0, False, 0.1), "ended with exit code 2, and there is nothing to refuse"),
        (OSError(2, "No such file"), "cannot be started: No such file"),
        (None, "did not answer within 3 s"),
    ],
    ids=["prints", "fails", "blocks", "is not there", "hangs"],
)
def test_a_program_may_be_told(ended: Finished | OSError | None, error: str) -> None:
    started: list[object] = []

    async def spawn(argv: Any, *, stdin: bytes, **_: Any) -> Finished:
        started.append(stdin)
        if ended is None:
            await asyncio.sleep(10**6)
        if isinstance(ended, OSError):
            raise ended
        assert ended is not None
        return ended

    async def main(world: SimulatedWorld) -> None:
        heard: list[str] = []

        async def look(*_: object) -> str:
            await world.sleep(10)
            return "seen"

        model = ScriptedModel([[use("look")], "done"])
        bell = CommandHook("PipelineStart", ["bell"], Path("/"), timeout_s=3)
        pipeline = make(world, model, tools=[Do("look", look)], hooks=[bell])
        pipeline.on("hook.failed", lambda event: heard.append(str(event.data["error"])))
        result = await pipeline.run("go")
        assert result.status == "ok"
        assert len(started) == 1
        assert [error in text for text in heard] == ([True] if error else [])

    simulate(main, spawn=spawn)


def test_without_hooks_nothing_is_asked() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline = make(world, ScriptedModel([[use("look")], "done"]), tools=[Do("look")])
        assert pipeline.plan.hooks is None
        pipeline.hook("PipelineEnd")(lambda told: None)
        assert pipeline.plan.hooks is None, "observers are not on the path"
        pipeline.hook("Stop")(lambda told: None)
        assert pipeline.plan.hooks is not None
        pipeline.swap_strategy("loop", "controller", "single_turn")
        assert pipeline.plan.hooks is not None, "a change of the manifest keeps them"

    simulate(main)
