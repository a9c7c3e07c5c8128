"""`lorimer runs`: what is told of a run, and going on with one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from lorimer import Pipeline
from lorimer.core.cancel import Reason
from lorimer.core.manifest import SubAgent, ToolsConfig
from lorimer.core.purse import Purse
from lorimer.core.request import Usage
from lorimer.journal import SQLiteJournal
from lorimer.models import Models
from lorimer.models.pricing import Price
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.testing.fake_server import FakeLLMServer, SeenRequest, Turn
from lorimer.testing.faults import Status
from tests.cli.support import by_turn, call, invoke, last_run, lines, listed, run_process

DONE = Turn(text="All is done.")


def finished(*words: str) -> str:
    """The id of a run with one call that was allowed and one that was not."""
    script = by_turn(
        call("Write", file_path="a.txt", content="first\nsecond"),
        call("Bash", command="rm -rf everything"),
        DONE,
    )
    with FakeLLMServer(script) as server:
        rules = ("--allow", "Write(a.txt)")
        result = invoke("run", "Tidy up\nthis folder", "--base-url", server.url, *rules, *words)
        assert result.exit_code == 0, result.stderr
    return last_run()


def test_an_empty_store_is_no_error() -> None:
    result = invoke("runs", "ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No runs yet" in result.stderr
    assert invoke("runs", "ls", "--json").output == ""


def test_runs_are_listed_newest_first() -> None:
    first, second = finished(), finished()
    shown = invoke("runs", "ls").stdout.splitlines()
    assert shown[0].split() == ["run", "when", "status", "took", "turns", "cost", "task"]
    assert [line.split()[0] for line in shown[1:]] == [second[:12], first[:12]]
    assert "ok" in shown[1]
    assert "Tidy up this folder" in shown[1]
    assert len(lines(invoke("runs", "ls", "--json", "-n", "1").stdout)) == 1
    assert len(lines(invoke("runs", "ls", "--json", "--limit", "1").stdout)) == 1
    data = listed()[0]
    assert data["run_id"] == second
    assert data["status"] == "ok"
    assert data["iterations"] == 3
    assert data["title"] == "Tidy up this folder"


def test_a_run_is_told_from_its_facts() -> None:
    run = finished()
    shown = invoke("runs", "show", run[:10]).stdout
    assert shown.startswith(f"{run}  ok\n")
    for expected in (
        "task   Tidy up this folder",
        "agent  agent on claude-sonnet-4-6; tools: Read, Write, Edit, Glob, Grep, Bash, Monitor",
        "used   3 turns · 2 tool calls · 30 tokens in, 15 out · $0.0003",
        "turn 1  claude-sonnet-4-6 · ",
        "● I use Write.",
        "✓ Write a.txt",
        "✗ Bash rm -rf everything",
        "ERROR exec.tool.access_denied",
        "api ",
        "All is done.",
        "ended ok",
    ):
        assert expected in shown
    assert invoke("runs", "show").stdout.startswith(run), "the latest, where none is named"


def test_inputs_and_results_in_full() -> None:
    finished()
    shown = invoke("runs", "show", "--full").stdout
    assert "content: first\n        second" in shown
    assert "command: rm -rf everything" in shown


def test_the_facts_themselves() -> None:
    run = finished()
    facts = lines(invoke("runs", "show", run, "--json").stdout)
    assert [facts[0]["type"], facts[-1]["type"]] == ["run.start", "run.end"]
    assert {fact["run_id"] for fact in facts} == {run}
    assert [fact["seq"] for fact in facts] == list(range(1, len(facts) + 1))


def test_a_failed_run_shows_code_and_reason() -> None:
    with FakeLLMServer([Turn(faults=(Status(401, "no such key"),))]) as server:
        invoke("run", "hi", "--base-url", server.url)
    shown = invoke("runs", "show").stdout
    assert "  error" in shown.splitlines()[0]
    assert "✗ the call failed: " in shown
    assert "(exec.api.auth.invalid_key)" in shown.splitlines()[-1]


@pytest.mark.parametrize("command", ["show", "resume"])
def test_a_run_that_is_not_there(command: str) -> None:
    finished()
    result = invoke("runs", command, "run_zzz")
    assert result.exit_code == 2
    assert "there is no run 'run_zzz' in this store (exec.run.unknown)" in result.stderr
    assert "hint: lorimer runs ls" in result.stderr


def test_an_id_that_begins_several_runs() -> None:
    finished(), finished()
    result = invoke("runs", "show", "run_")
    assert result.exit_code == 2
    assert "several runs begin with 'run_'" in result.stderr


def test_a_run_that_has_ended_is_not_resumed() -> None:
    run = finished()
    result = invoke("runs", "resume", run)
    assert result.exit_code == 2
    assert "has ended (ok): there is nothing to resume (exec.run.ended)" in result.stderr


def test_another_store(own_place: Path) -> None:
    with FakeLLMServer([DONE]) as server:
        words = ("--base-url", server.url, "--store", "my store.db", "--max-turns", "1")
        assert invoke("run", "hi", *words).exit_code == 0
    assert (own_place / "my store.db").exists()
    assert listed() == []
    told = invoke("runs", "show", "run_0", "--store", "my store.db").stderr
    assert "hint: lorimer runs ls --store 'my store.db'" in told


def test_no_secret_is_kept(own_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-not-to-be-kept")
    with FakeLLMServer([DONE]) as server:
        address = server.url.replace("http://", "http://user:p4ssw0rd@")
        words = ("--base-url", address, "--api-key-env", "MY_KEY", "--store", "s.db")
        result = invoke("run", "hi", *words)
    kept = b"".join([path.read_bytes() for path in own_place.glob("s.db*")])
    assert b"MY_KEY" in kept
    assert b"sk-not-to-be-kept" not in kept
    assert b"p4ssw0rd" not in kept
    assert "p4ssw0rd" not in result.output
    assert json.dumps(DONE.text)[1:-1].encode() in kept


def test_the_calls_of_a_composite_tool_are_shown(own_place: Path) -> None:
    made = preset_manifest("agent")
    made.tools.built_in = ["Write"]
    saves = {"tool": "Write", "input": {"file_path": "{file}", "content": "x"}}
    made.tools = ToolsConfig.model_validate(
        {
            "built_in": ["Write"],
            "ad_hoc": [
                {
                    "kind": "composite",
                    "name": "two_files",
                    "parameters": {"file": {"type": "string"}},
                    "steps": [saves, {**saves, "input": {"file_path": "b", "content": "{file}"}}],
                }
            ],
        }
    )
    made.save("agent.yaml")
    with FakeLLMServer(by_turn(call("two_files", file="a"), DONE)) as server:
        rules = ("--allow", "Write(a)")
        done = invoke("run", "Go", "--manifest", "agent.yaml", "--base-url", server.url, *rules)
    assert done.exit_code == 0, done.stderr
    assert (own_place / "a").read_text() == "x"
    shown = invoke("runs", "show", last_run()).stdout
    assert "✓ Write: Created a (1 bytes)." in shown
    assert "✗ Write: ERROR exec.tool.access_denied" in shown
    assert "step 2 of 2, Write, failed" in shown
    explained = invoke("manifest", "explain", "agent.yaml").stdout
    assert "two_files (composite, its own)" in explained


def test_runs_below_a_run_are_drawn_as_a_tree_and_not_listed_by_themselves(
    own_place: Path,
) -> None:
    manifest = preset_manifest("agent")
    manifest.agents = [
        SubAgent(name="chief", description="Leads.", prompt="You lead.", tools=["Agent"]),
        SubAgent(name="digger", description="Digs.", prompt="You dig.", tools=[]),
    ]
    manifest.save("agent.json")

    def answer(request: SeenRequest) -> Turn:
        said = str(request.body.get("system"))
        last = request.body["messages"][-1]  # type: ignore[index]
        if "You dig." in said or "tool_result" in str(last):
            return Turn(text="Done.")
        who = "digger" if "You lead." in said else "chief"
        return call("Agent", subagent_type=who, prompt=f"work for {who}")

    with FakeLLMServer(answer) as server:
        words = ("--manifest", "agent.json", "--base-url", server.url)
        assert invoke("run", "Build it", *words).exit_code == 0
    [row] = listed()
    shown = invoke("runs", "show").stdout
    assert shown.startswith(f"{row['run_id']}  ok\n")
    tree = shown.split("\nsub-agents\n")[1].splitlines()
    assert tree[0].startswith("  chief     ok") and tree[0].endswith("work for chief")
    assert tree[1].startswith("    digger  ok") and tree[1].endswith("work for digger")
    every = lines(invoke("runs", "ls", "--all", "--json").stdout)
    assert len(every) == 3
    child = str(next(one["run_id"] for one in every if one["title"] == "work for chief"))
    assert f"part   of {row['run_id']}, as chief" in invoke("runs", "show", child).stdout
    alone = invoke("runs", "resume", child)
    assert alone.exit_code == 2


def test_what_an_interrupted_run_holds_is_listed_and_who_pays_for_it(tmp_path: Path) -> None:
    store = tmp_path / "runs.db"

    async def interrupted() -> None:
        model = ScriptedModel(["late"], usage=Usage(0, 8192), price=Price(0, 1), latency_s=60)
        async with SQLiteJournal(store) as journal:
            pipeline = Pipeline(
                preset_manifest("minimal", model="scripted:x"),
                models=Models(providers={"scripted": model}),
                journal=journal,
            )
            purse = Purse.usd("caller:alice", 2)
            run = pipeline.run("go", budgets=[purse], raise_on_error=False)
            task = asyncio.create_task(run)
            while not model.calls:
                await asyncio.sleep(0.001)
            pipeline.cancel(Reason.SHUTDOWN)
            await task

    asyncio.run(interrupted())
    shown = invoke("runs", "ls", "--store", str(store)).stdout.splitlines()
    assert "interrupted  " in shown[1]
    assert "holds $0.0082" in shown[1]
    [told] = lines(invoke("runs", "ls", "--json", "--store", str(store)).stdout)
    assert told["held_usd"] == pytest.approx(0.0082, abs=1e-4)
    shown = invoke("runs", "show", "--store", str(store)).stdout.splitlines()
    assert "  budget caller:alice, of $2.00" in shown


def test_a_shell_completes_the_ids_of_the_latest_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = finished(), finished()
    monkeypatch.setenv("_LORIMER_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_CWORD", "3")

    def offered(words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", words)
        return [line for line in run_process().out.splitlines() if line]

    each = [["plain", run[:12], "Tidy up this folder"] for run in (second, first)]
    assert offered("lorimer runs show run_") == each[0] + each[1]
    assert offered(f"lorimer runs resume {first[:10]}") == each[1]
    monkeypatch.setenv("LORIMER_STORE", "nowhere.db")
    assert offered("lorimer runs show run_") == []
    assert not Path("nowhere.db").exists()
