"""Common parts of the rules of OpenAI's two wires: how and why the vendor rejects requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NoReturn, TypeAlias

from lorimer.core.jsonable import JSON
from lorimer.testing.fake_turn import Refused

Object: TypeAlias = Mapping[str, JSON]

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def no(
    message: str, *, param: str | None = None, code: str = "invalid_value", status: int = 400
) -> NoReturn:
    """Raises Refused."""
    raise Refused(status, message, param=param, code=code)


def missing(where: str, param: str = "") -> NoReturn:
    """Raises Refused for a parameter that is not there."""
    no(
        f"Missing required parameter: '{where}'.",
        param=param or where,
        code="missing_required_parameter",
    )


def check_stream_options(body: Object) -> None:
    """Raises Refused for options of a stream where none is wanted."""
    if body.get("stream_options") is not None and body.get("stream") is not True:
        no(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            param="stream_options",
        )


def array(value: JSON, where: str) -> list[Object]:
    """A non-empty array of objects; otherwise raises Refused."""
    if not isinstance(value, list):
        no(f"Invalid type for '{where}': expected an array.", param=where, code="invalid_type")
    if not value:
        no(
            f"Invalid '{where}': empty array. Expected an array with minimum length 1, but got an"
            " empty array instead.",
            param=where,
            code="empty_array",
        )
    return [object_of(item, f"{where}[{index}]") for index, item in enumerate(value)]


def object_of(value: JSON, where: str) -> Object:
    """An object; otherwise raises Refused."""
    if not isinstance(value, Mapping):
        no(f"Invalid type for '{where}': expected an object.", param=where, code="invalid_type")
    return value


def string(value: JSON, where: str) -> str:
    """A string; otherwise raises Refused."""
    if not isinstance(value, str):
        no(f"Invalid type for '{where}': expected a string.", param=where, code="invalid_type")
    return value


def named(value: JSON, where: str) -> str:
    """The name of a tool or an output schema; otherwise raises Refused."""
    if value is None:
        missing(where)
    if not _NAME.fullmatch(string(value, where)):
        no(
            f"Invalid '{where}': string does not match pattern. Expected a string that matches the"
            f" pattern '^{_NAME.pattern}$'.",
            param=where,
        )
    return str(value)


def parameters(schema: Object, name: str, param: str) -> None:
    """Raises Refused for a tool's schema that is invalid in every mode."""
    said, code = f"Invalid schema for function '{name}': ", "invalid_function_parameters"
    if schema.keys() & {"oneOf", "anyOf", "allOf", "enum", "not"}:
        no(
            f"{said}schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/"
            "'not' at the top level.",
            param=param,
            code=code,
        )
    waiting: list[tuple[tuple[str, ...], JSON]] = [((), schema)]
    for path, one in waiting:  # grows during the loop
        if not isinstance(one, Mapping):
            continue
        if one.get("type") == "array" and "items" not in one:
            no(f"{said}In context={path}, array schema missing items.", param=param, code=code)
        for group in ("properties", "$defs"):
            inner = one.get(group)
            if isinstance(inner, Mapping):
                waiting += [((*path, group, key), part) for key, part in inner.items()]
        choices = one.get("anyOf")
        if isinstance(choices, list):
            waiting += [((*path, "anyOf", str(n)), part) for n, part in enumerate(choices)]
        waiting.append(((*path, "items"), one.get("items")))
