"""Write a whole file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lorimer.core.jsonable import JSON, clean
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.rooted import FILE_PATH, Failed, in_files
from lorimer.world.files import RootedFiles

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "file_path": FILE_PATH,
        "content": {"type": "string", "description": "The whole new content"},
    },
    "required": ["file_path", "content"],
    "additionalProperties": False,
}


class Write(Tool):
    """Creates or replaces a file atomically.

    Idempotent: what is written does not depend on the previous content, so an interrupted call is
    simply repeated.
    """

    name = "Write"
    description = (
        "Create a file or replace its whole content; missing folders are made. To change part of "
        "a file use Edit."
    )
    input_schema = _SCHEMA
    effects = frozenset({"write"})
    idempotent = True
    subject = "file_path"
    paths = frozenset({"file_path"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. A file that cannot be written is an error result."""
        path: str = input["file_path"]
        data = clean(input["content"]).encode()

        def write(files: RootedFiles, where: Path) -> int | None:
            try:
                before = files.stat(where).size
            except FileNotFoundError:
                before = None
            files.write_bytes(where, data)
            return before

        try:
            before = await in_files(context, path, write)
        except Failed as failed:
            return failed.result
        if before is None:
            return ToolResult(f"Created {path} ({len(data):,} bytes).")
        return ToolResult(f"Replaced the {before:,} bytes of {path} by {len(data):,} bytes.")
