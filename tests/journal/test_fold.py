"""The fold of facts into messages and runs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.errors import ExecutorErrorCode, JournalError
from lorimer.core.events import Event
from lorimer.core.history import RecordedCount
from lorimer.core.messages import (
    ImageBlock,
    Message,
    TextBlock,
    ToolResultBlock,
    ToolUse,
    user_message,
)
from lorimer.core.receipt import Receipt
from lorimer.core.request import Usage
from lorimer.core.wellformed import faults, repaired
from lorimer.journal import Fold, fold
from tests.journal.support import end, fact, start


def intent(*texts: str, at: int = 0, run: str = "run_a") -> Event:
    messages = [user_message(text).to_json() for text in texts]
    data = {"key": "0", "hash": "h", **({"messages": messages} if messages else {})}
    return fact("model.intent", data, run, iteration=at)


def reply(text: str = "", *calls: str, at: int = 0, run: str = "run_a", **more: object) -> Event:
    content: list[object] = [{"type": "text", "text": text}] if text else []
    content += [{"type": "tool_use", "id": call, "name": "f", "input": {}} for call in calls]
    return fact("model.reply", {"key": "0", "content": content, **more}, run, iteration=at)


def result(key: str, text: object, at: int = 0, run: str = "run_a", **more: object) -> Event:
    return fact("tool.result", {"key": key, "content": text, **more}, run, iteration=at)


def said(messages: list[Message]) -> list[str]:
    """Each message as one line: what matters of it."""
    lines = []
    for message in messages:
        parts = []
        for block in message.content:
            match block:
                case TextBlock():
                    parts.append(block.text)
                case ToolUse():
                    parts.append(f"call {block.id}")
                case ToolResultBlock():
                    error = "!" if block.is_error else ""
                    parts.append(f"{block.tool_use_id}={block.content}{error}")
                case _:
                    parts.append(block.type)
        lines.append(f"{message.role}: {', '.join(parts)}")
    return lines


def test_a_conversation_is_folded() -> None:
    image = [{"type": "text", "text": "see"}, {"type": "image", "url": "u"}]
    state = fold(
        [
            start(),
            intent("hello", "and this"),
            reply("", "c1", "c2"),
            fact("tool.intent", {"key": "1", "hash": "h", "effects": "exec"}),
            result("1", image, is_error=True),
            result("0", "one"),
            fact("iteration.end", {"times": [1]}),
            intent(at=1),
            reply("done", at=1),
            end(),
            start("run_b"),
            intent("more", run="run_b"),
        ]
    )
    assert said(state.messages[:2]) == ["user: hello", "user: and this"]
    assert state.messages[3] == Message(
        "user",
        (
            ToolResultBlock("c1", "one"),
            ToolResultBlock("c2", (TextBlock("see"), ImageBlock(url="u")), True),
        ),
    )
    assert said(state.messages[4:]) == ["assistant: done", "user: more"]
    assert state.unfinished


NOT_RUN = "Not run: the run ended first.!"


@pytest.mark.parametrize("last", [end(), start("run_b"), None], ids=["end", "start", "nothing"])
def test_a_run_that_stopped_among_its_calls_leaves_them_answered(last: Event | None) -> None:
    facts = [start(), intent("hi"), reply("", "c1", "c2", "c3"), result("1", "two")]
    messages = fold([*facts, last] if last else facts).messages
    results = f"user: c1={NOT_RUN}, c2=two, c3={NOT_RUN}"
    expected = ["user: hi", "assistant: call c1, call c2, call c3", results]
    if last is None:  # the results that are there wait for the run to go on
        expected.pop()
        assert fold(facts).pending == {1: ToolResultBlock("c2", "two")}
    assert said(messages) == expected


def test_a_failed_attempt_counts_and_says_nothing() -> None:
    state = fold(
        [
            start(),
            intent("hi"),
            fact(
                "model.reply",
                {
                    "key": "0",
                    "error": {"code": "exec.api.network", "message": "lost"},
                    "content": [{"type": "text", "text": "half an ans"}],
                    "usage": {"input_tokens": 10, "output_tokens": 3},
                    "cost": 5,
                },
            ),
            intent(),
            reply("answer", usage={"input_tokens": 10, "output_tokens": 7}, cost=9),
            fact("effect", {"key": "abandoned:model:0", "usage": {"output_tokens": 1}, "cost": 2}),
            fact("effect", {"key": "fetch:0", "hash": "h"}),
        ]
    )
    assert said(state.messages) == ["user: hi", "assistant: answer"]
    (run,) = state.runs
    assert run.unfinished
    assert (run.run_id, run.usage, run.cost_nano) == ("run_a", Usage(20, 11), 16)
    assert run.iterations == 1


def test_the_last_fact_of_a_run_has_the_last_word_on_its_figures() -> None:
    last = end(status="failed", code="exec.x", usage={"input_tokens": 99}, cost=123, iterations=4)
    state = fold([start(), intent("hi"), reply("x", usage={"input_tokens": 1}, cost=1), last])
    (run,) = state.runs
    assert not state.unfinished
    assert (run.status, run.code, run.cost_nano, run.iterations) == ("failed", "exec.x", 123, 4)
    assert run.usage == Usage(input_tokens=99)


def test_calls_that_share_an_id_all_get_an_answer() -> None:
    state = fold(
        [start(), intent("hi"), reply("", "c", "c"), result("1", "b"), result("0", "a"), end()]
    )
    assert said(state.messages)[-1] == "user: c=a, c=a"  # the last to end, as in the run itself


def test_kinds_that_say_nothing_change_nothing() -> None:
    facts = [start(), intent("hi")]
    for kind in ("decision", "mutated", "child", "run.suspended", "effect.intent"):
        facts.append(fact(kind, {"any": ["thing"]}))
    assert said(fold(facts).messages) == ["user: hi"]
    assert not fold([]).unfinished


def test_a_reply_that_nothing_announced_ends_the_results_before_it() -> None:
    facts = [start(), intent("hi"), reply("", "c1"), result("0", "one"), reply("x", at=1)]
    assert said(fold(facts).messages)[2:] == ["user: c1=one", "assistant: x"]


def test_only_a_prompt_that_the_provider_counted_is_known() -> None:
    usage = {"input_tokens": 7, "cache_read_input_tokens": 2, "output_tokens": 3}
    known = fold([start(), intent("hi"), reply("x", usage=usage)])
    assert known.counted == RecordedCount(1, 9, "h")
    later = [intent("more", at=1), reply("y", at=1, usage=usage, extra={"usage_estimated": True})]
    assert fold(later, known).counted == known.counted
    assert fold([start(), intent("hi"), reply("x", usage={"output_tokens": 3})]).counted is None


HI = user_message("hi")
RECEIPT = Receipt("truncate", 1, 4, (2,), (0,), "what was said", "d", before=90, after=30)
ODD = [
    {"start": -1},
    {"end": 1},
    {"before": "90"},
    {"kept": "2"},
    {"kept": [2, 1]},
    {"kept": [1, "2"]},
    {"kept": [4]},
    {"dropped": [1]},
    {"recap": None},
]


def test_the_receipt_of_the_last_compaction_is_kept() -> None:
    told = fact("compacted", RECEIPT.to_json())
    begun = fact("forked", {"messages": [HI.to_json()], "compacted": RECEIPT.to_json()})
    for state in (fold([start(), told]), fold([begun])):
        assert Fold.load(state.dump()).receipt == state.receipt == RECEIPT
    assert RECEIPT.indexes == [0, 1, 3]
    assert RECEIPT.removed([HI] * 4) == [HI] * 3
    with pytest.raises(ValueError, match="about 4 messages, not 3"):
        RECEIPT.removed([HI] * 3)


BAD = {
    **{
        f"a fork's receipt: {odd}": [
            fact("forked", {"messages": [HI.to_json()], "compacted": {**RECEIPT.to_json(), **odd}})
        ]
        for odd in ODD
    },
    "a fork's receipt: none": [fact("forked", {"messages": [HI.to_json()], "compacted": None})],
    "a fork within": [start(), fact("forked", {"messages": []})],
    "receipt of nothing": [start(), intent("hi"), fact("compacted", {"rule": "truncate"})],
    "intent of no run": [intent("hi")],
    "reply of no run": [reply("hi")],
    "of another run": [start("run_b"), intent("hi")],
    "end of no run": [end()],
    "end without status": [start(), fact("run.end", {"usage": {}})],
    "end with odd cost": [start(), end(cost="much")],
    "messages": [start(), fact("model.intent", {"messages": {"role": "user"}})],
    "messages that are none": [start(), fact("model.intent", {"messages": 7})],
    "a message": [start(), fact("model.intent", {"messages": [{"role": "king", "content": []}]})],
    "a block": [start(), fact("model.reply", {"content": [{"type": "text"}]})],
    "content": [start(), fact("model.reply", {"content": 7})],
    "usage": [start(), reply("x", usage=[1])],
    "no call": [start(), intent("hi"), reply("x"), result("0", "?")],
    "no such call": [start(), intent("hi"), reply("", "c"), result("1", "?")],
    "negative": [start(), intent("hi"), reply("", "c"), result("-1", "?")],
    "no such intent": [start(), intent("hi"), reply("", "c"), fact("tool.intent", {"key": "1"})],
    "no key": [start(), intent("hi"), reply("", "c"), fact("tool.result", {"content": "?"})],
    "number": [start(), intent("hi"), reply("", "c"), fact("tool.result", {"key": 0})],
    "result": [start(), intent("hi"), reply("", "c"), result("0", [{"type": "tool_use"}])],
}


@pytest.mark.parametrize("facts", BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_refused_and_changes_nothing(facts: list[Event]) -> None:
    for number, one in enumerate(facts, 1):
        one.seq = number
    state = fold(facts[:-1])
    before = json.dumps(state.to_json())
    with pytest.raises(JournalError, match=rf"fact {len(facts)} \(") as caught:
        state.apply(facts[-1])
    assert caught.value.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED
    assert json.dumps(state.to_json()) == before


# --- properties -----------------------------------------------------------------------------

texts = st.text(max_size=8)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Facts as any engine may leave them, killed anywhere."""
    facts: list[Event] = []
    for number in range(draw(st.integers(1, 3))):
        run = f"run_{number}"
        facts.append(start(run))
        for at in range(draw(st.integers(0, 3))):
            facts.append(intent(*draw(st.lists(texts, max_size=2)), at=at, run=run))
            calls = [f"{run}_{at}_{call}" for call in range(draw(st.integers(0, 3)))]
            usage = {"usage": {"output_tokens": draw(st.integers(0, 9))}, "cost": 1}
            facts.append(reply(draw(texts), *calls, at=at, run=run, **usage))
            for key in draw(st.permutations(range(len(calls)))):
                facts.append(result(str(key), draw(texts), at, run))
        if draw(st.booleans()):
            facts.append(end(run))
        else:
            del facts[draw(st.integers(0, len(facts))) :]
            if not facts or not any(one.run_id == run for one in facts):
                break
    for seq, one in enumerate(facts, 1):
        one.seq = seq
    return facts


