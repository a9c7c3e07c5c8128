"""Arguments are checked by a compiled schema; a schema that could hurt is refused."""

from __future__ import annotations

from typing import Any

import pytest

from lorimer.core.errors import ConfigError, ExecutorErrorCode, ToolExecutionError
from lorimer.tools.schema import compile_schema
from tests.quick import quick

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "home": {"$ref": "#/$defs/Place"},
        "kind": {"enum": ["a", 'quo"te', "back\\slash"]},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {
        "Place": {"type": "object", "properties": {"zip": {"type": "integer"}}},
    },
}


def fault(schema: object, input: dict[str, Any]) -> str:
    with pytest.raises(ToolExecutionError) as caught:
        compile_schema(schema, "t")(input)
    assert caught.value.code is ExecutorErrorCode.EXEC_TOOL_INVALID_INPUT
    return caught.value.message


def test_fitting_arguments_come_back_as_they_are() -> None:
    person = {"name": "n", "age": 3, "tags": ["x"], "home": {"zip": 1}, "kind": 'quo"te'}
    assert compile_schema(PERSON, "t")(person) is person


def test_a_whole_number_is_an_integer_however_it_is_written() -> None:
    schema = {
        "type": "object",
        "properties": {
            "at": {"type": "integer"},
            "share": {"type": "number"},
            "rows": {"type": "array", "items": {"properties": {"n": {"type": "integer"}}}},
        },
    }
    given = {"at": 2.0, "share": 1.0, "rows": [{"n": 3.0, "x": 4.0}, 5.0], "other": 6.0}
    found = compile_schema(schema, "t")(given)
    assert repr(found) == (
        "{'at': 2, 'share': 1.0, 'rows': [{'n': 3, 'x': 4.0}, 5.0], 'other': 6.0}"
    )
    assert repr(compile_schema(schema, "t")({"rows": [{"n": 3.0}]})) == "{'rows': [{'n': 3}]}"
    assert "input.at must be integer" in fault(schema, {"at": 2.5})


@pytest.mark.parametrize(
    ("input", "path"),
    [
        ({}, "input must contain ['name']"),
        ({"name": 1}, "input.name must be string"),
        ({"name": ""}, "input.name must be longer"),
        ({"name": "n", "age": True}, "input.age must be integer"),
        ({"name": "n", "age": "3"}, "input.age must be integer"),
        ({"name": "n", "tags": ["x", 2]}, "input.tags[1] must be string"),
        ({"name": "n", "home": {"zip": "x"}}, "input.home.zip must be integer"),
        ({"name": "n", "kind": "b"}, "input.kind must be one of"),
        ({"name": "n", "z": 1, "y": 1, "x": 1}, "must not contain ['x', 'y', 'z'] properties"),
    ],
)
def test_faults_name_their_path(input: dict[str, Any], path: str) -> None:
    assert path in fault(PERSON, input)


def test_defaults_are_not_filled_in() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}}
    assert compile_schema(schema, "t")({}) == {}


def test_formats_are_not_checked() -> None:
    schema = {"properties": {"a": {"type": "string", "format": "date"}}}
    assert compile_schema(schema, "t")({"a": "never"}) == {"a": "never"}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("string", "must be a mapping"),
        ({"type": "array"}, "must have type 'object'"),
        ({"properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}}, "only '#...' is followed"),
        ({"properties": {"a": {"$ref": "other.json"}}}, "only '#...' is followed"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "only '#...' is followed"),
        ({"anyOf": [{"properties": {"a": {"$ref": "//x/y"}}}]}, "only '#...' is followed"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "cannot be used"),
        ({"properties": {"a": {"type": "strnig"}}}, "cannot be used"),
        ({"properties": {"a": {"pattern": "("}}}, "cannot be used"),
        ({"properties": {"a": {"enum": 3}}}, "cannot be used"),
        ({"properties": {"a": 3}}, "cannot be used"),
        ({"properties": {"a": {"default": float("nan")}}}, "not JSON"),
        ({"properties": {"a": {"default": object()}}}, "only plain data"),
        ({"properties": {1: {}}}, "not a string"),
        (nested(50), "deeper than"),
        ({"description": "x" * 300_000}, "characters; at most"),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/Item"}, "b": {"$ref": "#/$defs/item"}},
                "$defs": {"Item": {"type": "string"}, "item": {"type": "integer"}},
            },
            "too much alike",
        ),
    ],
)
def test_schemas_that_cannot_be_used_are_refused(schema: object, why: str) -> None:
    with pytest.raises(ConfigError, match="the schema of t ") as caught:
        compile_schema(schema, "the schema of t")
    assert why in caught.value.message


