"""Reads from a store what the audit wants to know of it."""

from __future__ import annotations

from typing import Any

from lorimer.core.journal import Journal
from tests.campaign.audit import Evidence

ALL = 1_000_000


async def gather(journal: Journal, **seen: Any) -> Evidence:
    """The evidence of all runs in a journal; `seen` are its other fields."""
    rows = await journal.runs(limit=ALL)
    streams = sorted({row.stream for row in rows})
    return Evidence(
        facts={stream: [fact async for fact in journal.read(stream)] for stream in streams},
        rows=rows,
        balances={row.run_id: await journal.balance(row.run_id) for row in rows},
        **seen,
    )


async def lengths(journal: Journal) -> dict[str, int]:
    """How many facts each stream has: to be noted when a life begins."""
    streams = {row.stream for row in await journal.runs(limit=ALL)}
    return {s: len([fact async for fact in journal.read(s)]) for s in sorted(streams)}
