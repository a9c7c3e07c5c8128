"""One process of the sweep: its pipelines, the program that calls them, and all that can go wrong
at one of its operations. Who decides when that happens, and how the process goes on: `sweep.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from lorimer import Pipeline
from lorimer.core.cancel import Reason
from lorimer.core.errors import APIError, ErrorCategory, ExecutorErrorCode, LorimerError
from lorimer.core.events import Event
from lorimer.core.hooks import Answer
from lorimer.core.journal import RunRow
from lorimer.core.jsonable import fingerprint
from lorimer.core.mail import answer
from lorimer.core.result import PipelineResult
from lorimer.core.tool import Approver
from lorimer.journal import SQLiteJournal
from lorimer.models.registry import Models
from lorimer.testing.simulated_loop import SimulationLoop
from lorimer.tools import AskLater, ToolRegistry
from tests.campaign.audit import Told
from tests.campaign.gather import lengths
from tests.campaign.outside import Person, Provider, tools
from tests.campaign.seams import SeamJournal, Seams, SeamWorld, StoreFailed, forever
from tests.campaign.sweep_kernel import Kernel
from tests.campaign.sweep_scenarios import Post, Scenario, manifest

if TYPE_CHECKING:
    from tests.campaign.sweep import Play

CODE = ExecutorErrorCode
CLAIM_S = 31.0


POINTS = ("UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolFailure", "Stop")


def requested(told: Mapping[str, Any]) -> bytes:
    """What a hook is asked, as its fact names it."""
    match told["event"]:
        case "UserPromptSubmit":
            return fingerprint({"prompt": told["prompt"]})
        case "PreToolUse":
            return fingerprint({"name": told["tool_name"], "input": told["tool_input"]})
        case "Stop":
            return fingerprint({"text": told["text"], "held_back": told["held_back"]})
        case _:
            names = ("tool_name", "tool_use_id", "tool_input", "tool_output")
            return fingerprint({name: told[name] for name in names})


class Process:
    """One life."""

    def __init__(self, play: Play, seams: Seams) -> None:
        self.play = play
        self.seams = seams
        self.life = play.outside.life = len(play.begins)
        play.begins.append({})
        self.world = SeamWorld(play.world, seams)
        self.file: SQLiteJournal = play.store.open(play.world)
        self.journal = SeamJournal(self.file, seams)
        scenario = play.scenario
        self.pipelines = [self._pipeline(scenario, i) for i in range(len(scenario.inputs))]
        self.caller: asyncio.Task[None] | None = None

    def _pipeline(self, scenario: Scenario, index: int) -> Pipeline:
        outside, seams = self.play.outside, self.seams
        registry = ToolRegistry()
        for tool in tools(outside, seams, self.journal):
            registry.register(tool, granted=tool.name not in scenario.ask)
        below = dict(scenario.below)
        if scenario.kernel:  # it remembers nothing: asked again, it would do all of it again
            below |= {"again": (), "and now?": ()}
        provider = Provider(scenario.turns, outside, seams, below)
        if scenario.kernel:
            kernel: Any = Kernel(
                provider,
                registry,
                scenario.limits,
                self.journal,
                self.world,  # type: ignore[arg-type]
                seams,
            )
            return kernel
        pipeline = Pipeline(
            manifest(scenario),
            tools=registry,
            models=Models(providers={"scripted": provider}),
            journal=self.journal,
            world=self.world,  # type: ignore[arg-type]
            approver=self._approver(scenario),
            workspace=self.play.files.name if self.play.files is not None else None,
            bindings={"hand_over": self._hand_over} if scenario.emit else None,
        )
        if scenario.custom:
            pipeline.register_stage(Post(outside, seams))
        if pipeline.plan.converses:
            pipeline._launcher._claims.session_id = f"talk {index}"
        if scenario.listener:
            pipeline.on(scenario.listener, self._hear)
        for point in POINTS if scenario.hooked else ():
            pipeline.hook(point)(self._guard)
        return pipeline

    def _approver(self, scenario: Scenario) -> Approver | None:
        if scenario.later:
            return AskLater()
        person = Person(self.play.outside, self.seams, scenario.no)
        return person if scenario.ask else None

    async def _guard(self, told: dict[str, Any]) -> Answer | None:
        point, given = told["event"], told.get("tool_input", {})
        await self.seams.at(f"hook {point} begins")
        request = requested(told)
        self.play.outside.mark("hook", f"{point} {request!r}", self.life, request=request)
        await self.seams.at(f"hook {point} has answered")
        match point:
            case "PreToolUse":
                return Answer(change={**given, "n": given["n"] + 10}, context="mind the step")
            case "PostToolUse":
                return Answer(change=f"{told['tool_output']}!")
            case "Stop" if not told["held_back"]:
                return Answer("block", "look again")
            case _:
                return None

    async def _hear(self, event: Event) -> None:
        await self.seams.at(f"listener hears {event.type}")

    async def _hand_over(self, text: str) -> None:
        await self.seams.at("emit begins")
        self.play.outside.mark("emit", text, self.life, text.encode())
        await self.seams.at("emit is done")

    # --- what the program does -------------------------------------------------------------

    async def work(self) -> None:
        """Go on with what was interrupted, then do what is left to do; stop at the first error."""
        await self._begin()
        self.caller = asyncio.create_task(self._all())
        await asyncio.wait([self.caller])
        self._look_at_caller()
        await self._close()

    async def struck(self) -> None:
        """`work`, and then what a program does that is still there: it tries again."""
        await self._begin()
        self.caller = asyncio.create_task(self._all())
        await asyncio.wait([self.caller])
        self.play.operations = list(self.seams.names)
        self.play.store.strike = None
        self.play.store.unlock()
        self._look_at_caller()
        self._look_for_litter()
        if not self.play.broken:
            for index in range(len(self.pipelines)):
                await self._again(index, "again")
        await self._close()

    async def recover(self) -> None:
        """Everything comes to its end, and each conversation goes on."""
        await self._begin()
        await self.end_all()
        for index in range(len(self.pipelines)):
            await self._again(index, "and now?")
        await self._close()

    async def other(self) -> None:
        """Another process ends what this one has begun."""
        await self._begin(wait=False)
        await self.end_all()
        await self._close()

    async def _begin(self, *, wait: bool = True) -> None:
        if wait:
            await self.play.world.sleep(CLAIM_S)  # a dead owner's claim runs out
        if self.play.store.exists:
            with self.play.store.unwatched():
                self.play.begins[self.life] = await lengths(self.file)

    async def _rows(self) -> list[RunRow]:
        """Of all runs but those of sub-agents, the oldest first. The program's own look into the
        store: no operation."""
        if not self.play.store.exists:
            return []
        below = dict(self.play.scenario.below)
        with self.play.store.unwatched():
            return [row for row in (await self.file.runs())[::-1] if row.title not in below]

    async def _close(self) -> None:
        for pipeline in self.pipelines:
            await pipeline.aclose()
        try:
            await self.file.close()
        except LorimerError as error:
            self._note_error(error)

    async def _all(self) -> None:
        rows = await self._rows()
        if len(self.pipelines) == 1:
            await self._inputs(0, rows)
            return
        async with asyncio.TaskGroup() as group:
            for index in range(len(self.pipelines)):
                group.create_task(self._inputs(index, rows))

    async def _inputs(self, index: int, rows: Sequence[RunRow]) -> None:
        """What one pipeline is for, until something fails."""
        mine = [row for row in rows if self._mine(row, index)]
        for row in mine:
            if not row.status and not await self._call(index, "", row.run_id):
                return
        begun = [row.title for row in mine]
        for asked in self.play.scenario.inputs[index]:
            if asked not in begun and not await self._call(index, asked, ""):
                return

    def _mine(self, row: RunRow, index: int) -> bool:
        if row.stream.startswith("talk"):
            return row.stream == f"talk {index}"
        return row.title in self.play.scenario.inputs[index] or not index

    async def _call(self, index: int, input: str, run_id: str) -> bool:
        """One run, new or resumed; whether it ended well. What is raised is looked at."""
        pipeline, limits = self.pipelines[index], self.play.scenario.limits
        if input in ("again", "and now?"):
            limits = pipeline.plan.limits
        try:
            if self.play.scenario.stream:
                events = (
                    pipeline.resume_stream(run_id)
                    if run_id
                    else pipeline.run_stream(input, limits=limits)
                )
                return await self._read(events, leave=bool(input) and input != "and now?")
            result = await (
                pipeline.resume(run_id) if run_id else pipeline.run(input, limits=limits)
            )
            self._note(result)
        except LorimerError as error:
            self._note_error(error)
            if error.code is CODE.EXEC_RUN_WAITING and error.result is not None:
                return await self._answer(index, error.result.run_id)
            return False
        return True

    async def _answer(self, index: int, run_id: str) -> bool:
        """A person looks at what the run asks, and agrees; then it goes on."""
        try:
            await answer(self.journal, run_id, True)
        except LorimerError as error:
            self._note_error(error)
            return False
        return await self._call(index, "", run_id)

    async def _read(self, events: AsyncIterator[Event], *, leave: bool) -> bool:
        last: Event | None = None
        async with aclosing(events) as reading:  # type: ignore[type-var]
            async for event in reading:
                if event.is_fact:
                    self.play.told.append(Told(event.run_id))
                    await self.seams.at(f"reader got {event.type}")
                if leave and event.type == self.play.scenario.leave:
                    return True
                last = event
        result = last.data.get("result") if last is not None else None
        if not isinstance(result, PipelineResult):
            self.play.find("C1 one end", f"a stream ended with {last}")
            return False
        self._note(result)
        if result.exception is not None:
            self._note_error(result.exception)
        return result.success

    async def end_all(self) -> None:
        """Resume whatever has no end."""
        for index in range(len(self.pipelines)):
            for row in await self._rows():
                if self._mine(row, index) and not row.status:
                    await self._resume(index, row.run_id)

    async def _resume(self, index: int, run_id: str) -> None:
        await self._call(index, "", run_id)
        [row] = [row for row in await self._rows() if row.run_id == run_id]
        if not row.status:
            self.play.find("C3 resume", f"{run_id} was resumed and has no end: {self._said()}")

    async def _again(self, index: int, input: str) -> None:
        """The conversation can be used: a run works, or says what to do first, and then works."""
        for _ in range(3):
            self.last: LorimerError | None = None
            before = len(await self._rows())
            well = await self._call(index, input, "")
            if well or len(await self._rows()) > before:
                if not well and self._failed_in_store():
                    self.play.find("usable afterwards", f"{input!r} failed: {self._said()}")
                return
            error = self.last
            if error is None or not error.hint:
                self.play.find("usable afterwards", f"{input!r} says not what to do: {error!r}")
                return
            if error.code is CODE.EXEC_RUN_BUSY:
                for row in await self._rows():
                    if self._mine(row, index) and not row.status and row.run_id in str(error):
                        await self._resume(index, row.run_id)
            elif error.code is not CODE.EXEC_JOURNAL_CONFLICT:
                self.play.find("usable afterwards", f"{input!r} is refused: {self._said()}")
                return
        self.play.find("usable afterwards", f"{input!r} is still refused: {self._said()}")

    # --- what the program sees -------------------------------------------------------------

    last: LorimerError | None = None

    def _said(self) -> str:
        return "nothing" if self.last is None else f"{self.last.code}: {self.last}"

    def _failed_in_store(self) -> bool:
        return self.last is not None and self.last.category is ErrorCategory.STORE

    def _note(self, result: PipelineResult) -> None:
        failed = result.exception
        stored = failed is None or failed.category is not ErrorCategory.STORE
        if failed is not None and not result.events:
            return  # it was not accepted: nobody was told that it was
        self.play.told.append(
            Told(result.run_id, result.status, result.cost_nano, result.iterations, stored)
        )

    def _note_error(self, error: LorimerError) -> None:
        self.last = error
        if not str(error) or error.code is CODE.EXEC_UNKNOWN:
            self.play.find("errors are coded", f"{error!r} has the code {error.code}")
        if error.result is not None:
            self._note(error.result)

    def _look_at_caller(self) -> None:
        caller = self.caller
        assert caller is not None
        if caller.cancelled():
            if self.play.strike is None or self.play.strike.kind != "task":
                self.play.find("errors are coded", "the caller was told that it is cancelled")
        elif (error := caller.exception()) is not None:
            self.play.find("errors are coded", f"the caller was told {error!r}")

    def _look_for_litter(self) -> None:
        """When its call is over, nothing of a run is left."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            self.play.find("C7 no litter", f"tasks: {sorted(task.get_name() for task in left)}")
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulationLoop)
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]
        if timers:
            self.play.find("C7 no litter", f"timers: {timers}")

    # --- what goes wrong -------------------------------------------------------------------

    async def strike_fail(self, name: str) -> None:
        match name.split()[0]:
            case "model":
                raise APIError("no", code=CODE.EXEC_API_SERVER_ERROR)
            case "tool" | "person" | "listener" | "emit" | "stage" | "port":
                raise RuntimeError("broken")
            case _:
                self.play.exact = False
                raise StoreFailed("the store failed", hint="Try again.")

    async def strike_fatal(self, name: str) -> None:
        raise APIError("no", code=CODE.EXEC_API_AUTH_INVALID_KEY)

    async def strike_hang(self, name: str) -> None:
        await forever()

    async def strike_cancel(self, name: str) -> None:
        for pipeline in self.pipelines:
            pipeline.cancel()

    async def strike_shutdown(self, name: str) -> None:
        for pipeline in self.pipelines:
            pipeline.cancel(Reason.SHUTDOWN)

    async def strike_task(self, name: str) -> None:
        assert self.caller is not None
        self.caller.cancel()

    async def strike_kill(self, name: str) -> None:
        self.seams.die()
        await self.play.world.crash()

    strike_power = strike_kill

    async def strike_takeover(self, name: str) -> None:
        self.play.exact = False
        self.play.world.clock.advance(CLAIM_S)
        await self.seams.paused(Process(self.play, Seams()).other())

    async def strike_locked(self, name: str) -> None:
        self.play.exact = False
        self.play.store.lock()

    def die(self) -> None:
        """In the middle of a write."""
        self.seams.die()
        self.play.store.die()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulationLoop)
        loop.crash()
