"""JSON Schemas of tools: compiled once, rejected where they could do harm.

fastjsonschema turns a schema into Python source, so a schema is first reduced to plain data of
bounded size whose references stay inside it. Formats are not checked, because their regexes
backtrack. Patterns are checked by a non-backtracking engine, which supports neither look-around nor
back-references.
"""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any, Final, TypeAlias, cast

from lorimer.core.errors import ConfigError, ExecutorErrorCode, ToolExecutionError
from lorimer.core.jsonable import JSON, clean, dumps, fields_of

ToolInput: TypeAlias = dict[str, Any]
"""The arguments of one call, already validated (hence `Any`)."""

Check: TypeAlias = Callable[[ToolInput], ToolInput]
"""Validates the arguments of a call and returns those to execute with. Raises ToolExecutionError
`exec.tool.invalid_input` with the path of the fault."""

MAX_SCHEMA_CHARS: Final = 262_144
MAX_SCHEMA_DEPTH: Final = 40

MAX_REFERENCES: Final = 500_000
"""References followed while the arguments of one call are validated: alternatives that refer to
themselves can double their number with each level of nesting."""

_MAX_MESSAGE: Final = 1000
_SURELY_WHOLE: Final = frozenset({int, str, bool, type(None)})
"""Values that neither are nor contain a `1.0`."""
_SCHEMES: Final = ("", "http", "https", "ftp", "file", "data")
_EXTRA: Final = re.compile(r"must not contain (\{.*\}) properties", re.DOTALL)


def plain_schema(schema: object, what: str) -> dict[str, JSON]:
    """A copy of an object schema as plain data. Raises ConfigError, which calls it `what`, if it is
    not one, is not plain data, is too large or too deep, or refers outside itself."""
    if not isinstance(schema, Mapping):
        raise ConfigError(f"{what} must be a mapping (a JSON Schema)")
    copied = _copy(cast("Mapping[object, object]", schema), what, 0)
    assert isinstance(copied, dict)
    copied.setdefault("type", "object")
    if copied["type"] != "object":
        raise ConfigError(f"{what} must have type 'object'")
    copied.setdefault("properties", {})
    try:
        size = len(dumps(copied))
    except ValueError as error:
        raise ConfigError(f"{what} is not JSON: {error}") from error
    if size > MAX_SCHEMA_CHARS:
        raise ConfigError(f"{what} has {size} characters; at most {MAX_SCHEMA_CHARS}")
    _check_references(copied, what)
    return copied


def _copy(value: object, what: str, depth: int) -> JSON:
    if depth > MAX_SCHEMA_DEPTH:
        raise ConfigError(f"{what} is deeper than {MAX_SCHEMA_DEPTH} levels")
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            items = cast("Mapping[object, object]", value)
            if not all(isinstance(key, str) for key in items):
                raise ConfigError(f"{what} has a key that is not a string")
            return {str(key): _copy(item, what, depth + 1) for key, item in items.items()}
        case list() | tuple():
            return [_copy(item, what, depth + 1) for item in cast("list[object]", value)]
        case _:
            raise ConfigError(f"{what} holds a {type(value).__name__}; only plain data can")


def _references(value: JSON) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(item, str):
                yield item
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _check_references(schema: JSON, what: str) -> None:
    functions: dict[str, str] = {}
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise ConfigError(f"{what} refers to {reference!r}; only '#...' is followed")
        # the compiler names a function after each reference, ignoring case and punctuation
        function = re.sub("[^a-z0-9]", "_", reference.lower())
        if functions.setdefault(function, reference) != reference:
            raise ConfigError(
                f"{what} has definitions whose names are too much alike: "
                f"{functions[function]!r} and {reference!r}"
            )


def _refuse(uri: str) -> JSON:
    raise ValueError(f"{uri} is outside the schema")


class _Pattern:
    """A pattern that takes linear time. Has the methods that compiled schemas call."""

    def __init__(self, text: str) -> None:
        from pydantic_core import SchemaError, SchemaValidator, core_schema

        schema = core_schema.str_schema(pattern=text, regex_engine="rust-regex", strict=True)
        try:
            self.search = SchemaValidator(schema).isinstance_python
        except SchemaError as error:
            why = str(error).strip().splitlines()[-1].strip().removeprefix("error: ")
            raise ValueError(f"the pattern {text[:200]!r}: {why}") from None


