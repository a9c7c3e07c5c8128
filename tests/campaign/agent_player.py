"""Plays the agent of one seed to its one end, through all lives of its process, and audits what is
left. The same seed gives the same play.

The provider and the effects of the tools are outside the process, so they survive its death.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterator
from contextlib import aclosing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import apsw

from lorimer import Pipeline
from lorimer.core.cancel import Reason
from lorimer.core.errors import ErrorCategory, ExecutorErrorCode, LorimerError
from lorimer.core.events import Event
from lorimer.core.journal import Journal, RunRow
from lorimer.core.jsonable import dumps
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.result import STATUSES, PipelineResult
from lorimer.journal import Conversation, MemoryJournal, SQLiteJournal
from lorimer.journal.verify import verify
from lorimer.models.registry import Models
from lorimer.presets import preset_manifest
from lorimer.testing.simulated_failures import SimulatedCrash
from lorimer.testing.simulated_loop import SimulationLoop
from lorimer.testing.simulated_world import SimulatedWorld
from lorimer.testing.simulation import simulate_in
from tests.campaign.agents import Case, Interruption, draw
from tests.campaign.audit import Evidence, Told, audit
from tests.campaign.gather import gather, lengths
from tests.campaign.outside import MAX_TOKENS, Outside, Provider, the_end, tools
from tests.campaign.seams import STORED, SeamJournal, Seams, StoreFailed, forever
from tests.campaign.store import Store
from tests.core.support import SlowJournal

CODE = ExecutorErrorCode
CLAIM_S = 31.0
REPLAY_ALL = bool(os.environ.get("LORIMER_CAMPAIGN"))
TERMINAL = ("pipeline.complete", "pipeline.error")
AT_SEAMS = ("kill", "power", "takeover", "refuse", "deny")
AT_WRITES = ("torn", "cut", "full", "eio")
DEATHS = ("crash_steps", "crash_time", "kill", "power", "torn", "cut")


@cache
def manifest(preset: str) -> EnvironmentManifest:
    made = preset_manifest(preset, model="scripted:m")
    made.model.max_tokens = MAX_TOKENS
    made.stages["api"].strategy_configs["retry"] = {"max_retries": 3}
    if preset != "minimal":  # the script finds its place by all that was said
        made.stages["context"].strategies["compactor"] = "none"
    return made


@dataclass
class Played:
    """What is left of a case that was played to its end."""

    case: Case
    facts: list[Event] = field(default_factory=list[Event])
    """Of the run that it is about."""
    results: list[PipelineResult] = field(default_factory=list[PipelineResult])
    crashes: int = 0
    lives: int = 0
    struck: list[str] = field(default_factory=list[str])
    """What happened at which operation or write."""

    def lines(self) -> str:
        """The facts in plain form, one a line."""
        return "\n".join(dumps(fact.to_json()) for fact in self.facts)


@dataclass
class Process:
    """One process, and what happens to it."""

    number: int
    life: Interruption
    seams: Seams
    journal: Journal
    file: SQLiteJournal | None

    async def close(self) -> None:
        if self.file is not None:
            with suppress(LorimerError):
                await self.file.close()


class Player:
    """Plays one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.world = SimulatedWorld(case.seed)
        self.store = Store() if case.journal == "file" else None
        kept = SlowJournal if case.journal == "slow" else MemoryJournal
        self.kept = kept(self.world)
        self.outside = Outside()
        self.turns = case.turns
        self.out = Played(case)
        self.processes: list[Process] = []
        """The one that runs is the last; the others wait until it is done."""
        self.begins: list[dict[str, int]] = []
        self.told: list[Told] = []
        self.exact = True
        self.stream = ""
        """Of the conversation, where it had an older run."""

    # --- one process -----------------------------------------------------------------------

    @contextmanager
    def process(self, seams: Seams, life: Interruption) -> Iterator[Process]:
        """A new process, with the journal that the one before has left."""
        file = self.store.open(self.world) if self.store is not None else None
        process = Process(len(self.begins), life, seams, file or self.kept, file)
        self.begins.append({})
        self.outside.life = process.number
        self.processes.append(process)
        try:
            yield process
        finally:
            self.processes.remove(process)

    @property
    def now(self) -> Process:
        """The process that is running."""
        return self.processes[-1]

    def pipeline(self) -> Pipeline:
        outside, seams = self.outside, self.now.seams
        provider = Provider(self.turns, outside, seams)
        pipeline = Pipeline(
            manifest(self.case.preset),
            tools=tools(outside, seams),
            models=Models(providers={"scripted": provider}),
            journal=SeamJournal(self.now.journal, seams),
            world=self.world,
            session_id=self.stream,
        )
        self.heard: list[str] = []
        heard = self.heard

        @pipeline.on("pipeline.*")
        def _(event: Event) -> None:
            if event.type in TERMINAL:
                heard.append(event.type)

        self.listen(pipeline)
        self.current = pipeline
        return pipeline

    def listen(self, pipeline: Pipeline) -> None:
        match self.case.listener:
            case "raising":

                @pipeline.on("*")
                def _(event: Event) -> None:
                    raise RuntimeError(event.type)

            case "slow":

                @pipeline.on("stage.*")
                async def _(event: Event) -> None:
                    await self.world.sleep(0.3)

            case "hanging":

                @pipeline.on("tool.*")
                async def _(event: Event) -> None:
                    await forever()

            case _:
                pass

    # --- all lives ---------------------------------------------------------------------------

    def play(self) -> Played:
        try:
            self.lives()
        finally:
            if self.store is not None:
                self.store.close()
        return self.out

    def lives(self) -> None:
        if self.case.spoken and self.case.preset != "minimal":
            self.quietly(self.before)
        for life in (*self.case.lives, Interruption()):
            self.out.lives += 1
            self.one(life)
            if self.quietly(self.ended):
                break
        self.quietly(self.after)

    def quietly(self, main: Any) -> Any:
        """In a process of its own to which nothing happens."""
        with self.process(Seams(), Interruption()):

            async def run(_: object) -> Any:
                try:
                    return await main()
                finally:
                    await self.now.close()

            return simulate_in(self.world, run)

    def one(self, life: Interruption) -> None:
        crash: dict[str, Any] = {}
        if life.kind == "crash_steps":
            crash = {"crash_after_steps": life.steps}
        elif life.kind == "crash_time":
            crash = {"crash_at_s": self.world.monotonic() + CLAIM_S + life.at_s}
        seams = Seams()
        if life.kind in AT_SEAMS:
            seams = Seams(self.strike, life.steps // 4, self.fits(life.kind))
        with self.process(seams, life) as process:
            if self.store is not None and life.kind in AT_WRITES:
                self.store.writes.clear()
                self.store.strike = self.store_strike
            try:
                simulate_in(self.world, lambda _: self.live(), **crash)
            except SimulatedCrash:
                self.out.crashes += 1
                self.exact = False
                if self.store is not None:
                    self.store.crashed(process.file, power=life.kind in ("power", "cut"))
            finally:
                if self.store is not None:
                    self.store.strike = None
        if seams.struck:
            self.out.struck.append(f"{life.kind} at {seams.struck}")

    @staticmethod
    def fits(kind: str) -> Any:
        if kind == "refuse":
            return lambda name: name.startswith(STORED) and not name.endswith(", done")
        if kind == "deny":
            return lambda name: name.startswith(STORED) and name.endswith(", done")
        return None

    async def strike(self, name: str) -> None:
        """Something happens at this operation."""
        self.exact = False
        match self.now.life.kind:
            case "kill" | "power":
                self.now.seams.die()
                await self.world.crash()
            case "takeover":
                self.world.clock.advance(CLAIM_S)
                await self.now.seams.paused(self.take_over())
            case _:
                raise StoreFailed("the store failed", hint="Try again.")

    def store_strike(self, number: int, what: str) -> None:
        """Something happens at this write."""
        kind, at = self.now.life.kind, self.now.life.steps
        if number < at or (number > at and kind != "full"):
            return
        if number == at:
            self.out.struck.append(f"{kind} at {what}")
        self.exact = False
        if kind in ("torn", "cut"):
            assert self.store is not None
            self.now.seams.die()
            self.store.die()
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimulationLoop)
            loop.crash()
        elif kind == "full" and not what.startswith("sync"):
            raise apsw.FullError("no room")
        elif kind == "eio":
            code = "FSYNC" if what.startswith("sync") else "WRITE"
            raise apsw.exception_for(getattr(apsw, f"SQLITE_IOERR_{code}"))

    async def take_over(self) -> None:
        """Another process ends what this one has begun."""
        with self.process(Seams(), Interruption()):
            await self.note_begin()
            rows = [row for row in await self.now.journal.runs() if not row.status]
            current = self.current
            for row in rows:
                async with self.pipeline() as pipeline:
                    self.note(await pipeline.resume(row.run_id, raise_on_error=False))
            self.current = current
            await self.now.close()

    # --- one life ----------------------------------------------------------------------------

    async def before(self) -> None:
        turns, self.turns = self.turns, ()
        await self.note_begin()
        async with self.pipeline() as pipeline:
            result = await pipeline.run("hello")
        self.stream = result.session_id
        self.turns = (the_end(0), *turns)

    async def note_begin(self) -> None:
        self.begins[self.now.number] = await lengths(self.now.journal)

    async def row(self) -> RunRow | None:
        """The run that this is about, once it is there."""
        rows = await self.now.journal.runs()
        ours = rows[: len(rows) - bool(self.stream)]
        return ours[0] if ours else None

    async def ended(self) -> bool:
        row = await self.row()
        return row is not None and bool(row.status)

    async def live(self) -> None:
        """One life of the process: start the run or resume it, and maybe stop it."""
        life = self.now.life
        await self.world.sleep(CLAIM_S)  # the dead owner's claim runs out
        with self.store.unwatched() if self.store is not None else nullcontext():
            row = await self.row()
            await self.note_begin()
        run_id = row.run_id if row is not None else ""
        call = self.streamed(run_id) if self.case.stream else self.plain(run_id)
        task = asyncio.create_task(self.guarded(call))
        if life.kind in ("cancel", "shutdown", "abort"):
            await asyncio.wait([task], timeout=life.at_s)
            if life.kind == "shutdown":
                self.current.cancel(Reason.SHUTDOWN)
            victims = {task} if life.kind == "cancel" else asyncio.all_tasks()
            for victim in sorted(victims - {asyncio.current_task()}, key=lambda t: t.get_name()):
                if life.kind != "shutdown":
                    victim.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        await self.now.close()

    async def guarded(self, call: Awaitable[None]) -> None:
        """What fails because the store does says so; everything else is the result's to say."""
        try:
            await call
        except LorimerError as error:
            mine = self.now.life.kind in (*AT_SEAMS, *AT_WRITES)
            taken = self.now.life.kind == "takeover" and error.code is CODE.EXEC_RUN_ENDED
            if not taken and not (mine and error.category is ErrorCategory.STORE):
                raise

    async def plain(self, run_id: str) -> None:
        life = self.now.life
        async with self.pipeline() as pipeline:
            with suppress(TimeoutError):
                async with asyncio.timeout(life.at_s if life.kind == "timeout" else None):
                    result = await (
                        pipeline.resume(run_id, raise_on_error=False)
                        if run_id
                        else pipeline.run("go", limits=self.case.limits, raise_on_error=False)
                    )
                    self.note(result)

    async def streamed(self, run_id: str) -> None:
        life = self.now.life
        async with self.pipeline() as pipeline:
            heard = self.heard
            events = (
                pipeline.resume_stream(run_id)
                if run_id
                else pipeline.run_stream("go", limits=self.case.limits)
            )
            last: Event | None = None
            begun = self.world.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(life.at_s if life.kind == "timeout" else None):
                    async with aclosing(events):
                        async for event in events:
                            assert last is None or last.type not in TERMINAL, "an event after it"
                            last = event
                            if event.is_fact:
                                self.told.append(Told(event.run_id))
                            if life.kind == "close" and self.world.monotonic() - begun >= life.at_s:
                                return
                            if self.case.seed % 5 == 0:
                                await self.world.sleep(0.05)
                    assert last is not None and last.type in TERMINAL
                    assert len(heard) == 1, heard
                    result = last.data["result"]
                    assert isinstance(result, PipelineResult)
                    self.note(result)

    def note(self, result: PipelineResult) -> None:
        """What a caller is told."""
        assert result.status in STATUSES
        assert (result.exception is None) == (result.status == "ok")
        assert result.code is not CODE.EXEC_JOURNAL_DIVERGED, result
        stored = result.exception is None or result.exception.category is not ErrorCategory.STORE
        assert stored or self.now.life.kind in (*AT_SEAMS, *AT_WRITES), result
        if not result.events:
            assert result.exception is not None
            return  # stopped before it was accepted
        self.told.append(
            Told(result.run_id, result.status, result.cost_nano, result.iterations, stored)
        )
        if stored and result.status != "suspended":
            self.out.results.append(result)

    async def after(self) -> None:
        """What can be seen from outside once it is over; and the conversation goes on."""
        await self.world.sleep(CLAIM_S)
        row = await self.row()
        assert row is not None
        facts = [f async for f in self.now.journal.read(row.stream) if f.run_id == row.run_id]
        self.out.facts = facts
        assert not (found := await verify(self.now.journal, row.run_id)), found
        if REPLAY_ALL or self.case.seed % 4 == 0:
            await self.replayed(row.run_id)
        conversation = await Conversation.open(self.now.journal, row.stream, "auditor", self.world)
        history, unfinished = list(conversation.history), conversation.unfinished
        await conversation.release()
        assert not unfinished
        for result in self.out.results:
            assert result.messages == history, "live history and journal differ"
            assert result.events == facts
        if not self.case.lives:
            slack = self.case.limits.cleanup_s + 1e-3
            assert facts[-1].time - facts[0].time <= self.case.limits.timeout_s + slack
        await self.note_begin()
        if self.case.preset != "minimal":
            self.stream, self.turns = row.stream, ()
            async with self.pipeline() as pipeline:
                result = await pipeline.run("and now?")
                assert result.text.startswith("the end")
                assert result.messages[: len(history)] == history
        findings = audit(await self.evidence())
        assert not findings, "\n".join(map(str, findings))

    async def replayed(self, run_id: str) -> None:
        """From its facts alone the run does the same again, and asks nobody."""
        done = len(self.outside.marks)
        async with self.pipeline() as pipeline:
            replayed = await pipeline.replay(run_id)
        assert replayed.divergence is None, replayed.divergence
        assert replayed.result.events == self.out.facts
        assert len(self.outside.marks) == done

    async def evidence(self) -> Evidence:
        return await gather(
            self.now.journal,
            marks=self.outside.marks,
            begins=self.begins,
            told=self.told,
            limits=manifest(self.case.preset).limits,
            refused=self.outside.refused,
            used=self.outside.used,
            exact=self.exact,
        )


def play(seed: int) -> Played:
    """Play the case of a seed to its end and check all that must hold."""
    return Player(draw(seed)).play()
