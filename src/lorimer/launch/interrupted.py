"""Interrupted runs: opens their streams again, to resume them (`launcher.py` does that) or to
abandon them together with their descendants."""

from __future__ import annotations

from lorimer.core.errors import ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.journal import Journal, RunRow, find
from lorimer.core.jsonable import JSON
from lorimer.core.world import World
from lorimer.journal.conversation import Conversation
from lorimer.journal.family import is_part_of, uncharged
from lorimer.journal.giving_up import charge, give_up
from lorimer.journal.recording import readable_facts
from lorimer.launch.admission import require_unfinished
from lorimer.launch.claims import Claims
from lorimer.launch.roster import Roster


class Interrupted:
    """The interrupted runs of one conversation, and of the streams of single runs."""

    def __init__(self, journal: Journal, world: World, claims: Claims, roster: Roster) -> None:
        self._journal = journal
        self._world = world
        self._claims = claims
        self._roster = roster

    async def opened(self, row: RunRow, wait_s: float) -> Conversation:
        """The stream of an interrupted run, claimed. Raises PipelineError if the run has ended in
        the meantime, and JournalError as `Claims.claim` does."""
        conversation = await self._claims.claim(row.stream, wait_s)
        facts = conversation.unfinished
        if not facts or facts[0].run_id != row.run_id:
            await conversation.release()
            await require_unfinished(self._journal, row.run_id)  # or another process was quicker
            raise PipelineError(
                f"Run {row.run_id} has ended meanwhile, or was given up: its conversation has "
                "gone on without it.",
                code=ExecutorErrorCode.EXEC_RUN_ENDED,
            )
        return conversation

    async def end(self, row: RunRow, wait_s: float) -> None:
        """Abandon a run that the roster has reserved: it ends as cancelled, and so do its
        unfinished children. Raises as `opened` does."""
        conversation = await self._opened_to_end(row, wait_s)
        try:
            children = uncharged(conversation.unfinished)
            charges = [await self._charge(row.run_id, each.run_id, wait_s) for each in children]
            due = [charged for charged in charges if charged is not None]
            await give_up(conversation, row.run_id, due, self._world.time())
        finally:
            await conversation.release()

    async def _charge(self, run_id: str, child_id: str, wait_s: float) -> dict[str, JSON] | None:
        """What the parent is charged for a child that no one resumes; None: the child never
        began, or is another run's: damaged facts must not end that."""
        row = await self._journal.find_run(child_id)
        if row is None or not await is_part_of(self._journal, row, run_id):
            return None
        if not row.status:
            self._roster.reserve(child_id)
            try:
                await self.end(row, wait_s)
            except JournalError as error:
                held = error.code is ExecutorErrorCode.EXEC_JOURNAL_CONFLICT
                if held or not await self._journal.check(row.stream):
                    raise
                # nothing can follow its last row: the run above must not stay open for that
                balance = await self._journal.balance(child_id)
                return charge(child_id, {"usage": {}, "cost": balance.spent})
            finally:
                self._roster.release(child_id)
            row = await find(self._journal, child_id)
        facts, damage = await readable_facts(self._journal, row)
        if damage is not None:
            return charge(child_id, {"usage": {}, "cost": row.cost_nano})
        return charge(child_id, facts[-1].data)

    async def _opened_to_end(self, row: RunRow, wait_s: float) -> Conversation:
        """As `opened`, but also for a damaged run, with the facts that can be read."""
        try:
            return await self.opened(row, wait_s)
        except JournalError:
            if not await self._journal.check(row.stream):
                raise
        claims, claimed = self._claims, self._world.monotonic()
        epoch = await self._journal.claim(row.stream, claims.owner, claims.claim_s)
        conversation = Conversation(
            self._journal, row.stream, self._world, epoch, claims.claim_s, claimed
        )
        conversation.unfinished, _ = await readable_facts(self._journal, row)
        return conversation
