"""A Jupyter notebook (nbformat 4) as far as editing needs it: the rest is kept as it was."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Final, Literal, NotRequired, TypedDict, cast

from lorimer.core.jsonable import JSON, clean

_INDENT: Final = re.compile(rb"\A\{\r?\n([ \t]*)")
_SHOWN: Final = 60


class Unfit(Exception):
    """An operation is impossible, or the file is not a notebook; the message says why."""


def cell_id(key: str, at: int) -> str:
    """The id of the cell that operation number `at` of a call inserts: the same if the call is
    repeated."""
    return blake2b(f"{key}:{at}".encode(), digest_size=4).hexdigest()


class Operation(TypedDict):
    """A change of one cell, validated by the tool's schema."""

    op: Literal["insert", "replace", "delete"]
    index: NotRequired[int]
    cell_id: NotRequired[str]
    cell_type: NotRequired[Literal["code", "markdown", "raw"]]
    source: NotRequired[str]


class Notebook:
    """One notebook. Raises Unfit for bytes that are not a notebook."""

    def __init__(self, data: bytes) -> None:
        try:
            whole: object = json.loads(data)
        except (ValueError, RecursionError) as fault:
            raise Unfit(f"it is not JSON ({fault}).") from fault
        if not isinstance(whole, dict):
            raise Unfit("it is not a JSON object.")
        self._whole = cast("dict[str, JSON]", whole)
        if self._whole.get("nbformat") != 4:
            raise Unfit(f"its nbformat is {self._whole.get('nbformat')!r}, not 4.")
        cells: object = self._whole.get("cells")
        if not isinstance(cells, list) or not all(
            isinstance(cell, dict) for cell in cast("list[object]", cells)
        ):
            raise Unfit("it has no list of cells.")
        self.cells = cast("list[dict[str, JSON]]", cells)
        minor = self._whole.get("nbformat_minor")
        self.has_ids = isinstance(minor, int) and minor >= 5
        """Its cells have ids: since nbformat 4.5."""
        indent = _INDENT.match(data)
        self._indent = indent[1].decode() if indent is not None else " "
        self._newline = data.endswith(b"\n")
        self._crlf = data.startswith(b"{\r\n")

    @property
    def ids(self) -> set[str]:
        """The ids of all cells that have one."""
        return {str(cell["id"]) for cell in self.cells if "id" in cell}

    def to_bytes(self) -> bytes:
        """The file's new content, as Jupyter writes it, with the indentation and the order of keys
        that it had."""
        try:
            text = json.dumps(self._whole, ensure_ascii=False, indent=self._indent)
        except (ValueError, RecursionError) as fault:
            raise Unfit(f"it cannot be written as JSON ({fault}).") from fault
        text += "\n" * self._newline
        return clean(text.replace("\n", "\r\n") if self._crlf else text).encode()

    def apply(self, operation: Operation, path: str, new_id: str) -> str:
        """Make one operation, and return a line that says what was done. Raises Unfit, naming
        `path`."""
        kind = operation["op"]
        if kind == "delete":
            for name in ("source", "cell_type"):
                if name in operation:
                    raise Unfit(f"{path}.{name}: a delete has none.")
            at = self._place(operation, path)
            del self.cells[at]
            return f"deleted cell {at}"
        if "source" not in operation:
            raise Unfit(f"{path}.source: {kind} needs it.")
        source = clean(operation["source"])
        if kind == "insert":
            return self._insert(operation, path, source, new_id)
        at = self._place(operation, path)
        self._replace(self.cells[at], source, operation.get("cell_type"))
        return f"replaced cell {at}: {_shown(source)}"

    def _insert(self, operation: Operation, path: str, source: str, new_id: str) -> str:
        if "cell_id" in operation:
            at = self._place(operation, path) + 1
        else:
            at = operation.get("index", len(self.cells))
            if at > len(self.cells):
                raise Unfit(f"{path}.index: {at} is beyond the end; there are {self._count}.")
        cell: dict[str, JSON] = {"cell_type": operation.get("cell_type", "code"), "metadata": {}}
        if self.has_ids:
            if new_id in self.ids:
                raise Unfit(f"{path}: there is already a cell with the id {new_id!r}.")
            cell["id"] = new_id
        if cell["cell_type"] == "code":
            cell["execution_count"], cell["outputs"] = None, []
        cell["source"] = _lines(source)
        self.cells.insert(at, dict(sorted(cell.items())))  # as Jupyter orders them
        name = f" (id {new_id})" if self.has_ids else ""
        return f"inserted cell {at}{name}: {_shown(source)}"

    def _replace(self, cell: dict[str, JSON], source: str, kind: str | None) -> None:
        same = isinstance(cell.get("source"), str)
        cell["source"] = source if same else _lines(source)
        if kind is not None:
            cell["cell_type"] = kind
        if cell.get("cell_type") == "code":
            cell["execution_count"], cell["outputs"] = None, []
        else:
            cell.pop("execution_count", None)
            cell.pop("outputs", None)

    def _place(self, operation: Operation, path: str) -> int:
        """The index of the cell that an operation refers to."""
        named, index = operation.get("cell_id"), operation.get("index")
        if (named is None) == (index is None):
            raise Unfit(f"{path}: it needs index or cell_id, one of them.")
        if index is not None:
            if index >= len(self.cells):
                raise Unfit(f"{path}.index: there is no cell {index}; there are {self._count}.")
            return index
        found = [at for at, cell in enumerate(self.cells) if cell.get("id") == named]
        if len(found) > 1:
            told = ", ".join(map(str, found[:5]))
            raise Unfit(f"{path}.cell_id: several cells are {named!r} ({told}): give an index.")
        if not found:
            raise Unfit(f"{path}.cell_id: there is no cell {named!r}.")
        return found[0]

    @property
    def _count(self) -> str:
        return f"{len(self.cells)} cells, from 0"


def _lines(source: str) -> list[str]:
    """A text in the form of nbformat: a list of lines, with their line ends."""
    return source.splitlines(keepends=True)


def _shown(source: str) -> str:
    first, _, rest = source.strip().partition("\n")
    return first[:_SHOWN] + ("…" if rest or len(first) > _SHOWN else "")
