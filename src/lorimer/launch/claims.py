"""The conversations that a pipeline has claimed: its own, which it keeps from run to run, and those
that it claims for one run. For claims see `Journal.claim`."""

from __future__ import annotations

import os
from typing import Final

from lorimer.core.arguments import check_seconds
from lorimer.core.bus import Bus, Listeners
from lorimer.core.errors import ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON
from lorimer.core.world import World
from lorimer.journal.conversation import CLAIM_S, Conversation, read
from lorimer.journal.fork import history_at, open_fork

LOOK_S: Final = 0.25
"""Seconds between attempts to claim a stream whose owner may be dead."""


class Owner:
    """The owner of claims: a name that no other process has. If `given` by the host, the host has
    to give each process another one."""

    def __init__(self, world: World, given: str = "") -> None:
        self._world = world
        self._process = 0 if given else os.getpid()
        self._name = given or world.new_id("owner")

    @property
    def name(self) -> str:
        """Another name in each process forked since, as a server's workers are."""
        if self._process and self._process != os.getpid():
            self._name, self._process = self._world.new_id("owner"), os.getpid()
        return self._name


class Claims:
    """The claims of one pipeline, and its only conversation, if it remembers."""

    def __init__(
        self,
        journal: Journal,
        world: World,
        bus: Bus,
        *,
        owner: Owner,
        session_id: str = "",
        claim_s: float = CLAIM_S,
    ) -> None:
        self.session_id = session_id
        """The stream of the pipeline's conversation; "": there is none yet."""
        self.deleted = False
        """The conversation was deleted, and no run may begin in it any more."""
        self._owner = owner
        self.claim_s = claim_s
        self._journal = journal
        self._world = world
        self._bus = bus
        self._kept: Conversation | None = None
        self._back_to = 0
        """The fact of the stream after which the next run continues; 0: after the last."""

    def for_session(self, session_id: str) -> Claims:
        """Claims of the same owner, with another conversation."""
        return Claims(
            self._journal,
            self._world,
            self._bus,
            owner=self._owner,
            session_id=session_id,
            claim_s=self.claim_s,
        )

    @property
    def owner(self) -> str:
        """The owner of the claims."""
        return self._owner.name

    async def claim(self, stream: str, wait_s: float) -> Conversation:
        """Open a stream. While another owner's claim is in force, waits for at most `wait_s`
        seconds, since a process that died releases nothing. Then raises JournalError
        `exec.journal.conflict`, naming the owner and until when the claim holds."""
        check_seconds("wait_s", wait_s)
        until = self._world.monotonic() + wait_s
        while True:
            try:
                return await Conversation.open(
                    self._journal, stream, self.owner, self._world, self.claim_s
                )
            except JournalError as error:
                taken = error.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
                left = until - self._world.monotonic()
                if not taken or left <= 0:
                    raise
            await self._world.sleep(min(LOOK_S, left))

    async def claim_own(self, wait_s: float) -> Conversation:
        """The pipeline's conversation, for a new run. Raises JournalError as `claim` does, and
        PipelineError when it has an unfinished run or was deleted."""
        if self.deleted:
            raise PipelineError(
                f"Session {self.session_id} was deleted.",
                code=ExecutorErrorCode.EXEC_RUN_UNKNOWN,
                hint="Begin a new one: manager.create(pipeline).",
            )
        if self._back_to:
            await self._go_back()
        if self._kept is None:
            self.session_id = self.session_id or self._world.new_id("session")
            self._kept = await self.claim(self.session_id, wait_s)
        elif not self._kept.fresh:
            conversation, self._kept = self._kept, None
            try:
                await conversation.renew()  # after it was lost, it is opened anew the next time
            except BaseException:
                await self._signal_session_end(conversation)
                raise
            self._kept = conversation
        if self._kept.unfinished:
            unfinished = self._kept.unfinished[0].run_id
            await self.give_back()  # whoever resumes it need not wait
            raise PipelineError(
                f"This conversation has an unfinished run, {unfinished}.",
                code=ExecutorErrorCode.EXEC_RUN_BUSY,
                hint=f"Resume it first (lorimer runs resume {unfinished}), or give it up: "
                f"pipeline.abandon({unfinished!r}).",
            )
        return self._kept

    async def position(self) -> tuple[str, int]:
        """The conversation in which the next run continues, and the fact after which it does."""
        if self._back_to or not self.session_id:
            return self.session_id, self._back_to
        if self._kept is not None:
            return self.session_id, self._kept.seq
        folded, pending, _ = await read(self._journal, self.session_id)
        return self.session_id, folded.seq + len(pending)

    async def go_to(self, session_id: str, seq: int) -> None:
        """Continue from there with the next run: in that conversation or, if it has grown since
        then, in a new one that begins with its messages up to that point."""
        await self.give_back()
        self.session_id, self._back_to = session_id, seq

    async def _go_back(self) -> None:
        before = await history_at(self._journal, self.session_id, self._back_to)
        if not before.last:
            stream = self._world.new_id("session")
            self.keep(
                await open_fork(
                    self._journal,
                    stream,
                    self.owner,
                    self._world,
                    before.history,
                    before.parent,
                    self.claim_s,
                )
            )
        self._back_to = 0

    @property
    def kept(self) -> Conversation | None:
        """The pipeline's conversation, if it is open."""
        return self._kept

    def keep(self, conversation: Conversation) -> None:
        """Make it the pipeline's conversation."""
        self._kept, self.session_id = conversation, conversation.stream
        self._back_to = 0

    async def leave(self) -> None:
        """Drop the conversation without releasing its claim."""
        conversation, self._kept = self._kept, None
        if conversation is not None:
            await self._signal_session_end(conversation)

    async def give_back(self) -> None:
        """Release the conversation. If the journal cannot be written to, that is no error: the
        claim expires."""
        conversation, self._kept = self._kept, None
        if conversation is not None:
            try:
                await conversation.release()
            except JournalError:
                pass
            await self._signal_session_end(conversation)

    async def _signal_session_end(self, conversation: Conversation) -> None:
        """Notify listeners that this pipeline has closed a session. Async listeners get as much
        time as at the end of a run."""
        if not conversation.taken_up or not self._bus.wants("session.end"):
            return
        sums = conversation.sums
        data: dict[str, JSON] = {
            "session_id": conversation.stream,
            "runs": sums.runs,
            "total_cost_usd": sums.cost_nano / 1e9,
        }
        listeners = Listeners(self._bus)
        listeners.send(Event("session.end", data, time=self._world.time()))
        await listeners.close()
