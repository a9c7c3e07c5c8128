"""Hooks and listeners are told when a session is taken up here, and when it is given back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core.cancel import Reason
from lorimer.core.errors import PipelineError
from lorimer.journal import MemoryJournal
from lorimer.session import SessionManager
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools.hooks import FunctionHook, Hook
from tests.core.support import make

BOTH = ("SessionStart", "SessionEnd")


def told_to(seen: list[dict[str, Any]]) -> list[Hook]:
    return [FunctionHook(event, seen.append, name=f"on {event}") for event in BOTH]


def pipeline_of(
    world: SimulatedWorld, journal: MemoryJournal, hooks: list[Hook], preset: str = "chat"
) -> Pipeline:
    return make(
        world, ScriptedModel(lambda _: "ok", record=False), preset, journal=journal, hooks=hooks
    )


def brief(seen: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    return [
        (told["event"], told["session_id"], told.get("source", told.get("runs"))) for told in seen
    ]


def test_a_session_is_told_of_once_however_many_runs_it_has() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[dict[str, Any]] = []
        journal = MemoryJournal(world)
        pipeline = pipeline_of(world, journal, told_to(seen))
        async with SessionManager() as manager:
            alice, bob = manager.create(pipeline, "alice"), manager.create(pipeline, "bob")
            first = await alice.run("one")
            await bob.run("one")
            await alice.run("two")
            assert brief(seen) == [
                ("SessionStart", "alice", "new"),
                ("SessionStart", "bob", "new"),
            ]
            assert seen[0]["run_id"] == first.run_id
            await alice.aclose()
            assert brief(seen)[2:] == [("SessionEnd", "alice", 2)]
            assert seen[2]["run_id"] == ""
            await alice.run("three")
        assert brief(seen)[3:] == [
            ("SessionStart", "alice", "resume"),
            ("SessionEnd", "alice", 3),
            ("SessionEnd", "bob", 1),
        ]
        await pipeline.aclose()
        assert len(seen) == 6, "nothing is told twice"

    simulate(main)


def test_the_conversation_of_a_pipeline_is_a_session_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[dict[str, Any]] = []
        async with pipeline_of(world, MemoryJournal(world), told_to(seen)) as pipeline:
            order: list[str] = []
            pipeline.on("*", lambda event: order.append(event.type))
            result = await pipeline.run("one")
            assert order[:3] == ["run.start", "session.start", "pipeline.start"]
        assert [told[1] for told in brief(seen)] == [result.session_id] * 2

    simulate(main)


def test_what_remembers_nothing_has_no_session() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[dict[str, Any]] = []
        async with pipeline_of(world, MemoryJournal(world), told_to(seen), "minimal") as pipeline:
            await pipeline.run("one")
        assert not seen

    simulate(main)


def test_a_run_that_is_left_gives_its_session_back_and_a_resumed_one_takes_it_up() -> None:
    async def main(world: SimulatedWorld) -> None:
        seen: list[dict[str, Any]] = []
        journal = MemoryJournal(world)
        pipeline = pipeline_of(world, journal, told_to(seen))
        pipeline.on("api.request", lambda event: pipeline.cancel(Reason.SHUTDOWN) and None)
        left = await pipeline.run("one", raise_on_error=False)
        assert left.status == "suspended"
        assert [told[0] for told in brief(seen)] == ["SessionStart", "SessionEnd"]

        again: list[dict[str, Any]] = []
        other = pipeline_of(world, journal, told_to(again))
        result = await other.resume(left.run_id)
        await other.aclose()
        assert brief(again) == [
            ("SessionStart", result.session_id, "resume"),
            ("SessionEnd", result.session_id, 1),
        ]

    simulate(main)


def test_a_session_in_which_no_run_could_begin_was_not_taken_up() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline = pipeline_of(world, journal, [])
        pipeline.on("api.request", lambda event: pipeline.cancel(Reason.SHUTDOWN) and None)
        left = await pipeline.run("one", raise_on_error=False)
        seen: list[dict[str, Any]] = []
        async with SessionManager() as manager:
            other = manager.create(pipeline_of(world, journal, told_to(seen)), left.session_id)
            with pytest.raises(PipelineError, match="has an unfinished run"):
                await other.run("two")
        assert not seen

    simulate(main)


def test_an_observer_that_hangs_keeps_nobody_from_closing() -> None:
    async def main(world: SimulatedWorld) -> None:
        ended: list[str] = []

        async def hang(told: dict[str, Any]) -> None:
            try:
                await world.sleep(3600)
            finally:
                ended.append(told["event"])

        pipeline = pipeline_of(
            world,
            MemoryJournal(world),
            [FunctionHook(event, hang, timeout_s=600) for event in BOTH],
        )
        await pipeline.run("one")
        began = world.monotonic()
        await pipeline.aclose()
        assert ended == ["SessionStart", "SessionEnd"]
        assert world.monotonic() - began <= 6.5
        assert len(asyncio.all_tasks()) == 1

    simulate(main)
