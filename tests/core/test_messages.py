"""The canonical conversation: plain forms lose nothing, and say what is wrong with others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.history import History
from lorimer.core.jsonable import canonical, dumps, fingerprint
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    block_from_json,
    canonical_message,
    content_from_json,
    content_to_json,
    message_from_json,
    user_message,
)
from lorimer.core.request import NO_USAGE, Response, StopReason, ToolSpec, Usage, response_from_json
from lorimer.core.wellformed import answers, without_empty_end

TEXT = st.text(max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
TEXTS = st.builds(TextBlock, TEXT)
IMAGES = st.builds(ImageBlock, TEXT, TEXT, TEXT)
CONTENT = TEXT | st.lists(TEXTS | IMAGES, max_size=3).map(tuple)
BLOCKS: st.SearchStrategy[Block] = st.one_of(
    TEXTS,
    IMAGES,
    st.builds(DocumentBlock, TEXT, TEXT, TEXT, TEXT),
    st.builds(ThinkingBlock, TEXT, TEXT, TEXT, TEXT, TEXT),
    st.builds(ToolUse, TEXT, TEXT, st.dictionaries(TEXT, JSON_VALUES, max_size=3), TEXT, TEXT),
    st.builds(ToolResultBlock, TEXT, CONTENT, st.booleans()),
)
MESSAGES = st.builds(
    Message, st.sampled_from(["user", "assistant"]), st.lists(BLOCKS, max_size=4).map(tuple)
)
COUNTS = st.integers(0, 10**9)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)


@pytest.mark.parametrize("kind", [ImageBlock, DocumentBlock])
def test_media_are_base64_and_can_be_made_of_bytes(kind: Any) -> None:
    made = kind.from_bytes(b"\x89PNG", "image/png")
    assert (made.data, made.media_type) == ("iVBORw==", "image/png")
    assert block_from_json(made.to_json()) == made
    told = f"the data of {kind.__name__} is base64 text, not bytes: {kind.__name__}.from_bytes"
    with pytest.raises(TypeError, match=told):
        kind("image/png", b"\x89PNG")


@given(MESSAGES)
def test_a_message_survives_its_plain_form(message: Message) -> None:
    assert message_from_json(message.to_json()) == message
    assert message_from_json(json.loads(dumps(message.to_json()))) == message


@given(MESSAGES, MESSAGES)
def test_canonical_bytes_are_equal_for_equal_messages_alone(one: Message, two: Message) -> None:
    same = one.to_json() == two.to_json()
    assert (canonical_message(one) == canonical_message(two)) == same


@given(
    st.builds(
        Response,
        st.lists(BLOCKS, max_size=4).map(tuple),
        st.sampled_from(StopReason),
        USAGES,
        TEXT,
        TEXT,
        COUNTS,
        st.dictionaries(TEXT, JSON_VALUES, max_size=2),
    )
)
def test_a_response_survives_its_plain_form(response: Response) -> None:
    again = response_from_json(json.loads(dumps(response.to_json())))
    assert again == response
    assert again.message.content == response.content
    assert again.text == Message("assistant", response.content).text
    assert again.tool_calls == again.message.tool_uses


def test_a_plain_response_says_only_what_is_not_usual() -> None:
    assert Response((TextBlock("hi"),)).to_json() == {"content": [{"type": "text", "text": "hi"}]}
    assert response_from_json({"content": []}).usage is NO_USAGE


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (3, "must be an object"),
        (None, "must be an object"),
        ({}, "unknown kind of content block: None"),
        ({"type": "hologram"}, "unknown kind of content block: 'hologram'"),
        ({"type": "text"}, "a 'text' block needs a string 'text'"),
        ({"type": "text", "text": 3}, "a 'text' block needs a string 'text'"),
        ({"type": "thinking", "text": None}, "a 'thinking' block needs a string 'text'"),
        ({"type": "tool_use", "id": "a", "name": "b"}, "needs an object 'input'"),
        ({"type": "tool_use", "id": "a", "name": "b", "input": []}, "needs an object 'input'"),
        ({"type": "tool_use", "name": "b", "input": {}}, "needs a string 'id'"),
        ({"type": "tool_result", "content": "x"}, "needs a string 'tool_use_id'"),
        ({"type": "tool_result", "tool_use_id": "a", "content": 3}, "a string or a list"),
        (
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "thinking"}]},
            "text and images only",
        ),
        ({"type": "image", "url": 3}, "needs a string 'url'"),
        ({"type": "document", "title": 3}, "needs a string 'title'"),
    ],
)
def test_what_is_no_block_is_told_why(data: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        block_from_json(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("hi", "a message must be an object"),
        ({"role": "system", "content": []}, "unknown role 'system'"),
        ({"role": "user"}, "must be a list of blocks"),
        ({"role": "user", "content": 3}, "must be a list of blocks"),
        ({"role": "user", "content": ["hi"]}, "must be an object"),
    ],
)
def test_what_is_no_message_is_told_why(data: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        message_from_json(data)


@pytest.mark.parametrize("data", [{}, {"content": "hi"}, {"content": 3}])
def test_what_is_no_response_is_told_why(data: Any) -> None:
    with pytest.raises(ValueError, match="needs a list of content blocks"):
        response_from_json(data)


def test_text_alone_is_a_message_too() -> None:
    assert message_from_json({"role": "user", "content": "hi"}) == user_message("hi")
    assert content_from_json(content_to_json("hi")) == "hi"


@given(USAGES, USAGES)
def test_usage_adds_up_over_all_its_fields(one: Usage, two: Usage) -> None:
    both = one + two
    assert both.total == one.total + two.total
    assert both.reasoning_tokens == one.reasoning_tokens + two.reasoning_tokens
    assert Usage.from_json(both.to_json()) == both
    assert one + NO_USAGE == one


def test_usage_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    assert Usage.from_json({"input_tokens": 3, "qubits": 4, "output_tokens": "x"}) == Usage(3)
    assert NO_USAGE.to_json() == {}


@given(st.lists(MESSAGES, max_size=6), st.integers(0, 6))
def test_a_history_is_the_same_however_it_came_about(messages: list[Message], at: int) -> None:
    grown = History()
    for message in messages:
        grown.append(message)
    messages = [kept for message in messages if (kept := without_empty_end(message))]
    grown.append(user_message("forgotten"))
    grown.truncate(len(messages))
    made = History(messages)
    assert list(grown) == list(made) == messages
    assert grown.call_ids == made.call_ids
    assert (grown.digest, grown.size) == (made.digest, made.size)
    assert grown.since(at) == messages[at:]
    assert grown[:at] == messages[:at]
    if messages:
        assert grown[-1] == messages[-1]
        assert grown.digest != History(messages[:-1]).digest


def test_every_call_is_answered_in_order() -> None:
    calls = [ToolUse("a", "x", {}), ToolUse("b", "y", {})]
    message = answers(calls, {"b": ToolResultBlock("b", "done")})
    assert [block.tool_use_id for block in message.content] == ["a", "b"]  # type: ignore[union-attr]
    assert [block.is_error for block in message.content] == [True, False]  # type: ignore[union-attr]


def test_tools_that_differ_have_other_fingerprints_and_sizes_are_in_bytes() -> None:
    spec = ToolSpec("look", "Lööks.", {"type": "object"})
    twin = ToolSpec("look", "Lööks.", {"type": "object"})
    other = ToolSpec("look", "Looks.", {"type": "object"})
    assert spec == twin
    assert spec.fingerprint == twin.fingerprint != other.fingerprint
    assert spec.size == len(canonical(spec.to_json())) == other.size + 2


def test_bytes_to_hash_are_made_of_any_text() -> None:
    assert fingerprint({"b": 1, "a": "é"}) == b'{"b":1,"a":"\xc3\xa9"}'
    assert fingerprint({"b": 1, "a": "\ud800"}) == b'{"a":"\xed\xa0\x80","b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical(float("nan"))
    with pytest.raises(TypeError):
        dumps({"x": object()})  # type: ignore[dict-item]
