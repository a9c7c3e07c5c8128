"""What is done through the host's ports before and after a run. The run itself: `executor.py`.

Before: the caller's rights, the audit's first record, the caller's files. After, however the run
ended: the delivery, the audit's last record, dropping the files. Each is bounded in time, and a
port that fails costs the run a warning, not its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from lorimer.core.ancestry import current
from lorimer.core.context import RunContext
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.journal import Journal
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import ImageBlock
from lorimer.core.world import World
from lorimer.journal.family import ChildRecord
from lorimer.journal.recording import used_s
from lorimer.run.agent import RunnableAgent
from lorimer.run.audit.below import AuditsBelow
from lorimer.run.audit.observing import Audited, close_of
from lorimer.run.audit.port import Audit, AuditStart, RunAudit
from lorimer.run.bounded import LAST_S, Call, bounded, guarded, uncancelled
from lorimer.run.delivery import artifacts_of, post
from lorimer.run.identity import person
from lorimer.run.inputs import ReadInput, Staging, drop, some_to_read, stage
from lorimer.run.invocation import Invocation
from lorimer.run.job import Job
from lorimer.run.lanes.lane import Lane
from lorimer.run.observing import Observer, StepCallback, TextCallback
from lorimer.run.palette import Delegate
from lorimer.run.ports import Ports
from lorimer.run.result import RunResult
from lorimer.run.session_tools import OwnTools, ToolSession
from lorimer.tools.base import Tool
from lorimer.tools.policy.people import Person

Recorded: TypeAlias = Callable[[str], Awaitable[RunResult]]

_NOTHING: Final = Staging()
_TAKEN: Final = (ExecutorErrorCode.EXEC_RUN_BUSY, ExecutorErrorCode.EXEC_JOURNAL_CONFLICT)
_ELSEWHERE: Final = (*_TAKEN, ExecutorErrorCode.EXEC_RUN_ENDED)
"""Results of a run that was to be resumed: another process has it, or has ended it."""


class Host:
    """What all jobs of an executor share."""

    __slots__ = ("audited", "journal", "ports", "reader", "recorded", "within_s", "world")

    def __init__(
        self, ports: Ports, world: World, journal: Journal, within_s: float, recorded: Recorded
    ) -> None:
        """`within_s`: seconds for each call of a port. `recorded`: returns how the run with an id
        ended."""
        self.audited: set[str] = set()
        """The live runs that the audit has under their own ids: all but phases."""
        self.ports = ports
        self.world = world
        self.journal = journal
        self.recorded = recorded
        self.within_s = within_s
        self.reader = None if ports.input_files is None else ReadInput(ports.input_files)


class JobWithPorts(Job):
    """A job with its calls of the host's ports before and after the run. One object for both, as
    there may be thousands of jobs at once."""

    __slots__ = (
        *(
            "_audit",
            "_audited_at",
            "_below",
            "_host",
            "_opening",
            "_own",
            "_parks",
            "_staged",
            "_stages",
        ),
        *("_warnings", "caller"),
    )

    def __init__(
        self,
        host: Host,
        run_id: str,
        lane: Lane | None,
        agent: RunnableAgent,
        input: str,
        asked: Invocation,
        *,
        again: bool = False,
        over: bool = False,
    ) -> None:
        super().__init__(run_id, lane, agent, input, asked, again=again, over=over)
        self._warnings: list[str] | None = None
        self.caller: Person | None = None
        self._host = host
        self._audit: RunAudit | None = None
        self._audited_at = 0.0
        """When the audit was notified of its beginning, wall clock."""
        self._below: AuditsBelow | None = None
        """The audits of the runs below it."""
        self._opening: Call[RunAudit] | None = None
        """The audit took too long to open, and may yet do so."""
        self._parks = False
        """Attachments may be stored for it."""
        self._stages = False
        """Files were to be stored for it."""
        self._staged = _NOTHING
        self._own: OwnTools | None = None

    @property
    def warnings(self) -> list[str]:
        """Failures outside the run."""
        if self._warnings is None:
            self._warnings = []
        return self._warnings

    def warn(self, what: str) -> None:
        """Note a failure outside the run."""
        self.warnings.append(what)

    async def begin(self) -> None:
        """Before the run. Never raises for failures of ports; ConfigError if tools of this run
        cannot be had."""
        host = self._host
        ports, within_s = host.ports, host.within_s
        asked, run_id = self.asked, self.run_id
        if ports.attachments is not None:
            line = current()
            above = line.ancestors if line is not None else ()
            begun = partial(ports.attachments.open, run_id, asked.parent_run_id, *above)
            guarded("attachments", begun, self.warnings)
            self._parks = True
        if ports.identity is not None:
            found = partial(person, ports.identity, asked.caller_id)
            self.caller = await bounded("identity", found, within_s, self.warnings)
        await self._begin_audit()
        if asked.input_files:
            self._stages = ports.input_files is not None
            staged = partial(stage, ports.input_files, run_id, asked.input_files)
            found = await bounded("input_files", staged, within_s, self.warnings)
            self._staged = found or Staging(notes=("the files could not be stored",))
            self.warnings.extend([f"left out: {note}" for note in self._staged.notes])
            if host.reader is not None:
                host.reader.lend(run_id, self._staged.files)
        if asked.session_tools is not None:
            session = ToolSession(run_id, asked.caller_id, asked.channel_id, asked.inputs)
            self._own = OwnTools(session, within_s)
            await self._own.make(asked.session_tools)

    async def audit_unrecorded(self) -> None:
        """In place of `begin`, for a run that the journal does not have: record it in the audit.
        The process that was to begin it may have died after recording it there. It may also be
        about to begin it: then that run closes the audit, and its files are left alone."""
        await self._begin_audit()

    async def _begin_audit(self) -> None:
        audit, agent, asked = self._host.ports.audit, self.agent, self.asked
        if audit is None:
            return
        self._audited_at = self._host.world.time()
        start = AuditStart(
            self.run_id,
            agent.subject or agent.name,
            agent.name,
            asked.caller_id,
            asked.channel_id,
            self._audited_parent(),
            asked.inputs,
            self._audited_at,
            agent.version,
        )
        host = self._host
        self._below = AuditsBelow(
            audit, host.journal, start, host.within_s, host.recorded, host.audited
        )
        interrupted = await uncancelled(self._open_audit(audit, start))
        if interrupted is not None:
            raise interrupted

    def _audited_parent(self) -> str:
        """The parent of the run in the audit: of one that a tool in a phase starts, that which the
        phase is part of."""
        parent, line = self.asked.parent_run_id, current()
        above = list(line.ancestors) if line is not None else []
        if parent not in above:
            return parent
        audited = self._host.audited
        return next((each for each in above[above.index(parent) :] if each in audited), parent)

    async def _open_audit(self, audit: Audit, start: AuditStart) -> None:
        # not cancelled half-way: an audit that was opened has to be closed
        within_s = self._host.within_s
        opening = Call("audit.start", lambda: audit.start(start))
        await opening.wait(within_s)
        if opening.over:
            self._audit = opening.result(within_s, self.warnings)
        else:  # it may open all the same, and is then notified of the end
            self._opening = opening

    async def _wait_for_audit(self) -> None:
        """Wait once more for an audit that took too long to open, then give it up."""
        opening, within_s = self._opening, self._host.within_s
        if opening is not None:
            await opening.wait(LAST_S)
            await opening.stop()
            self._audit = opening.result(within_s, self.warnings)
            if self._audit is not None:
                self.warn(f"audit.start took longer than {within_s:g} s")

    def attach_delegates(self, delegates: Sequence[Delegate]) -> None:
        """These are the agents that may be given work in the run."""
        if self._below is not None:
            self._below.agents = {each.tool: each.agent for each in delegates}

    def attach_run(self, run: RunContext) -> None:
        """The run has begun: tools created for it may use it."""
        if self._own is not None:
            self._own.session.live(run, phases=bool(self.agent.phases))

    @property
    def tools(self) -> Sequence[Tool]:
        """Its tools in addition to those of its agent."""
        reader = self._host.reader if some_to_read(self.asked.input_files) else None
        made = self._own.tools if self._own is not None else ()
        return [*self.asked.extra_tools, *made, *([reader] if reader is not None else ())]

    @property
    def has_own_tools(self) -> bool:
        """Whether some of them were created for this run."""
        return self._own is not None and bool(self._own.tools)

    @property
    def observers(self) -> Sequence[Observer]:
        """Observers of the run's facts."""
        found: list[Observer] = []
        if self.asked.on_step is not None:
            found.append(StepCallback(self.asked.on_step))
        if self._audit is not None:
            found.append(Audited(self._audit, self._follow))
        return found

    def _follow(self, child: ChildRecord) -> Observer | None:
        return None if self._below is None else self._below.of(child, self.run_id)

    @property
    def text_observers(self) -> Sequence[Observer]:
        """Observers of the text that its model streams."""
        return [TextCallback(self.asked.on_text)] if self.asked.on_text is not None else []

    @property
    def run_input(self) -> JSON:
        """The input of the run: the text, the named values, the files, the images."""
        parts = [self.input] if self.input else []
        if self.asked.inputs:
            parts.append(f"Inputs:\n{dumps(self.asked.inputs)}")
        if self._staged.summary_block is not None:
            parts.append(self._staged.summary_block.text)
        images: Sequence[ImageBlock] = [*self.asked.images, *self._staged.images]
        if not images:
            return "\n\n".join(parts)
        return {"text": "\n\n".join(parts), "images": [image.to_json() for image in images]}

    async def finish(self, result: RunResult) -> asyncio.CancelledError | None:
        """After the run, or instead of it, however it ended. Returns the CancelledError that the
        caller received meanwhile, if any."""
        audited = self._below is not None
        begun = self._parks or self._stages or audited or self._own is not None
        if not begun and self.asked.delivery is None:
            result.warnings += self._warnings or ()
            return None
        return await uncancelled(self._end(result))

    async def _close_ended_before(self, audit: RunAudit) -> None:
        """Close the audit if the run had ended already: the process that ended it may not have done
        so."""
        host, warnings = self._host, self.warnings
        found = partial(host.recorded, self.run_id)
        ended = await bounded("journal", found, host.within_s, warnings)
        facts = ended.run.events if ended is not None and ended.run is not None else ()
        if ended is not None and facts and facts[-1].time <= self._audited_at:
            end = close_of(ended, used_s(facts))
            await bounded("audit.close", lambda: audit.close(end), host.within_s, warnings)

    def _may_be_resumed(self, result: RunResult) -> bool:
        """Whether it may be resumed, so that its answer is yet to come."""
        return result.status == "suspended" or (self.again and result.run is None)

    async def _end(self, result: RunResult) -> None:
        host, warnings = self._host, self.warnings
        ports, within_s = host.ports, host.within_s
        run_id = self.run_id
        if self._own is not None:
            await self._own.after(result, warnings)
        if ports.attachments is not None and self._parks and self._may_be_resumed(result):
            guarded("attachments", partial(ports.attachments.rest, run_id), warnings)
        elif ports.attachments is not None and self._parks:
            drained = partial(ports.attachments.drain, run_id)
            parked = guarded("attachments", drained, warnings)
            result.artifacts += artifacts_of("attachments", parked, warnings)
            guarded("attachments", partial(ports.attachments.close, run_id), warnings)
        # it has ended, or another process has it: what is stored for it does not belong to this
        # call
        others = result.run is None and (self.again or result.code in _TAKEN)
        target = None if others or result.status == "suspended" else self.asked.delivery
        if ports.delivery is not None and target is not None:
            said, files = result.output, result.artifacts
            posted = partial(post, ports.delivery, target, said, result.exception, files)
            if await bounded("delivery", posted, within_s, warnings) is None and target.id:
                # unknown whether it had posted something by then
                warnings.append(f"the delivery to {target.kind} {target.id} failed")
        await self._wait_for_audit()
        not_ended = self.again and not self.over and result.status != "suspended"
        left = result.run is None and (not_ended or result.code in _ELSEWHERE)
        if self._below is not None:
            late = self._opening is not None
            missed = self._audit is not None and (self.again or late)
            await self._below.end(result, missed=missed)
            warnings += self._below.warnings
        if self._audit is not None and result.code is not None and left:
            # the process that has it records how it ends, or whoever resumes it
            refused = {"code": result.code.value, "message": result.error}
            guarded("audit", partial(self._audit.log, "refused", refused), warnings)
            if result.code is ExecutorErrorCode.EXEC_RUN_ENDED:
                await self._close_ended_before(self._audit)
        elif self._audit is not None:
            # its own time: not that in the lane, nor that of a person
            took_s = used_s(result.run.events) if result.run is not None else 0.0
            audit, end = self._audit, close_of(result, took_s)
            await bounded("audit.close", lambda: audit.close(end), within_s, warnings)
        if host.reader is not None and self._stages:
            host.reader.end(run_id)
        if self._stages and not others:
            dropped = partial(drop, ports.input_files, run_id)
            await bounded("input_files", dropped, within_s, warnings)
        result.warnings += warnings
