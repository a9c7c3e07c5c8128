"""What became of an interrupted call: its tool is asked, once, and nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lorimer import ConfigError, Pipeline, PipelinePresets, tool
from lorimer.core.events import Event
from lorimer.core.messages import ToolUse
from lorimer.core.world import World
from lorimer.journal import MemoryJournal
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulation import simulate_in
from lorimer.tools import NOT_DONE, Tool, ToolContext, ToolInput, ToolResult, builtin_tools
from lorimer.world.files import RootedFiles
from tests.core.support import check_history, held
from tests.tools.support import Bench, run, toolset


class Post(Tool):
    """Posts to a box outside of the process, and can look into it."""

    name = "post"
    description = "posts"
    input_schema = {"type": "object", "properties": {"n": {"type": "integer"}}}  # noqa: RUF012
    effects = frozenset({"send"})
    concurrency_safe = True

    def __init__(self, box: list[str] | None = None, *, late: bool = False) -> None:
        self.box = [] if box is None else box
        self.late = late
        """It takes its time before it posts, and not after."""
        self.asked: list[tuple[str, ToolInput]] = []
        self.ran: list[str] = []

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        self.ran.append(context.idempotency_key)
        if self.late:
            await context.world.sleep(0.01)
        self.box.append(context.idempotency_key)
        if not self.late:
            await context.world.sleep(0.01)
        return ToolResult(f"posted {input.get('n')}")

    async def reconcile(self, key: str, input: ToolInput, context: ToolContext) -> Any:
        self.asked.append((key, input))
        assert key == context.idempotency_key
        await context.world.sleep(0.01)
        return ToolResult(f"found {input.get('n')}") if key in self.box else NOT_DONE


async def begun(tool: Tool, input: dict[str, Any] | None = None) -> Bench:
    """A run that died when the call had been begun."""
    bench = await Bench.make()
    await bench.call(toolset(tool), tool.name, input)
    return await bench.again(1)


def test_what_took_effect_is_told_and_not_done_again_nor_asked_again() -> None:
    async def main() -> None:
        post = Post()
        resumed = await begun(post, {"n": 1})
        block = await resumed.call(toolset(post), "post", {"n": 1})
        assert (block.content, block.is_error) == ("found 1", False)
        assert post.asked == [("r_test-0-0", {"n": 1})]
        assert len(post.ran) == 1
        assert resumed.kinds == ["tool.intent", "tool.result"]
        assert not resumed.context.replaying
        again = await resumed.again()
        assert await again.call(toolset(post), "post", {"n": 1}) == block
        assert len(post.asked) == 1

    run(main)


def test_what_did_not_happen_is_done_with_the_same_key_after_a_synced_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    synced: list[object] = []
    append = MemoryJournal.append

    async def watched(
        self: MemoryJournal, stream: str, epoch: int, facts: Sequence[Event], **options: Any
    ) -> int:
        if options["sync"]:
            synced.append(facts[-1].data.get("key"))
        return await append(self, stream, epoch, facts, **options)

    async def main() -> None:
        post = Post()
        resumed = await begun(post, {"n": 1})
        post.box.clear()
        monkeypatch.setattr(MemoryJournal, "append", watched)
        block = await resumed.call(toolset(post), "post", {"n": 1})
        assert block.content == "posted 1"
        assert post.ran == ["r_test-0-0", "r_test-0-0"]
        assert resumed.kinds == ["tool.intent", "effect", "tool.result"]
        assert resumed.facts[1][1]["outcome"] == "not_done"
        monkeypatch.undo()
        assert synced == ["reconcile:0"]
        # killed in the second attempt: that one may have taken effect, so it is asked again
        again = await resumed.again(2)
        block = await again.call(toolset(post), "post", {"n": 1})
        assert (block.content, len(post.asked), len(post.ran)) == ("found 1", 2, 2)
        assert not again.context.replaying
        # and with all of it recorded, nothing is asked and nothing is left to answer
        told = await resumed.again()
        assert (await told.call(toolset(post), "post", {"n": 1})).content == "posted 1"
        assert (len(post.asked), bool(told.context.replaying)) == (2, False)

    run(main)


async def _fails() -> None:
    raise ConnectionError("the mailbox is down")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: None, "was not run again. Check"),
        (lambda: True, "returned neither a ToolResult nor NOT_DONE nor None"),
        (lambda: "sent", "returned neither"),
        (_fails, "finding out failed: ConnectionError: the mailbox is down"),
        (lambda: asyncio.sleep(60), "was stopped after 0.05 s"),
    ],
    ids=["cannot tell", "true", "text", "raises", "hangs"],
)
def test_whoever_cannot_tell_leaves_the_outcome_unknown(answer: Any, words: str) -> None:
    class Unsure(Post):
        timeout_s = 0.05

        async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
            self.ran.append("once")
            return ToolResult()

        async def reconcile(self, key: str, input: ToolInput, context: ToolContext) -> Any:
            said = answer()
            return await said if asyncio.iscoroutine(said) else said

    async def main() -> None:
        post = Unsure()
        resumed = await begun(post)
        block = await resumed.call(toolset(post), "post")
        text = str(block.content)
        assert block.is_error
        assert text.startswith("ERROR exec.tool.outcome_unknown: ")
        assert text.endswith("Check whether it took effect before you repeat it.")
        assert words in text
        assert post.ran == ["once"]
        assert resumed.kinds == ["tool.intent", "tool.result"]

    run(main)


def test_a_tool_that_may_not_run_any_more_is_asked_and_not_run() -> None:
    async def main() -> None:
        post = Post()
        resumed = await begun(post)
        post.box.clear()
        block = await resumed.call(toolset(post, granted=False), "post")
        assert "exec.tool.access_denied" in str(block.content), "it did not happen, and will not"
        assert (len(post.asked), len(post.ran)) == (1, 1)
        assert resumed.kinds == ["tool.intent", "effect", "decision", "tool.result"]
        for upto in (3, 4):
            later = await resumed.again(upto)
            assert (await later.call(toolset(post), "post")).content == block.content
            assert not later.context.replaying
        assert len(post.ran) == 1

    run(main)


def test_an_idempotent_call_that_was_begun_and_is_refused_now_may_have_happened() -> None:
    async def main() -> None:
        post = Post()
        post.idempotent = True
        resumed = await begun(post)
        for tools in (toolset(post, granted=False), toolset()):
            block = await (await resumed.again()).call(tools, "post")
            assert "exec.tool.outcome_unknown" in str(block.content)
        assert len(post.ran) == 1
        post.idempotent = False  # it says otherwise now: it is asked
        block = await resumed.call(toolset(post), "post")
        assert (block.content, len(post.ran)) == ("found None", 1)

    run(main)


def test_an_approval_given_before_the_interruption_holds_for_the_second_attempt() -> None:
    class Person:
        asked = 0

        async def approve(self, tool: str, summary: str, reason: str) -> bool:
            self.asked += 1
            return True

    async def main() -> None:
        post, person = Post(), Person()
        tools = toolset(post, granted=False, approver=person)
        bench = await Bench.make()
        await bench.call(tools, "post")
        assert bench.kinds == ["effect.intent", "effect", "tool.intent", "tool.result"]
        for box, ran in ((["r_test-0-0"], 1), ([], 2)):
            post.box[:] = box
            resumed = await bench.again(3)
            assert not (await resumed.call(tools, "post")).is_error
            assert (len(post.ran), person.asked) == (ran, 1)
            assert not resumed.context.replaying

    run(main)


def test_a_cancelled_look_leaves_the_call_to_be_asked_about_again() -> None:
    async def main() -> None:
        post = Post()
        resumed = await begun(post)
        task = asyncio.get_running_loop().create_task(resumed.call(toolset(post), "post"))
        while not post.asked:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert resumed.kinds == ["tool.intent"]
        again = await resumed.again()
        assert (await again.call(toolset(post), "post")).content == "found None"
        assert (len(post.asked), len(post.ran)) == (2, 1)

    run(main)


# --- @tool ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_function_for_a_function(kind: str) -> None:
    seen: list[object] = []

    async def later(key: str, input: ToolInput, context: ToolContext) -> ToolResult:
        return now(key, input, context)

    def now(key: str, input: ToolInput, context: ToolContext) -> ToolResult:
        seen.append((key, dict(input), context.run_id))
        return ToolResult("there")

    @tool(effects=["send"], reconcile=later if kind == "async" else now)
    def send(to: str) -> str:
        """Send."""
        seen.append("sent")
        return "sent"

    async def main() -> None:
        resumed = await begun(send, {"to": "ann"})
        assert (await resumed.call(toolset(send), "send", {"to": "ann"})).content == "there"
        assert seen == ["sent", ("r_test-0-0", {"to": "ann"}, "r_test")]

    run(main)


def test_a_reconcile_that_would_never_be_asked_is_refused() -> None:
    def look(key: str, input: ToolInput, context: ToolContext) -> None: ...

    for flags in ({"idempotent": True}, {"effects": ["read"]}):
        with pytest.raises(ConfigError, match="reconcile is never asked"):
            tool(name="t", reconcile=look, **flags)(lambda: None)  # type: ignore[call-overload]


# --- Edit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "old", "new", "told"),
    [
        ("a TWO c", "two", "TWO", "it was edited before"),
        ("a two c", "two", "TWO", "Replaced 1 occurrence"),
        ("a\r\nTWO\r\nc", "a\ntwo", "a\nTWO", "it was edited before"),
        ("a\r\ntwo\r\nc", "a\ntwo", "a\nTWO", "Replaced 1 occurrence"),
        ("a two TWO", "two", "TWO", "outcome_unknown"),
        ("a two two2", "two", "two2", "outcome_unknown"),
        ("neither", "two", "TWO", "outcome_unknown"),
        ("a  c", "two", "", "outcome_unknown"),
        ("a two c", "two", "", "outcome_unknown"),
        (None, "two", "TWO", "outcome_unknown"),
    ],
)
def test_an_interrupted_edit(
    tmp_path: Path, now: str | None, old: str, new: str, told: str
) -> None:
    async def main() -> str:
        with RootedFiles([tmp_path]) as files:
            tools = toolset(*builtin_tools(["Edit"]), files=files)
            edit = {"file_path": "f", "old_string": old, "new_string": new}
            bench = await Bench.make()
            (tmp_path / "f").write_text(old)
            await bench.call(tools, "Edit", edit)
            (tmp_path / "f").unlink()
            if now is not None:
                (tmp_path / "f").write_bytes(now.encode())
            resumed = await bench.again(1)
            return str((await resumed.call(tools, "Edit", edit)).content)

    assert told in run(main)
    if now is not None and not told.startswith("Replaced"):
        assert (tmp_path / "f").read_bytes().decode() == now


# --- whole runs -----------------------------------------------------------------------------------

CALLS = [ToolUse(f"c{n}", "post", {"n": n}) for n in range(3)]


def agent(world: World, journal: MemoryJournal, post: Tool, script: Sequence[Any]) -> Pipeline:
    return PipelinePresets.agent(
        model="scripted:m",
        models=Models(providers={"scripted": ScriptedModel(script)}),
        tools=[post],
        journal=journal,
        world=world,
        owner="me",
    )


def test_of_calls_side_by_side_each_is_settled_by_itself() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await agent(world, MemoryJournal(world), Post(), [CALLS, "done"]).run("go")
        facts = list(whole.events)
        at = {
            kind: {str(f.data["key"]): f for f in facts if f.type == kind}
            for kind in ("tool.intent", "tool.result")
        }
        head = facts[: [f.type for f in facts].index("tool.intent")]
        # 0 has its result, 1 and 2 were begun: 1 got through and 2 did not
        kept = [*head, *at["tool.intent"].values(), at["tool.result"]["0"]]
        box = [f"{whole.run_id}-0-{n}" for n in (0, 1)]
        post = Post(box)
        journal = await held(world, kept)
        result = await agent(world, journal, post, ["done"]).resume(whole.run_id)
        assert [step.content for step in result.steps] == ["posted 0", "found 1", "posted 2"]
        assert sorted(post.box) == [f"{whole.run_id}-0-{n}" for n in range(3)]
        assert post.ran == [f"{whole.run_id}-0-2"]
        check_history(result.messages)

    simulate(main)


@pytest.mark.parametrize("late", [False, True], ids=["posts first", "posts late"])
def test_a_process_that_dies_anywhere_posts_each_message_once(late: bool) -> None:
    """Killed after every step of the loop, and the resumed run once more: exactly once, always."""

    def play(first: int, second: int) -> tuple[bool, bool]:
        world = SimulatedWorld()
        journal = MemoryJournal(world)
        box: list[str] = []
        crashed = []
        for steps in (first, second, None):
            post = Post(box, late=late)

            async def live(world: SimulatedWorld, post: Post = post) -> str:
                rows = await journal.runs()
                replies = 0
                if rows:
                    facts = [fact async for fact in journal.read(rows[0].stream)]
                    replies = sum(fact.type == "model.reply" for fact in facts)
                pipeline = agent(world, journal, post, [CALLS, "done"][replies:])
                if not rows:
                    return (await pipeline.run("go")).text
                if rows[0].status:
                    return "done"
                result = await pipeline.resume(rows[0].run_id)
                check_history(result.messages)
                assert not any(step.is_error for step in result.steps)
                return result.text

            try:
                assert simulate_in(world, live, crash_after_steps=steps) == "done"
                crashed.append(False)
            except SimulatedCrash:
                crashed.append(True)
        keys = sorted(box)
        assert [key[-3:] for key in keys] == ["0-0", "0-1", "0-2"], (first, second, keys)
        return crashed[0], crashed[1]

    every = [(first, second) for first in range(1, 24) for second in range(2, 24, 3)]
    tried = every if os.environ.get("LORIMER_CAMPAIGN") else every[late::4]
    crashes = [play(first, second) for first, second in tried]
    assert sum(first for first, _ in crashes) > len(tried) / 4
    assert sum(first and second for first, second in crashes) > len(tried) / 4


PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from lorimer import PipelinePresets
from lorimer.core.messages import ToolUse
from lorimer.journal import SQLiteJournal
from lorimer.models.registry import Models
from lorimer.testing import ScriptedModel
from lorimer.tools import NOT_DONE, ToolContext, ToolInput, ToolResult
from lorimer import tool

box, store, dies = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def look(key: str, input: ToolInput, context: ToolContext):
    lines = box.read_text().splitlines() if box.exists() else []
    return ToolResult("found in the box") if f"{key} {input['text']}" in lines else NOT_DONE

@tool(effects=["send"], reconcile=look)
def post(text: str, context: ToolContext) -> str:
    "Post a text."
    if dies == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    with box.open("a") as file:
        file.write(f"{context.idempotency_key} {text}\\n")
    if dies == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return "posted"

async def main():
    journal = SQLiteJournal(store)
    rows = await journal.runs()
    script = ["done"] if rows else [[ToolUse("a", "post", {"text": "hello"})], "done"]
    agent = PipelinePresets.agent(
        model="scripted:m", models=Models(providers={"scripted": ScriptedModel(script)}),
        tools=[post], journal=journal, owner="me",
    )
    result = await (agent.resume(rows[0].run_id) if rows else agent.run("go"))
    print(result.status, "|", result.steps[0].content)
    await agent.aclose()
    await journal.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(("dies", "told"), [("after", "found in the box"), ("before", "posted")])
def test_a_real_process_that_is_killed_in_the_middle_of_a_call(
    tmp_path: Path, dies: str, told: str
) -> None:
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}

    def process(dies: str) -> subprocess.CompletedProcess[str]:
        arguments = [str(tmp_path / "box"), str(tmp_path / "runs.db"), dies]
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert process(dies).returncode == -signal.SIGKILL
    second = process("")
    assert second.stdout == f"ok | {told}\n", second.stderr
    assert len((tmp_path / "box").read_text().splitlines()) == 1


class Person:
    """Answers as it is told to, and remembers what it was asked."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def approve(self, tool: str, summary: str, reason: str) -> bool:
        raise AssertionError("a yes to this is none to a repetition")

    async def approve_again(self, tool: str, summary: str, reason: str) -> bool:
        self.asked.append(reason)
        return self.answers.pop(0)


