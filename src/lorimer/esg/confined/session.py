"""A session of steps that runs confined: the equivalent of `StepExecutor` for untrusted code.

    async with StepWorkers(folder) as workers:
        session = await ConfinedSteps.begin(workers)
        result = await session.execute("load", "rows = [3, 1, 2]")
        await session.edit_step("load", "rows = [4]")
        done = await session.replay()

`execute`, `replay` and `repair` run steps; `add_step`, `edit_step`, `delete_step`, `move_step`,
`rename_step` and `mark_stale` change the graph and return what becomes stale; `plan`, `status`,
`explain`, `why_stale`, `lineage`, `edges`, `script`, `diagnose` and `names` are queries. Values
stay in the worker: a result has texts about them.

A step that takes too long, uses too much or ends its process fails with a `code`, and changes
nothing. The session continues with its earlier state, from a fork, or by running all steps again.
Such a step runs again only when it is edited or executed again. Nothing from a worker is trusted
except as text, and nothing is journalled here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON, fields_of
from lorimer.core.world import Isolation
from lorimer.esg.confined import told as heard
from lorimer.esg.confined.known import MAX_SOURCE, Known, fits
from lorimer.esg.confined.told import ConfinedReplay, ConfinedResult
from lorimer.esg.confined.worker import Death, Died, Worker, WorkerError
from lorimer.esg.confined.workers import StepWorkers
from lorimer.esg.diagnosis import DiagnosisReport
from lorimer.esg.graph.questions import Planned, StepError
from lorimer.esg.patching.patches import PatchResult, patched

Message = Mapping[str, JSON]
Told = Callable[["ConfinedResult"], None]

_SESSION: Final = "lorimer.esg.confined.requests:Requests"
_AGAIN: Final = 5
"""How often a worker may be lost during one request."""


class ConfinedSteps:
    """One session; made by `begin`. Requests run one at a time, others wait."""

    def __init__(self, workers: StepWorkers, worker: Worker) -> None:
        self._workers = workers
        self._worker: Worker | None = worker
        self._turn = asyncio.Lock()
        self._known = Known()
        self._depth = 0
        """Number of nested recoveries."""
        self._log: deque[tuple[int, dict[str, JSON]]] = deque()
        """Requests that changed the session since its state was saved."""
        self.recoveries: int = 0
        """How often another process has taken over."""

    @classmethod
    async def begin(cls, workers: StepWorkers) -> ConfinedSteps:
        """A new session. Raises `exec.sandbox.missing`, and WorkerError if it does not start."""
        return cls(workers, await workers.worker(_SESSION))

    @classmethod
    async def open(cls, workers: StepWorkers, saved: Mapping[str, JSON]) -> ConfinedSteps:
        """Open a session that `save` returned, in any process. Values are made again by their steps
        when they are needed; or at once, if a step was edited, or inserted between others, and has
        not run since: later that would be impossible. Files are assumed to be unchanged.

        Only texts are taken from `saved`, and its code runs confined as usual. Raises StepError if
        it is not a saved session, and what `begin` raises.
        """
        known = Known.read(saved)
        session = await cls.begin(workers)
        session._known = known
        async with session._turn:
            await session._change({"op": "restore", "steps": known.rows()})
        return session

    def save(self) -> dict[str, JSON]:
        """The session as JSON: the code of its steps, and the results of their last runs. Its
        values are not included."""
        return self._known.to_json()

    @property
    def results(self) -> dict[str, ConfinedResult]:
        """The result of the last run of each step."""
        return self._known.results

    @property
    def isolation(self) -> Isolation | None:
        """The level in force, and what it does not prevent."""
        return self._workers.isolation

    @property
    def steps(self) -> tuple[str, ...]:
        """The ids of all steps, in order."""
        return tuple(self._known.texts)

    def source(self, step_id: str) -> str:
        """The code of a step. Raises StepError."""
        if step_id not in self._known.texts:
            raise StepError(f"there is no step {step_id!r}")
        return self._known.texts[step_id]

    # ---------------------------------------------------------------- running

    async def execute(self, step_id: str, source: str) -> ConfinedResult:
        """Add a step at the end, or replace the code of an existing one, and run it.

        Raises StepError if that is impossible, and WorkerError if no worker is available.
        """
        fits(source)
        async with self._turn:
            try:
                with self._known.allowed(step_id):
                    told = await self._change({"op": "execute", "step": step_id, "source": source})
            except Died as died:
                self._known.put(step_id, source)
                await self._ended(died.death, step_id)
                return self.results[step_id]
            self._known.put(step_id, source)
            result = heard.result(told if isinstance(told, dict) else {}, step_id, source)
            self.results[step_id] = result
            return result

    async def replay(self, on_step: Told | None = None) -> ConfinedReplay:
        """Run what is stale, in step order, until nothing is; see `StepExecutor.replay`.

        A step that is ended by a limit has failed, and the others continue.
        """
        async with self._turn:
            ran = list[str]()

            def told(result: ConfinedResult) -> None:
                ran.append(result.step_id)
                if on_step is not None:
                    on_step(result)

            while True:
                try:
                    found = await self._change({"op": "replay"}, told)
                    break
                except Died as died:
                    if not died.death.step:
                        raise WorkerError(f"the replay ended its worker: {died}") from None
                    await self._ended(died.death, died.death.step, told)
                    told(self.results[died.death.step])
            done = found if isinstance(found, dict) else {}
            failed = {*heard.texts(done.get("failed")), *self._known.deadly}
            held = done.get("held")
            blocked = {*heard.texts(done.get("blocked")), *(held if isinstance(held, dict) else ())}
            return ConfinedReplay(
                tuple(ran),
                tuple([each for each in self.steps if each in failed]),
                tuple([each for each in self.steps if each in blocked - failed]),
            )

    async def repair(self, patch: PatchResult, step_id: str) -> bool:
        """Apply a patch, replay, and keep the patch only if the step runs and no other step fails
        because of it."""
        async with self._turn:
            edits: list[JSON] = [
                [each.step, each.start, each.end, each.text] for each in patch.edits
            ]
            hashes: dict[str, JSON] = {**patch.hashes}
            request: dict[str, JSON] = {
                "op": "repair",
                "step": step_id,
                "edits": edits,
                "moves": [[each.step, each.after] for each in patch.moves],
                "hashes": hashes,
            }
            try:
                with self._known.allowed(step_id):
                    if await self._change(request) is not True:
                        raise _NotKept
            except _NotKept:
                return False
            except Died as died:
                await self._recover(died.death.at)
                return False
            for each in patch.hashes:
                source = patched(self.source(each), patch.edits, each)
                self._known.put(each, source)
                if each in self.results:
                    self.results[each] = replace(self.results[each], source=source)
            for move in patch.moves:
                self._known.move(move.step, move.after)
            return True

    # ---------------------------------------------------------------- the graph

    async def add_step(self, step_id: str, source: str, *, after: str | None = None) -> list[str]:
        """Add a step without running it, at the end or right after another (`""`: before all).
        Returns what becomes stale."""
        fits(source)
        async with self._turn:
            found = await self._change(
                {"op": "add", "step": step_id, "source": source, "after": after}
            )
            self._known.put(step_id, source, after)
            return heard.texts(found)

    async def edit_step(self, step_id: str, source: str) -> list[str]:
        """Replace the code of a step. Returns what becomes stale, in step order."""
        fits(source)
        async with self._turn:
            found = await self._change({"op": "edit", "step": step_id, "source": source})
            stale = heard.texts(found)
            self._known.put(step_id, source)
            if stale:
                self._known.deadly.pop(step_id, None)
            return stale

    async def delete_step(self, step_id: str) -> list[str]:
        """Delete a step; its readers see the versions before it. Returns what becomes stale."""
        async with self._turn:
            stale = heard.texts(await self._change({"op": "delete", "step": step_id}))
            self._known.drop(step_id)
            return stale

    async def move_step(self, step_id: str, *, after: str = "") -> list[str]:
        """Move a step right after another one (`""`: before all). Returns what becomes stale."""
        async with self._turn:
            found = await self._change({"op": "move", "step": step_id, "after": after})
            stale = heard.texts(found)
            self._known.move(step_id, after)
            return stale

    async def rename_step(self, old: str, new: str) -> None:
        """Change the id of a step; this makes nothing stale."""
        async with self._turn:
            await self._change({"op": "rename", "step": old, "source": new})
            self._known.rename(old, new)

    async def mark_stale(self, step_id: str) -> list[str]:
        """Declare that a step has to run again. Returns it and its dependants, in step order."""
        async with self._turn:
            return heard.texts(await self._change({"op": "mark", "step": step_id}))

    # ---------------------------------------------------------------- questions

    async def plan(self) -> list[Planned]:
        """A dry run: what a replay would run, why, and how long each took last time."""
        rows = await self._ask({"op": "plan"})
        return [
            Planned(heard.text(row[0]), tuple(heard.texts(row[1])), heard.seconds(row[2]))
            for row in heard.rows(rows, 3)
        ]

    async def status(self) -> dict[str, str]:
        """For each step: `new`, `fresh`, `stale`, `failed` or `blocked`."""
        return heard.named(await self._ask({"op": "status"}))

    async def explain(self, step_id: str) -> str:
        """All about a step, as text."""
        return heard.text(await self._ask({"op": "explain", "step": step_id}))

    async def why_stale(self, step_id: str) -> list[str]:
        """From a step back to the edit that made it stale."""
        return heard.texts(await self._ask({"op": "why_stale", "step": step_id}))

    async def lineage(self, name: str) -> list[tuple[str, str]]:
        """The versions (name, step) that a value was made from."""
        rows = await self._ask({"op": "lineage", "source": name})
        return [(heard.text(row[0]), heard.text(row[1])) for row in heard.rows(rows, 2)]

    async def edges(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """(step, dependent step, the names between them)."""
        rows = await self._ask({"op": "edges"})
        return [
            (heard.text(row[0]), heard.text(row[1]), tuple(heard.texts(row[2])))
            for row in heard.rows(rows, 3)
        ]

    async def script(self, name: str) -> str:
        """A script that makes a name (or runs a step), and nothing else."""
        return heard.text(await self._ask({"op": "script", "source": name}))

    async def names(self, after: str | None = None) -> dict[str, tuple[str, str]]:
        """Every name as it is after a step, or after all steps: its class and its `repr`,
        shortened.

        Values that are gone are made again: steps may run.
        """
        found = await self._ask({"op": "names", "step": after})
        told = {name: heard.texts(pair) for name, pair in fields_of(found).items()}
        return {heard.text(name): (pair[0], pair[1]) for name, pair in told.items() if pair[1:]}

    async def diagnose(self, step_id: str) -> tuple[DiagnosisReport, PatchResult]:
        """Why a step failed, and edits that would fix it: `repair` applies them."""
        deadly = self._known.deadly.get(step_id)
        if deadly is not None and deadly.failure is not None:
            said = f"{deadly.failure.type}: {deadly.failure.message}"
            return DiagnosisReport(step_id, said, ()), PatchResult("it was ended from outside")
        found = await self._ask({"op": "diagnose", "step": step_id})
        told = found if isinstance(found, dict) else {}
        findings = tuple([heard.finding(each) for each in heard.dicts(told.get("findings"))])
        patch = told.get("patch")
        return (
            DiagnosisReport(step_id, heard.text(told.get("error") or ""), findings),
            heard.patch(patch) if isinstance(patch, dict) else PatchResult(""),
        )

    def close(self) -> None:
        """End the session and everything that its steps have started."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    # ---------------------------------------------------------------- the worker

    async def _ask(self, request: dict[str, JSON]) -> JSON:
        async with self._turn:
            try:
                return await self._send(request)
            except Died as died:
                await self._recover(died.death.at)
                error = WorkerError(f"the worker was ended while it was asked: {died}")
                error.code = died.death.code
                raise error from None

    async def _change(self, request: dict[str, JSON], told: Told | None = None) -> JSON:
        answer = await self._send(request, told)
        assert self._worker is not None
        self._log.append((self._worker.number, request))
        return answer

    async def _send(self, request: dict[str, JSON], told: Told | None = None) -> JSON:
        """Send a request and return the result. Raises StepError, and Died if the running process
        was ended."""
        for _ in range(_AGAIN):
            if self._worker is None:
                self._worker = await self._workers.worker(_SESSION)
                await self._recover(0)
            worker = self._worker
            while self._log and self._log[0][0] <= worker.saved:
                self._log.popleft()
            try:
                cancelled = await worker.settled()
                if cancelled is not None:
                    await self._recover(cancelled.at)
                asked = {**request, "held": [*self._known.deadly]}
                steps = {*self.steps, str(request.get("step"))}
                turns = 2 if request["op"] == "repair" else 1  # it is tried in a fork first
                answer = await worker.ask(
                    asked, lambda event: self._told(event, told), steps, turns
                )
            except EOFError:
                worker.close()
                self._worker = None
                continue
            except Died as died:
                if died.death.step or died.death.code is ExecutorErrorCode.EXEC_STEP_TIMEOUT:
                    raise
                await self._recover(died.death.at)  # no step had begun: it was not asked yet
                continue
            self._known.answered(heard.texts(answer.get("stale")))
            if "error" in answer:
                raise StepError(heard.text(answer["error"]))
            return answer.get("result")
        raise WorkerError("the worker of the steps keeps ending")

    def _told(self, event: Message, told: Told | None) -> None:
        found = event.get("result")
        if event.get("event") != "step.finished" or not isinstance(found, dict):
            return
        step_id = str(event.get("step"))
        if step_id not in self._known.texts:
            return
        # possibly an earlier one, if runs are repeated
        result = heard.result(found, step_id, str(found.get("source"))[:MAX_SOURCE])
        self._known.ran(result)
        if told is not None:
            told(result)

    async def _ended(self, death: Death, step_id: str, told: Told | None = None) -> None:
        """The step has ended its worker: it has failed, and nothing else has changed."""
        result = self._known.ended(step_id, death)
        await self._recover(death.at, told)
        self.results[step_id] = result  # an earlier run of it may have been repeated

    async def _recover(self, at: int, told: Told | None = None) -> None:
        """Another process has taken over, with the state after request `at`; 0: with none."""
        if self._depth >= _AGAIN:
            raise WorkerError("the worker of the steps ends whenever it is restarted")
        self._depth += 1
        try:
            await self._recovered(at, told)
        except Died:  # it was too slow, or was killed again: use another
            assert self._worker is not None
            self._worker.close()
            self._worker = await self._workers.worker(_SESSION)
            await self._recover(0, told)
        finally:
            self._depth -= 1

    async def _recovered(self, at: int, told: Told | None) -> None:
        self.recoveries += 1
        again = [request for number, request in self._log if number > at]
        self._log = deque([each for each in self._log if each[0] <= at])
        if not at:
            restore: dict[str, JSON] = {"op": "restore", "steps": self._known.rows()}
            self._log, again = deque(), [restore]
        deadly = {*self._known.deadly}
        try:
            for request in again:
                await self._change(request, told)
        except StepError as error:
            raise WorkerError(
                f"the worker was ended, and its steps cannot be run again: {error.message}"
            ) from error
        for each in [each for each in self.steps if each in deadly]:
            await self._change({"op": "fail", "step": each, "source": self.source(each)})


class _NotKept(Exception):
    """A patch was tried and reverted."""
