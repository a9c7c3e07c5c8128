"""Substitutes values for the placeholders `{name}` in texts, in one pass: placeholders within an
inserted value are not substituted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, cast

from lorimer.core.adhoc import PLACE, AdHocTool
from lorimer.core.jsonable import JSON
from lorimer.tools.encode import text_of


class _Missing:
    """An argument that was left out."""


_MISSING: Final = _Missing()


def schema_of(tool: AdHocTool) -> dict[str, JSON]:
    """The schema of its arguments."""
    properties = cast("Mapping[str, JSON]", tool.parameters)
    required = list(properties) if tool.required is None else tool.required
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def filled(
    text: str,
    values: Mapping[str, JSON],
    spell: Callable[[str], str] = str,
    *,
    variables: Mapping[str, str] | None = None,
) -> str:
    """The text with its placeholders replaced by values, each formatted by `spell`; a missing value
    is empty. With `variables`, `${NAME}` is a placeholder too."""

    def put(found: re.Match[str]) -> str:
        if variables is not None and found[1] and found[2] in variables:
            return spell(variables[found[2]])
        return found[1] + spell(_plain(values.get(found[2], "")))

    return _PLACES.sub(put, text)


_PLACES: Final = re.compile(rf"(\$?){PLACE.pattern}")


def filled_json(
    value: JSON, values: Mapping[str, JSON], variables: Mapping[str, str] | None = None
) -> JSON:
    """A JSON value with the placeholders in its texts replaced. A text that is a single placeholder
    becomes the value itself, with its type; if that is missing, the entry is left out."""
    found = _filled(value, values, variables)
    return None if isinstance(found, _Missing) else found


def _filled(
    value: JSON, values: Mapping[str, JSON], variables: Mapping[str, str] | None
) -> JSON | _Missing:
    if isinstance(value, str):
        whole = PLACE.fullmatch(value)
        if whole is None:
            return filled(value, values, variables=variables)
        return values.get(whole[1], _MISSING)
    if isinstance(value, Mapping):
        pairs = [(name, _filled(item, values, variables)) for name, item in value.items()]
        return {name: item for name, item in pairs if not isinstance(item, _Missing)}
    if isinstance(value, list | tuple):
        items = [_filled(item, values, variables) for item in cast("list[JSON]", value)]
        return [item for item in items if not isinstance(item, _Missing)]
    return value


def _plain(value: JSON) -> str:
    return value if isinstance(value, str) else text_of(value)
