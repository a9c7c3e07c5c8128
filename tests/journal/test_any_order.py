"""What is done with recorded runs, in any order, against a dict of runs and their messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer import tool
from lorimer.core.cancel import Reason
from lorimer.core.errors import PipelineError
from lorimer.core.journal import Journal
from lorimer.core.messages import Message, TextBlock, ToolResultBlock, ToolUse
from lorimer.core.request import Request
from lorimer.core.world import World
from lorimer.journal import MemoryJournal, SQLiteJournal
from lorimer.journal.diff import diff
from lorimer.journal.export import export, read_export
from lorimer.journal.recording import recorded
from lorimer.journal.retention import compact, prune
from lorimer.journal.verify import verify
from lorimer.session import SessionManager
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import ToolContext
from tests.core.support import make

Said = list[str]
"""A conversation, a text for each message."""

HOUR: Final = 3600.0
UNKNOWN: Final = "?"
"""A result of a call that was interrupted."""


def texts(messages: Sequence[Message]) -> Said:
    told: Said = []
    for message in messages:
        match message.content:
            case [ToolUse(_, _, arguments)]:
                told.append(f"call {arguments['n']}")
            case [ToolResultBlock() as block]:
                told.append(f"result {block.content}")
            case [TextBlock(text)]:
                told.append(text)
            case other:
                raise AssertionError(f"nobody said {other}")
    return told


def answers(messages: Said) -> str:
    """The model: a word that ends with a digit makes that many calls first."""
    at = max(i for i, text in enumerate(messages) if text.startswith("word"))
    done = sum(text.startswith("call ") for text in messages[at:])
    return f"call {done}" if done < int(messages[at][-1]) else f"said {messages[at]}"


@dataclass
class Run:
    """A run in the dict."""

    session: str
    said: Said
    """The whole conversation."""
    before: int
    """How many of them were there before it."""
    status: str
    when: float
    turns: list[int] = field(default_factory=list[int])
    """How long the conversation was after each turn."""


class Model:
    """All runs, in the order in which they were begun."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}

    def open(self, run: Run) -> bool:
        return run.status == ""

    def sessions(self) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {}
        for run in self.runs.values():
            found.setdefault(run.session, []).append(run)
        return found

    def play(self, run: Run, *, stop: int = -1) -> None:
        """Go on to the end, or until call number `stop` is interrupted."""
        while True:
            reply = answers(run.said)
            run.said.append(reply)
            if reply.startswith("said "):
                run.turns.append(len(run.said))
                run.status = "ok"
                return
            if reply == f"call {stop}":
                return
            run.said.append(f"result noted {reply[5:]}")
            run.turns.append(len(run.said))


