"""What a person sees on a terminal: tables and lines that fit it, a pager for what is longer."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from lorimer import PipelinePresets, tool
from lorimer.core.messages import ToolUse
from lorimer.journal import SQLiteJournal
from lorimer.models import Models
from lorimer.testing import ScriptedModel
from lorimer.testing.fake_server import FakeLLMServer, Turn
from lorimer.world import RealWorld
from tests.cli.support import by_turn, call, in_terminal, invoke, last_run

WORDS = "a task whose description goes on and on, until it is longer than most terminals are wide"


def made(turns: int) -> str:
    """The id of a run with that many calls: half of them read what is there."""
    Path("there.txt").write_text("one line that is long enough to be cut in a terminal\n" * 3)
    names = ["there.txt", "gone.txt"]
    reads = [call("Read", file_path=names[at % 2]) for at in range(turns)]
    with FakeLLMServer(by_turn(*reads, Turn("**Done.**"))) as server:
        done = invoke("run", WORDS, "--base-url", server.url, "--preset", "agent")
        assert done.exit_code == 0, done.stderr
    return last_run()


def rows(*words: str, columns: int = 80, pager: str = "cat") -> list[str]:
    """What is shown, without colours."""
    done = in_terminal(*words, keys=[], columns=columns, pager=pager)
    assert done.code == 0, done.out
    return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", row).rstrip() for row in done.out.splitlines()]


def test_a_list_keeps_its_figures_whole_and_cuts_the_text() -> None:
    run = made(1)
    head, line = rows("runs", "ls")
    assert head.split() == ["run", "when", "status", "took", "turns", "cost", "task"]
    assert line.startswith(run[:12])
    assert re.search(r" ok +[\d.]+ m?s +2 +\$0\.\d{4}  a task whose [a-z ]+…$", line), line
    assert len(line) == 80
    head, line = rows("runs", "ls", columns=40)
    assert head.split() == ["run", "status", "task"]
    assert len(line) <= 40
    assert rows("sessions", "ls")[0].split() == [
        "session",
        "used",
        "messages",
        "cost",
        "began",
        "with",
    ]
    assert len(rows("runs", "explain", "--cost", run, columns=60)[1]) <= 60


def test_lines_are_broken_between_words_and_results_end_with_the_terminal() -> None:
    made(1)
    shown = rows("runs", "show", columns=60)
    assert max(map(len, shown)) <= 60
    at = next(at for at, row in enumerate(shown) if row.startswith("  task "))
    assert " ".join(row[9:] for row in shown[at : at + 2]) == WORDS
    (read,) = [row for row in shown if row.startswith("  ✓ Read")]
    assert read.endswith("…")
    assert "Done." in shown, "the answer is Markdown, as in `lorimer run`"


def test_the_shape_of_a_long_run_is_told_at_its_head() -> None:
    run = made(6)
    told = invoke("runs", "show", run).stdout
    (time,) = re.findall(r"^  time   ([▁▂▃▄▅▆▇█]{7})  longest: turn \d, ", told, re.MULTILINE)
    assert "█" in time
    assert re.search(r"^  calls  Read 6 \(3 failed\)$", told, re.MULTILINE)
    assert "longest" not in invoke("runs", "show", made(1)).stdout


def test_a_run_during_which_the_clock_was_set_back_is_shown() -> None:
    class SetBack(RealWorld):
        """Its clock loses an hour in each call."""

        lost = 0

        def time(self) -> float:
            return super().time() - 3600 * self.lost

    world = SetBack()

    @tool(effects=["read"])
    def look() -> str:
        """Look."""
        world.lost += 1
        return "nothing"

    async def run() -> None:
        turns = [*[ToolUse(f"c{n}", "look", {}) for n in range(4)], "done"]
        models = Models(providers={"scripted": ScriptedModel(turns)})
        async with SQLiteJournal("back.db", world=world) as journal:
            agent = PipelinePresets.agent(
                model="scripted:m", models=models, tools=[look], journal=journal, world=world
            )
            await agent.run("go")
            await agent.aclose()

    asyncio.run(run())
    for words in (["ls"], ["show"], ["show", "--full"], ["explain", "run_"], ["verify", "--all"]):
        done = invoke("runs", *words, "--store", "back.db")
        assert done.exit_code == 0, done.stderr
        assert "-" not in re.findall(r"took +(\S+)", done.stdout)


def test_what_is_longer_than_the_screen_goes_through_the_pager() -> None:
    run = made(6)
    shown = rows("runs", "show", run, pager="tee paged.txt")
    paged = Path("paged.txt").read_text("utf-8")
    assert paged.count("\n") > 24
    assert len([row for row in shown if "longest: turn" in row]) == 1
    Path("paged.txt").unlink()
    for short in (("runs", "verify", run), ("runs", "ls")):
        rows(*short, pager="tee paged.txt")
    rows("runs", "explain", run, "--decision", "end", pager="tee paged.txt")
    assert not Path("paged.txt").exists()
    assert invoke("runs", "show", run).exit_code == 0
    assert not Path("paged.txt").exists()


def test_the_sums_of_a_run_are_not_broken_within_a_figure() -> None:
    words = ("run", "hi", "--preset", "minimal", "-m", "scripted:echo")
    shown = rows(*words, columns=44)
    (at,) = [at for at, row in enumerate(shown) if "ok: 1 turn · 0 tool calls" in row]
    assert max(map(len, shown[at:])) <= 44
    assert shown[at + 1].startswith("    ")
    assert shown[-1].split(" · ")[-1].strip() == last_run()[:12]


def test_a_narrow_terminal_has_room_for_what_stages_do() -> None:
    shown = rows("manifest", "explain", "agent")
    assert max(map(len, shown)) <= 80
    (head,) = [row for row in shown if "what it does" in row]
    assert 80 - head.index("what it does") >= 36
    assert "      compactor        summary              When the window fills up, one line" in shown
    shown = rows("manifest", "stages", "api")
    assert any(row.endswith('provider: string = ""') for row in shown)
    assert any(row.endswith("stream: boolean = True") for row in shown)
    (at,) = [at for at, row in enumerate(shown) if row.endswith("stream: boolean = True")]
    assert "  Receive the answer in pieces" in shown[at + 1]
    assert any(
        row.endswith("texts: array, required") for row in rows("manifest", "stages", "context")
    )


def test_that_a_conversation_is_interrupted_is_not_cut_off() -> None:
    with FakeLLMServer([call("Bash", command="true")]) as server:
        words = ("run", WORDS, "--base-url", server.url, "--preset", "agent", "--ask-later")
        assert invoke(*words).exit_code == 5
    head, line = rows("sessions", "ls")
    assert line[head.index("began with") :].startswith("(interrupted)  a task whose")
