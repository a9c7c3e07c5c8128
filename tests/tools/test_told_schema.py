"""Schemas of tools that a provider would refuse, with the whole request, are told otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from lorimer import APIError, Pipeline, tool
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.told_schema import told_schema
from lorimer.models import CredentialBundle, Models, ProviderCredentials, generate_as_sync
from lorimer.presets import preset_manifest
from lorimer.testing import FakeLLMServer, ToolCall, Turn
from lorimer.tools import Tool, ToolContext, ToolResult

WIRES = ["claude-haiku-4-5", "openai:gpt-4o", "openai:gpt-4o responses", "google:gemini-2.5-flash"]


def agent(server: FakeLLMServer, wire: str, *tools: Tool) -> Pipeline:
    model, _, api = wire.partition(" ")
    openai = model.startswith("openai")
    manifest = preset_manifest("agent", model=model)
    manifest.model.api = api
    return Pipeline(
        manifest,
        tools=tools,
        api_key="k",
        base_url=server.openai_url if openai else server.url,
    )


class Node(BaseModel):
    name: str
    inner: list[Node] = []


def taken(schema: dict[str, JSON]) -> Tool:
    class Takes(Tool):
        name = "take"
        description = "Take it."
        input_schema = schema
        effects = frozenset[str]()

        async def execute(self, input: dict[str, Any], context: ToolContext) -> ToolResult:
            return ToolResult("taken")

    return Takes()


EITHER: dict[str, JSON] = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
    "anyOf": [{"required": ["id"]}, {"required": ["name"]}],
}
BRANCHES: dict[str, JSON] = {
    "type": "object",
    "oneOf": [
        {"$ref": "#/$defs/Cat"},
        {"type": "object", "properties": {"bark": {"type": "string"}}, "required": ["bark"]},
    ],
    "$defs": {"Cat": {"type": "object", "properties": {"id": {"type": "integer"}}}},
}
LISTS: dict[str, JSON] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "any": {"type": "array"},
        "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        "deep": {"anyOf": [{"type": "array", "prefixItems": [{"type": "integer"}] * 2}]},
        "properties": {"type": "string", "enum": ["array"]},
    },
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("schema", [EITHER, BRANCHES, LISTS])
def test_every_provider_takes_it(wire: str, schema: dict[str, JSON]) -> None:
    turns = [Turn(tool_calls=(ToolCall("c1", "take", {"id": 1}),)), Turn("Done.")]
    with FakeLLMServer(turns) as server:
        result = agent(server, wire, taken(schema)).run_sync("Take it.")
    assert [step.content for step in result.steps] == ["taken"]


def shown(schema: dict[str, JSON], **call: Any) -> tuple[Any, Any]:
    """What the model is told of such a tool; and the step of a call."""
    turns = [Turn(tool_calls=(ToolCall("c1", "take", call),)), Turn("Done.")]
    with FakeLLMServer(turns) as server:
        result = agent(server, WIRES[0], taken(schema)).run_sync("Take it.")
    body: Any = server.requests[0].body
    return body["tools"][0], result.steps[0]


def test_what_has_no_place_is_said_and_still_checked() -> None:
    told, step = shown(EITHER)
    assert told["input_schema"] == {"type": "object", "properties": EITHER["properties"]}
    assert told["description"] == (
        "Take it.\n\nThe arguments have to fit this JSON Schema, too: "
        '{"anyOf":[{"required":["id"]},{"required":["name"]}]}'
    )
    assert step.is_error
    assert not shown(EITHER, name="x")[1].is_error


def test_alternatives_show_what_they_take() -> None:
    told, step = shown(BRANCHES, id="x", bark=3)
    assert told["input_schema"]["properties"] == {
        "id": {"type": "integer"},
        "bark": {"type": "string"},
    }
    assert step.is_error


def test_lists_say_of_what() -> None:
    properties = shown(LISTS, id=1)[0]["input_schema"]["properties"]
    assert properties["any"]["items"] == {}
    assert properties["pair"]["items"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert properties["deep"]["anyOf"][0]["items"] == {"type": "integer"}
    assert properties["properties"] == {"type": "string", "enum": ["array"]}


def test_a_type_that_refers_to_itself_shows_its_fields() -> None:
    told, step = shown(Node.model_json_schema(), name="a", inner=[{"name": "b"}])
    assert {*told["input_schema"]["properties"]} == {"name", "inner"}
    assert told["input_schema"]["required"] == ["name"]
    assert told["description"] == "Take it."
    assert not step.is_error


@pytest.mark.parametrize("wire", WIRES)
def test_a_tuple_is_a_parameter(wire: str) -> None:
    @tool(effects=["read"])
    def area(corner: tuple[int, int], size: tuple[int, str]) -> str:
        """Tell it."""
        return f"{corner} {size}"

    call = ToolCall("c1", "area", {"corner": [1, 2], "size": [3, "m"]})
    with FakeLLMServer([Turn(tool_calls=(call,)), Turn("Done.")]) as server:
        result = agent(server, wire, area).run_sync("How large?")
    assert result.steps[0].content == "(1, 2) (3, 'm')"


def test_a_tuple_is_an_answer() -> None:
    """Of a model that is not held to schemas, which is asked by a tool."""

    class Box(BaseModel):
        corner: tuple[int, int]

    call = ToolCall("c1", "answer", {"corner": [1, 2]})
    with FakeLLMServer([Turn(tool_calls=(call,))]) as server:
        known = {"openai": ProviderCredentials("k", server.openai_url)}
        models = Models(CredentialBundle(known, env={}))
        models.configure_capabilities("openai", tools=True, output_schema=False)
        box = generate_as_sync(Box, "Where?", model="openai:gpt-4o", models=models)
    assert box.corner == (1, 2)


def test_a_tool_that_is_refused_is_named() -> None:
    """Of 20 tools "tools.1" says little."""

    @tool(effects=["read"])
    def fine(a: int) -> str:
        """Do it."""
        return str(a)

    @tool(effects=["read"])
    def measure(größe: int) -> str:
        """Measure it."""
        return str(größe)

    with FakeLLMServer([Turn("Done.")]) as server, pytest.raises(APIError) as caught:
        agent(server, WIRES[0], fine, measure).run_sync("How large?")
    assert "should match pattern" in caught.value.message
    assert caught.value.message.endswith("(tools.1 is 'measure')")


def test_schemas_that_lead_nowhere_or_say_too_much() -> None:
    loop = {"anyOf": [{"$ref": "#"}, {"$ref": "#/nowhere"}, 3]}
    told, words = told_schema(loop)
    assert told["properties"] == {}
    assert words == f"The arguments have to fit this JSON Schema, too: {dumps(loop)}"
    round_about: dict[str, JSON] = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    }
    assert told_schema(round_about)[0] == {"$defs": round_about["$defs"]}
    inward: dict[str, JSON] = {
        "anyOf": [{"$ref": "#/$defs/a"}],
        "$defs": {"a": {"properties": {"x": {}}, "anyOf": [{"$ref": "#/$defs/a"}]}},
    }
    assert told_schema(inward)[0]["properties"] == {"x": {}}
    long: dict[str, JSON] = {
        "anyOf": [{"properties": {f"field_{at}": {"type": "string"} for at in range(200)}}]
    }
    told, words = told_schema(long)
    assert len(told["properties"]) == 200 and words == ""  # type: ignore[arg-type]