class Bench:
    """The real thing, and the dict."""

    def __init__(self, world: SimulatedWorld, journal: Journal) -> None:
        self.world, self.journal, self.model = world, journal, Model()
        self.stop = -1
        self.words = 0

    def pipeline(self) -> Any:
        def reply(request: Request) -> Any:
            text = answers(texts(request.messages))
            return ToolUse(text, "note", {"n": int(text[5:])}) if text[:5] == "call " else text

        @tool(effects="read")
        async def note(n: int, context: ToolContext) -> str:
            """Note."""
            if n == self.stop:
                pipeline.cancel(Reason.SHUTDOWN)
                await context.world.sleep(60)
            return f"noted {n}"

        model = ScriptedModel(reply)
        pipeline = make(self.world, model, tools=[note], journal=self.journal, owner="me")
        return pipeline

    def pick(self, number: int, *, open: bool | None = None) -> str:
        """A run; "": there is none."""
        those = [
            run_id
            for run_id, run in self.model.runs.items()
            if open is None or self.model.open(run) is open
        ]
        return those[number % len(those)] if those else ""

    async def say(self, a: int, b: int) -> None:
        """A run in a session, new or old; `b` says how many calls it makes, and which is the last
        that happens."""
        sessions = self.model.sessions()
        session = [*sessions, ""][a % (len(sessions) + 1)]
        before = sessions[session] if session else []
        self.words += 1
        calls, stop = b % 3, b // 3 % 4
        word = f"word {self.words} {calls}"
        self.stop = stop if stop < calls else -1
        async with self.pipeline() as pipeline:
            manager = SessionManager()
            chat = await manager.open(pipeline, session) if session else manager.create(pipeline)
            if before and self.model.open(before[-1]):
                with pytest.raises(PipelineError, match="an unfinished run"):
                    await chat.run(word)
                await chat.aclose()
                return
            result = await chat.run(word, raise_on_error=False)
            await chat.aclose()
        said = [*before[-1].said] if before else []
        run = Run(result.session_id, [*said, word], len(said), "", 0.0)
        self.model.play(run, stop=self.stop)
        self.begun(result, run)

    def begun(self, result: Any, run: Run) -> None:
        run.when = self.world.time()
        assert result.status == (run.status or "suspended")
        self.model.runs[result.run_id] = run

    async def resume(self, a: int, b: int) -> None:
        run_id, self.stop = self.pick(a, open=True), -1
        if run_id:
            run = self.model.runs[run_id]
            async with self.pipeline() as pipeline:
                result = await pipeline.resume(run_id)
            run.said.append(f"result noted {run.said[-1][5:]}")
            run.turns.append(len(run.said))
            self.model.play(run)
            self.begun(result, run)

    async def abandon(self, a: int, b: int) -> None:
        run_id = self.pick(a, open=True)
        if run_id:
            async with self.pipeline() as pipeline:
                await pipeline.abandon(run_id)
            run = self.model.runs[run_id]
            run.said.append(UNKNOWN)
            run.status, run.when = "cancelled", self.world.time()

    async def fork(self, a: int, b: int) -> None:
        run_id, self.stop = self.pick(a), -1
        parent = self.model.runs.get(run_id)
        if parent is None or not parent.turns:
            return
        after = b % len(parent.turns)
        said = parent.said[: parent.turns[after]]
        self.words += 1
        word = f"word {self.words} {b % 2}" if said[-1].startswith("said ") or b % 3 else None
        async with self.pipeline() as pipeline:
            result = await pipeline.fork(run_id, after=after + 1, input=word)
        run = Run(result.session_id, [*said, *([word] if word else [])], len(said), "", 0.0)
        assert run.session not in self.model.sessions()
        self.model.play(run)
        self.begun(result, run)

    async def shrink(self, a: int, b: int) -> None:
        await compact(self.journal, before=self.world.time() - a % 5 * HOUR)

    async def prune(self, a: int, b: int) -> None:
        before, keep = self.world.time() - a % 5 * HOUR, b % 4
        newest = {run.session for run in [*reversed(self.model.runs.values())][:keep]}
        gone = [
            name
            for name, runs in self.model.sessions().items()
            if name not in newest and all(run.status for run in runs)
            if max(run.when for run in runs) < before
        ]
        pruned = await prune(self.journal, before=before, keep=keep)
        assert pruned.sessions == len(gone)
        self.model.runs = {i: run for i, run in self.model.runs.items() if run.session not in gone}

    async def wait(self, a: int, b: int) -> None:
        await self.world.sleep(HOUR * (1 + a % 3))

    async def check(self, a: int, b: int) -> None:
        """Everything that reads, of one run and another."""
        run_id, other = self.pick(a), self.pick(b)
        if not run_id:
            return
        run = self.model.runs[run_id]
        recording = await recorded(self.journal, run_id)
        async with self.pipeline() as pipeline:
            assert (await pipeline.replay(run_id)).divergence is None
            if self.model.open(run):
                with pytest.raises(PipelineError):
                    await pipeline.result(run_id)
            else:
                result = await pipeline.result(run_id)
                assert result.status == run.status
                told = texts(result.messages)
                assert [*map(known, told, run.said)] == run.said
        lines = [line async for line in export(self.journal, run_id, session=bool(b % 2))]
        again = {each.run_id: each for each in read_export(lines)}
        assert again[run_id].facts == recording.facts
        assert texts(again[run_id].history) == texts(recording.history)
        assert len(recording.history) == run.before
        same = diff(recording, await recorded(self.journal, other)).differences
        theirs = self.model.runs[other]
        assert diff(recording, again[run_id]).differences == []
        if run_id != other and run.said[run.before :] != theirs.said[theirs.before :]:
            assert same
        assert await verify(self.journal, run.session) == []

    async def listed(self) -> None:
        rows = {row.run_id: row for row in await self.journal.runs(limit=10_000)}
        assert {run_id: row.status for run_id, row in rows.items()} == {
            run_id: run.status for run_id, run in self.model.runs.items()
        }
        assert {row.stream for row in rows.values()} == {*self.model.sessions()}


def known(text: str, wanted: str) -> str:
    return wanted if wanted == UNKNOWN else text


STEPS = ("say", "say", "say", "resume", "abandon", "fork", "shrink", "prune", "wait", "check")


def opened(kind: str, world: World) -> Journal:
    if kind == "memory":
        return MemoryJournal(world)
    return SQLiteJournal(":memory:", world=world, threads=False)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 11), st.integers(0, 11)), max_size=25
    )
)
@settings(max_examples=15, deadline=None)
def test_runs_in_any_order_are_as_in_a_dict(kind: str, steps: list[tuple[str, int, int]]) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = opened(kind, world)
        bench = Bench(world, journal)
        for name, a, b in [*steps, *[("check", n, n + 1) for n in range(len(steps))]]:
            await getattr(bench, name)(a, b)
            await bench.listed()
        await journal.close()

    simulate(main)
