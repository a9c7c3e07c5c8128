"""What callers give to a memory, checked: one item or id counts as a list of one."""

from __future__ import annotations

from typing import cast

from lorimer.core.arguments import each_of
from lorimer.core.errors import ConfigError
from lorimer.core.memory import MemoryItem


def some_items(items: object) -> tuple[MemoryItem, ...]:
    """Raises ConfigError."""
    given = each_of("items", items, MemoryItem, '[MemoryItem("tea", "Bob drinks tea.")]')
    found = cast("tuple[MemoryItem, ...]", given)
    for item in found:
        try:
            MemoryItem.from_json(item.to_json())
        except ValueError as error:
            raise ConfigError(f"item {item.id!r}: {error}") from None
        if any(not tag or "\n" in tag for tag in item.tags):
            raise ConfigError(f"item {item.id!r}: a tag must be one line of text")
    return found


def some_ids(ids: object) -> tuple[str, ...]:
    """Raises ConfigError."""
    return cast("tuple[str, ...]", each_of("ids", ids, str, '["tea"]'))
