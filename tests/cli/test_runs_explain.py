"""`lorimer runs explain`: the reasons of a run for people and for programs."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lorimer.cli.runs.times import spans_of
from lorimer.core.events import Event
from lorimer.core.jsonable import JSON
from lorimer.core.manifest import SubAgent
from lorimer.journal import SQLiteJournal
from lorimer.journal.retention import compact
from lorimer.models.registry import Models
from lorimer.pipeline import Pipeline
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.tools import AskLater, ToolRegistry
from lorimer.world import RealWorld
from tests.cli.support import invoke, lines
from tests.core.support import Do, use

EVIL = "[bold]x[/bold]\x1b[31m\x1b]0;title\x07\u202egnp.exe [/]"


async def ran(path: Path, replies: Any, **options: Any) -> str:
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.agents = [SubAgent(name="digger", description="digs", prompt="Dig.")]
    manifest.permissions.deny = ["send"]
    registry = ToolRegistry()
    for tool in (Do("send", effects=("send",)), Do("pay", effects=("exec",)), Do("look")):
        registry.register(tool, granted=tool.name == "look")
    journal = SQLiteJournal(path, world=RealWorld())
    pipeline = Pipeline(
        manifest,
        tools=registry,
        models=Models(providers={"scripted": ScriptedModel(replies)}),
        journal=journal,
        **options,
    )
    result = await pipeline.run("go", raise_on_error=False)
    await pipeline.aclose()
    await journal.close()
    return result.run_id


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store, and a run in it: of a program, with a sub-agent, and words that are no words."""
    path = tmp_path_factory.mktemp("explain") / "it.db"
    child = use("Agent", "1", subagent_type="digger", prompt="dig")
    replies = [[use("look", to=EVIL), use(EVIL)], [use("send")], [child], "gold", "done"]
    return str(path), asyncio.run(ran(path, replies))


def test_a_run_is_told_turn_by_turn_and_says_what_is_usual_once(store: tuple[str, str]) -> None:
    told = invoke("runs", "explain", store[1], "--store", store[0])
    assert told.exit_code == 0, told.output
    turns = re.split(r"^turn \d$", told.stdout, flags=re.MULTILINE)[1:]
    assert len(turns) == 4
    assert "start      begun: somebody gave the agent an input  [the caller (run)]" in turns[0]
    assert "stage      entered input, context, " in turns[0]
    assert "stage" not in turns[2].replace("stages[", ""), "as in the turn before"
    assert "[permissions.deny[0]]" in turns[1]
    assert "child      begun digger as run_" in turns[2] and "[agents[0]]" in turns[2]
    assert "entered persist" not in told.stdout and "persist, yield" in turns[3]
    assert turns[3].rstrip().endswith("[stages[16].strategies.controller (default)]")
    assert "\x1b" not in told.stdout and "\x07" not in told.stdout and "\u202e" not in told.stdout
    assert "[bold]x[/bold]\\x1b[31m" in told.stdout, "no markup, and nothing lost"


def test_programs_get_every_decision_and_people_those_they_ask_for(store: tuple[str, str]) -> None:
    options = (store[1][:12], "--store", store[0])
    rows = lines(invoke("runs", "explain", *options, "--json").stdout)
    assert {row["kind"] for row in rows} >= {"start", "model", "tool", "stage", "turn", "end"}
    calls = lines(invoke("runs", "explain", *options, "--json", "--decision", "tool").stdout)
    assert calls == [row for row in rows if row["kind"] == "tool"]
    assert calls[0]["origin"] == {"kind": "caller", "name": "tool look"}
    second = lines(invoke("runs", "explain", *options, "--json", "--turn", "2").stdout)
    assert {row["iteration"] for row in second} == {1}
    stages = invoke("runs", "explain", *options, "--decision", "stage", "--turn", "3").stdout
    assert stages.count("stage ") == len(
        [r for r in rows if (r["kind"], r["iteration"]) == ("stage", 2)]
    )
    nothing = invoke("runs", "explain", *options, "--decision", "compaction")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "Nothing of that kind" in nothing.stderr


def test_a_child_says_whose_it_is_and_a_compacted_run_says_the_same(
    store: tuple[str, str],
) -> None:
    def explained(run: str) -> list[Any]:
        return lines(invoke("runs", "explain", run, "--store", store[0], "--json").stdout)

    async def pressed() -> None:
        journal = SQLiteJournal(store[0], world=RealWorld())
        assert (await compact(journal, before=RealWorld().time() + 1)).sessions
        await journal.close()

    rows = explained(store[1])
    [child] = [row for row in rows if row["kind"] == "child"]
    run_id = str(child["what"]).rpartition(" ")[2]
    assert explained(run_id)[0]["origin"] == {"kind": "parent", "name": store[1]}
    asyncio.run(pressed())
    assert explained(store[1]) == rows


