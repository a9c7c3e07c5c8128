"""Extract declared fields from a text with a small model."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field, create_model

from lorimer.core.jsonable import JSON, dumps
from lorimer.tools.base import ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.meta import TEXT, TIER, MetaTool, cut

_NUMBER: Final = re.compile(r"[^\d+.-]{0,8}([+-]?\d{1,3}(?:[, _]\d{3})+(?:\.\d+)?)[^\d]{0,20}")
"""A number with thousands separators, and perhaps a unit: `1,234.50 EUR`."""
_PLAIN: Final = re.compile(r"[^\d+.-]{0,8}([+-]?\d+(?:\.\d+)?)[^\d,.]{0,20}")


def _number(value: object) -> object:
    """A number that came as a text, if it is unambiguous."""
    if isinstance(value, str):
        text = value.strip()
        found = _NUMBER.fullmatch(text) or _PLAIN.fullmatch(text)
        if found is not None:
            return re.sub("[, _]", "", found[1])
    return value


_Text = str
_Whole = Annotated[int, BeforeValidator(_number)]
_Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]

_TYPES: Final[dict[str, Any]] = {
    "string": _Text,
    "integer": _Whole,
    "number": _Real,
    "boolean": bool,
    "strings": list[_Text],
    "integers": list[_Whole],
    "numbers": list[_Real],
}

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "text": TEXT,
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,49}$"},
                    "type": {"enum": list(_TYPES), "description": "Default string"},
                    "description": {"type": "string", "maxLength": 500},
                },
                "required": ["name"],
                "additionalProperties": False,
            },
            "minItems": 1,
            "maxItems": 50,
            "description": "What to look for",
        },
        "tier": TIER,
    },
    "required": ["text", "fields"],
    "additionalProperties": False,
}


class ExtractEntities(MetaTool):
    """Extracts the declared fields of a text as one object with a small model: each of its type, or
    null if the text does not say. Numbers given as text are converted. Uses the tier `fast`, unless
    the host allows others."""

    name = "extract_entities"
    description = (
        "Extract fields from a text: names, dates, amounts. Declare each with name and type; a "
        "small model fills them, with null for what the text does not say."
    )
    input_schema = _SCHEMA

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        fields: list[dict[str, str]] = input["fields"]
        names = [field["name"] for field in fields]
        if len(set(names)) != len(names):
            return ToolResult("input.fields: two of them have the same name.", is_error=True)
        refused = self.refusal(input, context)
        if refused is not None:
            return refused
        text, shortened = cut(input["text"])
        task = (
            "Fill these fields from the text; null for what it does not say, and never a guess. "
            f"Fields, as JSON: {dumps(fields)}"
        )
        found = await self.ask(_form(fields), task, text, input, context)
        values = found.model_dump(mode="json", by_alias=True)
        return ToolResult({"entities": values} | ({"text_was_cut": True} if shortened else {}))


def _form(fields: list[dict[str, str]]) -> type[BaseModel]:
    """The type of the answer. Its own field names are numbers, because declared ones could be names
    of methods; on the wire they are as declared."""
    declared: dict[str, Any] = {
        f"field_{number}": (
            _TYPES[field.get("type", "string")] | None,
            Field(alias=field["name"], description=field.get("description") or None),
        )
        for number, field in enumerate(fields)
    }
    return create_model("Entities", **declared)
