"""The parameters of a function that becomes a tool: their schema, and the validation of calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from types import SimpleNamespace
from typing import (
    Annotated,
    Any,
    Final,
    NotRequired,
    Optional,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typing_extensions import TypedDict

from lorimer.core.errors import ConfigError, nearest
from lorimer.core.jsonable import JSON, dumps
from lorimer.tools.base import ToolContext, ToolInput
from lorimer.tools.encode import plain
from lorimer.tools.schema import invalid_input

_MAX_FAULTS: Final = 5
_NUMBERS: Final = ({"integer"}, {"number"}, {"integer", "number"})
_MAX_DEFAULT_CHARS: Final = 1000
_OURS: Final = (__name__, "lorimer.tools.decorator")
"""Modules whose frames are between a function and the code that makes a tool of it."""


class Converted(dict[str, Any]):
    """Arguments that were validated by a signature."""


class Signature:
    """The parameters of one function, compiled."""

    def __init__(
        self, function: Callable[..., object], tool: str, notes: Mapping[str, str]
    ) -> None:
        self.context: str | None = None
        """The parameter that receives the ToolContext."""
        fields: dict[str, object] = {}
        defaults: dict[str, JSON] = {}
        self._declared: dict[str, FieldInfo] = {}
        """Parameters whose default is a `Field`: Python would pass that object."""
        hints = _hints(function, tool)
        partial = isinstance(cast("object", function), functools.partial)
        given = cast("functools.partial[object]", function).keywords if partial else {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name in given:
                continue
            hint = _hint(parameter, hints, tool)
            if hint is ToolContext or ToolContext in get_args(hint):
                self.context = parameter.name
                continue
            default: object = parameter.default
            if isinstance(default, FieldInfo):
                hint, default = self._field(parameter.name, hint, default)
            if get_origin(hint) is Iterable:  # else it would be validated only while it is iterated
                hint = list[get_args(hint)]  # type: ignore[misc]  # pyright: ignore
            if default is None:
                hint = _or_none(hint)
            note = notes.get(parameter.name) or _note(hint)
            kind: object = Annotated[hint, Field(description=note)] if note else hint
            if default is not inspect.Parameter.empty:
                kind = NotRequired[kind]  # type: ignore[valid-type]  # pyright: ignore[reportInvalidTypeForm, reportUnknownVariableType]
                defaults[parameter.name] = plain(default)
            fields[parameter.name] = kind
        self._names = tuple(fields)
        self._adapter = _adapter(fields, tool)
        self.schema = _schema(self._adapter, defaults, tool)
        self._numbers = _numbers(self.schema)

    def _field(self, name: str, hint: object, field: FieldInfo) -> tuple[object, object]:
        """Type and default of a parameter whose default is a `Field`."""
        bare = copy(field)  # the arguments are a TypedDict, whose fields have no defaults
        bare.default, bare.default_factory = PydanticUndefined, None
        kind = Annotated[hint, bare]
        if field.is_required():
            return kind, inspect.Parameter.empty
        self._declared[name] = field
        return kind, cast("object", field.get_default(call_default_factory=True))

    def convert(self, input: ToolInput) -> ToolInput:
        """The arguments in the form that the function takes. Raises `exec.tool.invalid_input`."""
        for name in self._numbers:
            # in Python True equals 1, in a model's arguments it is a mistake
            if isinstance(input.get(name), bool):
                raise invalid_input(f"input.{name}: must be a number, not a boolean")
        try:
            converted = Converted(self._adapter.validate_python(input))
        except ValidationError as fault:
            raise invalid_input(self._faults(fault)) from None
        for name, field in self._declared.items():
            if name not in converted:
                converted[name] = field.get_default(call_default_factory=True)
        return converted

    def _faults(self, error: ValidationError) -> str:
        lines: list[str] = []
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            path = ".".join(["input", *[str(part) for part in fault["loc"]]])
            text = fault["msg"]
            if fault["type"] == "extra_forbidden":
                text = f"there is no such argument{nearest(str(fault['loc'][-1]), self._names)}"
            lines.append(f"{path}: {text}")
        more = len(lines) - _MAX_FAULTS
        return "; ".join(lines[:_MAX_FAULTS]) + (f"; and {more} more" if more > 0 else "")


def _adapter(fields: Mapping[str, object], tool: str) -> TypeAdapter[dict[str, Any]]:
    # a TypedDict, because a model class could not have fields named `copy` or `json`
    make = cast("Callable[[str, Mapping[str, object]], type[dict[str, Any]]]", TypedDict)
    arguments = make("arguments", fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return TypeAdapter(arguments)
    except (PydanticUserError, TypeError) as error:
        if isinstance(error, PydanticUserError) and error.code == "typed-dict-version":
            told = f"tool {tool!r}: {_culprit(fields)}: {error.message}"
            raise ConfigError(told) from error
        raise ConfigError(
            f"tool {tool!r}: {_culprit(fields)} has a type that a model cannot give",
            hint="Use plain types, a BaseModel, a dataclass or a TypedDict. A client or a database "
            "comes from the tool's object or closure: docs/tools.md.",
        ) from error


def _culprit(fields: Mapping[str, object]) -> str:
    """Which parameter pydantic cannot validate."""
    for name, kind in fields.items():
        bare: object = get_args(kind)[0] if get_origin(kind) is NotRequired else kind
        try:
            TypeAdapter(cast("type[object]", bare))
        except (PydanticUserError, TypeError):
            return f"parameter {name!r}"
    return "a parameter"


def _schema(
    adapter: TypeAdapter[dict[str, Any]], defaults: Mapping[str, JSON], tool: str
) -> dict[str, Any]:
    try:
        schema = adapter.json_schema()
    except PydanticInvalidForJsonSchema as error:
        raise ConfigError(
            f"tool {tool!r}: a parameter has a type that JSON cannot hold: {error.message}"
        ) from error
    _drop_titles(schema)
    for name, default in defaults.items():
        part = schema["properties"].get(name)
        if part is None or len(dumps(default)) > _MAX_DEFAULT_CHARS:  # None: it has an alias
            continue
        if isinstance(part.get("default"), float):  # perhaps infinite, which JSON cannot express
            del part["default"]
        part.setdefault("default", default)
    return schema


def _drop_titles(schema: dict[str, Any]) -> None:
    """Remove titles: they repeat the names and waste tokens."""
    schema.pop("title", None)
    for holder in ("properties", "$defs"):
        for part in schema.get(holder, {}).values():
            _drop_titles(part)


def _numbers(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Properties that are numbers, or numbers and null."""
    return tuple(
        name
        for name, part in schema.get("properties", {}).items()
        if {each.get("type") for each in part.get("anyOf", [part])} - {"null"} in _NUMBERS
    )


