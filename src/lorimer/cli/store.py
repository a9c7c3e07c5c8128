"""The store of runs: one SQLite file, by default in the user's data directory."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorimer.cli.fail import Fault
from lorimer.cli.places import data_directory, expanded

if TYPE_CHECKING:
    from lorimer.core.world import World
    from lorimer.journal.sqlite.store import SQLiteJournal

VARIABLE: Final = "LORIMER_STORE"

OF_THE_DEMO: Final = "The runs of the demo are in its folder: --store lorimer-demo/journal.db"
"""A hint for users who have only run the demo."""


def store_path(given: str | None) -> Path:
    """`--store`, else LORIMER_STORE, else the default."""
    named = given or os.environ.get(VARIABLE)
    return expanded(named) if named else data_directory() / "lorimer.db"


def existing_store(given: str | None) -> Path:
    """Like `store_path`, for commands that only read. Raises Fault if the file does not exist."""
    path = store_path(given)
    if not os.path.exists(path):  # unlike Path.exists, it never raises OSError
        hint = f"Run something first: lorimer run. {OF_THE_DEMO}"
        if given or os.environ.get(VARIABLE):
            hint = f"It was named by {'--store' if given else VARIABLE}. {hint}"
        raise Fault(f"there is no store of runs at {path}", hint=hint)
    return path


@asynccontextmanager
async def opened(path: Path, world: World) -> AsyncGenerator[SQLiteJournal]:
    """The journal in the file at `path`, closed at the end."""
    from lorimer.journal.sqlite.store import SQLiteJournal

    journal = SQLiteJournal(path, world=world)
    try:
        yield journal
    finally:
        await journal.close()
