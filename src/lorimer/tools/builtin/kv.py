"""Notes by key, stored with the conversation.

There is no separate store: the notes follow from the calls in the conversation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lorimer.core.errors import nearest
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.tool import PastCall
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult

MAX_KEYS: Final = 200
MAX_VALUE_CHARS: Final = 10_000
"""Most characters of a value as JSON."""
MAX_CHARS: Final = 200_000
"""Most characters of all values together."""

_SET: Final = "kv_set"
_DELETE: Final = "kv_delete"
_CHANGES: Final = frozenset({_SET, _DELETE})

_KEY: Final = {"type": "string", "minLength": 1, "maxLength": 200, "description": "Its name"}


def _schema(required: list[str], **properties: JSON) -> dict[str, JSON]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def kept(calls: Iterable[PastCall]) -> dict[str, JSON]:
    """The notes after these calls, by key, the latest last."""
    values: dict[str, JSON] = {}
    for call in calls:
        key = str(call.use.input.get("key"))
        if call.use.name in _CHANGES:
            values.pop(key, None)
        if call.use.name == _SET:
            values[key] = call.use.input.get("value")
    return values


class KvSet(Tool):
    """Stores a value under a key, replacing an older one: at most 200 keys, 10,000 characters per
    value, 200,000 in total."""

    name = _SET
    description = (
        "Keep a note under a key. It stays with the conversation, also when older messages are no "
        "longer in front of you."
    )
    input_schema = _schema(["key", "value"], key=_KEY, value={"description": "Any JSON value"})
    effects = frozenset[str]()
    recalls = _CHANGES

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. What does not fit is an error result."""
        key: str = input["key"]
        values = kept(context.past)
        values[key] = input["value"]
        size = len(dumps(input["value"]))
        if size > MAX_VALUE_CHARS:
            return ToolResult(
                f"input.value: it has {size:,} characters; at most {MAX_VALUE_CHARS:,} are kept.",
                is_error=True,
            )
        total = sum([len(dumps(value)) for value in values.values()])
        if len(values) > MAX_KEYS or total > MAX_CHARS:
            return ToolResult(
                f"input.key: there is no room for {key!r}: at most {MAX_KEYS} keys with "
                f"{MAX_CHARS:,} characters are kept. Delete some first.",
                is_error=True,
            )
        return ToolResult(f"Kept {key!r}; {len(values)} of at most {MAX_KEYS} keys.")


class KvGet(Tool):
    """Returns the value under a key."""

    name = "kv_get"
    description = "Read what was kept under a key with kv_set."
    input_schema = _schema(["key"], key=_KEY)
    effects = frozenset[str]()
    recalls = _CHANGES

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class; as JSON with `found`, since null is a value too."""
        key: str = input["key"]
        values = kept(context.past)
        if key not in values:
            return ToolResult({"found": False})
        return ToolResult({"found": True, "value": values[key]})


class KvList(Tool):
    """Lists the keys, with the size of their values."""

    name = "kv_list"
    description = "List the keys that were kept with kv_set."
    input_schema = _schema(
        [], prefix={"type": "string", "description": "Only keys that begin so (default all)"}
    )
    effects = frozenset[str]()
    recalls = _CHANGES

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class."""
        prefix: str = input.get("prefix", "")
        values = kept(context.past)
        lines = [
            f"{key} ({len(dumps(value)):,} characters)"
            for key, value in sorted(values.items())
            if key.startswith(prefix)
        ]
        return ToolResult("\n".join(lines) or "Nothing is kept.")


class KvDelete(Tool):
    """Removes a key."""

    name = _DELETE
    description = "Forget what was kept under a key."
    input_schema = _schema(["key"], key=_KEY)
    effects = frozenset[str]()
    recalls = _CHANGES

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. An unknown key is not an error."""
        key: str = input["key"]
        values = kept(context.past)
        if key not in values:
            return ToolResult(f"Nothing is kept under {key!r}{nearest(key, values)}.")
        return ToolResult(f"Deleted {key!r}; {len(values) - 1} keys are left.")
