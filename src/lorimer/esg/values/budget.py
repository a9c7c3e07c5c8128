"""Limits the bytes used by copies of what steps have changed.

Beyond the limit, the copies that take the least time to make again, per byte, are dropped first:
the step that left the content runs again if it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lorimer.esg.values.content import Content
from lorimer.esg.values.store import VersionStore

COPIES: Final = 2**30
"""Bytes, unless a session sets another limit."""


def keep_within(store: VersionStore, most: int, seconds: Callable[[str], float]) -> None:
    """Drop copies until the rest take at most `most` bytes.

    `seconds`: how long a step takes. What was given to the session is kept: no step can make it
    again.
    """
    if store.copied <= most:
        return
    found = list[tuple[float, int, Content]]()
    total = 0
    for region in store.regions().values():
        for step, state in region.states.items():
            for content in state.contents:
                size = content.kind.held(content)
                total += size
                if size and step:
                    again = 0.0 if region.live is state else seconds(step)
                    found.append((again / size, size, content))
    for _, size, content in sorted(found, key=lambda each: each[0]):
        if total <= most:
            break
        content.kind.drop(content)
        total -= size
    store.copied = total
