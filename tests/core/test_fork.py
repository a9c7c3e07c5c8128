"""Another run from the middle of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lorimer import ConfigError, EnvironmentManifest, Pipeline
from lorimer.core.cancel import Reason
from lorimer.core.errors import ExecutorErrorCode, PipelineError
from lorimer.core.journal import Journal
from lorimer.core.messages import Message
from lorimer.core.world import World
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.export import export, read_export
from lorimer.journal.recording import recorded
from lorimer.journal.verify import verify, verify_recording
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, check_history, held, kinds, make, use

CALLS: Sequence[Any] = ([use("look", "a")], [use("send", "b", to="Ann")], "sent")


def agent(
    world: World, replies: Sequence[Any], journal: Journal, preset: str = "chat"
) -> tuple[Pipeline, ScriptedModel, list[Do]]:
    tools = [Do("look"), Do("send", effects=["send"])]
    model = ScriptedModel(replies)
    return make(world, model, preset, tools=tools, journal=journal), model, tools


def asked(model: ScriptedModel) -> list[Message]:
    return list(model.requests[-1].messages)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_fork_knows_what_was_said_and_does_nothing_of_it_again(kind: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal: Journal = MemoryJournal(world)
        if kind == "sqlite":
            journal = SQLiteJournal(":memory:", world=world, threads=False)
        first, _, _ = agent(world, ["hi", *CALLS], journal)
        await first.run("hello")
        parent = await first.run("tell Ann")
        before = [fact async for fact in journal.read(parent.session_id)]

        other, model, tools = agent(world, ["Not sent."], journal)
        fork = await other.fork(parent.run_id[:9], after=1)
        assert asked(model) == parent.messages[:5], "up to the results of its first turn"
        assert [tool.calls for tool in tools] == [[], []]
        assert fork.text == "Not sent."
        assert fork.session_id != parent.session_id
        assert fork.events[0].data["parent"] == {"run": parent.run_id, "iteration": 0}
        assert fork.messages[:5] == parent.messages[:5]
        check_history(fork.messages)
        assert [fact async for fact in journal.read(parent.session_id)] == before
        for name in (fork.session_id, parent.session_id):
            assert await verify(journal, name) == []
        rows = await journal.runs(limit=1)
        assert [(row.run_id, row.title) for row in rows] == [(fork.run_id, "tell Ann")]

        again = await other.run("and now?", raise_on_error=False)
        assert again.session_id == fork.session_id
        assert again.messages[:6] == fork.messages

    simulate(main)


def test_with_an_input_it_goes_on_with_that() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first, _, _ = agent(world, CALLS, journal)
        parent = await first.run("tell Ann")
        for after, known in ((1, 3), (2, 5), (3, 6)):
            other, model, _ = agent(world, ["fine"], journal)
            fork = await other.fork(parent.run_id, after=after, input="Tell Bob instead.")
            assert asked(model)[:-1] == parent.messages[:known]
            assert asked(model)[-1].text == "Tell Bob instead."
            assert fork.events[0].data["input"] == "Tell Bob instead."
            check_history(fork.messages)

    simulate(main)


def test_a_pipeline_that_remembers_nothing_forks_too() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first, _, _ = agent(world, CALLS, journal)
        parent = await first.run("tell Ann")
        other, model, _ = agent(world, ["x"], journal, "minimal")
        fork = await other.fork(parent.run_id, after=2)
        assert asked(model) == parent.messages[:5]
        assert fork.session_id == fork.run_id
        assert await verify(journal, fork.run_id) == []

    simulate(main)


def test_turns_that_are_not_there_are_refused_and_nothing_is_written() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first, _, _ = agent(world, CALLS, journal)
        parent = await first.run("tell Ann")
        other, _, _ = agent(world, ["fine"], journal)
        for after, told in ((0, "after turn 0: 3 of its turns"), (4, "3 of its turns are over")):
            with pytest.raises(PipelineError, match=told) as refused:
                await other.fork(parent.run_id, after=after, input="x")
            assert refused.value.code is ExecutorErrorCode.EXEC_INPUT_INVALID
        for turns in ("1", None, 1.0):
            with pytest.raises(ConfigError, match="after must be a whole number, not"):
                await other.fork(parent.run_id, after=turns, input="x")  # type: ignore[arg-type]
        with pytest.raises(PipelineError, match="Turn 3 .* is an answer"):
            await other.fork(parent.run_id, after=3)
        with pytest.raises(PipelineError, match="There is no run 'run_x'"):
            await other.fork("run_x", after=1)
        assert len(await journal.runs()) == 1
        assert (await other.run("still works")).text == "fine"

    simulate(main)


def test_an_unfinished_run_is_forked_after_the_turns_that_are_over() -> None:
    async def main(world: SimulatedWorld) -> None:
        first, _, _ = agent(world, CALLS, MemoryJournal(world))
        whole = await first.run("tell Ann")
        begun = kinds(whole.events).index("tool.intent") + 1  # in the second turn
        journal = await held(world, whole.events[:begun])
        other, model, tools = agent(world, ["fine"], journal)
        with pytest.raises(PipelineError, match="after turn 2: 1 of its turns is over"):
            await other.fork(whole.run_id, after=2)
        await other.fork(whole.run_id, after=1)
        assert asked(model) == whole.messages[:3]
        assert [tool.calls for tool in tools] == [[], []]
        [fork, parent] = await journal.runs()
        assert parent.status == "", "it still waits to be resumed"
        assert fork.status == "ok"

    simulate(main)


def test_a_call_of_unknown_outcome_is_told_as_such() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        async def stop(*_: object) -> str:
            first.cancel()
            await world.sleep(60)
            return "never"

        tools = [Do("look"), Do("send", stop, effects=["send"])]
        first = make(world, CALLS, "chat", tools=tools, journal=journal)  # type: ignore[arg-type]
        parent = await first.run("tell Ann", raise_on_error=False)
        assert parent.status == "cancelled"
        other, model, _ = agent(world, ["I will check."], journal)
        await other.fork(parent.run_id, after=2)
        assert "exec.tool.outcome_unknown" in str(asked(model)[-1].content)

    simulate(main)


def test_a_run_that_was_interrupted_between_two_turns_is_forked_there() -> None:
    async def main(world: SimulatedWorld) -> None:
        first, _, _ = agent(world, CALLS, MemoryJournal(world))
        whole = await first.run("tell Ann")
        over = kinds(whole.events).index("iteration.end") + 1
        journal = await held(world, whole.events[:over])
        other, model, _ = agent(world, ["fine"], journal)
        await other.fork(whole.run_id, after=1, input="and?")
        assert asked(model)[:-1] == whole.messages[:3]
        with pytest.raises(PipelineError, match="1 of its turns"):
            await other.fork(whole.run_id, after=2, input="and?")

    simulate(main)


def test_a_fork_that_was_interrupted_is_resumed_replayed_exported_and_forked() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        first, _, _ = agent(world, CALLS, journal)
        parent = await first.run("tell Ann")
        other, _, _ = agent(world, [[use("look", "z")], "unheard"], journal)

        @other.on("tool.result")
        def _(_: object) -> None:
            other.cancel(Reason.SHUTDOWN)

        fork = await other.fork(parent.run_id, after=2, raise_on_error=False)
        assert fork.status == "suspended"
        await other.aclose()
        later, model, tools = agent(world, ["the end"], journal)
        resumed = await later.resume(fork.run_id)
        assert asked(model)[:5] == parent.messages[:5]
        assert [tool.calls for tool in tools] == [[], []]
        assert (await later.replay(fork.run_id)).divergence is None
        run = await recorded(journal, fork.run_id)
        for session in (False, True):
            lines = [line async for line in export(journal, fork.run_id, session=session)]
            assert read_export(lines) == [run]
        assert verify_recording(run) == []
        assert (await later.replay(run)).divergence is None
        again, model, _ = agent(world, ["third"], MemoryJournal(world))
        third = await again.fork(run, after=1)
        assert third.messages[:7] == resumed.messages[:7]

    simulate(main)


def test_a_fork_that_cannot_begin_gives_its_stream_back() -> None:
    class Claimed(MemoryJournal):
        """Which streams are claimed now."""

        held: set[str] = set()  # noqa: RUF012 - of the one that is made here

        async def claim(self, stream: str, owner: str, ttl: float) -> int:
            self.held.add(stream)
            return await super().claim(stream, owner, ttl)

        async def release(self, stream: str, epoch: int) -> None:
            self.held.discard(stream)
            await super().release(stream, epoch)

    def secretive(manifest: EnvironmentManifest) -> None:
        manifest.metadata.description = "s3cret-s3cret"

    async def main(world: SimulatedWorld) -> None:
        journal = Claimed(world)
        first, _, _ = agent(world, CALLS, journal)
        parent = await first.run("tell Ann")
        await first.aclose()
        assert journal.held == set()
        for preset in ("chat", "minimal"):
            other = make(
                world,
                ["fine"],
                preset,
                journal=journal,
                secrets=["s3cret-s3cret"],
                change=secretive,
            )
            for _ in range(2):  # and it is not busy with what was refused
                with pytest.raises(ConfigError, match="holds a secret"):
                    await other.fork(parent.run_id, after=1, input="more")
            assert journal.held == set()

    simulate(main)
