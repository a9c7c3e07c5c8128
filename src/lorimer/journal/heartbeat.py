"""The heartbeat of a run: renews the claim on its conversation as long as it is live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from anyio import CancelScope

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.redaction import logger
from lorimer.journal.conversation import Conversation

_log: Final = logger("lorimer.journal")


class Heartbeat:
    """Renews a claim three times in the time for which it holds. Owns the task of a renewal."""

    def __init__(self, conversation: Conversation, lost: Callable[[], None]) -> None:
        """From now until `stop`, on the running event loop. `lost` is called when another process
        has the conversation; then nothing is renewed any more."""
        self._conversation = conversation
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._timer = self._loop.call_later(conversation.claim_s / 3, self._beat)

    def _beat(self) -> None:
        name = f"claim of {self._conversation.stream}"
        self._task = self._loop.create_task(self._renew(), name=name)

    async def _renew(self) -> None:
        try:
            await self._conversation.renew()
        except JournalError as error:
            if error.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT:
                self._lost()
                return
            _log.warning("a claim was not renewed: %s", error)
        if not self._stopped:
            self._timer = self._loop.call_later(self._conversation.claim_s / 3, self._beat)

    async def stop(self) -> None:
        """The run is over. Waits for a renewal in progress, even if cancelled meanwhile."""
        self._stopped = True
        self._timer.cancel()
        cancelled: asyncio.CancelledError | None = None
        with CancelScope(shield=True):
            while self._task is not None and not self._task.done():
                try:
                    await asyncio.wait([self._task])
                except asyncio.CancelledError as error:
                    cancelled = error
        if cancelled is not None:
            raise cancelled
