"""Replace an exact text in a file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from lorimer.core.jsonable import JSON, clean
from lorimer.tools.base import NOT_DONE, NotDone, Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.rooted import FILE_PATH, Failed, in_files
from lorimer.world.files import RootedFiles

MAX_BYTES: Final = 2_097_152
"""Larger files are not edited."""
_MAX_CHARS: Final = 16 * 1024 * 1024
"""Limit of the result: a few letters, each replaced by a long text, could fill all memory."""

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "file_path": FILE_PATH,
        "old_string": {
            "type": "string",
            "minLength": 1,
            "description": "The exact text to replace, with its white space",
        },
        "new_string": {"type": "string", "description": "The text to put in its place"},
        "replace_all": {
            "type": "boolean",
            "description": "Replace every occurrence (default: there must be exactly one)",
        },
    },
    "required": ["file_path", "old_string", "new_string"],
    "additionalProperties": False,
}


class Edit(Tool):
    """Replaces an exact text in a UTF-8 file of at most 2 MiB, atomically; the result may have up
    to 16 MiB.

    The text must occur exactly once, unless `replace_all`. In a file with CRLF line ends, line ends
    in the two strings are treated as CRLF.
    """

    name = "Edit"
    description = (
        "Replace an exact piece of text in a file. `old_string` must occur exactly once (add "
        "lines around it until it does) or set `replace_all`. Give the text without the line "
        "numbers of Read."
    )
    input_schema = _SCHEMA
    effects = frozenset({"read", "write"})
    subject = "file_path"
    paths = frozenset({"file_path"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. If nothing can be replaced, an error result says why."""
        path: str = input["file_path"]
        old, new = clean(input["old_string"]), clean(input["new_string"])
        every: bool = input.get("replace_all", False)

        def edit(files: RootedFiles, where: Path) -> str:
            before = _text(path, *files.read_bytes(where, MAX_BYTES))
            after, told = _replaced(path, before, old, new, every)
            files.write_bytes(where, after.encode())
            return told

        try:
            return ToolResult(await in_files(context, path, edit))
        except Failed as failed:
            return failed.result

    async def reconcile(
        self, key: str, input: ToolInput, context: ToolContext
    ) -> ToolResult | NotDone | None:
        """Look into the file: with only the new text in it the edit was made, with only the old
        text it was not. With both or neither, or if `new_string` is empty, that is unknown."""
        path: str = input["file_path"]
        old, new = (_one_line_end(clean(input[name])) for name in ("old_string", "new_string"))

        def look(files: RootedFiles, where: Path) -> tuple[bool, bool]:
            text = _one_line_end(_text(path, *files.read_bytes(where, MAX_BYTES)))
            return old in text, bool(new) and new in text

        try:
            has_old, has_new = await in_files(context, path, look)
        except Failed:
            return None
        if has_new and not has_old:
            return ToolResult(
                f"{path} has new_string now, and old_string no more: it was edited before "
                "an interruption."
            )
        return NOT_DONE if has_old and new and not has_new else None


def _one_line_end(text: str) -> str:
    return text.replace("\r\n", "\n")


def _text(path: str, data: bytes, more: bool) -> str:
    if more:
        raise Failed(f"{path} is larger than {MAX_BYTES:,} bytes, too large to edit.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Failed(f"{path} is not UTF-8 text, so it cannot be edited.") from None


def _replaced(path: str, text: str, old: str, new: str, every: bool) -> tuple[str, str]:
    """The new text, and what to report. Raises Failed."""
    ends = text.count("\r\n")
    if ends and (old not in text or ends == text.count("\n")):
        old, new = (part.replace("\r\n", "\n").replace("\n", "\r\n") for part in (old, new))
    if old == new:
        raise Failed("old_string and new_string are the same: there is nothing to change.")
    count = text.count(old)
    if count == 0:
        raise Failed(f"{path}: old_string does not occur.{_near(text, old)}")
    first = list(islice(_line_numbers(text, old), 5))
    if count > 1 and not every:
        raise Failed(
            f"{path}: old_string occurs {count} times (lines {', '.join(map(str, first))}"
            f"{', ...' if count > len(first) else ''}). Make it unique or set replace_all."
        )
    if len(text) + count * (len(new) - len(old)) > _MAX_CHARS:
        raise Failed(f"{path} would get longer than {_MAX_CHARS:,} characters: it was not changed.")
    told = f"Replaced 1 occurrence in {path}, line {first[0]}."
    if count > 1:
        told = f"Replaced {count} occurrences in {path}, the first in line {first[0]}."
    return text.replace(old, new), told


def _line_numbers(text: str, old: str) -> Iterator[int]:
    at, line, counted = text.find(old), 1, 0
    while at >= 0:
        line += text.count("\n", counted, at)
        counted = at
        yield line
        at = text.find(old, at + len(old))


def _near(text: str, old: str) -> str:
    """A hint at a line that differs from the first line of `old` in white space only."""
    wanted = "".join(next((line for line in old.splitlines() if line.strip()), "").split())
    for number, line in enumerate(text.splitlines() if wanted else (), 1):
        if wanted in "".join(line.split()):
            return f" Line {number} has it with other white space: Read it again."
    return " Read the file again: it may have changed."
