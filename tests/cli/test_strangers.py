"""Nothing that a model, a tool or another process has written acts on the terminal."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lorimer.core.events import Event
from lorimer.core.manifest import SubAgent
from lorimer.journal import SQLiteJournal
from lorimer.models.registry import Models
from lorimer.pipeline import Pipeline
from lorimer.presets import preset_manifest
from lorimer.testing import ScriptedModel
from lorimer.testing.fake_server import FakeLLMServer, Turn
from lorimer.tools import ToolRegistry
from lorimer.world import RealWorld
from tests.cli.support import by_turn, call, invoke
from tests.core.support import Do, use

EVIL = "\x1b[31m\x1b]0;title\x07\x9b1A\u202e\r"
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
COMMANDS = (
    ["runs", "ls"],
    ["runs", "show", "RUN"],
    ["runs", "show", "RUN", "--full"],
    ["runs", "explain", "RUN"],
    ["runs", "diff", "RUN", "CHILD"],
    ["runs", "verify", "RUN"],
    ["runs", "replay", "RUN"],
    ["sessions", "ls"],
)
Facts = dict[str, list[Event]]


async def played(path: Path) -> Facts:
    """The facts of a run and of its sub-agent's, by stream."""
    manifest = preset_manifest("agent", model="scripted:m")
    manifest.agents = [SubAgent(name="digger", description="digs", prompt="Dig.")]
    manifest.permissions.deny = ["send"]
    registry = ToolRegistry()
    registry.register(Do("send", effects=("send",)))
    registry.register(Do("look"), granted=True)
    dig = use("Agent", "1", subagent_type="digger", prompt="dig")
    replies = [[use("look", to="x"), use("nope")], [use("send")], [dig], "gold", "done"]
    async with SQLiteJournal(path, world=RealWorld()) as journal:
        pipeline = Pipeline(
            manifest,
            tools=registry,
            models=Models(providers={"scripted": ScriptedModel(replies)}),  # type: ignore[dict-item]
            journal=journal,
        )
        async with pipeline:
            await pipeline.run("go")
        rows = await journal.runs(limit=10)
        return {row.stream: [fact async for fact in journal.read(row.stream)] for row in rows}


async def stored(path: Path, facts: Facts) -> None:
    async with SQLiteJournal(path, world=RealWorld()) as journal:
        for stream, found in facts.items():
            epoch = await journal.claim(stream, "me", 1.0)
            await journal.append(stream, epoch, found, sync=False)
            await journal.release(stream, epoch)


Place = tuple[str, ...]


def places(value: Any, place: Place) -> Iterator[Place]:
    """Where texts stand in a fact; all items of a list are one."""
    if isinstance(value, str):
        yield place
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from places(inner, (*place, name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from places(inner, (*place, "*"))


def with_evil(value: Any, place: Place) -> Any:
    if isinstance(value, str):
        return value if place else value + EVIL
    if isinstance(value, Mapping):
        return {
            name: with_evil(inner, place[1:]) if place[:1] == (name,) else inner
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple) and place[:1] == ("*",):
        return [with_evil(inner, place[1:]) for inner in value]
    return value


def forged(facts: Facts, place: Place) -> Facts:
    return {
        stream: [
            Event(
                fact.type,
                with_evil(fact.data, place[1:]) if fact.type == place[0] else fact.data,
                run_id=fact.run_id,
                iteration=fact.iteration,
                time=fact.time,
            )
            for fact in found
        ]
        for stream, found in facts.items()
    }


def acting(path: Path, run: str, child: str) -> list[str]:
    """The commands that let something through."""
    found: list[str] = []
    for words in COMMANDS:
        named = [{"RUN": run, "CHILD": child}.get(word, word) for word in words]
        result = invoke(*named, "--store", str(path))
        if ACTS.search(result.output) or ACTS.search(result.stderr):
            found.append(" ".join(words))
    return found


def test_no_text_of_any_fact_acts_on_the_terminal(tmp_path: Path) -> None:
    facts = asyncio.run(played(tmp_path / "store.db"))
    runs = list(dict.fromkeys([each.run_id for found in facts.values() for each in found]))
    assert len(runs) == 2
    every = {
        place
        for found in facts.values()
        for fact in found
        for place in places(fact.data, (fact.type,))
    }
    assert len(every) > 25
    let_through = {}
    for number, place in enumerate(sorted(every)):
        path = tmp_path / f"{number}.db"
        asyncio.run(stored(path, forged(facts, place)))
        if found := acting(path, runs[0], runs[1]):
            let_through[".".join(place)] = found
    assert let_through == {}


def test_no_id_of_another_process_acts_on_the_terminal(tmp_path: Path) -> None:
    facts = asyncio.run(played(tmp_path / "store.db"))
    renamed = {
        f"{stream[:12]}{EVIL}": [
            Event(f.type, f.data, f"{f.run_id[:12]}{EVIL}", f.iteration, f.time) for f in found
        ]
        for stream, found in facts.items()
    }
    asyncio.run(stored(tmp_path / "ids.db", renamed))
    runs = list(dict.fromkeys([each.run_id for found in facts.values() for each in found]))
    assert acting(tmp_path / "ids.db", runs[0][:12], runs[1][:12]) == []


def test_no_name_of_a_tool_acts_on_the_terminal_while_a_run_is_live(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"no{EVIL}such\n  ✓ Bash ls"
    with FakeLLMServer(by_turn(call(name, x=1), Turn("done"))) as server:
        options = ("--base-url", server.url, "-m", "anthropic:m", "--api-key-env", "KEY")
        monkeypatch.setenv("KEY", "k")
        result = invoke("run", "go", *options, "--store", str(tmp_path / "s.db"))
    assert result.exit_code == 0, result.output
    assert not ACTS.search(result.output + result.stderr)
    assert "such\\n  ✓ Bash ls" in result.stderr


JSON_OF = (
    ["runs", "ls", "--json"],
    ["runs", "show", "RUN", "--json"],
    ["runs", "explain", "RUN", "--json"],
    ["runs", "replay", "RUN", "--json"],
    ["runs", "diff", "RUN", "RUN", "--json"],
    ["runs", "export", "RUN"],
    ["run", "-m", "scripted:echo", "--preset", "minimal", "--output-format", "json", "TASK"],
    ["run", "-m", "scripted:echo", "--preset", "minimal", "--output-format", "stream-json", "TASK"],
)


@pytest.mark.parametrize("words", JSON_OF, ids=" ".join)
def test_json_does_not_act_on_the_terminal_and_says_the_same(words: list[str]) -> None:
    task = f"Zürich 東京 {EVIL}\x7f\u2028 end of the line"
    assert invoke("run", "-m", "scripted:echo", "--preset", "minimal", task).exit_code == 0
    told = invoke(*[{"RUN": "run_", "TASK": task}.get(word, word) for word in words]).stdout
    assert told and not ACTS.search(told)
    assert len(told.splitlines()) == told.count("\n")  # what Python takes for lines is objects
    parsed = [json.loads(line) for line in told.splitlines()]
    if words[1] in ("show", "export", "-m"):  # they quote it
        assert "Zürich 東京" in told
        assert task in _texts(parsed)


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _texts(each)
        case dict():
            yield from _texts(list(value.values()))
        case _:
            pass
