"""What every provider takes: our rules, the mending, and the fakes as a second opinion."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.events import Event
from lorimer.core.history import History
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    message_from_json,
    user_message,
)
from lorimer.core.stage import Stage
from lorimer.core.state import PipelineState
from lorimer.core.wellformed import NO_RESULT, NOT_RUN, faults, own_ids, repaired, without_empty_end
from lorimer.journal import Conversation, MemoryJournal
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.testing.fake_turn import seal
from tests.core.providers import refused
from tests.core.support import held, make


def user(*blocks: Block | str) -> Message:
    return Message("user", tuple(TextBlock(b) if isinstance(b, str) else b for b in blocks))


def model(*blocks: Block | str) -> Message:
    return Message("assistant", user(*blocks).content)


def call(id: str) -> ToolUse:
    return ToolUse(id, "f", {})


def result(id: str, text: str = "ok") -> ToolResultBlock:
    return ToolResultBlock(id, text)


def lost(id: str) -> ToolResultBlock:
    return ToolResultBlock(id, NO_RESULT, is_error=True)


HI = user("hi")
THOUGHT = ThinkingBlock("hm", seal("hm"))
ASKED = [HI, model(call("a")), user(result("a", "1"))]

IN_ORDER = {
    "nothing": [],
    "a chat": [HI, model("hello"), user("and?"), model("so")],
    "calls": [HI, model("so", call("a"), call("b")), user(result("b"), result("a")), model("done")],
    "a word after the results": [HI, model(call("a")), user(result("a"), "and hurry")],
    "a message after the results": [HI, model(call("a")), user(result("a")), user("and hurry")],
    "users in a row": [HI, user("hello?"), model("yes")],
    "models in a row": [
        HI,
        model(call("a")),
        model("and", call("b")),
        user(result("a"), result("b")),
    ],
    "thinking": [HI, model(THOUGHT, "so", THOUGHT, call("a")), user(result("a"))],
    "odd ids": [HI, model(call("functions.f:0")), user(result("functions.f:0"))],
    "blank text among others": [HI, model(" ", call("a")), user(result("a"))],
    "an empty result": [HI, model(call("a")), user(result("a", ""))],
}


@pytest.mark.parametrize("messages", IN_ORDER.values(), ids=IN_ORDER.keys())
def test_what_is_in_order_stays_as_it_is(messages: list[Message]) -> None:
    assert faults(messages) == []
    mended = repaired(messages)
    assert len(mended) == len(messages)
    assert all(one is other for one, other in zip(mended, messages, strict=True))
    assert messages == [] or not refused(messages)


FAULTY = {
    "model first": ("begin", [model("I"), HI], [HI]),
    "model first, with calls": (
        "begin",
        [model(call("a")), user(result("a"), "hi"), model("so")],
        [HI, model("so")],
    ),
    "only a model": ("begin", [model("I")], []),
    "an empty message": ("empty", [HI, model(), user("and?")], [HI, user("and?")]),
    "a blank message": ("empty", [HI, model(" \n"), user("and?")], [HI, user("and?")]),
    "nothing but thinking": ("empty", [HI, model(THOUGHT), user("and?")], [HI, user("and?")]),
    "thinking last": ("empty", [HI, model("so", THOUGHT, " ")], [HI, model("so")]),
    "a call of the user": ("block", [user("hi", call("a"))], [HI]),
    "a result of the model": ("block", [HI, model("so", result("a"))], [HI, model("so")]),
    "thinking of the user": ("block", [user(THOUGHT, "hi")], [HI]),
    "a picture of nothing": ("block", [user("hi", ImageBlock("image/png"))], [HI]),
    "a picture of the model": ("block", [HI, model("so", ImageBlock(url="u"))], [HI, model("so")]),
    "half a pair": ("text", [user("h\ud83ei")], [user("h\ufffdi")]),
    "a pair in two": ("text", [user("\ud83e\udd84")], [user("\U0001f984")]),
    "half a pair in arguments": (
        "text",
        [HI, model(ToolUse("a", "f", {"x": ["\udd84"]})), user(result("a"))],
        [HI, model(ToolUse("a", "f", {"x": ["\ufffd"]})), user(result("a"))],
    ),
    "no id": (
        "id",
        [HI, model(call("")), user(result(""))],
        [HI, model(call("call-2")), user(result("call-2"))],
    ),
    "an id twice in a reply": (
        "id",
        [HI, model(call("a"), call("a")), user(result("a", "1"), result("a", "2"))],
        [HI, model(call("a"), call("a-2")), user(result("a", "1"), result("a-2", "2"))],
    ),
    "an id once more": (
        "id",
        [
            HI,
            model(call("a")),
            user(result("a", "1")),
            model("so", call("a")),
            user(result("a", "2")),
        ],
        [
            HI,
            model(call("a")),
            user(result("a", "1")),
            model("so", call("a-2")),
            user(result("a-2", "2")),
        ],
    ),
    "no result": ("unanswered", [HI, model(call("a"))], [HI, model(call("a")), user(lost("a"))]),
    "no result before a word": (
        "unanswered",
        [HI, model(call("a")), user("wait")],
        [HI, model(call("a")), user(lost("a")), user("wait")],
    ),
    "one result of two": (
        "unanswered",
        [HI, model(call("a"), call("b")), user(result("b")), model("so")],
        [HI, model(call("a"), call("b")), user(lost("a"), result("b")), model("so")],
    ),
    "a result too late": (
        "unanswered",
        [HI, model(call("a")), user("wait"), model("yes"), user(result("a"), "so")],
        [HI, model(call("a")), user(lost("a")), user("wait"), model("yes"), user("so")],
    ),
    "a result of nothing": (
        "orphan",
        [HI, model("so"), user(result("a"), "and?")],
        [HI, model("so"), user("and?")],
    ),
    "a result first": ("orphan", [user(result("a")), HI], [HI]),
    "two results": (
        "orphan",
        [HI, model(call("a")), user(result("a", "1"), result("a", "2"))],
        [HI, model(call("a")), user(result("a", "1"))],
    ),
    "a result after a word": (
        "order",
        [HI, model(call("a")), user("wait", result("a"))],
        [HI, model(call("a")), user(result("a")), user("wait")],
    ),
    "a result in the second message": (
        "order",
        [HI, model(call("a")), user("wait"), user(result("a"))],
        [HI, model(call("a")), user(result("a")), user("wait")],
    ),
}


@pytest.mark.parametrize(("rule", "messages", "mended"), FAULTY.values(), ids=FAULTY.keys())
def test_what_is_not_in_order_is_told_and_mended(
    rule: str, messages: list[Message], mended: list[Message]
) -> None:
    found = faults(messages)
    assert rule in {fault.rule for fault in found}
    assert all(fault.words and 0 <= fault.index < len(messages) for fault in found)
    assert repaired(messages) == mended
    assert faults(mended) == []


def test_what_goes_on_a_conversation_may_begin_with_the_model_and_takes_no_id_again() -> None:
    more = [model(call("a")), user(result("a"))]
    assert [fault.rule for fault in faults(more)] == ["begin"]
    assert faults(more, lambda call_id: False) == []
    assert [fault.rule for fault in faults(more, {"a"}.__contains__)] == ["id"]
    assert repaired(more, {"a", "a-2"}.__contains__) == [model(call("a-3")), user(result("a-3"))]


def test_a_reply_gets_ids_of_its_own() -> None:
    fresh = iter(["old", "n1", "n2", "n3"])
    reply = model("so", call(""), call("a"), call("a"), call("old")).content
    made = own_ids(reply, {"old"}, lambda kind: next(fresh))
    assert made == model("so", call("n1"), call("a"), call("n2"), call("n3")).content
    fine = model("so", call("a"), call("b")).content
    assert own_ids(fine, {"old"}, lambda kind: next(fresh)) is fine


# --- any messages at all --------------------------------------------------------------------------

IDS = st.sampled_from(["", "a", "b", "a-2", "call-2", "x y", "\ud83e"])
TEXTS = st.sampled_from(["", " \n", "so", "h\ud83ei", "\ud83e\udd84", "ü"])
THOUGHTS = st.sampled_from(
    [
        THOUGHT,
        ThinkingBlock("hm", seal("hm"), origin="openai"),
        ThinkingBlock("", seal(""), origin="openai"),
        ThinkingBlock("unsigned"),
        ThinkingBlock(redacted="xyz"),
        ThinkingBlock(),
    ]
)
PICTURES = st.sampled_from(
    [ImageBlock("image/png", "AAAA"), ImageBlock(url="http://u"), ImageBlock()]
)
BLOCKS: st.SearchStrategy[Block] = st.one_of(
    st.builds(TextBlock, TEXTS),
    THOUGHTS,
    PICTURES,
    st.sampled_from([DocumentBlock("application/pdf", "AAAA"), DocumentBlock()]),
    st.builds(ToolUse, IDS, st.sampled_from(["f", "", "odd name"]), st.just({"x": 1}), TEXTS),
    st.builds(ToolUse, IDS, st.just("f"), st.builds(dict, x=TEXTS)),
    st.builds(ToolResultBlock, IDS, TEXTS, st.booleans()),
    st.builds(ToolResultBlock, IDS, st.tuples(st.builds(TextBlock, TEXTS), PICTURES)),
)
MESSAGES = st.lists(
    st.builds(
        Message, st.sampled_from(["user", "assistant"]), st.lists(BLOCKS, max_size=4).map(tuple)
    ),
    max_size=8,
)


def same(block: Block) -> str:
    """A block but for the id of a call, which may change."""
    plain = {**block.to_json(), "id": "", "tool_use_id": ""}
    return json.dumps(plain).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@settings(deadline=None, max_examples=400)
@given(MESSAGES)
def test_whatever_it_was_mended_it_is_in_order_and_nothing_is_made_up(
    messages: list[Message],
) -> None:
    mended = repaired(messages)
    assert faults(mended) == []
    assert repaired(mended) == mended
    assert bool(faults(messages)) == (mended != messages)
    had = Counter(same(block) for message in messages for block in _plain(message))
    has = Counter(
        same(block)
        for message in mended
        for block in _plain(message)
        if not (isinstance(block, ToolResultBlock) and block.content == NO_RESULT)
    )
    assert has <= had, "nothing is there that was not there before"
    for message in mended:
        if message.role == "user":
            assert all(
                block.is_error
                for block in message.content
                if isinstance(block, ToolResultBlock) and block.content == NO_RESULT
            )
    if mended:
        assert refused(mended) == ""


def _plain(message: Message) -> Sequence[Block]:
    plain = json.dumps(message.to_json(), ensure_ascii=False)
    clean = plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return message_from_json(json.loads(clean)).content


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=4))
def test_mended_run_by_run_it_is_the_same_as_mended_at_once(runs: list[list[Message]]) -> None:
    """What a process has that goes on is what another one loads."""
    live = History()
    written: list[Message] = []
    for run in runs:
        kept = repaired([HI, *run])  # a run begins with its input, and answers its own calls
        damaged = [*kept, user(result("nothing"), "by a stage of somebody's")]
        since = len(live)
        for message in damaged:
            live.append(message)
        written += damaged
        live.mend(since)
    loaded = History(repaired(written))
    assert list(live) == list(loaded)
    assert (live.digest, live.call_ids) == (loaded.digest, loaded.call_ids)
    assert faults(live) == []


def test_a_history_keeps_nothing_empty_and_no_half_characters() -> None:
    history = History()
    for message in (HI, model(THOUGHT), model(" "), model("so", THOUGHT), user("h\ud83ei")):
        history.append(message, message.to_json())
    assert list(history) == [HI, model("so"), user("h\ufffdi")]
    assert history.digest == History(list(history)).digest
    assert without_empty_end(model(THOUGHT)) is None
    assert without_empty_end(user_message("hi")) == HI


def test_a_seal_after_what_was_said_is_no_fault() -> None:
    sealed = model("so", ThinkingBlock("", seal(""), origin="google"))
    assert faults([HI, sealed]) == []
    assert repaired([HI, sealed, user("a", "")])[1] is sealed


# --- where it is mended ---------------------------------------------------------------------------


class Garble(Stage[object, object]):
    """Somebody's own stage that puts a result into the conversation which nobody asked for."""

    name = "garble"
    order = 2

    async def execute(self, input: object, state: PipelineState) -> object:
        state.messages.append(user(result("nobody's"), "by the way"))
        return input


