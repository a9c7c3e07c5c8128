"""Find lines by a regular expression. For the limits of the search see `grep_search`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.grep_search import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    MAX_NAMED_BYTES,
    MAX_SEARCH_S,
    Found,
    Query,
    search,
)
from lorimer.tools.builtin.patterns import MAX_PATTERN
from lorimer.tools.builtin.rooted import Failed

MAX_LINES: Final = 300
"""Most matching lines shown."""
MAX_FILES: Final = 500
"""Most files listed, in the modes `files` and `count`."""

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "pattern": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1000,
            "description": "Regular expression in Python's syntax, matched against each line",
        },
        "path": {
            "type": "string",
            "description": "File or folder to search (default: the working directory)",
        },
        "glob": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_PATTERN,
            "description": "Only files like this, e.g. *.py or src/**/*.{ts,tsx}",
        },
        "output_mode": {
            "enum": ["content", "files", "count"],
            "description": "Matching lines (default), names of files, or matches in each file",
        },
        "context": {
            "type": "integer",
            "minimum": 0,
            "maximum": 10,
            "description": "Lines to show before and after each match",
        },
        "case_insensitive": {"type": "boolean", "description": "Ignore upper and lower case"},
    },
    "required": ["pattern"],
    "additionalProperties": False,
}


class Grep(Tool):
    """Finds matching lines in all text files below a folder, ordered by path.

    Excluded are binary files, files above 2 MiB, links, files for which a rule denies this tool (or
    asks), and folders named `.git` or `.lorimer` (unless the requested folder is inside one). Ends
    after 300 lines, 500 files, 100,000 names, 30 s in total or `regex_s` seconds of matching; a
    truncated result says so.
    """

    name = "Grep"
    description = (
        "Search the text of files for a regular expression (Python syntax, line by line). Shows "
        f"`path:line:text`, at most {MAX_LINES} lines; output_mode `files` lists the files only, "
        "`count` the matches in each."
    )
    input_schema = _SCHEMA
    effects = frozenset({"read"})
    concurrency_safe = True
    early = True
    share_safe = True
    subject = "pattern"
    paths = frozenset({"path"})
    rooted = True

    def __init__(self, *, regex_s: float = 10.0) -> None:
        self._regex_s = regex_s

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. An invalid regex is invalid input; one that takes too long, and a missing
        path, are error results."""
        mode: str = input.get("output_mode", "content")
        query = Query(
            input["pattern"],
            input.get("glob", ""),
            input.get("context", 0) if mode == "content" else 0,
            input.get("case_insensitive", False),
            MAX_LINES if mode == "content" else 0,
            MAX_FILES,
            self._regex_s,
        )
        path: str = input.get("path", "")
        try:
            found = await search(path, query, context)
        except Failed as failed:
            return failed.result
        lines = list(_lines(found, path, mode, query.context))
        notes = list(_notes(found, query))
        if not lines and not found.regex_too_slow:
            lines.append("No matches.")
        return ToolResult("\n".join(lines + notes), is_error=found.regex_too_slow)


def _lines(found: Found, path: str, mode: str, context: int) -> Iterator[str]:
    before: tuple[str, int] | None = None
    for match in found.matches[:MAX_FILES]:
        name = str(PurePosixPath(path, match.name))
        if mode == "files":
            yield name
        elif mode == "count":
            yield f"{name}:{match.count}"
        for number, hit, text in match.lines:
            if context and before is not None and before != (name, number - 1):
                yield "--"
            before = name, number
            mark = ":" if hit else "-"
            yield f"{name}{mark}{number}{mark}{text}"


def _notes(found: Found, query: Query) -> Iterator[str]:
    count = sum(match.count for match in found.matches)
    if found.regex_too_slow:
        yield (
            f"[stopped: matching took more than {query.regex_s:g} s; make the regular expression "
            "simpler, or search fewer files]"
        )
    elif found.too_slow:
        yield f"[stopped after {MAX_SEARCH_S:g} s; search fewer files]"
    elif query.max_lines and count > query.max_lines:
        yield f"[cut after {query.max_lines} of {count:,}+ matching lines; narrow the search]"
    elif not query.max_lines and len(found.matches) > query.max_files:
        yield f"[cut after {query.max_files} files; narrow the search]"
    elif found.unread:
        yield f"[ended here: {found.unread:,} files were not searched; narrow the search]"
    if found.entries_cut:
        yield f"[only the first {MAX_ENTRIES:,} names were looked at; give a path]"
    if found.large:
        yield f"[{found.large:,} files of more than {MAX_FILE_BYTES:,} bytes were left out]"
    if found.denied:
        yield f"[rules deny searching {found.denied:,} of the files, which were left out]"
    if found.beginning_only:
        yield f"[only the first {MAX_NAMED_BYTES:,} bytes were searched]"
