"""The argument RUN of many commands, which a shell completes with the ids of the latest runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import click

from lorimer.cli.store import opened, store_path
from lorimer.cli.text import one_line, short_id

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., object])

_LATEST: Final = 50
"""Runs that are offered at most."""


def run_argument(name: str = "run", *, required: bool = True) -> Callable[[F], F]:
    """An id of a run, or its beginning."""
    return click.argument(name, required=required, shell_complete=_latest)


def _latest(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from lorimer.core.errors import LorimerError

    store: object = context.params.get("store")
    try:
        found = asyncio.run(_names(store if isinstance(store, str) else None))
    except (LorimerError, OSError):
        return []  # nothing is told while somebody types
    return [CompletionItem(n, help=title) for n, title in found if n.startswith(incomplete)]


async def _names(store: str | None) -> list[tuple[str, str]]:
    from lorimer.journal.family import root_runs
    from lorimer.world import RealWorld

    path = store_path(store)
    if not path.is_file():
        return []
    async with opened(path, RealWorld()) as journal:
        rows = await root_runs(journal, _LATEST)
    return [(short_id(row.run_id), one_line(row.title, 40)) for row in rows]
