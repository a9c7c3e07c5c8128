"""The registry prepares tools once and refuses what could not work."""

from __future__ import annotations

from typing import Any

import pytest

from lorimer import PipelinePresets
from lorimer.core.errors import ConfigError
from lorimer.core.messages import ToolUse
from lorimer.models import Models
from lorimer.testing import ScriptedModel
from lorimer.tools import Tool, ToolContext, ToolInput, ToolRegistry, ToolResult, Toolset
from lorimer.tools.builtin import CATALOGUE, builtin_tools
from tests.tools.support import Bench, one_call, run


class Search(Tool):
    """As in the quick start: everything is a property."""

    @property
    def name(self) -> str:
        return "search"

    @property
    def description(self) -> str:
        return "Search the web"

    @property
    def input_schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {"query": {"type": "string"}},
            "required": ["query"],
        }

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        return ToolResult(content=f"Results for: {input['query']}")


class Attributes(Tool):
    name = "attributes"
    description = "All are class attributes"

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        return ToolResult("ok")


def variant(**attributes: object) -> Tool:
    kind = type("Variant", (Attributes,), attributes)
    return kind()


def test_a_tool_of_properties_and_one_of_attributes() -> None:
    registry = ToolRegistry()
    registry.register(Search())
    registry.register(Attributes())
    assert registry.names == ["search", "attributes"]
    assert len(registry) == 2
    assert "search" in registry
    assert [each.name for each in registry] == ["search", "attributes"]
    assert isinstance(registry.get("search"), Search)
    assert registry.get("serch") is None
    assert run(lambda: one_call(Search(), {"query": "q"})).content == "Results for: q"
    assert run(lambda: one_call(Attributes())).content == "ok"


def test_the_same_name_twice_is_an_error_unless_it_replaces() -> None:
    registry = ToolRegistry([Search()])
    with pytest.raises(ConfigError, match="already a tool named 'search'"):
        registry.register(Search())
    other = Search()
    registry.register(other, replace=True)
    assert registry.get("search") is other


def test_unregister() -> None:
    registry = ToolRegistry([Search()])
    with pytest.raises(ConfigError, match="did you mean 'search'"):
        registry.unregister("serch")
    registry.unregister("search")
    assert len(registry) == 0


def test_a_copy_keeps_what_is_granted_and_goes_its_own_way() -> None:
    registry = ToolRegistry([Search()])
    registry.register(Attributes(), granted=False)
    other = registry.copy()
    other.unregister("search")
    assert registry.names == ["search", "attributes"]
    assert other.names == ["attributes"]
    entry = other.entry("attributes")
    assert entry is not None
    assert not entry.granted


def test_specs_are_one_tuple_until_something_changes() -> None:
    async def main() -> None:
        registry = ToolRegistry([Search()])
        tools = Toolset(registry)
        state = (await Bench.make()).state
        first = tools.specs(state)
        assert tools.specs(state) is first
        assert first[0].to_json() == {
            "name": "search",
            "description": "Search the web",
            "input_schema": {
                "type": "object",
                "properties": {"query": {"type": "string"}},
                "required": ["query"],
            },
        }
        registry.register(Attributes())
        assert [spec.name for spec in tools.specs(state)] == ["search", "attributes"]

    run(main)


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"name": ""}, "1 to 64"),
        ({"name": "a b"}, "1 to 64"),
        ({"name": "x" * 65}, "1 to 64"),
        ({"name": "x\n"}, "1 to 64"),
        ({"name": 3}, "1 to 64"),
        ({"description": None}, "description must be a string"),
        ({"effects": frozenset({"wirte"})}, "did you mean 'write'"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"max_result_chars": 0}, "max_result_chars"),
        ({"input_schema": {"type": "string"}}, "type 'object'"),
    ],
)
def test_tools_that_cannot_be_registered(attributes: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ToolRegistry([variant(**attributes)])
    assert why in caught.value.message


def test_a_tool_without_a_name_is_told_so() -> None:
    class Nameless(Tool):
        async def execute(self, input: object, context: object) -> str:
            return ""

    with pytest.raises(ConfigError, match="a tool's name is 1 to 64 of .*, not None"):
        ToolRegistry([Nameless()])


def test_a_tool_that_is_not_async_is_told_so() -> None:
    class Quick(Tool):
        name = "quick"

        def execute(self, input: object, context: object) -> Any:
            return "done"

    models = Models(providers={"scripted": ScriptedModel([[ToolUse("c", "quick", {})], "ok"])})
    agent = PipelinePresets.agent(model="scripted:m", models=models, tools=[Quick()])
    [step] = agent.run_sync("go").steps
    assert step.content == (
        "ERROR exec.tool.crashed: TypeError: Quick.execute must be async: async def execute(...)"
    )


def test_only_tools_are_tools() -> None:
    with pytest.raises(ConfigError, match="is not a tool"):
        ToolRegistry([print])  # type: ignore[list-item]  # pyright: ignore


def test_concurrency_safe_is_what_the_tool_says() -> None:
    registry = ToolRegistry([variant(name="safe", concurrency_safe=True), Attributes()])
    tools = Toolset(registry)
    assert tools.concurrency_safe(ToolUse("1", "safe", {}))
    assert not tools.concurrency_safe(ToolUse("1", "attributes", {}))
    assert not tools.concurrency_safe(ToolUse("1", "unknown", {}))


def test_builtin_tools_by_name_and_group() -> None:
    assert [each.name for each in builtin_tools(["Edit", "readonly"])] == [
        "Edit",
        "Read",
        "Glob",
        "Grep",
    ]
    assert [each.name for each in builtin_tools(["*"])] == list(CATALOGUE)
    assert [each.name for each in builtin_tools([])] == []
    with pytest.raises(ConfigError, match="did you mean 'Grep'"):
        builtin_tools(["Grp"])


def test_every_builtin_registers_under_its_name() -> None:
    registry = ToolRegistry(builtin_tools(CATALOGUE))
    assert registry.names == list(CATALOGUE)
    for spec in registry.specs():
        assert spec.description
        for part in spec.input_schema["properties"].values():  # type: ignore[union-attr]  # pyright: ignore
            assert part["description"]
