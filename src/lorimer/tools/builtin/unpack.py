"""Unpack an archive into a new folder."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.rooted import Failed, in_files, place
from lorimer.tools.policy.effects import PROTECTED
from lorimer.world.archives import BadArchive, Unpacked, unpack
from lorimer.world.files import RootedFiles

_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "archive": {"type": "string", "minLength": 1, "description": "Path of the archive"},
        "into": {
            "type": "string",
            "minLength": 1,
            "description": "Folder for its files: one that is empty or not there yet",
        },
    },
    "required": ["archive", "into"],
    "additionalProperties": False,
}


class Unpack(Tool):
    """Unpacks a zip or tar archive into a new folder; existing files are never overwritten.

    An archive is rejected as a whole for names that lead out of the folder or are not plain,
    protected names such as `.git`, devices, encrypted files, duplicate names, more than 10,000
    entries or 1 GiB, and a compression ratio above 200. Links are skipped, and counted.
    """

    name = "Unpack"
    description = (
        "Unpack an archive (zip, tar, tar.gz, tar.bz2, tar.xz) into a new folder. Links in it are "
        "left out."
    )
    input_schema = _SCHEMA
    effects = frozenset({"read", "write"})
    subject = "into"
    paths = frozenset({"archive", "into"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. What cannot be unpacked is an error result."""
        archive, into = input["archive"], input["into"]
        over = threading.Event()

        def work(files: RootedFiles, where: Path) -> Unpacked:
            target = place(context, into)
            return unpack(files, where, target, forbidden=PROTECTED, stopped=over.is_set)

        try:
            done = await in_files(context, archive, work)
        except BadArchive as error:
            return Failed(f"{archive} was not unpacked: {error}.").result
        except Failed as failed:
            return failed.result
        finally:
            over.set()  # on timeout its thread is abandoned
        left_out = f" {done.links:,} links were left out." if done.links else ""
        return ToolResult(
            f"Unpacked {done.files:,} files ({done.bytes:,} bytes) into {into}.{left_out}"
        )