class Send(Post):
    """Cannot tell afterwards what became of it."""

    async def reconcile(self, key: str, input: ToolInput, context: ToolContext) -> Any:
        return None


@pytest.mark.parametrize("again", [True, False])
def test_a_person_decides_about_a_call_whose_outcome_is_unknown(again: bool) -> None:
    async def main() -> None:
        send, person = Send(), Person(again)
        resumed = await begun(send, {"n": 1})
        block = await resumed.call(toolset(send, approver=person), "post", {"n": 1})
        assert person.asked == [
            "was begun before an interruption and may have taken effect: make it again?"
        ]
        assert len(send.ran) == 1 + again
        assert ("posted 1" if again else "is not known") in str(block.content)
        assert not resumed.context.replaying
        told = await resumed.again()
        nobody = toolset(send, approver=Person())
        assert await told.call(nobody, "post", {"n": 1}) == block
        assert len(send.ran) == 1 + again
        assert not told.context.replaying

    run(main)


def test_an_answer_holds_for_one_repetition() -> None:
    async def main() -> None:
        send, person = Send(), Person(True, True, False)
        bench = await begun(send, {"n": 1})
        for times in (2, 3):
            await bench.call(toolset(send, approver=person), "post", {"n": 1})
            assert len(send.ran) == times
            last = next(at for at, kind in enumerate(bench.kinds) if kind == "tool.result")
            bench = await bench.again(last)  # died in the repetition
        block = await bench.call(toolset(send, approver=person), "post", {"n": 1})
        assert "is not known" in str(block.content)
        assert (len(person.asked), len(send.ran)) == (3, 3)
        assert not bench.context.replaying

    run(main)
