"""The audits of the runs below a run. An agent that is given work is a run of its own, which the
audit has with the id of its parent; phases are part of the run itself.

While these runs are live, they are recorded by a task each. How they ended is read from their
journal; so is what a process that died did not record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from lorimer.core.errors import JournalError, PipelineError
from lorimer.core.events import Event
from lorimer.core.journal import Journal
from lorimer.core.jsonable import no_data
from lorimer.journal.family import ChildRecord, descendants
from lorimer.journal.fold import Fold
from lorimer.journal.outcome import texts_said
from lorimer.journal.recording import recorded, used_s
from lorimer.run.agent import RunnableAgent
from lorimer.run.audit.observing import Audited, close_of
from lorimer.run.audit.port import Audit, AuditClose, AuditStart, RunAudit
from lorimer.run.bounded import bounded
from lorimer.run.observing import Observer, is_phase
from lorimer.run.result import RunResult
from lorimer.run.steps import steps_of

T = TypeVar("T")

MAX_WAITING: Final = 1024
"""Events of one run that wait for its audit to open; further ones are not recorded."""
_LAST: Final = ("run.end", "run.suspended")


class AuditsBelow:
    """The audits of all runs below one run of an executor."""

    def __init__(
        self,
        audit: Audit,
        journal: Journal,
        root: AuditStart,
        within_s: float,
        result: Callable[[str], Awaitable[RunResult]],
        known: set[str],
    ) -> None:
        """`root`: the run above all. `within_s`: seconds for each call of the audit. `result`:
        returns how the run with an id ended. `known`: has the live runs that the audit has, until
        `end`."""
        self.audit = audit
        self.within_s = within_s
        self.agents: Mapping[str, RunnableAgent] = {}
        """The agents that may be given work, by the names of their tools."""
        self.warnings: dict[str, None] = {}
        """What failed, each once."""
        self._journal = journal
        self._root = root
        self._result = result
        self._live: dict[str, _Below] = {}
        self._known = known
        known.add(root.run_id)
        self._closed: set[str] = set()
        """Those whose end the audit has."""

    def of(self, child: ChildRecord, parent_run_id: str) -> Observer:
        """The observer of a run that is about to begin or to go on."""
        made = self._live[child.run_id] = _Below(self, child, parent_run_id)
        self._known.add(child.run_id)
        return made

    async def end(self, above: RunResult, *, missed: bool) -> None:
        """The run above is over here, and nothing below it is live any more. `missed`: there may be
        more below it than was live here."""
        self._known -= {self._root.run_id, *self._live}
        for each in self._live.values():
            each.over.set()
        if tasks := [each.task for each in self._live.values() if each.task is not None]:
            await asyncio.wait(tasks)
        missed = missed or not self._closed.issuperset(self._live)
        if missed and above.run is not None and above.status != "suspended":
            await self._record_missed(above.run.events)

    async def _record_missed(self, facts: list[Event]) -> None:
        """Record the runs whose end was not recorded yet: the audit failed, the run was given up
        while it was suspended, or another process died before it could. Stops when the audit or the
        journal fails."""
        line = {0: self._root.run_id}
        try:
            async for depth, child, row in descendants(self._journal, facts):
                above = line[depth - 1]
                line[depth] = above if is_phase(child) else child.run_id
                if row is None or is_phase(child) or child.run_id in self._closed:
                    continue
                begun = await recorded(self._journal, row.run_id)
                audit = await self.opened(child, above, begun.facts[0])
                if audit is None or not await self.close(child.run_id, audit):
                    return
        except (JournalError, PipelineError) as error:
            self.warnings[f"runs below {self._root.run_id} are not in the audit: {error}"] = None

    async def opened(self, child: ChildRecord, parent_run_id: str, first: Event) -> RunAudit | None:
        """None: it failed, or took too long. `first`: the first event of the run, or the first
        since it was resumed."""
        agent = self.agents.get(child.agent)
        name = agent.name if agent is not None else _name_in(first) or child.agent
        start = replace(
            self._root,
            run_id=child.run_id,
            parent_run_id=parent_run_id,
            name=name,
            subject=name if agent is None else agent.subject or name,
            version=0 if agent is None else agent.version,
            inputs=no_data(),  # they are in its parent's record of the call
            time=first.time,
        )
        return await self._bounded("audit.start", lambda: self.audit.start(start))

    async def close(self, run_id: str, audit: RunAudit) -> bool:
        """Record how a run ended, or that it is suspended; returns whether that was possible."""
        end = await self._bounded("journal", partial(self._close_of, run_id))
        if end is None:
            return False

        async def work() -> bool:
            await audit.close(end)
            return True

        if not await self._bounded("audit.close", work):
            return False
        if end.status != "suspended":
            self._closed.add(run_id)
        return True

    async def _close_of(self, run_id: str) -> AuditClose | None:
        """None: it has stopped without an end, as when the store fails."""
        found = await recorded(self._journal, run_id)
        if found.end is not None:
            return close_of(await self._result(run_id), used_s(found.facts))
        last = found.facts[-1]
        if last.type != "run.suspended":
            return None
        fold = Fold()
        for fact in found.facts:
            fold.apply(fact)
        run = fold.runs[-1]
        return AuditClose(
            "suspended",
            next(iter(reversed(texts_said(found.facts))), ""),
            sum(1 for _ in steps_of(found.facts)),
            used_s(found.facts),
            run.usage,
            run.cost_nano,
            str(last.data.get("code", "")),
        )

    async def _bounded(self, what: str, call: Callable[[], Awaitable[T]]) -> T | None:
        failed: list[str] = []
        found = await bounded(what, call, self.within_s, failed)
        self.warnings.update(dict.fromkeys(failed))
        return found


class _Below:
    """The audit of one run below another, while it is live here."""

    def __init__(self, all: AuditsBelow, child: ChildRecord, parent_run_id: str) -> None:
        self.task: asyncio.Task[None] | None = None
        self.over = asyncio.Event()
        self._all = all
        self._child = child
        self._above = parent_run_id
        self._to: Audited | None = None
        self._waiting: list[Event] = []
        """Events before the audit was open."""

    def hear(self, event: Event) -> None:
        """See `observing.Observer`."""
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._record(event))
        if event.type in _LAST:
            if event.run_id == self._child.run_id:  # not that of a phase
                self.over.set()
        elif self._to is not None:
            self._to.hear(event)
        elif len(self._waiting) < MAX_WAITING and not self.task.done():
            self._waiting.append(event)

    def below(self, child: ChildRecord) -> Observer | None:
        """See `observing.Observer`."""
        return self if is_phase(child) else self._all.of(child, self._child.run_id)

    async def end(self) -> None:
        """See `observing.Observer`: the run above waits for it."""

    async def _record(self, first: Event) -> None:
        audit = await self._all.opened(self._child, self._above, first)
        if audit is None:
            self._waiting.clear()
            return
        self._to = Audited(audit)
        for event in self._waiting:
            self._to.hear(event)
        self._waiting.clear()
        await self.over.wait()
        await self._all.close(self._child.run_id, audit)


def _name_in(start: Event) -> str:
    """The agent's name, as the first fact of its run has it."""
    said = start.data.get("invocation")
    return str(said.get("agent", "")) if isinstance(said, Mapping) else ""