@lru_cache(maxsize=128)  # it takes a millisecond, and every pipeline has new tools
def _compiled(schema: str) -> Callable[..., object]:
    import fastjsonschema

    validate = cast(
        "FunctionType",
        fastjsonschema.compile(
            json.loads(schema),
            handlers=dict.fromkeys(_SCHEMES, _refuse),
            use_default=False,
            use_formats=False,
        ),
    )
    patterns = cast("dict[str, object]", validate.__globals__["REGEX_PATTERNS"])
    for pattern in patterns:
        patterns[pattern] = _Pattern(pattern)
    return _bounded(validate)


def _bounded(validate: FunctionType) -> Callable[..., object]:
    """The validator, which raises _TooLong once it has followed MAX_REFERENCES references: the
    compiler has turned each into a function."""
    names = validate.__globals__
    followed = {
        name: cast("Callable[..., object]", function)
        for name, function in names.items()
        if isinstance(function, FunctionType) and function is not validate
    }
    if not followed:
        return validate
    left = 0

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def follow(*given: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise _TooLong
            return function(*given)

        return follow

    names.update({name: counted(function) for name, function in followed.items()})

    def begin(*given: object) -> object:
        nonlocal left
        left = MAX_REFERENCES
        return validate(*given)

    return begin


class _TooLong(Exception):
    """Validating the arguments takes too many steps."""


def compile_schema(schema: object, what: str) -> Check:
    """The validator of a schema, for a tool's arguments or an answer. Raises ConfigError, which
    calls the schema `what`."""
    import fastjsonschema  # 6 ms, saved where all tools are functions

    definition = plain_schema(schema, what)
    for keyword in ("$schema", "$id", "id"):  # one dialect for all, and no other base URI
        if isinstance(definition.get(keyword), str):
            del definition[keyword]
    try:
        validate = _compiled(dumps(definition))
    except (
        fastjsonschema.JsonSchemaException,
        re.error,
        SyntaxError,  # nested more deeply than Python source may be
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
        RecursionError,
    ) as error:
        raise ConfigError(f"{what} cannot be used: {error}") from error

    counts = '"integer"' in dumps(definition)

    def check(input: ToolInput) -> ToolInput:
        try:
            validate(input, {}, "input")
            if counts:
                for value in input.values():
                    if type(value) not in _SURELY_WHOLE:
                        _whole(input, definition)
                        break
        except fastjsonschema.JsonSchemaException as fault:
            raise invalid_input(_tidy(str(fault))) from None
        except _TooLong:
            raise invalid_input("input could be meant in too many ways to check them all") from None
        except Exception as fault:  # a schema that compiles and then fails: reject it, don't guess
            raise invalid_input(f"the tool's schema is broken: {fault}") from fault
        return input

    return check


def read_texts(input: ToolInput, schema: Mapping[str, JSON]) -> ToolInput:
    """The arguments, with lists and objects that were written as JSON texts parsed, where the
    tool's schema does not accept a text."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return input
    from lorimer.models.wires.sse import parse_json  # only for invalid calls

    out = dict(input)
    for name, value in input.items():
        if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
            continue
        if name in properties and not _takes_text(properties[name]):
            try:
                out[name] = parse_json(clean(dumps(parse_json(value))))
            except ValueError:
                continue
    return out


def _takes_text(schema: JSON) -> bool:
    if not isinstance(schema, Mapping):
        return True
    kinds = schema.get("type")
    choices = schema.get("anyOf", schema.get("oneOf"))
    if "string" in (kinds if isinstance(kinds, list) else [kinds]):
        return True
    return isinstance(choices, list) and any(map(_takes_text, choices))


def _whole(value: JSON, schema: JSON) -> JSON:
    """The value, with `1.0` as 1 where the schema requires an integer: they are equal in JSON, but
    not in Python. Changes objects and lists in place."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, float):
        return int(value) if schema.get("type") == "integer" else value
    if isinstance(value, dict):
        for name, inner in fields_of(schema.get("properties")).items():
            if name in value:
                value[name] = _whole(value[name], inner)
    elif isinstance(value, list) and "items" in schema:
        value[:] = [_whole(item, schema["items"]) for item in value]
    return value


def invalid_input(message: str) -> ToolExecutionError:
    """The error for invalid arguments."""
    return ToolExecutionError(message, code=ExecutorErrorCode.EXEC_TOOL_INVALID_INPUT)


def _tidy(message: str) -> str:
    extra = _EXTRA.search(message)
    if extra is not None:  # the names come as a set, in another order in every process
        try:
            names = sorted(literal_eval(extra[1]))
        except (ValueError, SyntaxError):
            names = []
        message = message.replace(extra[1], str(names))
    return message if len(message) <= _MAX_MESSAGE else message[:_MAX_MESSAGE] + "…"
