"""Change cells of a Jupyter notebook; the file format is in `notebook.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.tools.base import NOT_DONE, NotDone, Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.notebook import Notebook, Operation, Unfit, cell_id
from lorimer.tools.builtin.rooted import FILE_PATH, Failed, in_files
from lorimer.world.files import RootedFiles

MAX_BYTES: Final = 16 * 1024 * 1024
"""Larger notebooks are not edited: outputs make them large."""
MAX_OPERATIONS: Final = 100

_INDEX: Final = {"type": "integer", "minimum": 0}
_SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {
        "file_path": FILE_PATH,
        "operations": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_OPERATIONS,
            "description": "Made one after the other, all or none",
            "items": {
                "type": "object",
                "properties": {
                    "op": {"type": "string", "enum": ["replace", "insert", "delete"]},
                    "index": {
                        **_INDEX,
                        "description": "Of the cell, from 0, as the operations before left it; of "
                        "an insert, the index that the new cell gets (default: the end)",
                    },
                    "cell_id": {
                        "type": "string",
                        "minLength": 1,
                        "description": "Instead of index; of an insert, the cell before it",
                    },
                    "source": {"type": "string", "description": "The new text of the cell"},
                    "cell_type": {"type": "string", "enum": ["code", "markdown", "raw"]},
                },
                "required": ["op"],
                "additionalProperties": False,
            },
        },
        "save": {
            "type": "boolean",
            "description": "Write the file (default true); false only tells what would be done",
        },
    },
    "required": ["file_path", "operations"],
    "additionalProperties": False,
}


class NotebookEdit(Tool):
    """Replaces, inserts and deletes cells of a notebook (nbformat 4, at most 16 MiB), all or
    nothing. What it does not change stays as it was; a code cell whose text changes loses its
    outputs, which are no longer its own."""

    name = "NotebookEdit"
    description = (
        "Change cells of a Jupyter notebook (.ipynb): replace, insert or delete them, several at "
        "once, by index or cell id. Read the notebook before."
    )
    input_schema = _SCHEMA
    effects = frozenset({"read", "write"})
    subject = "file_path"
    paths = frozenset({"file_path"})

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. An operation that cannot be made is an error result with its path, and
        nothing is written."""
        path: str = input["file_path"]
        operations: list[Operation] = input["operations"]
        save: bool = input.get("save", True)

        def edit(files: RootedFiles, where: Path) -> str:
            book = _opened(path, files, where)
            try:
                done = [
                    book.apply(operation, f"input.operations[{at}]", cell_id(_key(context), at))
                    for at, operation in enumerate(operations)
                ]
                data = book.to_bytes() if save else b""
            except Unfit as fault:
                raise Failed(f"{fault} Nothing was changed.") from fault
            if save:
                files.write_bytes(where, data)
            head = f"{path} has {len(book.cells)} cells now:" if save else "Not saved:"
            return "\n".join([head, *done])

        try:
            return ToolResult(await in_files(context, path, edit))
        except Failed as failed:
            return failed.result

    async def reconcile(
        self, key: str, input: ToolInput, context: ToolContext
    ) -> ToolResult | NotDone | None:
        """Look into the notebook: all operations are written at once, so one tells of all: an
        inserted cell by its id, or a deletion that named an id. Otherwise it is unknown."""
        path: str = input["file_path"]
        operations: list[Operation] = input["operations"]
        if not input.get("save", True):
            return NOT_DONE

        def look(files: RootedFiles, where: Path) -> bool | None:
            book = _opened(path, files, where)
            ids = book.ids
            for at, operation in enumerate(operations):
                if operation["op"] == "insert" and book.has_ids:
                    return cell_id(key, at) in ids
            for operation in operations:
                if operation["op"] == "delete" and "cell_id" in operation:
                    return operation["cell_id"] not in ids
            return None

        try:
            found = await in_files(context, path, look)
        except Failed:
            return None
        if found is None:
            return None
        if found:
            return ToolResult(f"{path} was changed as asked for, before an interruption.")
        return NOT_DONE


def _key(context: ToolContext) -> str:
    return context.idempotency_key


def _opened(path: str, files: RootedFiles, where: Path) -> Notebook:
    data, more = files.read_bytes(where, MAX_BYTES)
    if more:
        raise Failed(f"{path} is larger than {MAX_BYTES:,} bytes, too large to edit.")
    try:
        return Notebook(data)
    except Unfit as fault:
        raise Failed(f"{path} is not a notebook that can be edited: {fault}") from fault
