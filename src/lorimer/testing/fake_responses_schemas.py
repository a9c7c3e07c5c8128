"""Which tools and output formats the fake OpenAI rejects at `/responses`, and which schemas in
them: a `strict` one has to be closed."""

from __future__ import annotations

from collections.abc import Mapping

from lorimer.core.jsonable import JSON, fields_of
from lorimer.testing.fake_openai_shared import (
    Object,
    array,
    missing,
    named,
    no,
    object_of,
    parameters,
)


def check_tools(body: Object) -> None:
    """Raises Refused for tools, or a tool choice, that the vendor would reject."""
    names: list[str] = []
    for index, tool in enumerate(array(body["tools"], "tools") if body.get("tools") else ()):
        where = f"tools[{index}]"
        if tool.get("type") != "function":
            continue
        name = named(tool.get("name"), f"{where}.name")
        names.append(name)
        schema = object_of(tool.get("parameters"), f"{where}.parameters")
        parameters(schema, name, f"{where}.parameters")
        _schema(
            schema, f"function '{name}'", f"{where}.parameters", tool.get("strict") is not False
        )
    choice = body.get("tool_choice")
    if choice is None or choice in ("auto", "none"):
        return
    if choice == "required":
        if not names:
            no(
                "Tool choice 'required' must be specified with 'tools' parameter.",
                param="tool_choice",
            )
        return
    if not isinstance(choice, Mapping):
        no(
            f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'.",
            param="tool_choice",
        )
    if choice.get("type") == "function":
        if named(choice.get("name"), "tool_choice.name") not in names:
            no("Tool choice 'function' not found in 'tools' parameter.", param="tool_choice")
        if "function" in choice:
            no(
                "Unknown parameter: 'tool_choice.function'.",
                param="tool_choice.function",
                code="unknown_parameter",
            )


def check_form(body: Object) -> None:
    """Raises Refused for an output format that the vendor would reject."""
    text = body.get("text")
    form = text.get("format") if isinstance(text, Mapping) else None
    if not isinstance(form, Mapping) or form.get("type") != "json_schema":
        return
    name = named(form.get("name"), "text.format.name")
    schema = form.get("schema")
    if not isinstance(schema, Mapping):
        missing("text.format.schema", "text.format")
    place = f"response_format '{name}'"
    _schema(schema, place, "text.format.schema", form.get("strict") is True)


def _schema(schema: Object, what: str, param: str, strict: bool) -> None:
    kind = "invalid_function_parameters" if what.startswith("function") else "invalid_json_schema"
    said = f"Invalid schema for {what}: "
    if schema.get("type") != "object":
        no(
            f"{said}schema must be a JSON Schema of 'type: \"object\"', got 'type:"
            f' "{schema.get("type")}"\'.',
            param=param,
            code=kind,
        )
    if strict:
        wrong = _loose(schema, ())
        if wrong:
            no(said + wrong, param=param, code=kind)


def _loose(schema: JSON, path: tuple[str, ...]) -> str:
    """The violation of strict mode in a schema; "": none."""
    here = f"In context={path}, "
    if not isinstance(schema, Mapping):
        return f"{here}a schema is missing."
    if not schema.keys() & {"type", "$ref", "anyOf"}:
        return f"{here}schema must have a 'type' key."
    for name in ("allOf", "oneOf", "not", "default", "patternProperties"):
        if name in schema:
            return f"{here}'{name}' is not permitted."
    properties = schema.get("properties")
    inner: list[tuple[str, JSON]] = []
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return f"{here}'additionalProperties' is required to be supplied and to be false."
        required = schema.get("required")
        names = [*required] if isinstance(required, list) else list[JSON]()
        inner = list(properties.items()) if isinstance(properties, Mapping) else []
        for name, _ in inner:
            if name not in names:
                return (
                    f"{here}'required' is required to be supplied and to be an array including"
                    f" every key in properties. Missing '{name}'."
                )
    if "items" in schema:
        inner.append(("items", schema["items"]))
    inner += fields_of(schema.get("$defs")).items()
    choices = schema.get("anyOf")
    inner += [(str(n), one) for n, one in enumerate(choices)] if isinstance(choices, list) else ()
    found = (_loose(one, (*path, name)) for name, one in inner)
    return next(filter(None, found), "")
