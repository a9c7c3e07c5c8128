"""`lorimer demo` from beginning to end: real processes, a real kill."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lorimer.cli.demo.actor import actor
from lorimer.testing.fake_server import FakeLLMServer, Turn
from tests.cli.support import Done, invoke, lines, run_process

SHRANK = "Illinois -0.1 %, Mississippi -0.2 %, West Virginia -3.2 %"


def played(done: Done, root: Path) -> None:
    """What every whole performance leaves behind."""
    assert done.code == 0, done.out + done.err
    report = (root / "workspace" / "report.md").read_text("utf-8")
    assert "Utah +18.4 %" in report
    assert SHRANK in report
    assert "![Population growth of the states](chart.svg)" in report
    chart = ElementTree.parse(root / "workspace" / "chart.svg").getroot()
    states = [text.text for text in chart.iter() if text.get("text-anchor") == "end"]
    assert len(states) == 51
    assert (states[0], states[-1]) == ("Utah", "West Virginia")
    ran = (root / "workspace" / "runs.log").read_text("utf-8").splitlines()
    assert len(ran) == 1, "the analysis ran once, though its process was killed"

    store = ("--store", str(root / "journal.db"))
    result = invoke("runs", "ls", "--json", *store)
    (run,) = lines(result.stdout)
    assert (run["status"], run["iterations"]) == ("ok", 9)
    shown = invoke(
        "runs", "show", str(run["run_id"]), "--json", "--store", str(root / "journal.db")
    )
    facts = lines(shown.stdout)
    kinds = [fact["type"] for fact in facts]
    assert kinds.count("run.start") == kinds.count("run.end") == 1
    assert kinds.count("model.reply") == 9
    assert kinds.count("tool.result") == 12
    assert kinds.count("model.intent") == 9, "the one that was cut off has one intent"


def test_the_demo_with_its_script(own_place: Path) -> None:
    done = run_process("demo", "--fast")
    played(done, own_place / "lorimer-demo")
    for told in (
        "The model is a SCRIPT",
        "$ kill -9 ",
        "✓ 6 answers of the model",
        "✓ 10 tool calls",
        "✓ 10 requests",
        "✓ runs.log has 1 line",
        "read ran again, for values; what wrote a file did not",
        "nothing was paid",
        "report   lorimer-demo/workspace/report.md",
    ):
        assert told in done.out
    assert "✓ edit_step fastest" in done.err
    assert "edited, ran fastest" in done.err
    assert "added, ran read, country" in done.err
    assert "Traceback" not in done.err
    assert sorted(os.listdir(own_place)) == ["lorimer-demo"]
    commands = [
        shlex.split(line.partition(" -m lorimer ")[2])
        for line in done.out.partition("Next, type:")[2].splitlines()
        if " -m lorimer " in line
    ]
    assert len(commands) == 5
    for words in commands[:4]:
        result = invoke(*words)
        assert result.exit_code == 0, (words, result.output)


def test_the_demo_with_a_model(own_place: Path) -> None:
    # a server of its own plays the part of a real provider: the demo does not know its script
    with FakeLLMServer(actor(0.0)) as server:
        done = run_process(
            *("demo", "--dir", "there", "--model", "some-model", "--base-url", server.url)
        )
        assert {request.model for request in server.requests} == {"some-model"}
    played(done, own_place / "there")
    assert "The model is some-model, for real" in done.out
    assert "SCRIPT" not in done.out
    assert (
        "requests" not in done.out.partition("What was not repeated")[2].partition("What came")[0]
    )


def test_a_model_that_takes_another_way(own_place: Path) -> None:
    with FakeLLMServer([Turn(text="I would rather not.")]) as server:
        done = run_process("demo", "--model", "some-model", "--base-url", server.url)
    assert done.code == 0, done.err
    assert "I would rather not." in done.out
    assert "nothing was killed" in done.out.replace("\n", " ")


def test_a_missing_key_is_told_before_a_folder_is_made(own_place: Path) -> None:
    result = invoke("demo", "--model", "openai:gpt-5.2")
    assert result.exit_code == 2
    assert "set OPENAI_API_KEY" in result.stderr
    assert os.listdir(own_place) == []


def test_a_model_without_a_price_is_told_before_a_folder_is_made(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
    result = invoke("demo", "--model", "claude-sonet")
    assert result.exit_code == 2
    assert "the price of 'claude-sonet' is not known" in result.stderr
    assert "lorimer models check claude-sonet" in result.stderr
    assert os.listdir(own_place) == []


def test_a_server_of_one_s_own_needs_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with FakeLLMServer([Turn(text="I would rather not.")]) as server:
        monkeypatch.setenv("LORIMER_OLLAMA_BASE_URL", server.openai_url)
        done = run_process("demo", "--model", "ollama:some-model")
    assert done.code == 0, done.err
    assert "The model is ollama:some-model, for real.\n" in done.out
    bars = [line for line in done.out.splitlines() if "█" in line]
    assert bars[0].endswith(" %"), "the chart fits into a narrow terminal"
    assert max(map(len, bars)) == 40
    assert len({line.index("│") for line in bars}) == 1, "one axis"
    assert [line.split("│")[0].rstrip()[-1] for line in bars if " -" in line] == ["█"]
