"""Which conversations a pipeline has claimed: its own, which it keeps from run to run, and those
that it takes for one run. What a claim is: see `Journal.claim`.
"""

from __future__ import annotations

import os
from typing import Final

from lorimer.core.bus import Bus, Listeners
from lorimer.core.errors import ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON
from lorimer.core.world import World
from lorimer.journal.conversation import CLAIM_S, Conversation, read
from lorimer.journal.fork import history_at, open_fork

LOOK_S: Final = 0.25
"""Seconds between tries to claim a stream whose owner may be dead."""


class Owner:
    """Who claims: a name that no other process has. `given`: by the host; it is for the host then
    to give each process its own."""

    def __init__(self, world: World, given: str = "") -> None:
        self._world = world
        self._process = 0 if given else os.getpid()
        self._name = given or world.new_id("owner")

    @property
    def name(self) -> str:
        """Another one in each process that was forked since, as the workers of a server are."""
        if self._process and self._process != os.getpid():
            self._name, self._process = self._world.new_id("owner"), os.getpid()
        return self._name


class Claims:
    """The claims of one pipeline, and the one conversation that it has, if it remembers."""

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
        """The stream of the pipeline's conversation; "": none yet."""
        self.deleted = False
        """All that was kept of the conversation is removed, and nothing more is said in it."""
        self._owner = owner
        self.claim_s = claim_s
        self._journal = journal
        self._world = world
        self._bus = bus
        self._kept: Conversation | None = None
        self._back_to = 0
        """The fact of the stream after which the next run goes on; 0: after the last."""

    def for_session(self, session_id: str) -> Claims:
        """The same owner's, with another conversation."""
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
        """Who claims."""
        return self._owner.name

    async def claim(self, stream: str, wait_s: float) -> Conversation:
        """Open a stream. When another owner's claim is in force, waits for its end for at most
        `wait_s` seconds: a process that died gives nothing back. Then raises JournalError
        `exec.journal.conflict`, which says who has it, and until when."""
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
        PipelineError when a run in it is unfinished, or it was deleted."""
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
                await conversation.renew()  # when it was lost it is opened anew the next time
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
        """The conversation that the next run goes on with, and the fact after which it does."""
        if self._back_to or not self.session_id:
            return self.session_id, self._back_to
        if self._kept is not None:
            return self.session_id, self._kept.seq
        folded, pending, _ = await read(self._journal, self.session_id)
        return self.session_id, folded.seq + len(pending)

    async def go_to(self, session_id: str, seq: int) -> None:
        """Go on from there with the next run: in that conversation, or where it has gone on since
        then in a new one that begins with what was said until then."""
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
        """It is the pipeline's conversation from now on."""
        self._kept, self.session_id = conversation, conversation.stream
        self._back_to = 0

    async def leave(self) -> None:
        """Keep none, without giving it back."""
        conversation, self._kept = self._kept, None
        if conversation is not None:
            await self._signal_session_end(conversation)

    async def give_back(self) -> None:
        """Keep none. A journal that cannot be written to any more is no error: the claim ends by
        itself."""
        conversation, self._kept = self._kept, None
        if conversation is not None:
            try:
                await conversation.release()
            except JournalError:
                pass
            await self._signal_session_end(conversation)

    async def _signal_session_end(self, conversation: Conversation) -> None:
        """Tell listeners that a session is not this pipeline's any more. Those that are async have
        the time that they have at the end of a run."""
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