def same(left: Fold, right: Fold) -> bool:
    return left.to_json() == right.to_json() and left.messages == right.messages


@settings(deadline=None)
@given(histories(), st.data())
def test_a_fold_can_be_kept_anywhere_and_gone_on_with(
    facts: list[Event], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(facts)))
    early = fold(facts[:cut])
    kept = early.dump()
    assert same(fold(facts[cut:], early), fold(facts))
    assert early.dump() == kept  # left as it was
    back = Fold.load(kept)
    assert same(back, early)
    assert same(fold(facts[cut:], back), fold(facts))


@settings(deadline=None)
@given(histories())
def test_a_fold_is_mended_to_what_every_provider_takes(facts: list[Event]) -> None:
    state = fold(facts)
    messages = repaired(state.messages)
    assert faults(messages) == []
    assert repaired(messages) == messages
    if not state.unfinished and faults(state.messages)[:1] != []:
        assert {fault.rule for fault in faults(state.messages)} == {"begin"}, (
            "it answers every call and keeps nothing empty by itself"
        )


@pytest.mark.parametrize(
    "change",
    [
        {"seq": None},
        {"messages": [{"role": "king"}]},
        {"messages": "x"},
        {"runs": [{"run_id": 7}]},
        {"runs": [{"started": "now"}]},
        {"runs": [{"started": 1.5, "run_id": None}]},
        {"pending": [[0, "x", False]]},
        {"pending": [[0]]},
    ],
    ids=str,
)
def test_a_damaged_snapshot_is_refused(change: dict[str, object]) -> None:
    state = fold([start(), intent("hi"), reply("x")]).to_json()
    with pytest.raises(JournalError, match="snapshot is damaged") as caught:
        Fold.from_json({**state, **change})  # type: ignore[dict-item]
    assert caught.value.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"[" * 100_000])
def test_what_is_no_snapshot_is_refused(body: bytes) -> None:
    with pytest.raises(JournalError, match="snapshot is damaged"):
        Fold.load(body)


def test_a_snapshot_of_a_newer_version_says_so() -> None:
    with pytest.raises(JournalError, match="newer version") as caught:
        Fold.from_json({**Fold().to_json(), "version": 2})
    assert caught.value.code is ExecutorErrorCode.EXEC_JOURNAL_VERSION
