"""TodoWrite and plan mode: kept with the conversation, enforced, and left only with a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core import mail
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.messages import ToolUse
from lorimer.core.result import PipelineResult
from lorimer.journal import MemoryJournal
from lorimer.testing import SimulatedWorld, simulate
from lorimer.tools import AskLater, ToolRegistry
from lorimer.tools.builtin.todo_write import Todo, todos_of
from lorimer.tools.hooks import FunctionHook, Hook
from tests.core.support import Do, held, kinds, use
from tests.tools.planned import Replies, Script, agent, resumed_everywhere

TODOS: list[Any] = [
    {"content": "look", "status": "completed"},
    {"content": "write", "status": "in_progress", "activeForm": "Writing"},
    {"content": "check", "status": "pending"},
]


class Says:
    """An approver of this process."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, str]] = []

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        self.asked.append((tool, summary, reason))
        return self.answer


def write(name: str = "a.txt") -> ToolUse:
    return use("Write", name, file_path=name, content="x")


# --- TodoWrite -----------------------------------------------------------------------------------


def test_a_list_is_written_told_and_read_again() -> None:
    async def main(world: SimulatedWorld) -> None:
        replies = [[use("TodoWrite", "1", todos=TODOS[:1])], [use("TodoWrite", "2", todos=TODOS)]]

        def check(result: PipelineResult, model: Script) -> None:
            assert model.told[2] == ["[x] look\n[~] write\n[ ] check\n1 of 3 done"]
            listed = todos_of(result.messages)
            assert listed[1] == Todo("write", "in_progress")
            assert [todo.content for todo in listed] == ["look", "write", "check"]

        await resumed_everywhere(world, [*replies, "done"], ["TodoWrite"], check)

    simulate(main)


