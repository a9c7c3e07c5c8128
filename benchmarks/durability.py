"""What row 5 asks of a durable run, Lorimer's or raw. Imports nothing of Lorimer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import apsw

from benchmarks.scale import Figures, Scale
from benchmarks.support import costs, growth


class Spent(NamedTuple):
    """What one run took."""

    nanoseconds: int
    """Of CPU, all threads."""
    stamps: list[int]
    """CPU time at each iteration."""


Run: TypeAlias = Callable[[Path, int], Awaitable[Spent]]
"""A run of so many iterations, kept in a new database at that path and closed again."""


async def measured(run: Run, scale: Scale) -> Figures:
    """CPU an iteration, bytes an iteration (by the slope, so that empty tables do not count), and
    how the last iterations compare to the tenth."""
    short, long = scale.durable
    with TemporaryDirectory(prefix="lorimer-bench-") as folder:
        paths = [Path(folder, name, "runs.db") for name in ("warm", "short", "long")]
        for path in paths:
            path.parent.mkdir()
        await run(paths[0], scale.warm)
        await run(paths[1], short)
        spent = await run(paths[2], long)
        few, many = [_size(path) for path in paths[1:]]
    return {
        "ms": spent.nanoseconds / long / 1e6,
        "bytes": (many - few) / (long - short),
        "growth": growth(costs(spent.stamps), long, scale.window),
    }


def opened(path: Path) -> Any:
    """A connection to the database at that path. Any: apsw's stubs are not complete."""
    return apsw.Connection(str(path))


def _size(path: Path) -> int:
    """Bytes on disk, the write-ahead log folded in."""
    db = opened(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return sum(file.stat().st_size for file in path.parent.iterdir())