def test_a_run_that_waits(tmp_path: Path) -> None:
    path = tmp_path / "it.db"
    run = asyncio.run(ran(path, [[use("pay")], "x"], approver=AskLater()))
    told = invoke("runs", "explain", run, "--store", str(path)).stdout
    assert "person     asked a person about pay" in told
    assert "suspended  stopped without an end: a person has to answer first" in told


WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no run": ((), 2, "missing argument 'RUN'"),
    "unknown run": (("run_nope",), 2, "there is no run 'run_nope' in this store"),
    "turn 0": (("run_", "--turn", "0"), 2, "0 is not in the range x>=1"),
    "no number": (("run_", "--turn", "x"), 2, "'x' is not a valid whole number"),
    "kind": (("run_", "--decision", "tols"), 2, "there is no 'tols'; did you mean 'tool'?"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name: str, store: tuple[str, str]) -> None:
    words, code, says = WRONG[name]
    done = invoke("runs", "explain", *words, "--store", store[0])
    assert done.exit_code == code and "Traceback" not in done.output
    assert says in done.output


def test_a_turn_that_there_is_not_and_a_store_that_is_damaged(
    store: tuple[str, str], tmp_path: Path
) -> None:
    done = invoke("runs", "explain", store[1], "--turn", "9", "--store", store[0])
    assert done.exit_code == 2 and "has 4 turns; there is no turn 9" in done.stderr
    path = tmp_path / "it.db"
    run = asyncio.run(ran(path, ["x"]))
    with sqlite3.connect(path) as database:
        database.execute("update facts set body = '[['")
    database.close()
    broken = invoke("runs", "explain", run, "--store", str(path))
    assert broken.exit_code == 4 and "Traceback" not in broken.output, broken.output


def test_where_the_money_went(store: tuple[str, str]) -> None:
    options = ("runs", "explain", store[1], "--store", store[0], "--cost")
    rows = lines(invoke(*options, "--json").stdout)
    assert [row["what"] for row in rows].count("sub-agent") == 1
    told = invoke(*options).stdout.splitlines()
    assert told[0].split() == "turn what to in cached out cost share".split()
    assert len(told) == 1 + len(rows) + 2 + 1, "a row for each, for who got it, and for all"
    assert "█" in told[1] and told[-1].split()[:2] == ["in", "all"]
    [one] = lines(invoke(*options, "--json", "--turn", "2").stdout)
    assert one["iteration"] == 1
    for other in (("--decision", "tool"), ("--time",)):
        both = invoke(*options, *other)
        assert both.exit_code == 2 and "give one of them" in both.stderr


def test_where_the_time_went(store: tuple[str, str]) -> None:
    options = ("runs", "explain", store[1], "--store", store[0], "--time")
    rows = lines(invoke(*options, "--json").stdout)
    assert {"model", "tool"} <= {row["kind"] for row in rows}
    assert all(0 <= row["begin_s"] <= row["end_s"] for row in rows)
    head, *told, total = invoke(*options).stdout.splitlines()
    assert head.split()[:3] == ["turn", "what", "took"] and len(told) == len(rows)
    assert "models" in total and "tools" in total
    [one] = {row["iteration"] for row in lines(invoke(*options, "--json", "--turn", "2").stdout)}
    assert one == 1


def test_the_time_between_interruptions_is_left_out() -> None:
    def fact(type: str, time: float, **data: JSON) -> Event:
        return Event(type, data, time=time)

    use: JSON = [{"type": "tool_use", "id": "a", "name": "send", "input": {}}] * 2
    found = spans_of(
        [
            fact("run.start", 100.0),
            fact("model.intent", 101.0),
            fact("model.intent", 9_001.0, used_s=2.0),
            fact("model.reply", 9_002.0, content=use, model="m"),
            fact("tool.intent", 9_002.0, key="0"),
            fact("effect.intent", 9_002.5, key="approval:1"),
            fact("tool.result", 9_003.0, key="0", is_error=True),
            fact("effect", 9_004.0, key="approval:1"),
            fact("tool.result", 9_005.0, key="1"),
        ]
    )
    assert [(each.kind, each.begin_s, each.end_s, each.problem) for each in found] == [
        ("model", 1.0, 2.0, "no result"),
        ("model", 2.0, 3.0, ""),
        ("tool", 3.0, 4.0, "failed"),
        ("tool", 3.0, 6.0, ""),
        ("person", 3.5, 5.0, ""),
    ]
    waited = [
        fact("run.start", 100.0),
        fact("effect.intent", 100.0, key="approval:0"),
        fact("effect", 160.0, key="approval:0"),
        fact("model.intent", 9_000.0, used_s=2.0),
        fact("model.reply", 9_003.0),
    ]
    assert [(each.begin_s, each.end_s) for each in spans_of(waited)] == [(0.0, 60.0), (60.0, 63.0)]
