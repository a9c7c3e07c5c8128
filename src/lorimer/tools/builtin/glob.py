"""Find files by name."""

from __future__ import annotations

from contextlib import suppress
from heapq import nsmallest
from pathlib import Path, PurePosixPath
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.patterns import MAX_PATTERN, path_matcher
from lorimer.tools.builtin.rooted import Failed, in_files
from lorimer.tools.schema import invalid_input
from lorimer.world.files import RootedFiles

MAX_FILES: Final = 500
MAX_ENTRIES: Final = 100_000
"""Most names examined in one search."""

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "pattern": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_PATTERN,
            "description": "For example **/*.py, src/*.{ts,tsx}, docs/**",
        },
        "path": {
            "type": "string",
            "description": "Folder to search in (default: the working directory)",
        },
    },
    "required": ["pattern"],
    "additionalProperties": False,
}


class Glob(Tool):
    """Finds files whose path below a folder matches a pattern, most recently changed first.

    `*` and `?` match within a name, `**` any folders, `{a,b}` either. Links are not followed,
    folders named `.git` are not searched, and files for which a rule denies this tool (or asks) are
    left out. At most 500 files among the first 100,000 names; a truncated result says so.
    """

    name = "Glob"
    description = (
        "Find files by a pattern over their path, e.g. **/*.py (`**` = any folders, `*` = within "
        f"a name, {{a,b}} = either). The latest changed come first, at most {MAX_FILES}."
    )
    input_schema = _SCHEMA
    effects = frozenset({"read"})
    concurrency_safe = True
    early = True
    share_safe = True
    subject = "pattern"
    paths = frozenset({"path"})
    rooted = True

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. A missing folder is an error result."""
        start, pattern = _split(input.get("path") or "", input["pattern"])
        try:
            matches = path_matcher(pattern)
        except ValueError as error:
            raise invalid_input(f"input.pattern: {error}") from None

        denied = context.denied

        def search(files: RootedFiles, where: Path) -> tuple[list[str], int, bool]:
            found: list[tuple[int, str]] = []
            seen = 0
            base = str(files.resolve(where))
            for entry in files.walk(where, MAX_ENTRIES):
                seen += 1
                if entry.kind != "file" or ".git" in entry.path.split("/")[:-1]:
                    continue
                if matches(entry.path) and not (denied and denied(f"{base}/{entry.path}")):
                    with suppress(OSError):  # gone meanwhile
                        found.append((-files.stat(where / entry.path).mtime_ns, entry.path))
            latest = [path for _, path in nsmallest(MAX_FILES, found)]
            return latest, len(found), seen >= MAX_ENTRIES

        try:
            latest, count, cut = await in_files(context, start or ".", search)
        except Failed as failed:
            return failed.result
        lines = [str(PurePosixPath(start, path)) for path in latest]
        if not lines:
            lines.append(f"No file matches {input['pattern']}.")
        if count > len(latest):
            lines.append(f"[{count - len(latest):,} more files match; narrow the pattern]")
        if cut:
            lines.append(f"[only the first {MAX_ENTRIES:,} names were looked at; give a path]")
        return ToolResult("\n".join(lines))


def _split(path: str, pattern: str) -> tuple[str, str]:
    """The folder to search and the pattern below it; an absolute pattern contains its folder."""
    if not pattern.startswith("/"):
        return path, pattern
    parts = PurePosixPath(pattern).parts
    fixed = next((n for n, part in enumerate(parts) if set(part) & set("*?[{")), len(parts) - 1)
    return str(PurePosixPath(*parts[:fixed])), "/".join(parts[fixed:])
