"""The background commands of a run: they continue between its calls, and end with it, together with
all that they started."""

from __future__ import annotations

import asyncio
from typing import Final

from lorimer.core.context import RunContext
from lorimer.core.errors import ToolExecutionError
from lorimer.core.facts import STEP
from lorimer.core.world import Finished, Isolation
from lorimer.tools.base import ToolContext
from lorimer.tools.builtin.programs import run_command
from lorimer.tools.overflow import Overflow
from lorimer.world.bounded import BoundedOutput

MAX_COMMANDS: Final = 8
"""Most commands of one run at once."""
UNREAD_BYTES: Final = 262_144
"""Most bytes of unread output of a command; of more, the first and the last half are kept."""


class BackgroundCommand:
    """One command in the background. Belongs to a `BackgroundCommands`."""

    def __init__(self, id: str, command: str, context: ToolContext, timeout_s: float) -> None:
        self.id = id
        self.command = command
        self.timeout_s = timeout_s
        self.done: Finished | None = None
        """How it ended; None: it has not ended, or could not be started."""
        self.failure: Exception | None = None
        """Why it could not be started, or why waiting for its end failed."""
        self.log = Overflow(context, context.idempotency_key, kept=0)
        self.running: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Settled when the command runs or has ended."""
        self._unread = BoundedOutput(UNREAD_BYTES)
        self._redactor = None if context.run is None else context.run.redactor
        self.task = asyncio.get_running_loop().create_task(self._run(context), name=id)
        self.task.add_done_callback(self._has_begun)

    async def _run(self, context: ToolContext) -> None:
        try:
            self.done = await run_command(self.command, context, self.timeout_s, self)
            await self.log.finish()
        except Exception as error:  # noqa: BLE001 - told when somebody looks
            self.failure = error

    def _has_begun(self, _: object = None) -> None:
        if not self.running.done():
            self.running.set_result(None)

    def begun(self, isolation: Isolation | None) -> None:
        """See `Sink`."""
        self.log.begun(isolation)
        self._has_begun()

    def take(self, chunk: bytes) -> bool:
        """See `Sink`."""
        self._unread.write(chunk)
        return self.log.take(chunk)

    async def drain(self) -> None:
        """See `Sink`."""
        await self.log.drain()

    def news(self) -> tuple[bytes, int]:
        """The output since the last call, shortened to UNREAD_BYTES, and its full length in bytes.
        While the command runs, output that may be the beginning of a secret is held back."""
        unread, self._unread = self._unread, BoundedOutput(UNREAD_BYTES)
        output, total = unread.content(), unread.total
        if self._redactor is not None and not self.task.done():
            output = self._redactor.raw(output)
            kept = self._redactor.held_back_raw(output)
            if kept:
                output, held = output[:-kept], output[-kept:]
                self._unread.write(held)
        return output, len(output) if unread.complete else total

    async def stop(self) -> None:
        """End it and all that it has started, within about 2 s."""
        self.task.cancel()
        await asyncio.wait([self.task])


class BackgroundCommands:
    """The background commands of one run; see `core/owned.py`. Owns a task for each command, which
    ends with the command's whole process tree."""

    def __init__(self) -> None:
        self._commands: dict[str, BackgroundCommand] = {}

    @classmethod
    def of(cls, run: RunContext) -> BackgroundCommands:
        """The background commands of this run."""
        return run.owned.own(cls, cls)

    async def start(
        self, id: str, command: str, context: ToolContext, timeout_s: float
    ) -> BackgroundCommand:
        """Start a command. Returns when it runs, or has ended already. Raises ToolExecutionError if
        there are MAX_COMMANDS, OSError if bash cannot be started."""
        live = [each.id for each in self._commands.values() if not each.task.done()]
        if len(live) >= MAX_COMMANDS:
            raise ToolExecutionError(
                f"{len(live)} commands run in the background already, which is the most: "
                f"{', '.join(live)}. Stop one with Monitor."
            )
        started = self._commands[id] = BackgroundCommand(id, command, context, timeout_s)
        try:
            await started.running
        except asyncio.CancelledError:
            await started.stop()
            raise
        if started.failure is not None:
            raise started.failure
        return started

    @staticmethod
    def name(context: ToolContext) -> str:
        """The id of a command that this call starts. It encodes run, turn and index, so the call
        can be found from it."""
        run_id = context.run_id
        return f"bash_{run_id[-4:]}{context.idempotency_key[len(run_id) :]}"

    @staticmethod
    def lost(id: str, run: RunContext) -> str:
        """The `idempotency_key` of the call that started the command `id` before an interruption;
        "": there was none in this run."""
        head = f"bash_{run.id[-4:]}-"
        iteration, _, key = id.removeprefix(head).partition("-")
        if not id.startswith(head):
            return ""
        for fact in run.facts[: run.replayed]:
            known = fact.data.get("key") in (key, f"{STEP}:{key}")
            if known and str(fact.iteration) == iteration:
                return f"{run.id}-{iteration}-{key}"
        return ""

    def get(self, id: str) -> BackgroundCommand | None:
        """The command with that id, running or not."""
        return self._commands.get(id)

    @property
    def ids(self) -> list[str]:
        """The ids of all commands, in the order of their starts."""
        return list(self._commands)

    async def end(self) -> None:
        """See `Owned`."""
        tasks = [each.task for each in self._commands.values() if not each.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
