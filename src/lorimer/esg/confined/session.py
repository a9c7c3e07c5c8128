"""A session of steps that runs confined: what `StepExecutor` is for trusted code, for any.

    async with StepWorkers(folder) as workers:
        session = await ConfinedSteps.begin(workers)
        result = await session.execute("load", "rows = [3, 1, 2]")
        await session.edit_step("load", "rows = [4]")
        done = await session.replay()

`execute`, `replay`, `repair` run steps; `add_step`, `edit_step`, `delete_step`, `move_step`,
`rename_step`, `mark_stale` change the graph and say what is stale by that; `plan`, `status`,
`explain`, `why_stale`, `lineage`, `edges`, `script`, `diagnose` and `names` ask. Values stay in the
worker: a result has texts about them.

A step that takes too long, too much, or ends its process has failed with a `code`, and has changed
nothing; the session goes on with its state as it was before: that of a fork, else of all steps,
run again. Such a step runs again only when it is edited or executed again. Nothing of a worker's is
believed but as text, and nothing is journalled here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import JSON
from lorimer.core.world import Isolation
from lorimer.esg.confined.worker import Death, Died, StepWorkers, Worker, WorkerError
from lorimer.esg.diagnosis import DiagnosisReport, Finding
from lorimer.esg.patches import Edit, PatchResult, patched
from lorimer.esg.questions import Planned, StepError
from lorimer.esg.running import Failure

Message = Mapping[str, JSON]
Told = Callable[["ConfinedResult"], None]

MAX_SOURCE: Final = 1_000_000
"""Characters of a step."""
_SESSION: Final = "lorimer.esg.confined.requests:Requests"
_AGAIN: Final = 5
"""How often a worker may be lost while one thing is asked of it."""


@dataclass(frozen=True, slots=True)
class ConfinedResult:
    """What came of a step, in texts; see `StepResult`."""

    step_id: str
    source: str
    stdout: str = ""
    stderr: str = ""
    shown: str = ""
    """The value of the last line as an interactive Python would show it; empty for None."""
    type: str = "NoneType"
    """The class of that value."""
    failure: Failure | None = None
    """Why it raised or was ended; it has then changed nothing."""
    code: ExecutorErrorCode | None = None
    """Why it was ended; None: it ran, or raised."""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """It ran to its end."""
        return self.failure is None


@dataclass(frozen=True, slots=True)
class ConfinedReplay:
    """What a replay did."""

    ran: tuple[str, ...]
    failed: tuple[str, ...]
    blocked: tuple[str, ...]
    """Steps that need what a failed one did not make."""

    @property
    def ok(self) -> bool:
        """All steps are up to date."""
        return not self.failed and not self.blocked


class ConfinedSteps:
    """One session; made by `begin`. For one task at a time, others wait."""

    def __init__(self, workers: StepWorkers, worker: Worker) -> None:
        self._workers = workers
        self._worker: Worker | None = worker
        self._turn = asyncio.Lock()
        self._texts: dict[str, str] = {}
        """Of all steps, in order: what a new worker begins with."""
        self._deadly: dict[str, ConfinedResult] = {}
        self._log: deque[tuple[int, dict[str, JSON]]] = deque()
        """What changed the session since its state was saved."""
        self.results: dict[str, ConfinedResult] = {}
        """Of every step that has run: the last one's."""
        self.recoveries: int = 0
        """How often another process has taken over."""

    @classmethod
    async def begin(cls, workers: StepWorkers) -> ConfinedSteps:
        """A new session. Raises `exec.sandbox.missing`, and WorkerError when it does not start."""
        return cls(workers, await workers.worker(_SESSION))

    @property
    def isolation(self) -> Isolation | None:
        """The level in force, and what it does not hold."""
        return self._workers.isolation

    @property
    def steps(self) -> tuple[str, ...]:
        """The ids of all steps, in order."""
        return tuple(self._texts)

    def source(self, step_id: str) -> str:
        """The text of a step. Raises StepError."""
        if step_id not in self._texts:
            raise StepError(f"there is no step {step_id!r}")
        return self._texts[step_id]

    # ---------------------------------------------------------------- running

    async def execute(self, step_id: str, source: str) -> ConfinedResult:
        """Add a step at the end (or give one another text), and run it.

        Raises StepError where it cannot be, and WorkerError when no worker can be had.
        """
        _fits(source)
        async with self._turn:
            self._deadly.pop(step_id, None)
            try:
                told = await self._change({"op": "execute", "step": step_id, "source": source})
            except Died as died:
                self._texts[step_id] = source
                await self._ended(died.death, step_id)
                return self.results[step_id]
            self._texts[step_id] = source
            result = _result(told if isinstance(told, dict) else {}, step_id, source)
            self.results[step_id] = result
            return result

    async def replay(self, on_step: Told | None = None) -> ConfinedReplay:
        """Run what is stale, in step order, until nothing is; see `StepExecutor.replay`.

        A step that is ended by a limit has failed, and the others go on.
        """
        async with self._turn:
            ran = list[str]()

            def told(result: ConfinedResult) -> None:
                ran.append(result.step_id)
                if on_step is not None:
                    on_step(result)

            while True:
                try:
                    found = await self._change({"op": "replay", "held": [*self._deadly]}, told)
                    break
                except Died as died:
                    if not died.death.step:
                        raise WorkerError(f"the replay ended its worker: {died}") from None
                    await self._ended(died.death, died.death.step, told)
                    told(self.results[died.death.step])
            done = found if isinstance(found, dict) else {}
            failed = {*_texts(done.get("failed")), *self._deadly}
            held = done.get("held")
            blocked = {*_texts(done.get("blocked")), *(held if isinstance(held, dict) else ())}
            return ConfinedReplay(
                tuple(ran),
                tuple([each for each in self._texts if each in failed]),
                tuple([each for each in self._texts if each in blocked - failed]),
            )

    async def repair(self, patch: PatchResult, step_id: str) -> bool:
        """Apply a patch, replay, and keep it only if the step runs and no other fails by it."""
        async with self._turn:
            edits: list[JSON] = [
                [each.step, each.start, each.end, each.text] for each in patch.edits
            ]
            hashes: dict[str, JSON] = {**patch.hashes}
            self._deadly.pop(step_id, None)
            request: dict[str, JSON] = {"op": "repair", "step": step_id, "edits": edits}
            try:
                kept = await self._change({**request, "hashes": hashes, "held": [*self._deadly]})
            except Died:
                return False
            if kept is True:
                for each in patch.hashes:
                    self._texts[each] = patched(self.source(each), patch.edits, each)
                    if each in self.results:
                        self.results[each] = replace(self.results[each], source=self._texts[each])
            return kept is True

    # ---------------------------------------------------------------- the graph

    async def add_step(self, step_id: str, source: str, *, after: str | None = None) -> list[str]:
        """Add a step without running it, at the end or right after another (`""`: before all).
        Returns what is stale."""
        _fits(source)
        async with self._turn:
            found = await self._change(
                {"op": "add", "step": step_id, "source": source, "after": after}
            )
            self._texts[step_id] = source
            if after is not None:
                self._texts = _moved(self._texts, step_id, after)
            return _texts(found)

    async def edit_step(self, step_id: str, source: str) -> list[str]:
        """Give a step another text. Returns what is stale by that, in step order."""
        _fits(source)
        async with self._turn:
            stale = _texts(await self._change({"op": "edit", "step": step_id, "source": source}))
            self._texts[step_id] = source
            if stale:
                self._deadly.pop(step_id, None)
            return stale

    async def delete_step(self, step_id: str) -> list[str]:
        """Take a step out; its readers see the versions before. Returns what is stale now."""
        async with self._turn:
            stale = _texts(await self._change({"op": "delete", "step": step_id}))
            del self._texts[step_id]
            self.results.pop(step_id, None)
            self._deadly.pop(step_id, None)
            return stale

    async def move_step(self, step_id: str, *, after: str = "") -> list[str]:
        """Put a step right after another one (`""`: before all). Returns what is stale by that."""
        async with self._turn:
            stale = _texts(await self._change({"op": "move", "step": step_id, "after": after}))
            self._texts = _moved(self._texts, step_id, after)
            return stale

    async def rename_step(self, old: str, new: str) -> None:
        """Give a step another id; nothing is stale by that."""
        async with self._turn:
            await self._change({"op": "rename", "step": old, "source": new})
            self._texts = {new if each == old else each: text for each, text in self._texts.items()}
            for kept in (self.results, self._deadly):
                if old in kept:
                    kept[new] = kept.pop(old)

    async def mark_stale(self, step_id: str) -> list[str]:
        """Say that a step has to run again. Returns it and its dependants, in order."""
        async with self._turn:
            return _texts(await self._change({"op": "mark", "step": step_id}))

    # ---------------------------------------------------------------- questions

    async def plan(self) -> list[Planned]:
        """A dry run: what a replay would run, why, and how long each took last time."""
        rows = await self._ask({"op": "plan"})
        return [
            Planned(str(row[0]), tuple(_texts(row[1])), _seconds(row[2])) for row in _rows(rows, 3)
        ]

    async def status(self) -> dict[str, str]:
        """Of each step: `new`, `fresh`, `stale`, `failed` or `blocked`."""
        return _named(await self._ask({"op": "status"}))

    async def explain(self, step_id: str) -> str:
        """All about a step, as text."""
        return str(await self._ask({"op": "explain", "step": step_id}))

    async def why_stale(self, step_id: str) -> list[str]:
        """From a step back to the edit that made it stale."""
        return _texts(await self._ask({"op": "why_stale", "step": step_id}))

    async def lineage(self, name: str) -> list[tuple[str, str]]:
        """The versions (name, step) that a value was made of."""
        rows = await self._ask({"op": "lineage", "source": name})
        return [(str(row[0]), str(row[1])) for row in _rows(rows, 2)]

    async def edges(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Step, step that depends on it, and the names that go between them."""
        rows = await self._ask({"op": "edges"})
        return [(str(row[0]), str(row[1]), tuple(_texts(row[2]))) for row in _rows(rows, 3)]

    async def script(self, name: str) -> str:
        """A script that makes a name (or runs a step), and nothing else."""
        return str(await self._ask({"op": "script", "source": name}))

    async def names(self, after: str | None = None) -> dict[str, tuple[str, str]]:
        """Every name as it is after a step, or after all: its class and its `repr`, shortened.

        Values that are gone are made again: steps may run.
        """
        found = await self._ask({"op": "names", "step": after})
        pairs = found.items() if isinstance(found, dict) else ()
        return {name: (str(p[0]), str(p[1])) for name, p in pairs if isinstance(p, list)}

    async def diagnose(self, step_id: str) -> tuple[DiagnosisReport, PatchResult]:
        """Why a step failed, and the edits that would mend it: `repair` applies them."""
        deadly = self._deadly.get(step_id)
        if deadly is not None and deadly.failure is not None:
            said = f"{deadly.failure.type}: {deadly.failure.message}"
            return DiagnosisReport(step_id, said, ()), PatchResult("it was ended from outside")
        found = await self._ask({"op": "diagnose", "step": step_id})
        told = found if isinstance(found, dict) else {}
        findings = tuple([_finding(each) for each in _dicts(told.get("findings"))])
        patch = told.get("patch")
        return (
            DiagnosisReport(step_id, str(told.get("error") or ""), findings),
            _patch(patch) if isinstance(patch, dict) else PatchResult(""),
        )

    def close(self) -> None:
        """End it, with all that its steps have started."""
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
        """The result. Raises StepError, and Died when the one that ran was ended."""
        for _ in range(_AGAIN):
            if self._worker is None:
                self._worker = await self._workers.worker(_SESSION)
                await self._recover(0)
            worker = self._worker
            while self._log and self._log[0][0] <= worker.saved:
                self._log.popleft()
            try:
                answer = await worker.ask(request, lambda event: self._told(event, told))
            except EOFError:
                worker.close()
                self._worker = None
                continue
            except Died as died:
                if died.death.code is ExecutorErrorCode.EXEC_RUN_CANCELLED:
                    await self._recover(died.death.at)
                    continue
                raise
            if "error" in answer:
                raise StepError(str(answer["error"]))
            return answer.get("result")
        raise WorkerError("the worker of the steps ends again and again")

    def _told(self, event: Message, told: Told | None) -> None:
        found = event.get("result")
        if event.get("event") != "step.finished" or not isinstance(found, dict):
            return
        step_id = str(event.get("step"))
        if step_id not in self._texts:
            return
        result = _result(found, step_id, self._texts[step_id])
        self.results[result.step_id] = result
        if told is not None:
            told(result)

    async def _ended(self, death: Death, step_id: str, told: Told | None = None) -> None:
        """That step has ended its worker: it has failed, and nothing else is changed."""
        source = self._texts.get(step_id, "")
        failure = Failure("StepEnded", death.why, death.line, "")
        result = ConfinedResult(step_id, source, failure=failure, code=death.code)
        self._deadly[step_id] = result
        await self._recover(death.at, told)
        self.results[step_id] = result  # an earlier run of it may have been made again

    async def _recover(self, at: int, told: Told | None = None) -> None:
        """Another process has taken over, with the state after request `at`; 0: with none."""
        self.recoveries += 1
        again = [request for number, request in self._log if number > at]
        self._log = deque([each for each in self._log if each[0] <= at])
        if not at:
            steps: list[JSON] = [
                [each, self.results[each].source if each in self.results else "", text]
                for each, text in self._texts.items()
            ]
            restore: dict[str, JSON] = {"op": "restore", "steps": steps, "held": [*self._deadly]}
            self._log, again = deque(), [restore]
        known = {*self._deadly}
        try:
            for request in again:
                await self._change(request, told)
        except StepError as error:
            raise WorkerError(
                f"the worker was ended, and its steps cannot be run again: {error.message}"
            ) from error
        for each in known:
            if each in self._texts:
                await self._change({"op": "fail", "step": each, "source": self._texts[each]})


def _fits(source: str) -> None:
    if len(source) > MAX_SOURCE:
        raise StepError(f"a step cannot be longer than {MAX_SOURCE} characters")


def _moved(texts: dict[str, str], step_id: str, after: str) -> dict[str, str]:
    order = [each for each in texts if each != step_id]
    order.insert(order.index(after) + 1 if after else 0, step_id)
    return {each: texts[each] for each in order}


# -------------------------------------------------------------------- what a worker says


def _texts(value: JSON) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _named(value: JSON) -> dict[str, str]:
    return {each: str(text) for each, text in value.items()} if isinstance(value, dict) else {}


def _dicts(value: JSON) -> list[dict[str, JSON]]:
    found = value if isinstance(value, list) else []
    return [each for each in found if isinstance(each, dict)]


def _rows(value: JSON, size: int) -> list[list[JSON]]:
    found = value if isinstance(value, list) else []
    return [list(each) for each in found if isinstance(each, list) and len(each) == size]


def _seconds(value: JSON) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _line(value: JSON) -> int | None:
    return value if isinstance(value, int) else None


def _result(told: Mapping[str, JSON], step_id: str, source: str) -> ConfinedResult:
    failure = told.get("failure")
    why = failure if isinstance(failure, dict) else None
    return ConfinedResult(
        step_id=step_id,
        source=source,
        stdout=str(told.get("stdout") or ""),
        stderr=str(told.get("stderr") or ""),
        shown=str(told.get("shown") or ""),
        type=str(told.get("type")),
        failure=None
        if why is None
        else Failure(
            str(why.get("type")),
            str(why.get("message")),
            _line(why.get("line")),
            str(why.get("traceback")),
        ),
        code=ExecutorErrorCode.EXEC_STEP_OUT_OF_MEMORY
        if why is not None and why.get("type") == "MemoryError"
        else None,
        reads=tuple(_texts(told.get("reads"))),
        writes=tuple(_texts(told.get("writes"))),
        seconds=_seconds(told.get("seconds")) or 0.0,
    )


def _edit(told: JSON) -> Edit:
    found = told if isinstance(told, dict) else {}
    return Edit(
        str(found.get("step")),
        _line(found.get("start")) or 0,
        _line(found.get("end")) or 0,
        str(found.get("text")),
    )


def _finding(told: dict[str, JSON]) -> Finding:
    edits = told.get("edits")
    return Finding(
        str(told.get("rule")),
        str(told.get("message")),
        str(told.get("step")),
        tuple([_edit(each) for each in edits]) if isinstance(edits, list) else (),
    )


def _patch(told: dict[str, JSON]) -> PatchResult:
    return PatchResult(
        str(told.get("reason")),
        tuple([_edit(each) for each in _dicts(told.get("edits"))]),
        _named(told.get("hashes")),
        str(told.get("diff")),
    )
