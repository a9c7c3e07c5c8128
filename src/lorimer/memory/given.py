"""What callers give to a memory, checked: one item or id counts as a list of one."""

from __future__ import annotations

from typing import cast

from lorimer.core.arguments import each_of
from lorimer.core.memory import MemoryItem


def some_items(items: object) -> tuple[MemoryItem, ...]:
    """Raises ConfigError."""
    found = each_of("items", items, MemoryItem, '[MemoryItem("tea", "Bob drinks tea.")]')
    return cast("tuple[MemoryItem, ...]", found)


def some_ids(ids: object) -> tuple[str, ...]:
    """Raises ConfigError."""
    return cast("tuple[str, ...]", each_of("ids", ids, str, '["tea"]'))
