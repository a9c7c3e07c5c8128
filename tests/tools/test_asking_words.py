"""AskUserQuestion: a person answers in words, here, in time, or from another process."""

from __future__ import annotations

from typing import Any

import pytest

from lorimer.core import mail
from lorimer.core.errors import ExecutorErrorCode, PipelineError
from lorimer.core.messages import ToolUse
from lorimer.core.result import PipelineResult
from lorimer.core.tool import TextQuestion
from lorimer.journal import MemoryJournal
from lorimer.testing import SimulatedWorld, simulate
from lorimer.tools import NOT_DONE, AskLater, NotDone, Tool, ToolContext, ToolInput, ToolResult
from tests.core.support import held, kinds, only, use
from tests.tools.planned import Script, agent, resumed_everywhere

TOOLS = ["AskUserQuestion"]


def question(**more: Any) -> list[ToolUse]:
    return [use("AskUserQuestion", "ask", question="Which colour?", **more)]


class Person:
    """Answers in words after so many seconds; "" is no answer."""

    def __init__(self, world: SimulatedWorld, answer: str = "blue", after_s: float = 1.0) -> None:
        self.world = world
        self.answer = answer
        self.after_s = after_s
        self.asked: list[TextQuestion] = []
        self.cancelled = 0

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        return False

    async def ask(self, question: TextQuestion) -> str:
        self.asked.append(question)
        try:
            await self.world.sleep(self.after_s)
        except BaseException:
            self.cancelled += 1
            raise
        if self.answer == "fails":
            raise OSError("no terminal")
        return self.answer


def test_the_answer_is_the_result_and_is_asked_for_once() -> None:
    async def main(world: SimulatedWorld) -> None:
        person = Person(world)

        def check(result: PipelineResult, model: Script) -> None:
            assert result.text == "done"
            assert model.told[1] == ["blue"]
            asked = [fact for fact in result.events if fact.data.get("key") == "question:0"]
            assert [fact.type for fact in asked] == ["effect.intent", "effect"]

        replies = [question(options=["red", "blue"], default="red"), "done"]
        model = await resumed_everywhere(world, replies, TOOLS, check, approver=person)
        assert person.asked[0] == TextQuestion("Which colour?", ("red", "blue"), "red", 600)
        assert len(model.shown[0]) == 1
        # asked again only where the process died before the answer was recorded
        whole = await agent(world, Script(replies), TOOLS, approver=person).run("go")
        before = len(person.asked)
        answered = [fact.type for fact in whole.events].index("effect") + 1
        for upto in range(answered, len(whole.events)):
            journal = await held(world, whole.events[:upto], whole.session_id)
            options: Any = {"journal": journal, "approver": person}
            await agent(world, Script(replies), TOOLS, **options).resume(whole.run_id)
        assert len(person.asked) == before

    simulate(main)


