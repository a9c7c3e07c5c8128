"""What everybody who is measured does: call a tool that does nothing, again and again. Imports
next to nothing, like scale.py."""

from __future__ import annotations

from typing import Final

TOOL: Final = "work"
DESCRIPTION: Final = "Does a piece of work."
SCHEMA: Final[dict[str, object]] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
}
TOOL_CALLS: Final = 10
"""Of a run of row 2, and of row 6."""
CROWD_CALLS: Final = 5
"""Of each of the runs at once (row 8)."""