HOSTILE = [
    '"); raise SystemExit("pwned',
    "'); raise SystemExit('pwned",
    "{variable}",
    "{0}",
    "{data.__class__}",
    "{__import__('os')}",
    "\\",
    '\\"',
    "\n    raise SystemExit",
    "\r\n",
    "",
    "$id",
    "name",
    "variable",
]


@pytest.mark.parametrize("word", HOSTILE)
def test_words_in_a_schema_are_never_code(word: str) -> None:
    schema = {
        "properties": {
            word: {"type": "string", "enum": [word, word + "x"], "description": word},
            "list": {"items": {"properties": {word: {"type": "integer"}}}},
            "ref": {"$ref": "#/$defs/x"},
        },
        "patternProperties": {"^never$": {"const": word}},
        "dependencies": {word: [word]},
        "additionalProperties": {"type": "null"},
        "$defs": {"x": {"properties": {word: {"const": word}}}},
    }
    check = compile_schema(schema, "t")
    assert check({word: word, "ref": {word: word}, "list": [{word: 1}]})
    for bad in ({word: 1}, {word: "other"}, {"ref": {word: 1}}, {"list": [{word: "x"}]}):
        with pytest.raises(ToolExecutionError) as caught:
            check(bad)
        assert caught.value.code is ExecutorErrorCode.EXEC_TOOL_INVALID_INPUT


def test_a_schema_that_breaks_while_checking_refuses() -> None:
    told = fault({"properties": {"a": {"multipleOf": 0}}}, {"a": 3})
    assert told.startswith("the tool's schema is broken: ")


def test_a_fault_is_told_in_few_words() -> None:
    assert len(fault({"properties": {"a": {"enum": ["x" * 5000]}}}, {"a": 1})) <= 1001


def test_a_schema_is_copied() -> None:
    schema: dict[str, Any] = {"properties": {"a": {"type": "string"}}}
    check = compile_schema(schema, "t")
    schema["properties"]["a"]["type"] = "integer"
    assert check({"a": "x"})


def test_a_schema_may_refer_to_itself() -> None:
    tree = {
        "properties": {"value": {"type": "integer"}, "next": {"$ref": "#"}},
    }
    check = compile_schema(tree, "t")
    assert check({"next": {"next": {"value": 1}}})
    with pytest.raises(ToolExecutionError, match=r"input.next.next.value must be integer"):
        check({"next": {"next": {"value": "x"}}})


@pytest.mark.parametrize("schema", [
    {"properties": {"x": {"pattern": "^(a+)+$"}}},
    {"properties": {"x": {"pattern": "a*a*a*b$"}}},
    {"properties": {"x": {"type": "string", "pattern": "^(a|a)*$"}}},
    {"properties": {"x": {}}, "propertyNames": {"pattern": "^(x+)+$"}},
    {"patternProperties": {"^(x+)+$": {"type": "integer"}}, "additionalProperties": False},
])  # fmt: skip
def test_patterns_made_to_be_slow_are_not(schema: dict[str, Any]) -> None:
    check = compile_schema(schema, "t")
    with quick(), pytest.raises(ToolExecutionError):
        check({"x": "a" * 100_000 + "!", "x" * 100_000 + "!": 1})


@pytest.mark.parametrize("pattern", ["^(?!x)", r"(a)\1", "^(?<=a)b", "("])
def test_patterns_that_only_a_slow_engine_knows_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used: the pattern|cannot be used: missing"):
        compile_schema({"properties": {"x": {"pattern": pattern}}}, "t")


def test_a_pattern_is_looked_for_and_ends_at_the_end() -> None:
    check = compile_schema({"properties": {"x": {"pattern": "b$"}, "y": {"pattern": "é"}}}, "t")
    assert check({"x": "aab", "y": "xéx"}) == {"x": "aab", "y": "xéx"}
    for wrong in ("ba", "b\n", ""):
        with pytest.raises(ToolExecutionError, match=r"input\.x must match pattern"):
            check({"x": wrong})


def test_alternatives_that_refer_to_themselves_do_not_double_for_ever() -> None:
    node = {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}}
    either = {"anyOf": [{**node, "minProperties": 1}, {**node, "maxProperties": 1}]}
    check = compile_schema(
        {"$defs": {"node": either}, "properties": {"x": {"$ref": "#/$defs/node"}}}, "t"
    )
    value: Any = {"a": {}}
    assert check({"x": value}) == {"x": value}
    value = "no object"
    for _ in range(60):
        value = {"a": value}
    with quick(), pytest.raises(ToolExecutionError, match="too many ways"):
        check({"x": value})
    assert check({"x": {"a": {}}}) == {"x": {"a": {}}}
