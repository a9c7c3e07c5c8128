"""Stage 2, compaction: what is taken out of the model's view is told by a receipt, and is not lost;
what was pinned stays; what is left is fit for every provider."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.errors import APIError, ExecutorErrorCode, JournalError
from lorimer.core.history import History
from lorimer.core.journal import Journal
from lorimer.core.messages import (
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
)
from lorimer.core.outline import outline, transcript
from lorimer.core.receipt import Receipt
from lorimer.core.request import Request, Usage
from lorimer.core.result import PipelineResult
from lorimer.core.wellformed import faults
from lorimer.journal import MemoryJournal
from lorimer.journal.export import export, read_export
from lorimer.journal.receipts import compactions
from lorimer.journal.recording import recorded
from lorimer.journal.verify import verify
from lorimer.models.pricing import Price
from lorimer.models.registry import Models
from lorimer.pipeline import Pipeline
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from tests.core.support import Do, held, kinds, make, use
from tests.stages.support import choose, configure

COMPACTORS: Mapping[str, Mapping[str, Any]] = {
    "truncate": {"keep_last": 4},
    "sliding_window": {"window_size": 4, "slack": 3},
    "summary": {"keep_recent": 4},
    "llm_summary": {"keep_recent": 4},
}
WORDS = "and so on " * 30


def written(request: Request) -> bool:
    """It is a recap that is asked for."""
    return request.system.startswith("You keep the memory")


def recap(text: str = "They talked.", *facts: str) -> str:
    return json.dumps({"recap": text, "facts": list(facts)})


def chatty(request: Request) -> str:
    return recap() if written(request) else f"Well, {WORDS}"


def compacting(
    world: SimulatedWorld,
    rule: str,
    answer: Any = chatty,
    *,
    journal: Journal | None = None,
    **options: Any,
) -> tuple[Pipeline, ScriptedModel]:
    """A chat in a window of 1,500 tokens."""
    model = ScriptedModel(answer, usage=Usage(10, 5), price=Price(1.0, 1.0))

    def change(manifest: Any) -> None:
        configure("context", window=1500)(manifest)
        choose("context", "compactor", rule, **COMPACTORS.get(rule, {}))(manifest)

    pipeline = make(
        world, model, "chat", change=change, tools=[Do("look")], journal=journal, **options
    )
    return pipeline, model


def asked(model: ScriptedModel) -> list[Sequence[Message]]:
    """What the model was shown, recaps apart."""
    return [request.messages for request in model.requests if not written(request)]


def texts(messages: Sequence[Message]) -> str:
    return "\n".join([message.text for message in messages])


@pytest.mark.parametrize("rule", COMPACTORS)
def test_what_was_pinned_stays_in_view(rule: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline, model = compacting(world, rule)
        await pipeline.run("The first word is alpha.")
        await pipeline.run("[pin] The second word is beta.")
        rules: set[str] = set()
        for number in range(12):
            result = await pipeline.run(f"And now {number}? {WORDS}")
            rules.update(receipt.rule for receipt in result.receipts)
        assert rules == {rule}
        shown = texts(asked(model)[-1])
        assert "The first word is alpha." in shown
        assert "[pin] The second word is beta." in shown
        assert len(shown) < 7_000 < len(texts(result.messages))

    simulate(main)


def test_a_receipt_of_another_conversation_is_damage() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline, _ = compacting(world, next(iter(COMPACTORS)), journal=MemoryJournal(world))
        result = await pipeline.run(f"Question. {WORDS}")
        while not result.receipts:
            result = await pipeline.run(f"Another. {WORDS}")
        run = await recorded(pipeline.journal, result.run_id)
        run.history = run.history[-1:]
        with pytest.raises(JournalError, match="is not of the conversation before it") as found:
            compactions(run)
        assert f"lorimer runs verify {result.run_id}" in found.value.hint

    simulate(main)


@pytest.mark.parametrize("rule", COMPACTORS)
def test_all_that_was_taken_out_is_brought_back(rule: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, model = compacting(world, rule, journal=journal)
        results = [await pipeline.run(f"Question {n}. {WORDS}") for n in range(12)]
        last = asked(model)[-1]
        out: set[int] = set()
        for result in results:
            again = compactions(await recorded(journal, result.run_id))
            assert [each.receipt for each in again] == result.receipts
            for each in again:
                assert [m for _, m in each.removed] == each.receipt.removed(results[-1].messages)
                out.update(index for index, _ in each.removed)
        assert out
        whole = results[-1].messages[:-1]
        assert [m for at, m in enumerate(whole) if at not in out] == [
            m for m in last if not m.text.startswith("[From the program")
        ]
        assert [f.seq for f in results[-1].events] == sorted(f.seq or 0 for f in results[-1].events)

    simulate(main)


def test_what_the_run_was_asked_stays_however_many_calls_it_makes() -> None:
    def calls(request: Request) -> Any:
        if len(asked_so_far) == 30 or "hello" in request.messages[-1].text:
            return "done"
        asked_so_far.append(1)
        return [use("look", f"c{len(asked_so_far)}", why=WORDS)]

    asked_so_far: list[int] = []

    async def main(world: SimulatedWorld) -> None:
        pipeline, model = compacting(world, "truncate", calls)
        await pipeline.run("hello")
        result = await pipeline.run("Look thirty times.", limits={"max_turns": 40})
        assert result.text == "done"
        assert len(result.receipts) > 2
        assert all("Look thirty times." in texts(shown) for shown in asked(model)[-20:])
        assert all(not faults(shown) for shown in asked(model))
        # and goes with the rest once something else was asked
        asked_so_far.clear()
        third = await pipeline.run("Look again.", limits={"max_turns": 40})
        assert 1 in third.receipts[-1].kept or 2 in third.receipts[0].dropped
        assert "Look thirty times." not in texts(asked(model)[-1])

    simulate(main)


def test_a_recap_is_the_programs_word_and_grows_from_the_one_before() -> None:
    told: list[str] = []

    def answer(request: Request) -> str:
        if not written(request):
            return f"Well, {WORDS}"
        told.append(request.messages[-1].text)
        return recap(f"Recap {len(told)}.", "the code is 7391")

    async def main(world: SimulatedWorld) -> None:
        pipeline, model = compacting(world, "llm_summary", answer)
        for number in range(14):
            result = await pipeline.run(f"Question {number}. {WORDS}")
        assert len(told) > 1
        assert "Recap 1." in told[1]
        assert "Question 0." not in told[1]
        note = next(m for m in asked(model)[-1] if m.text.startswith("[From the program"))
        assert note.text.endswith(f"Recap {len(told)}.\n- the code is 7391")
        assert note.role == "user"
        whole = result.total_cost_usd
        assert whole > 0

    simulate(main)


def test_a_recap_is_paid_for_by_the_run() -> None:
    async def main(world: SimulatedWorld) -> None:
        pipeline, model = compacting(world, "llm_summary")
        for number in range(14):
            before = len(model.requests)
            result = await pipeline.run(f"Question {number}. {WORDS}")
            made = len(model.requests) - before
            assert result.usage.total == 15 * made
            assert result.cost_nano == 15_000 * made
            if made == 2:
                assert kinds(result.events)[1:4] == ["effect.intent", "effect", "compacted"]
                return
        raise AssertionError("it was never compacted")

    simulate(main)


@pytest.mark.parametrize("failure", ["refuses", "says nothing that fits"])
def test_where_the_summariser_fails_an_outline_stands_in_for_it(failure: str) -> None:
    def answer(request: Request) -> Any:
        if not written(request):
            return f"Well, {WORDS}"
        if failure == "refuses":
            return APIError("no", code=ExecutorErrorCode.EXEC_API_BAD_REQUEST)
        return "I would rather not."

    async def main(world: SimulatedWorld) -> None:
        pipeline, model = compacting(world, "llm_summary", answer)
        receipts: list[Receipt] = []
        for number in range(12):
            result = await pipeline.run(f"Question {number}. {WORDS}")
            receipts += result.receipts
            assert result.status == "ok"
        assert {each.error for each in receipts} <= {
            "exec.api.bad_request",
            "exec.api.output_invalid",
        }
        assert "User: Question 4. and so on" in receipts[0].recap
        assert receipts[-1].recap in texts(asked(model)[-1])

    simulate(main)


def test_another_vendor_does_not_see_the_arguments_of_calls() -> None:
    async def main(world: SimulatedWorld) -> None:
        told: list[str] = []
        count = 0

        def answer(request: Request) -> Any:
            nonlocal count
            if written(request):
                told.append(request.messages[-1].text)
                return recap()
            count += 1
            return [use("look", f"c{count}", key="hunter2", why=WORDS)] if count < 12 else "done"

        for model in ("", "scripted:other"):
            told.clear()
            count = 0
            pipeline, _ = compacting(world, "llm_summary", answer)
            pipeline.swap_strategy(
                "context", "compactor", "llm_summary", {"keep_recent": 4, "model": model}
            )
            await pipeline.run("go")
            assert told
            assert ("hunter2" in "".join(told)) == (not model)

    simulate(main)


async def _resumed(world: SimulatedWorld, whole: PipelineResult, at: int) -> PipelineResult:
    """The run, resumed after its first `at` facts: only recaps that are not there are written."""
    journal = await held(world, whole.events[:at], whole.session_id)
    pipeline, model = compacting(world, "llm_summary", calling(at, whole), journal=journal)
    resumed = await pipeline.resume(whole.run_id)
    recaps = sum(written(request) for request in model.requests)
    assert recaps == sum(fact.type == "effect" for fact in whole.events[at:])
    return resumed


def calling(at: int = 0, whole: PipelineResult | None = None) -> Any:
    """Asks for ten calls, each by what it has been asked; a recap has a number."""
    before = whole.events[:at] if whole is not None else []
    replies = sum(fact.type == "model.reply" for fact in before)
    recaps = sum(fact.type == "effect" for fact in before)

    def answer(request: Request) -> Any:
        nonlocal replies, recaps
        if written(request):
            recaps += 1
            return recap(f"Recap {recaps}.")
        replies += 1
        return [use("look", f"c{replies}", why=WORDS)] if replies <= 24 else "done"

    return answer


def test_a_crash_round_a_compaction_repeats_nothing() -> None:
    def told(result: PipelineResult) -> list[Any]:
        volatile = {"times": 0, "used_s": 0}
        return [(f.type, f.iteration, {**f.data, **volatile}) for f in result.events]

    async def main(world: SimulatedWorld) -> None:
        pipeline, _ = compacting(world, "llm_summary", calling())
        whole = await pipeline.run("Look. " + WORDS, limits={"max_turns": 30})
        assert len(whole.receipts) > 1
        made = [at for at, fact in enumerate(whole.events) if fact.type == "compacted"]
        near = {at + step for at in made for step in range(-3, 5)}
        for at in sorted({1, len(whole.events) - 1, *near}):
            resumed = await _resumed(world, whole, at)
            assert told(resumed) == told(whole)
            assert resumed.cost_nano == whole.cost_nano
            assert resumed.messages == whole.messages

    simulate(main)


def test_another_process_goes_on_from_the_receipt() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, model = compacting(world, "llm_summary", journal=journal)
        for number in range(9):
            result = await pipeline.run(f"Question {number}. {WORDS}")
        recaps = sum(map(written, model.requests))
        assert recaps
        shown = list(asked(model)[-1])
        await pipeline.aclose()
        again, other = compacting(
            world, "llm_summary", journal=journal, session_id=result.session_id
        )
        await again.run("short")
        assert not any(map(written, other.requests))
        assert list(other.requests[0].messages)[: len(shown)] == shown
        forked, third = compacting(world, "llm_summary", journal=journal)
        await forked.fork(result.run_id, after=1, input="short")
        assert not any(map(written, third.requests))
        assert list(third.requests[0].messages)[: len(shown)] == shown

    simulate(main)


def test_a_prompt_that_the_provider_refuses_as_too_long_is_compacted_and_sent_again() -> None:
    too_long = APIError("too long", code=ExecutorErrorCode.EXEC_API_TOKEN_LIMIT, status=400)

    def answer(request: Request) -> Any:
        size = sum(len(message.text) for message in request.messages)
        return too_long if size > 12_000 else f"Well, {WORDS}"

    async def main(world: SimulatedWorld) -> None:
        def build(journal: Journal, answering: Any = answer, **options: Any) -> Any:
            model = ScriptedModel(answering, usage=Usage(10, 5), price=Price(1.0, 1.0))
            return make(world, model, "chat", journal=journal, **options), model

        journal = MemoryJournal(world)
        pipeline, model = build(journal)
        facts: list[Any] = []
        while True:
            result = await pipeline.run(f"What now? {WORDS}")
            if result.receipts:
                break
            facts += result.events
        assert result.text.startswith("Well,")
        assert not any(faults(shown) for shown in asked(model))
        assert kinds(result.events)[1:6] == [
            "model.intent",
            "model.reply",
            "compacted",
            "model.intent",
            "model.reply",
        ]
        assert await verify(journal, result.run_id) == []
        assert (await pipeline.replay(result.run_id)).divergence is None
        for at in range(2, len(result.events)):
            store = await held(world, [*facts, *result.events[:at]], result.session_id)
            resumed = await build(store)[0].resume(result.run_id)
            assert kinds(resumed.events) == kinds(result.events)
            assert resumed.receipts == result.receipts
        bare, _ = build(MemoryJournal(world), change=choose("context", "compactor", "none"))
        failed = result
        while failed.status == "ok":
            failed = await bare.run(f"What now? {WORDS}", raise_on_error=False)
        assert failed.code is ExecutorErrorCode.EXEC_API_TOKEN_LIMIT

    simulate(main)


@pytest.mark.parametrize("window", [None, 200_000])
def test_a_conversation_goes_on_with_a_model_of_a_much_smaller_window(window: int | None) -> None:
    """Also if nobody knows how small it is: it is compacted until the prompt fits."""
    refused: list[int] = []

    def small(request: Request) -> Any:
        size = sum(len(message.text) for message in request.messages)
        if size > 3_000:
            refused.append(size)
            return APIError("too long", code=ExecutorErrorCode.EXEC_API_TOKEN_LIMIT, status=400)
        return "Well."

    def change(manifest: Any) -> None:
        if window is not None:
            configure("context", window=window)(manifest)

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        def build(answer: Any) -> Pipeline:
            model = ScriptedModel(answer, usage=Usage(10, 5), price=Price(1.0, 1.0))
            return make(world, model, "chat", journal=journal, change=change, session_id="long")

        large = build(f"Well, {WORDS}" for _ in range(100))
        facts: list[Any] = []
        for number in range(30):
            facts += (await large.run(f"Question {number}. {WORDS}")).events
        await large.aclose()
        pipeline = build(small)
        result = await pipeline.run("And now?", raise_on_error=False)
        assert result.text == "Well.", result.error
        assert len(refused) == len(result.receipts) > 1
        assert refused == sorted(refused, reverse=True)
        told = [line.why for line in await pipeline.explain(result.run_id)]
        too_long = "the provider said that the conversation is too long"
        assert told.count(too_long) == len(refused)
        assert await verify(journal, "long") == []
        assert (await pipeline.replay(result.run_id)).divergence is None
        for at in range(2, len(result.events)):
            store = await held(world, [*facts, *result.events[:at]], "long")
            again = make(world, ScriptedModel(small), "chat", change=change, journal=store)
            resumed = await again.resume(result.run_id)
            assert resumed.receipts == result.receipts

    simulate(main)


@pytest.mark.parametrize("words", ["and so on ", "und weiter so, \u4f60\u597d "])
def test_a_recap_leaves_room_in_a_small_window(words: str) -> None:
    """However much the summariser writes: it would not fit, or every call would be compacted."""

    def answer(request: Request) -> Any:
        return recap(words * 600, *[words * 20] * 10) if written(request) else f"Well, {WORDS}"

    async def main(world: SimulatedWorld) -> None:
        pipeline, model = compacting(world, "llm_summary", answer)
        results = [await pipeline.run(f"Question {n}. {WORDS}") for n in range(20)]
        receipts = [receipt for result in results for receipt in result.receipts]
        assert receipts
        assert all(receipt.after < receipt.before for receipt in receipts)
        assert all(len(receipt.recap.encode()) <= 4 * 1500 // 5 for receipt in receipts)
        assert len(receipts) < 12
        assert all(each.max_tokens == 300 for each in model.requests if written(each))

    simulate(main)


@pytest.mark.parametrize("rule", ["summary", "llm_summary"])
def test_a_short_prompt_that_is_refused_again_and_again_does_not_grow(rule: str) -> None:
    """As beside a system prompt that fills the window. No model is asked for a recap for which
    there is no room."""
    refuses = False

    def answer(request: Request) -> Any:
        if written(request):
            return recap("All of it. " * 60)
        if refuses:
            return APIError("too long", code=ExecutorErrorCode.EXEC_API_TOKEN_LIMIT, status=400)
        return "Well."

    async def main(world: SimulatedWorld) -> None:
        nonlocal refuses
        model = ScriptedModel(answer, usage=Usage(10, 5), price=Price(1.0, 1.0))
        change = choose("context", "compactor", rule, **COMPACTORS[rule])
        pipeline = make(world, model, "chat", change=change)
        for exchanges in range(3, 12):
            refuses = False
            await pipeline.run("Q?")
            for _ in range(exchanges):
                await pipeline.run("Q?")
            refuses = True
            result = await pipeline.run("Q?", raise_on_error=False)
            assert result.code is ExecutorErrorCode.EXEC_API_TOKEN_LIMIT
            assert result.receipts
            for at, receipt in enumerate(result.receipts):
                assert len(receipt.recap.encode()) <= 4 * (receipt.before >> at) // 5 + 1
        assert all((each.max_tokens or 0) >= 100 for each in model.requests if written(each))

    simulate(main)


def test_a_model_of_a_small_window_is_not_given_more_than_fits_to_summarise() -> None:
    """A conversation that was had with a larger one."""

    def answer(request: Request) -> Any:
        if sum(len(message.text) for message in request.messages) > 4 * 4096:
            return APIError("too long", code=ExecutorErrorCode.EXEC_API_TOKEN_LIMIT, status=400)
        return chatty(request)

    def change(window: int) -> Any:
        def both(manifest: Any) -> None:
            configure("context", window=window)(manifest)
            choose("context", "compactor", "llm_summary")(manifest)

        return both

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        large = make(world, ScriptedModel(chatty), "chat", journal=journal, change=change(64_000))
        for number in range(80):
            result = await large.run(f"Question {number}. {WORDS}")
        await large.aclose()
        small = make(
            world,
            ScriptedModel(answer),
            "chat",
            journal=journal,
            change=change(4096),
            session_id=result.session_id,
        )
        [receipt] = (await small.run("And now?")).receipts
        assert receipt.error == ""
        assert receipt.recap == "They talked."

    simulate(main)


# --- whatever is said, in whatever order ----------------------------------------------------------


@st.composite
def scripts(draw: st.DrawFn) -> list[list[Any]]:
    """Runs, each a list of replies: calls, and at last an answer."""
    size = st.sampled_from(["", "x" * 300, "y" * 900])
    calls = st.lists(size, min_size=1, max_size=3)
    return draw(
        st.lists(st.lists(calls, max_size=6), min_size=1, max_size=6)  # type: ignore[arg-type]
    )


@settings(max_examples=20, deadline=None)
@given(scripts(), st.sampled_from(sorted(COMPACTORS)), st.integers(1, 6))
def test_what_is_shown_is_fit_and_what_is_not_is_in_a_receipt(
    script: list[list[list[str]]], rule: str, keep: int
) -> None:
    async def main(world: SimulatedWorld) -> None:
        queue: list[Any] = []

        def answer(request: Request) -> Any:
            return recap() if written(request) else queue.pop(0)

        pipeline, model = compacting(world, rule, answer)
        name = {"truncate": "keep_last", "sliding_window": "window_size"}.get(rule, "keep_recent")
        pipeline.swap_strategy("context", "compactor", rule, {name: keep})
        number = 0
        receipts: list[Receipt] = []
        for run in script:
            for calls in run:
                uses: list[ToolUse] = []
                for why in calls:
                    number += 1
                    uses.append(use("look", f"c{number}", why=why))
                queue.append(uses)
            queue.append("done")
            result = await pipeline.run("go " + "z" * 200)
            receipts += result.receipts
        history = History(result.messages)
        end = 0
        for receipt in receipts:
            assert receipt.start == end < receipt.end
            end = receipt.end
            assert history.digest_at(end) == bytes.fromhex(receipt.digest)
        for shown in asked(model):
            assert not faults(shown)
        out = {index for receipt in receipts for index in receipt.indexes}
        kept = receipts[-1].kept if receipts else ()
        assert out | {*kept} == {*range(end)}
        assert not out & {*kept}

    simulate(main)


def test_a_run_that_was_compacted_replays_as_it_is_recorded() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        pipeline, _ = compacting(world, "llm_summary", calling(), journal=journal)
        result = await pipeline.run("Look. " + WORDS, limits={"max_turns": 30})
        second = await pipeline.run("Go on.")
        assert result.receipts
        for run in (result, second):
            assert (await pipeline.replay(run.run_id)).divergence is None
        assert await verify(journal, result.run_id) == []
        lines = [line async for line in export(journal, second.run_id)]
        [again] = read_export(lines)
        assert again.receipt == result.receipts[-1]

    simulate(main)


def test_the_work_of_reading_receipts_grows_with_the_run_and_no_more() -> None:
    async def main(world: SimulatedWorld, turns: int) -> int:
        replies = [[use("look", f"c{n}", why="x" * 300)] for n in range(turns)]
        pipeline, _ = compacting(world, "truncate", [*replies, "done"])
        result = await pipeline.run("go", limits={"max_turns": turns + 1})
        run, calls = await recorded(pipeline.journal, result.run_id), 0

        def count(*event: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count)
        try:
            found = compactions(run)
        finally:
            sys.setprofile(None)
        assert len(found) > turns // 10
        return calls

    work = [simulate(lambda world, turns=turns: main(world, turns)) for turns in (50, 100)]
    assert work[1] < 2.3 * work[0]


def test_pinned_messages_come_back_when_the_window_grows_again() -> None:
    """The first message is the last to go."""
    first = f"Speak of ships only. {'x' * 300}"
    pinned = [f"[pin] The word of number {n}. {'y' * 300}" for n in range(8)]

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)

        async def seen(window: int, runs: int) -> set[str]:
            model = ScriptedModel(chatty)
            async with make(
                world,
                model,
                "chat",
                journal=journal,
                change=configure("context", window=window),
                session_id="s",
            ) as pipeline:
                for _ in range(runs):
                    result = await pipeline.run(f"And so? {WORDS}")
                    assert (await pipeline.replay(result.run_id)).divergence is None
            return {message.text for message in asked(model)[-1]} & {first, *pinned}

        opening = make(world, ScriptedModel(chatty), "chat", journal=journal, session_id="s")
        for text in (first, *pinned):
            await opening.run(text)
        await opening.aclose()
        assert await seen(12_000, 80) == {first, *pinned}
        small = await seen(2_000, 12)
        assert small == {first, *pinned[-3:]}
        assert await seen(12_000, 80) == {first, *pinned}
        assert await verify(journal, "s") == []

    simulate(main)


@pytest.mark.parametrize("rule", COMPACTORS)
def test_a_replay_shows_that_another_compactor_or_window_hides_something_else(rule: str) -> None:
    size = next(iter(COMPACTORS[rule]))
    other = "truncate" if rule != "truncate" else "summary"
    another = choose("context", "compactor", other, **COMPACTORS[other])
    unknown = replace_window(None)
    changes: Mapping[str, tuple[Any, str]] = {
        "the same": (lambda manifest: None, ""),
        "another rule": (another, "compacted"),
        "more is kept": (choose("context", "compactor", rule, **{size: 8}), "compacted"),
        "a larger window": (configure("context", window=100_000), "compacted"),
        "a smaller window": (configure("context", window=1_100), "compacted"),
        "a window that is not known": (unknown, ""),
        "another rule, and no window": (
            lambda manifest: [unknown(manifest), another(manifest)],
            "compacted",
        ),
    }

    async def main(world: SimulatedWorld) -> None:
        pipeline, _ = compacting(world, rule, calling())
        result = await pipeline.run("Look. " + WORDS, limits={"max_turns": 30})
        recording = await recorded(pipeline.journal, result.run_id)
        for what, (change, expected) in changes.items():
            manifest = pipeline.manifest.model_copy(deep=True)
            change(manifest)
            if rule == "sliding_window" and "window" in what and "rule" not in what:
                continue  # it goes by the number of messages
            models = Models(providers={"scripted": ScriptedModel()})
            again = Pipeline(manifest, tools=[Do("look")], models=models, world=world)
            found = (await again.replay(recording)).divergence
            if found is not None and found.type == "effect":  # of the summariser, asked for another
                assert (rule, expected) == ("llm_summary", "compacted"), what
                continue
            assert ("" if found is None else found.type) == expected, (what, found)

    simulate(main)


def replace_window(window: int | None) -> Any:
    def change(manifest: Any) -> None:
        manifest.stages["context"].config["window"] = window

    return change


def test_a_long_run_of_a_large_window_is_replayed_where_the_window_is_not_known() -> None:
    class Large(ScriptedModel):
        """Knows its window."""

        context_window = 1_000_000

    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        large = make(world, Large(["done", "more"]), "chat", journal=journal)
        results = [await large.run("x " * 450_000)]
        results.append(await large.run("and now?"))
        bare = make(world, ScriptedModel(), "chat", journal=journal)
        for result in results:
            assert result.receipts == []
            assert (await bare.replay(result.run_id)).divergence is None
        calls = Large([[use("look", "c0")], "done"])
        called = await make(world, calls, "chat", tools=[Do("look")]).run("x " * 450_000)
        store = await held(world, called.events[:4], called.session_id)
        again = make(world, ScriptedModel(["done"]), "chat", tools=[Do("look")], journal=store)
        resumed = await again.resume(called.run_id, raise_on_error=False)
        assert resumed.code is ExecutorErrorCode.EXEC_STAGE_GUARD_REJECTED  # the next call is
        assert kinds(resumed.events[:4]) == kinds(called.events[:4])
        assert resumed.iterations == 1

    simulate(main)


def test_the_model_reads_back_what_it_is_not_shown_any_more() -> None:
    def answer(request: Request) -> Any:
        last = request.messages[-1].text
        if written(request):
            return recap()
        if last.startswith("What"):
            return [
                use("recall", "a", first=3, last=4),
                use("recall", "b", query="QUESTION 1 on"),
                use("recall", "c", first=99),
                use("recall", "d"),
                use("recall", "e", query="nobody said this"),
            ]
        return f"Well, {WORDS}" if last else "done"

    async def main(world: SimulatedWorld) -> None:
        model = ScriptedModel(answer)

        def change(manifest: Any) -> None:
            configure("context", window=1500)(manifest)
            choose("context", "compactor", "llm_summary", keep_recent=2)(manifest)
            manifest.tools.built_in = ["history"]

        pipeline = make(world, model, "chat", change=change)
        for number in range(8):
            await pipeline.run(f"Question {number}. {WORDS}")
        result = await pipeline.run("What did I ask? " + WORDS * 10)
        assert result.receipts
        given = [str(step.content) for step in result.steps]
        assert "Question 1." not in texts(model.requests[-1].messages)
        assert given[0].startswith("Message 3, user:\nQuestion 1. and so on")
        assert "Message 4, assistant:\nWell," in given[0]
        assert given[1].startswith("Message 3, user:") and "Message 5" not in given[1]
        assert [step.is_error for step in result.steps] == [False, False, True, True, False]

    simulate(main)


def test_what_has_no_words_is_told_in_some_or_left_out() -> None:
    picture = ImageBlock("image/png", "aGk=")
    messages = [
        Message("user", (TextBlock("look"), picture, TextBlock("  "))),
        Message("assistant", (ThinkingBlock("hm"), ToolUse("c", "look", {"at": 1}))),
        Message("user", (ToolResultBlock("c", (TextBlock("a"), picture, TextBlock("b"))),)),
    ]
    assert outline(messages, "before", 1000).splitlines() == [
        "before",
        "User: look",
        "User: (a image)",
        'Called look({"at":1})',
        "  -> a b",
    ]
    said = [each["said"] for each in json.loads(transcript(messages, 4000, arguments=True))]
    assert said == ["look\n[a image]\n  ", '[calls look({"at":1})]', "[gave: a\nb]"]
    many = transcript(
        [Message("user", (TextBlock(str(n)),)) for n in range(1000)], 4000, arguments=True
    )
    told = json.loads(many)
    assert [each["said"] for each in told[:5]] == ["0", "1", "2", "3", "4"]
    assert told[5] == "(... 980 messages ...)"
    assert [each["said"] for each in told[6:]] == [str(n) for n in range(985, 1000)]