def test_the_end_of_a_run_mends_what_a_stage_did_to_the_conversation() -> None:
    async def main(world: SimulatedWorld) -> None:
        journal = MemoryJournal(world)
        scripted = ScriptedModel(["one", "two"])
        pipeline = make(world, scripted, "chat", journal=journal, session_id="s", owner="me")
        pipeline.register_stage(Garble())
        first = await pipeline.run("hi")
        assert first.messages == [HI, user("by the way"), model("one")]
        second = await pipeline.run("and?")
        assert list(scripted.requests[1].messages[:3]) == first.messages
        await pipeline.aclose()
        loaded = (await Conversation.open(journal, "s", "me", world)).history
        assert list(loaded) == second.messages
        assert loaded.digest == second.history.digest

    simulate(main)


def test_what_another_version_wrote_is_mended_when_it_is_loaded() -> None:
    async def main(world: SimulatedWorld) -> None:
        written = [HI, model(call("a")), user(result("a")), user(result("gone"), "go on")]
        start = {"input": "hi", "manifest": "m", "seed": 1}
        ask = {"key": "0", "messages": [message.to_json() for message in written]}
        reply = {"key": "0", "content": [call("a").to_json(), call("").to_json()]}
        facts = [
            Event("run.start", start, "r"),
            Event("model.intent", ask, "r"),
            Event("model.reply", reply, "r"),
            Event("tool.result", {"key": "1", "content": "of the second"}, "r"),
            Event("run.end", {"status": "ok", "usage": {}, "cost": 0, "iterations": 1}, "r"),
        ]
        journal = await held(world, facts, "s")
        history = (await Conversation.open(journal, "s", "me", world)).history
        assert list(history) == [
            *written[:3],
            user("go on"),
            model(call("a-2"), call("call-2")),
            user(ToolResultBlock("a-2", NOT_RUN, True), result("call-2", "of the second")),
        ]
        assert faults(history) == []

    simulate(main)
