"""A run as lines, and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.errors import ExecutorErrorCode, JournalError, PipelineError
from lorimer.core.journal import Journal
from lorimer.core.wellformed import repaired
from lorimer.journal import MemoryJournal, fold
from lorimer.journal.diff import diff
from lorimer.journal.export import export, read_export
from lorimer.journal.recording import recorded
from lorimer.journal.verify import verify_recording
from lorimer.testing import SimulatedWorld, simulate
from tests.core.support import Do, held, make, use


async def lines_of(journal: Journal, run_id: str, *, session: bool = False) -> list[str]:
    return [line async for line in export(journal, run_id, session=session)]


def test_a_run_comes_back_as_it_was() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        chat = make(
            world,
            [[use("look", "a", at="ünï \ud800")], "one", [use("look", "b")], "two"],
            "chat",
            tools=[Do("look")],
            journal=journal,
        )
        first, second = await chat.run("first"), await chat.run("second")
        for result in (first, second):
            lines = await lines_of(journal, result.run_id[:9])
            for line in lines:
                assert "\n" not in line
                line.encode()
            [run] = read_export(f"{line}\n" for line in lines)
            assert run == await recorded(journal, result.run_id)
            assert list(run.facts) == result.events
            assert run.manifest == chat.manifest.to_dict()
            assert run.digest == chat.manifest.digest
            assert verify_recording(run) == []
        assert [len(run.history) for run in read_export(lines)] == [4]

    simulate(main)


def test_a_session_comes_back_with_the_conversation_before_each_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        chat = make(world, ["one", "two", "three"], "chat", journal=journal)
        results = [await chat.run(word) for word in ("a", "b", "c")]
        lines = await lines_of(journal, results[1].run_id, session=True)
        assert sum("messages" in json.loads(line) for line in lines) == 1
        runs = read_export(lines)
        assert runs == [await recorded(journal, result.run_id) for result in results]
        for run in runs:
            assert verify_recording(run) == []

    simulate(main)


def test_a_run_that_is_going_on_is_exported_as_far_as_it_is() -> None:
    async def main(world: SimulatedWorld) -> None:
        whole = await make(world, [[use("look")], "x"], "chat", tools=[Do("look")]).run("go")
        journal = await held(world, whole.events[:4])
        [run] = read_export(await lines_of(journal, whole.run_id))
        assert run.end is None
        assert len(run.facts) == 4
        assert repaired(fold(run.facts).messages)[-1].role == "user"
        with pytest.raises(PipelineError) as unknown:
            await lines_of(journal, "run_zzz")
        assert unknown.value.code is ExecutorErrorCode.EXEC_RUN_UNKNOWN

    simulate(main)


HEAD = {"type": "lorimer.run", "format": 1, "run_id": "r", "session_id": "s", "manifest": None}
START = {"type": "run.start", "run_id": "r", "stage": "", "iteration": 0, "time": 1.0, "seq": 1}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["nonsense"], "line 1 is not a line of an export"),
        (["[]"], "line 1 is not a line of an export: it is not an object"),
        ([json.dumps({**START, "data": {}})], "line 1 .* does not begin with"),
        ([json.dumps({**HEAD, "run_id": 7})], "names no run"),
        ([json.dumps({**HEAD, "manifest": 7})], "its manifest is not an object"),
        ([json.dumps({**HEAD, "messages": "x"})], "its messages are not a list"),
        ([json.dumps(HEAD)], "run r has no run.start"),
        ([json.dumps(HEAD), "", json.dumps(START)], "line 3 .* data of a fact"),
        ([json.dumps(HEAD), json.dumps({**START, "seq": "1"})], "must be numbers"),
        ([json.dumps(HEAD), json.dumps({**START, "stage": 1})], "must be text"),
        ([json.dumps(HEAD), json.dumps({**START, "type": "x", "data": {}})], "no kind of fact"),
        (["[" * 100_000], "line 1 is not a line of an export"),
        *[
            ([f'{{"type": {number}}}'], f"{number} is not a JSON number")
            for number in ("NaN", "1e999")
        ],
    ],
)
def test_what_is_no_export_is_refused_with_its_line(lines: list[str], told: str) -> None:
    with pytest.raises(JournalError, match=told) as refused:
        read_export(lines)
    assert refused.value.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED


def test_a_newer_export_says_so() -> None:
    with pytest.raises(JournalError, match="newer version") as refused:
        read_export([json.dumps({**HEAD, "format": 2})])
    assert refused.value.code is ExecutorErrorCode.EXEC_JOURNAL_VERSION


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*HEAD, *START, "data", "messages"]), plain))
def test_anything_else_is_a_journal_error_or_nothing(data: dict[str, object]) -> None:
    lines = [json.dumps(HEAD), json.dumps({**START, "data": {}}), json.dumps({**START, **data})]
    try:
        read_export(lines)
    except JournalError:
        pass


def test_whatever_a_call_is_named_by_it_can_be_compared() -> None:
    asked = {"key": {"a": 1}, "question": {"tool": "t"}}
    facts = [{**START, "data": {}}, {**START, "seq": 2, "type": "effect.intent", "data": asked}]
    [run] = read_export([json.dumps(HEAD), *map(json.dumps, facts)])
    assert not diff(run, run).differences


def test_a_time_beyond_all_numbers_is_no_time() -> None:
    head = {"type": "lorimer.run", "run_id": "r", "session_id": "s", "messages": []}
    fact = {"type": "run.start", "run_id": "r", "iteration": 0, "stage": "", "time": 10**400}
    lines = [json.dumps(head), json.dumps({**fact, "seq": 1, "data": {}})]
    with pytest.raises(JournalError, match="line 2 is not a line of an export"):
        read_export(lines)
