"""Deferred tools: not shown until found, and the same after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorimer import ConfigError, PipelineBuilder
from lorimer.core.request import ToolSpec
from lorimer.core.result import PipelineResult
from lorimer.models import Models
from lorimer.testing import SimulatedWorld, simulate
from lorimer.tools import Tool
from lorimer.tools.builtin.tool_search import search
from tests.core.support import Do, use
from tests.quick import quick
from tests.tools.planned import Replies, Script, agent, resumed_everywhere


def find(query: str, id: str = "find", **more: Any) -> Any:
    return use("ToolSearch", id, query=query, **more)


def test_a_deferred_tool_is_shown_once_it_was_found(tmp_path: Path) -> None:
    async def main(world: SimulatedWorld) -> None:
        replies: Replies = [
            [use("Grep", "early", pattern="x")],
            [find("search the text of files by a regular expression", limit=1)],
            [use("Grep", "now", pattern="x")],
            [find("select:Write,Glob", "more")],
            "done",
        ]

        def check(result: PipelineResult, model: Script) -> None:
            assert result.text == "done"

        model = await resumed_everywhere(
            world, replies, ["filesystem"], check, deferred=["filesystem"], workspace=tmp_path
        )
        assert model.shown == {
            0: ["ToolSearch"],
            1: ["ToolSearch"],
            2: ["ToolSearch", "Grep"],
            3: ["ToolSearch", "Grep"],
            4: ["ToolSearch", "Grep", "Write", "Glob"],
        }
        assert model.told[1][0] == (
            "ERROR exec.tool.unknown: Grep is not loaded: call ToolSearch with the query "
            "'select:Grep' first."
        )
        assert model.told[2][0].startswith("Loaded: Grep.\n- Grep: ")
        assert not model.told[3][0].startswith("ERROR")
        assert model.told[4][0].startswith("Loaded: Write, Glob.\n")

    simulate(main)


def test_what_was_found_stays_for_later_runs_and_forks() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script([[find("select:look")], "one", "two", "three"])
        look, note = Do("look"), Do("note")
        options: Any = {"tools": [look, note], "deferred": ["look"], "preset": "chat"}
        pipeline = agent(world, model, [], **options)
        first = await pipeline.run("go")
        await pipeline.run("and?")
        assert model.shown[0] == ["note", "ToolSearch"]
        assert model.shown[1] == model.shown[2] == ["note", "ToolSearch", "look"]
        fork = await pipeline.fork(first.run_id, after=1)
        assert fork.text == "one"  # the script checks that the same tools were shown

    simulate(main)


def test_the_model_is_told_what_there_is_to_be_found() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script([[find("nonsense")], "done"])
        options: Any = {"tools": [Do("look"), Do("note")], "deferred": ["look", "note"]}
        await agent(world, model, [], **options).run("go")
        [spec] = model.requests[0].tools
        assert spec.description.endswith("They are: look, note.")
        assert model.told[1] == ["No tool fits 'nonsense'. There are: look, note."]

    simulate(main)


def test_finding_a_tool_permits_nothing(tmp_path: Path) -> None:
    async def main(world: SimulatedWorld) -> None:
        replies: Replies = [
            [find("select:Write")],
            [use("Write", file_path="a", content="x")],
            "done",
        ]
        model = Script(replies)
        await agent(world, model, ["Write"], deferred=["Write"], workspace=tmp_path).run("go")
        assert "no rule allows it" in model.told[2][0]
        assert list(tmp_path.iterdir()) == []

    simulate(main)


def test_a_builder_names_them_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script(["done"])
        built = (
            PipelineBuilder(models=Models(providers={"scripted": model}), world=world)
            .with_model(model="scripted:m")
            .with_tools(built_in=("kv", "think"), deferred=("kv",))
        )
        assert built.manifest.to_dict()["tools"] == {
            "built_in": ["kv", "think"],
            "deferred": ["kv"],
        }
        await built.build().run("go")
        assert model.shown[0] == ["think", "ToolSearch"]

    simulate(main)


def test_where_nothing_is_deferred_there_is_nothing_to_search() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script(["done"])
        await agent(world, model, ["think", "ToolSearch"]).run("go")
        assert model.shown[0] == ["think"]

    simulate(main)


def test_a_manifest_cannot_defer_what_is_not_there() -> None:
    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(ConfigError, match=r"deferred\[1\]: .*'Gerp'; did you mean 'Grep'"):
            agent(world, Script([]), ["Grep"], deferred=["Grep", "Gerp"], workspace=".")
        with pytest.raises(ConfigError, match=r"tools.deferred\[0\]"):
            agent(world, Script([]), [], deferred=["Grep"])

    simulate(main)


def test_wrong_arguments_are_told_with_their_path() -> None:
    async def main(world: SimulatedWorld) -> None:
        model = Script([[find("x", limit=0), use("ToolSearch", "b")], "done"])
        await agent(world, model, [], tools=[Do("look")], deferred=["look"]).run("go")
        assert "input.limit must be bigger" in model.told[1][0]
        assert "input must contain ['query']" in model.told[1][1]

    simulate(main)


def spec(tool: Tool | None = None, name: str = "", about: str = "") -> ToolSpec:
    return ToolSpec(name, about, {"type": "object", "properties": {"city": {}}})


SPECS = [
    spec(name="weatherForecast", about="Rain and wind for the next days"),
    spec(name="send_mail", about="Sends a message to somebody"),
    spec(name="mcp__db__query", about="Runs SQL; says what the weather was too"),
]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("weather", ["weatherForecast", "mcp__db__query"]),
        ("mails", ["send_mail"]),
        ("SQL queries", ["mcp__db__query"]),
        ("mcp__db__query", ["mcp__db__query"]),
        ("city", ["weatherForecast", "send_mail", "mcp__db__query"]),
        ("select:send_mail, weatherForecast", ["weatherForecast", "send_mail"]),
        ("select:Send_Mail", []),
        ("?!", []),
    ],
)
def test_search(query: str, names: list[str]) -> None:
    assert [found.name for found in search(query, SPECS)] == names


def test_tools_described_at_great_length_are_looked_through_in_no_time() -> None:
    long = ToolSpec("digger", "Digs aBc " * 200_000, {"type": "object"})
    with quick():
        assert len(search("digs", [long] * 200)) == 200