def _or_none(hint: object) -> object:
    """The type of a parameter whose default is None: `x: int = None` accepts that too."""
    if hint is Any or hint is object:
        return hint
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        return Annotated[(_or_none(kind), *notes)]
    return Optional[hint]  # type: ignore[valid-type]  # pyright: ignore[reportInvalidTypeForm]  # noqa: UP045 - `|` is not for every type


def _note(hint: object) -> str:
    """The text of `Annotated[int, "how many"]` or `Annotated[int, Doc("how many")]`."""
    if get_origin(hint) is not Annotated:
        return ""
    notes = [getattr(note, "documentation", note) for note in get_args(hint)[1:]]
    return next((note for note in notes if isinstance(note, str)), "")


def target_of(function: Callable[..., object]) -> Callable[..., object]:
    """The function that is called: the one inside a partial, or an object's `__call__`."""
    target: object = function
    while isinstance(target, functools.partial):
        target = cast("functools.partial[object]", target).func
    if not inspect.isroutine(target):
        target = type(target).__call__
    return cast("Callable[..., object]", target)


def _hints(function: Callable[..., object], tool: str) -> dict[str, object]:
    target = target_of(function)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise ConfigError(f"tool {tool!r}: a generator cannot be a tool; return a list instead")
    try:
        # without the return type, which may be known to type checkers only
        written = {**getattr(target, "__annotations__", {})}
        written.pop("return", None)
        names = getattr(inspect.unwrap(target), "__globals__", {})
        holder = SimpleNamespace(__annotations__=written)
        try:
            return get_type_hints(holder, names, include_extras=True)
        except NameError:  # a class that is local to the function in which this one is decorated
            return get_type_hints(holder, names, _around(), include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(
            f"tool {tool!r}: a parameter's type cannot be resolved: {error}",
            hint="Types must be importable from the module that defines the function.",
        ) from error


def _around() -> dict[str, object]:
    """The local names where `tool` was called."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") in _OURS:
        frame = frame.f_back
    return dict(frame.f_locals) if frame is not None else {}


def _hint(parameter: inspect.Parameter, hints: Mapping[str, object], tool: str) -> object:
    if parameter.kind not in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    ):
        raise ConfigError(
            f"tool {tool!r}: parameter {parameter} cannot be given by name; "
            "use plain named parameters"
        )
    if parameter.name not in hints and parameter.name in ("self", "cls"):
        raise ConfigError(
            f"tool {tool!r}: {parameter.name!r} is not an argument that a model could give",
            hint=f"Make the tool of an object's method: tool(effects=...)(service.{tool}).",
        )
    if parameter.name not in hints:
        raise ConfigError(
            f"tool {tool!r}: parameter {parameter.name!r} has no type",
            hint=f"Write for example `{parameter.name}: str`.",
        )
    return hints[parameter.name]
