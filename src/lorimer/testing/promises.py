"""What the conformance kits for stores share: a promise, and the report of broken ones."""

from __future__ import annotations

import asyncio
import traceback
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

On = TypeVar("On")
Open = TypeVar("Open")

ASK_S: Final = 60.0
"""Seconds that a promise may take; a store that does not answer breaks it."""


@dataclass(frozen=True, slots=True)
class AnyPromise(Generic[On, Open]):
    """One guarantee of every store of a kind."""

    ask: Callable[[On], Awaitable[None]]

    def __str__(self) -> str:
        return self.ask.__name__

    @property
    def title(self) -> str:
        """The promise in a sentence."""
        return " ".join((self.ask.__doc__ or "").split())

    def run(self, open: Open) -> None:
        """Raises AssertionError if it is not kept, and whatever else escapes from the store. Runs
        its own event loop: call it from synchronous code."""

        async def asked() -> None:
            async with asyncio.timeout(ASK_S):
                await self.asked(open)

        asyncio.run(asked())

    @abstractmethod
    async def asked(self, open: Open) -> None:
        """Ask it of what `open` opens."""


def broken(promises: Iterable[AnyPromise[On, Open]], open: Open) -> str:
    """A paragraph for each promise that is not kept; "" if all are."""
    told: list[str] = []
    for promise in promises:
        try:
            promise.run(open)
        except Exception:  # noqa: BLE001 - whatever it is, it is reported
            told.append(f"{promise}: {promise.title}\n{traceback.format_exc()}")
    return "\n".join(told)
