"""How a model is asked for a type, and how its answer becomes a value of that type. The calls are
made in `generate.py`.

The schema is written so that every wire can enforce it: no references, all properties required and
no additional ones. Keywords that only some wires support (bounds, patterns, formats, defaults) go
into the descriptions; pydantic enforces them on the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Generic, TypeVar, cast, get_origin

from pydantic import JsonValue, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ConfigError
from lorimer.core.json_in_text import after_thoughts, json_texts
from lorimer.core.jsonable import JSON, dumps
from lorimer.models.wires.strict import closed, in_words

T = TypeVar("T")

MAX_NODES: Final = 2_000
"""Nodes of a schema, with references expanded."""
MAX_FAULTS: Final = 20
"""Faults of an answer that are reported to the model."""

_IN_A_FIELD: Final = "Use a BaseModel, a dataclass or a TypedDict with a field for it."
_MAX_FAULT: Final = 300
_NOT_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_WORDLESS: Final = frozenset(
    [
        *("$defs", "title", "discriminator", "additionalProperties", "required", "description"),
        *("anyOf", "oneOf", "const", "properties"),
    ]
)
"""Keywords that are expressed in another way, or dropped."""
_KINDS: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
}


class Unfit(ValueError):
    """The answer does not fit the type; says why, in words for the model."""


class Form(Generic[T]):
    """One type: its schema, and how an answer is parsed."""

    __slots__ = ("_adapter", "closed", "name", "schema", "wrapped")

    def __init__(self, wanted: type[T] | TypeAdapter[T]) -> None:
        """Raises ConfigError for a type that has no JSON schema, or that refers to itself."""
        self.name = _name(wanted)
        """As shown to the model: letters, digits, `_` and `-`; at most 64."""
        try:
            self._adapter: TypeAdapter[T] = (
                wanted if isinstance(wanted, TypeAdapter) else TypeAdapter(wanted)
            )
            raw = self._adapter.json_schema()
        except PydanticUserError as error:
            raise ConfigError(
                f"the type {self.name} cannot be asked for: {error.message}",
                hint="Use a BaseModel, a dataclass, a TypedDict, or a list of plain types.",
            ) from None
        root = _Writer(raw, self.name).root()
        self.wrapped = root.get("type") != "object"
        """The schema is not that of an object, so the answer is an object whose only field `value`
        holds the value."""
        self.schema: Mapping[str, JSON] = _object({"value": root}) if self.wrapped else root
        self.closed = closed(self.schema)
        """Whether a provider can enforce it strictly."""

    @property
    def instruction(self) -> str:
        """The schema as an instruction, for a model that cannot be held to it."""
        return in_words(self.schema)

    def read(self, text: str) -> T:
        """Parse the text of an answer. Raises Unfit."""
        body = _json_in(text, lists=self.wrapped)
        if self.wrapped:
            whole: object = from_json(body)
            if not isinstance(whole, dict) or "value" not in whole:
                try:  # the bare value, without the object around it
                    return self._adapter.validate_json(body)
                except ValidationError:
                    raise Unfit('it is not an object with the field "value"') from None
            body = to_json(cast("dict[str, JSON]", whole)["value"])
        return self._validated(body)

    def fault(self, body: str) -> str:
        """What is wrong with an answer given as JSON; "": nothing."""
        try:
            self._validated(body)
        except Unfit as error:
            return str(error)
        return ""

    def _validated(self, body: str | bytes) -> T:
        try:
            return self._adapter.validate_json(body)
        except ValidationError as error:
            raise Unfit("; ".join(_faults(error, "value" if self.wrapped else ""))) from None

    def partial(self, text: str) -> JSON:
        """The part of the value that the beginning of an answer contains, as plain data; None:
        nothing yet. It is not validated."""
        text = after_thoughts(text)
        start = text.find("{")
        if start < 0:
            return None
        try:
            data: JSON = from_json(text[start:].rstrip("`\n "), allow_partial="trailing-strings")
        except ValueError:
            return None
        if not isinstance(data, dict):
            return None
        return data.get("value") if self.wrapped else data


def form_among(wanted: Iterable[type[object]], schema: Mapping[str, JSON]) -> Form[object] | None:
    """The one of these types that has this schema; None if there is none, or more than one."""
    found = [form for form in map(Form, wanted) if form.schema == schema]
    return found[0] if len(found) == 1 else None


def object_schema(
    wanted: type[object] | Mapping[str, JsonValue],
) -> dict[str, JsonValue]:
    """The JSON Schema for an agent's `output_schema`: given a BaseModel, a dataclass, a TypedDict,
    or such a schema itself. Raises ConfigError for anything that does not describe an object."""
    if isinstance(wanted, Mapping):
        return dict(wanted)
    if get_origin(wanted) is not None:  # list[City], City | None, Literal["a", "b"]
        raise ConfigError(f"output_schema: {wanted} is not a class with fields", hint=_IN_A_FIELD)
    if not is_a(wanted, type):
        raise wrong("output_schema", wanted, "a class or a JSON Schema", "output_schema=City")
    form = Form(wanted)
    if form.wrapped:
        raise ConfigError(
            f"output_schema: a value of {form.name} is not an object",
            hint=_IN_A_FIELD,
        )
    return cast("dict[str, JsonValue]", dict(form.schema))


def _name(wanted: object) -> str:
    if isinstance(wanted, TypeAdapter):
        return "Answer"
    text = wanted.__name__ if isinstance(wanted, type) else str(wanted)
    return _NOT_IN_NAME.sub("_", text).strip("_")[:64] or "Answer"


def _object(properties: Mapping[str, JSON]) -> dict[str, JSON]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


class _Writer:
    """Rewrites one schema."""

    def __init__(self, raw: Mapping[str, JSON], name: str) -> None:
        self._raw = raw
        self._name = name
        definitions = raw.get("$defs")
        self._definitions: Mapping[str, JSON] = (
            definitions if isinstance(definitions, Mapping) else {}
        )
        self._within: list[str] = []
        self._nodes = 0

    def root(self) -> dict[str, JSON]:
        return self._write(self._raw)

    def _write(self, node: JSON) -> dict[str, JSON]:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError(f"the schema of {self._name} has more than {MAX_NODES} parts")
        if not isinstance(node, Mapping):
            return {}  # true: anything is valid
        reference = node.get("$ref")
        if isinstance(reference, str):
            return self._written_out(reference, node)
        choices = node.get("anyOf", node.get("oneOf"))
        out: dict[str, JSON] = {}
        if isinstance(choices, list):
            out["anyOf"] = [self._write(choice) for choice in choices]
        elif "properties" in node:
            out = self._fields(node)
        elif isinstance(node.get("additionalProperties"), Mapping):
            out = {
                "type": "object",
                "additionalProperties": self._write(node["additionalProperties"]),
            }
        elif "const" in node:
            value = node["const"]
            out = {"enum": [value], "type": node.get("type", _KINDS.get(type(value), "null"))}
        words = [str(node["description"])] if node.get("description") else []
        for keyword, value in node.items():
            if keyword in ("type", "enum"):
                out.setdefault(keyword, value)
            elif keyword == "items":
                out["items"] = self._write(value)
            elif keyword == "prefixItems" and isinstance(value, list):
                out["prefixItems"] = [self._write(item) for item in value]
            elif keyword not in _WORDLESS:
                words.append(f"{keyword}: {value if isinstance(value, str) else dumps(value)}")
        if words:
            out["description"] = "; ".join(words)
        return out

    def _fields(self, node: Mapping[str, JSON]) -> dict[str, JSON]:
        properties = node["properties"]
        assert isinstance(properties, Mapping)
        return _object({name: self._write(field) for name, field in properties.items()})

    def _written_out(self, reference: str, node: Mapping[str, JSON]) -> dict[str, JSON]:
        name = reference.removeprefix("#/$defs/")
        if name in self._within:
            raise ConfigError(
                f"the type {self._name} cannot be asked for: {name} refers to itself",
                hint="Ask for a flat form, such as a list of nodes that name their parents.",
            )
        self._within.append(name)
        out = self._write(self._definitions.get(name))
        self._within.pop()
        beside = {key: value for key, value in node.items() if key != "$ref"}
        if beside:
            words = [str(out.pop("description", "")), str(self._write(beside).get("description"))]
            out["description"] = "; ".join([word for word in words if word and word != "None"])
        return out


def _json_in(text: str, *, lists: bool) -> str:
    """Find the JSON in a text. Raises Unfit."""
    first: ValueError | None = None
    for body in json_texts(text, lists=lists):
        try:
            from_json(body)
        except ValueError as error:
            first = first or error
        else:
            return body
    raise Unfit(f"it is not JSON: {first}" if text.strip() else "it is empty")


def _faults(error: ValidationError, root: str) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False)[:MAX_FAULTS]:
        path = ".".join(map(str, [*([root] if root else []), *fault["loc"]])) or "the whole"
        yield f"{path}: {fault['msg']}"[:_MAX_FAULT]