@pytest.mark.parametrize(
    ("given", "person", "told"),
    [
        ({"timeout_seconds": 5, "default": "red"}, ("blue", 60.0), "red"),
        ({"timeout_seconds": 5}, ("blue", 60.0), "Nobody answered. "),
        ({"timeout_seconds": 500}, ("blue", 300.0), "blue"),
        ({"default": "red"}, ("", 1.0), "red"),
        ({"default": "red"}, ("fails", 1.0), "red"),
        ({}, ("fails", 1.0), "Nobody answered. "),
    ],
    ids=["late-default", "late", "slow", "silent", "failing-default", "failing"],
)
def test_who_does_not_answer(given: dict[str, Any], person: tuple[str, float], told: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script([question(**given), "done"])
        somebody = Person(world, *person)
        result = await agent(world, model, TOOLS, approver=somebody).run("go")
        assert result.text == "done"
        assert model.told[1][0].startswith(told)
        assert somebody.cancelled == (told != "blue" and somebody.after_s > 5)

    simulate(main)


@pytest.mark.parametrize("approver", [None, AskLater()], ids=["nobody", "later"])
def test_without_anybody_the_run_waits_for_an_answer_from_elsewhere(
    approver: AskLater | None,
) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        replies = [question(options=["red", "blue"]), "done"]
        pipeline = agent(world, Script(replies), TOOLS, journal=journal, approver=approver)
        waits = await pipeline.run("go", raise_on_error=False)
        assert waits.code is ExecutorErrorCode.EXEC_RUN_WAITING
        row = await journal.find_run(waits.run_id)
        assert row is not None
        [asked] = await mail.questions(journal, row)
        assert (asked.wants, asked.reason, asked.options) == (
            "text",
            "Which colour?",
            ("red", "blue"),
        )
        for wrong, why in ((True, "wants a text"), ("", "1 to")):
            with pytest.raises(PipelineError, match=why) as refused:
                await mail.answer(journal, waits.run_id, wrong)
            assert refused.value.code is ExecutorErrorCode.EXEC_INPUT_INVALID
        assert await mail.answer(journal, waits.run_id, "green")
        model = Script(replies)
        alone: Any = {"journal": journal, "permission_mode": "dontAsk"}
        ended = await agent(world, model, TOOLS, **alone).resume(waits.run_id)
        assert model.told[1] == ["green"]
        assert only(ended.events, "effect")["from"] == "elsewhere"
        assert kinds(ended.events).count("effect.intent") == 1
        assert list(await journal.posts(ended.session_id)) == []
        replayed = await agent(world, Script(replies), TOOLS, journal=journal).replay(ended.run_id)
        assert replayed.divergence is None

    simulate(main)


def test_an_approval_takes_no_words() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        model = Script([[use("AskUserQuestion", question="?")], "done"])

        def strict(manifest: Any) -> None:
            manifest.permissions.ask = ["AskUserQuestion"]

        options: Any = {"journal": journal, "approver": AskLater(), "change": strict}
        waits = await agent(world, model, TOOLS, **options).run("go", raise_on_error=False)
        with pytest.raises(PipelineError, match="wants yes or no"):
            await mail.answer(journal, waits.run_id, "blue")
        assert await mail.answer(journal, waits.run_id, True)
        again = await agent(world, model, TOOLS, **options).resume(
            waits.run_id, raise_on_error=False
        )
        assert again.code is ExecutorErrorCode.EXEC_RUN_WAITING  # now for the words
        assert await mail.answer(journal, waits.run_id, "blue")
        ended = await agent(world, model, TOOLS, **options).resume(waits.run_id)
        assert model.told[1] == ["blue"]
        assert ended.text == "done"

    simulate(main)


def test_nobody_is_asked_where_the_host_says_that_nobody_is_there() -> None:
    async def main(world: SimulatedWorld) -> None:
        person = Person(world)
        for given, told in (({"default": "red"}, "red"), ({}, "Nobody answered.")):
            model = Script([question(**given), "done"])
            options: Any = {"approver": person, "permission_mode": "dontAsk"}
            await agent(world, model, TOOLS, **options).run("go")
            assert model.told[1][0].startswith(told)
        assert person.asked == []

    simulate(main)


def test_wrong_arguments_are_told_with_their_path() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script([question(options="red"), question(timeout_seconds=0), "done"])
        result = await agent(world, model, TOOLS, approver=Person(world)).run("go")
        assert result.text == "done"
        assert "input.options must be array" in model.told[1][0]
        assert "input.timeout_seconds must be bigger than 0" in model.told[2][0]

    simulate(main)


class Pay(Tool):
    """A tool of one's own that asks before it does something that cannot be undone."""

    name = "pay"
    input_schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}  # noqa: RUF012
    effects = frozenset({"send"})

    def __init__(self) -> None:
        self.paid: list[str | None] = []

    def question(self, input: ToolInput) -> TextQuestion:
        return TextQuestion(f"From which account are {input['sum']} paid?")

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.paid.append(context.answer)
        return ToolResult("paid")


def test_a_tool_of_ones_own_asks_before_it_acts() -> None:
    async def main(world: SimulatedWorld) -> None:
        pay, person = Pay(), Person(world, "savings")
        model = Script([[use("pay", sum=5)], "done"])
        result = await agent(world, model, [], tools=[pay], approver=person).run("go")
        assert pay.paid == ["savings"]
        assert person.asked[0].text == "From which account are 5 paid?"
        assert kinds(result.events)[3:7] == [
            "effect.intent",
            "effect",
            "tool.intent",
            "tool.result",
        ]

    simulate(main)


class Broken(Pay):
    def __init__(self, asks: Any) -> None:
        super().__init__()
        self.asks = asks

    def question(self, input: ToolInput) -> TextQuestion:
        return self.asks(input)


@pytest.mark.parametrize(
    ("asks", "why"),
    [
        (lambda given: given["to"], "its question failed: KeyError"),
        (lambda _: "From where?", "its question is a str, not a TextQuestion"),
    ],
    ids=["raises", "text"],
)
def test_a_tool_that_cannot_say_what_it_asks_is_not_called(asks: Any, why: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        pay = Broken(asks)
        model = Script([[use("pay", sum=5)], "done"])
        result = await agent(world, model, [], tools=[pay], approver=Person(world)).run("go")
        assert result.text == "done"
        assert why in model.told[1][0]
        assert pay.paid == []

    simulate(main)


def test_a_call_that_is_made_again_has_the_answer_that_was_given() -> None:
    class Sure(Pay):
        async def reconcile(
            self, key: str, input: ToolInput, context: ToolContext
        ) -> ToolResult | NotDone | None:
            return NOT_DONE

    async def main(world: SimulatedWorld) -> None:
        pay, person = Sure(), Person(world, "savings")
        replies = [[use("pay", sum=5)], "done"]
        options: Any = {"tools": [pay], "approver": person}
        whole = await agent(world, Script(replies), [], **options).run("go")
        begun = kinds(whole.events).index("tool.intent") + 1
        journal = await held(world, whole.events[:begun], whole.session_id)
        ended = await agent(world, Script(replies), [], journal=journal, **options).resume(
            whole.run_id
        )
        assert ended.text == "done"
        assert pay.paid == ["savings", "savings"]
        assert len(person.asked) == 1

    simulate(main)