@pytest.mark.parametrize(
    ("todos", "why"),
    [
        ("x", "input.todos must be array"),
        ([{"content": "x", "status": "done"}], "input.todos[0].status must be one of"),
        ([{"status": "pending"}], "input.todos[0] must contain ['content']"),
        ([{"content": "", "status": "pending"}], "input.todos[0].content must be longer"),
        ([{"content": "x", "status": "pending"}] * 101, "input.todos must contain less than"),
    ],
    ids=["no-list", "status", "no-content", "empty", "too-many"],
)
def test_a_wrong_list_is_told_and_changes_nothing(todos: Any, why: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script(
            [[use("TodoWrite", "1", todos=TODOS)], [use("TodoWrite", "2", todos=todos)], "done"]
        )
        result = await agent(world, model, ["TodoWrite"]).run("go")
        assert result.text == "done"
        assert why in model.told[2][0]
        assert model.told[2][0].startswith("ERROR exec.tool.invalid_input: ")
        assert len(todos_of(result.messages)) == 3

    simulate(main)


# --- plan mode -----------------------------------------------------------------------------------

ENTER = [use("EnterPlanMode", "enter")]
EXIT = [use("ExitPlanMode", "exit", plan="1. write a.txt")]
TOOLS = ["planning", "Read", "Write", "Bash"]
PLANNED = ["TodoWrite", "EnterPlanMode", "ExitPlanMode", "Read"]


def planning(world: SimulatedWorld, model: Script, root: Path, **options: Any) -> Any:
    options = {"rules": ["Write"], **options}
    return agent(world, model, TOOLS, workspace=root, **options)


def test_a_guard_is_told_the_mode_that_decides() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[tuple[str, str]] = []

        def guard(told: dict[str, Any]) -> None:
            seen.append((told["tool_name"], told["permission_mode"]))

        hooks = [FunctionHook("PreToolUse", guard, name="looks")]
        model = Script([ENTER, [use("look")], EXIT, [use("look", "b")], "done"])
        options: Any = {"tools": [Do("look")], "approver": Says(True), "hooks": hooks}
        await agent(world, model, ["planning"], **options).run("go")
        assert [mode for name, mode in seen if name == "look"] == ["plan", "default"]

    simulate(main)


def guards(hooked: bool) -> list[Hook]:
    return [FunctionHook("PreToolUse", lambda _: None, name="looks")] if hooked else []


@pytest.mark.parametrize("hooked", [False, True], ids=["", "hooked"])
def test_what_may_change_something_is_neither_shown_nor_done(tmp_path: Path, hooked: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        replies: Replies = [[*ENTER, write()], [write("b.txt")], EXIT, [write("c.txt")], "done"]
        model, person = Script(replies), Says(True)
        pipeline = planning(world, model, tmp_path, approver=person, hooks=guards(hooked))
        result = await pipeline.run("go")
        assert result.text == "done"
        everything = [*PLANNED, "Write", "Bash"]
        shown = [model.shown[at] for at in range(5)]
        assert shown == [everything, PLANNED, PLANNED, everything, everything]
        for at, index in ((1, 1), (2, 0)):
            told = model.told[at][index]
            assert told.startswith("ERROR exec.tool.access_denied: Write may write")
            assert "plan forbids write; ExitPlanMode ends it" in told
        assert [file.name for file in tmp_path.iterdir()] == ["c.txt"]
        assert person.asked == [
            (
                "ExitPlanMode",
                '{"plan":"1. write a.txt"}',
                "wants to end plan mode and carry out this plan",
            )
        ]
        refused = [fact.data for fact in result.events if fact.type == "decision"]
        assert [data["reason"] for data in refused] == ["policy.mode"] * 2
        agreed = [fact.data for fact in result.events if fact.data.get("approved")]
        assert [data["key"] for data in agreed] == ["approval:0"]

    simulate(main)


def test_a_tool_of_the_host_is_held_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        send, look = Do("send", effects=["send"]), Do("look")
        model = Script([ENTER, [use("send"), use("look")], "done"])
        await agent(world, model, ["planning"], tools=[send, look]).run("go")
        assert (len(send.calls), len(look.calls)) == (0, 1)
        assert "plan forbids send" in model.told[2][0]
        assert "send" not in model.shown[1]

    simulate(main)


@pytest.mark.parametrize("approver", [None, Says(False)], ids=["nobody", "no"])
@pytest.mark.parametrize("mode", ["default", "acceptEdits", "bypass", "dontAsk"])
def test_without_a_persons_yes_it_goes_on(tmp_path: Path, approver: Says | None, mode: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script([ENTER, EXIT, [write()], "done"])
        options: Any = {"approver": approver, "permission_mode": mode, "rules": ["ExitPlanMode"]}
        result = await planning(world, model, tmp_path, **options).run("go")
        assert result.text == "done"
        assert model.told[2][0].startswith("ERROR exec.tool.access_denied: ExitPlanMode")
        assert "Write" not in model.shown[2]
        assert model.told[3][0].startswith("ERROR exec.tool.access_denied: Write")
        assert list(tmp_path.iterdir()) == []

    simulate(main)


@pytest.mark.parametrize("hooked", [False, True], ids=["", "hooked"])
def test_it_is_the_same_after_a_crash_at_any_fact(tmp_path: Path, hooked: bool) -> None:
    async def main(world: SimulatedWorld) -> None:
        replies: Replies = [
            ENTER,
            [write()],
            EXIT,
            [use("Write", "w2", file_path="a.txt", content="y")],
            "done",
        ]
        person = Says(True)

        def check(result: PipelineResult, model: Script) -> None:
            assert result.text == "done"
            (tmp_path / "a.txt").unlink(missing_ok=True)

        options: Any = {"workspace": tmp_path, "rules": ["Write"], "approver": person}
        options["hooks"] = guards(hooked)
        await resumed_everywhere(world, replies, TOOLS, check, **options)

    simulate(main)


def test_it_lasts_into_later_runs_and_forks(tmp_path: Path) -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script([ENTER, "planned", [write()], "done", [write()], "forked"])
        person = Says(True)
        pipeline = planning(world, model, tmp_path, approver=person, preset="chat")
        first = await pipeline.run("plan it")
        await pipeline.run("now do it")
        assert "Write" not in model.shown[2]
        assert "plan forbids write" in model.told[3][0]
        model.shown.clear()
        fork = await pipeline.fork(first.run_id, after=1)
        assert fork.text == "planned"
        assert "Write" not in model.shown[1]
        assert list(tmp_path.iterdir()) == []

    simulate(main)


def test_the_plan_is_agreed_to_from_another_process(tmp_path: Path) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal, replies = MemoryJournal(world), [ENTER, EXIT, [write()], "done"]
        options: Any = {"approver": AskLater(), "journal": journal}
        waits = await planning(world, Script(replies), tmp_path, **options).run(
            "go", raise_on_error=False
        )
        assert waits.code is ExecutorErrorCode.EXEC_RUN_WAITING
        assert await mail.answer(journal, waits.run_id, True)
        ended = await planning(world, Script(replies), tmp_path, journal=journal).resume(
            waits.run_id
        )
        assert ended.text == "done"
        assert kinds(ended.events).count("effect.intent") == 1
        assert (tmp_path / "a.txt").exists()

        # agreed to, and killed right after that: nobody is asked again
        agreed = [fact.type for fact in ended.events].index("effect") + 1
        (tmp_path / "a.txt").unlink()
        later = await held(world, ended.events[:agreed], ended.session_id)
        again = await planning(world, Script(replies), tmp_path, journal=later).resume(waits.run_id)
        assert again.text == "done"
        assert (tmp_path / "a.txt").exists()

    simulate(main)


@pytest.mark.parametrize("mode", ["bypass", "dontAsk"])
def test_the_stricter_of_both_modes_decides(mode: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        get = Do("get", effects=["net"])
        registry = ToolRegistry()
        registry.register(get, granted=False)
        person = Says(True)
        model = Script([[use("get", "a")], ENTER, [use("get", "b")], "done"])
        options: Any = {"tools": registry, "approver": person, "permission_mode": mode}
        await agent(world, model, ["planning"], **options).run("go")
        if mode == "bypass":  # mode plan wants a person for it
            assert len(get.calls) == 2
            why = "may net; plan mode is on; ExitPlanMode ends it"
            assert person.asked == [("get", "{}", why)]
        else:
            assert (get.calls, person.asked) == ([], [])

    simulate(main)


def test_a_mode_that_the_host_set_is_not_ended_by_the_model(tmp_path: Path) -> None:
    async def main(world: SimulatedWorld) -> None:
        model, person = Script([ENTER, EXIT, "done"]), Says(True)
        options: Any = {"approver": person, "permission_mode": "plan"}
        await planning(world, model, tmp_path, **options).run("go")
        assert model.shown[0] == ["TodoWrite", "Read"]
        for at in (1, 2):
            assert "plan mode was set by whoever runs this" in model.told[at][0]
        assert person.asked == []

    simulate(main)


def test_nobody_is_asked_about_a_plan_outside_of_plan_mode(tmp_path: Path) -> None:
    async def main(world: SimulatedWorld) -> None:
        model, person = Script([EXIT, [*ENTER, use("EnterPlanMode", "twice")], "done"]), Says(True)
        await planning(world, model, tmp_path, approver=person).run("go")
        assert "plan mode is not on" in model.told[1][0]
        assert model.told[2][0].startswith("Plan mode is on")
        assert model.told[2][1].startswith("Plan mode is already on")
        assert person.asked == []

    simulate(main)


def test_a_tool_of_that_name_that_asks_nobody_ends_nothing() -> None:
    async def main(world: SimulatedWorld) -> None:
        model, mine = Script([ENTER, EXIT, [use("send")], "done"]), Do("ExitPlanMode", effects=[])
        send = Do("send", effects=["send"])
        await agent(world, model, ["EnterPlanMode"], tools=[mine, send]).run("go")
        assert "it cannot end plan mode" in model.told[2][0]
        assert "plan forbids send" in model.told[3][0]
        assert (mine.calls, send.calls) == ([], [])

    simulate(main)


class InOrder:
    """Answers as told, by the plan that it is asked about: the same when asked again."""

    def __init__(self, answers: list[bool]) -> None:
        self.answers = answers

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        return self.answers[int(json.loads(summary)["plan"])]


_STEPS = st.lists(
    st.tuples(st.sampled_from(["EnterPlanMode", "ExitPlanMode", "send"]), st.booleans()),
    max_size=10,
)


@settings(max_examples=60, deadline=None)
@given(steps=_STEPS, width=st.integers(1, 3), died=st.floats(0, 1))
def test_nothing_is_done_between_entering_and_a_yes(
    steps: list[tuple[str, bool]], width: int, died: float
) -> None:
    """Whatever a model calls, in how many replies, and wherever the process dies."""
    expected: list[int] = []
    planning = False
    calls: list[ToolUse] = []
    for at, (name, agreed) in enumerate(steps):
        given_: Any = {"plan": str(at)} if name == "ExitPlanMode" else {}
        calls.append(ToolUse(f"c{at}", name, {"at": at} if name == "send" else given_))
        if name == "send" and not planning:
            expected.append(at)
        elif name == "EnterPlanMode" or (name == "ExitPlanMode" and agreed):
            planning = name == "EnterPlanMode"
    replies: Replies = [
        *[calls[at : at + width] for at in range(0, len(calls), width)],
        "done",
    ]

    async def main(world: SimulatedWorld) -> None:
        async def sent(journal: MemoryJournal | None = None, run_id: str = "") -> Any:
            send = Do("send", effects=["send"], idempotent=True)
            person = InOrder([agreed for _, agreed in steps])
            options: Any = {"tools": [send], "approver": person, "journal": journal}
            pipeline = agent(world, Script(replies), ["planning"], **options)
            result = await (pipeline.resume(run_id) if run_id else pipeline.run("go"))
            done = [step.tool for step in result.steps if not step.is_error]
            assert done.count("send") == len(expected)
            return result, [call["at"] for call in send.calls]

        whole, made = await sent()
        assert made == expected
        upto = 1 + int(died * (len(whole.events) - 2))
        journal = await held(world, whole.events[:upto], whole.session_id)
        _, made = await sent(journal, whole.run_id)
        assert made == expected[len(expected) - len(made) :]

    simulate(main)
