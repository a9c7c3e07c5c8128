"""Cases: what a conversation may contain, and what a request may ask for."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import (
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    user_message,
)
from lorimer.core.model import Model
from lorimer.core.request import CacheMarks, OutputSchema
from lorimer.core.world import World
from lorimer.testing.fake_turn import ToolCall, Turn
from lorimer.testing.providers.case import STREAMED, case, gathered
from lorimer.testing.providers.trial import TOOLS, LLMServer, Trial, dropped, hear

PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
PDF: Final = "JVBERi0xLjQKJUVPRg=="


@case("thinking", *[(form, calls) for form in STREAMED for calls in (0, 1, 2)])
def thinking_goes_back(t: Trial, form: str, calls: int) -> None:
    """The model's thinking is sent back as its provider requires, sealed byte for byte."""
    made = tuple([ToolCall(f"c{number}", "ls") for number in range(calls)])
    script = [Turn("I see.", ("Let me ", "think 🦄."), tool_calls=made), Turn("Done.", "So.")]

    async def go(model: Model, world: World, server: LLMServer) -> None:
        asked = t.thoughtful(form)
        first = (await hear(model.stream(asked, world=world))).answer
        answers = [ToolResultBlock(call.id, "a") for call in first.tool_calls]
        asked.messages = [*asked.messages, first.message]
        if answers:
            asked.messages.append(Message("user", tuple(answers)))
        asked.messages.append(user_message("And now?"))
        second = (await hear(model.stream(asked, world=world))).answer
        assert second.text == "Done."
        asked.messages = [*asked.messages, second.message, user_message("Really?")]
        assert (await hear(model.stream(asked, world=world))).answer.text == "Yes."
        assert len(server.requests) == 3

    t.over_wire([*script, Turn("Yes.")], go)


@case("thinking")
def hidden_thinking_goes_back(t: Trial) -> None:
    """Thinking that the provider does not show is sent back, too."""
    calls = (ToolCall("c1", "ls"),)

    async def go(model: Model, world: World, server: LLMServer) -> None:
        asked = t.thoughtful()
        first = (await hear(model.stream(asked, world=world))).answer
        result = Message("user", (ToolResultBlock("c1", "a"),))
        asked.messages = [*asked.messages, first.message, result]
        assert (await hear(model.stream(asked, world=world))).answer.text == "Done."

    turn = Turn("I see.", "Hm.", redacted_thinking="c2VjcmV0", tool_calls=calls)
    t.over_wire([turn, Turn("Done.")], go)


FOREIGN: Final = (
    ThinkingBlock("private thoughts", "Zm9yZWlnbi1zZWFs", origin="elsewhere", id="th_foreign"),
    ThinkingBlock("", "Zm9yZWlnbi1zZWFs", origin="elsewhere"),
    ThinkingBlock("", "", "Zm9yZWlnbi1zZWFs", origin="elsewhere"),
)


@case("thinking", *[(number,) for number in range(len(FOREIGN))])
def thoughts_of_another_provider_stay_away(t: Trial, number: int) -> None:
    """A sealed thought is sent only to the provider that gave it."""
    said = Message("assistant", (FOREIGN[number], TextBlock("Hello.")))
    asked = t.thoughtful(messages=[user_message("hi"), said, user_message("go on")])
    heard = t.ask(Turn("Done."), asked)
    assert heard.answer.text == "Done."
    assert "Zm9yZWlnbi1zZWFs" not in heard.sent
    assert "th_foreign" not in heard.sent


@case("thinking")
def thoughts_without_a_seal(t: Trial) -> None:
    """Thinking without a seal does not prevent a conversation from continuing."""
    said = Message("assistant", (ThinkingBlock("Hm."), TextBlock("Hello."), ToolUse("c", "ls", {})))
    result = Message("user", (ToolResultBlock("c", "a"),))
    asked = t.thoughtful(messages=[user_message("hi"), said, result])
    assert t.ask(Turn("Done."), asked).answer.text == "Done."


MEDIA: Final = (
    ("an image", ImageBlock("image/png", PIXEL), PIXEL),
    ("the address of an image", ImageBlock("image/png", "", "https://a.test/i.png"),
     "a.test/i.png"),
    ("a document", DocumentBlock("application/pdf", PDF, "", "Report"), PDF),
    ("the address of a document", DocumentBlock("application/pdf", "", "https://a.test/d.pdf"),
     "a.test/d.pdf"),
)  # fmt: skip


@case("content", *[(name,) for name, _, _ in MEDIA])
def media_are_sent(t: Trial, name: str) -> None:
    """Images and documents reach the provider, or are described to the model in words."""
    block, mark = next((block, mark) for known, block, mark in MEDIA if known == name)
    asked = t.request(messages=[Message("user", (TextBlock("What is it?"), block))])
    heard = t.ask(Turn("A dot."), asked)
    assert heard.answer.text == "A dot."
    assert mark in heard.sent


@case("content", False, True)
def an_image_in_a_result(t: Trial, is_error: bool) -> None:
    """An image among a tool's results reaches the provider, if the wire supports it; also if the
    call failed."""
    said = Message("assistant", (ToolUse("c", "ls", {}),))
    content = (TextBlock("a picture:"), ImageBlock("image/png", PIXEL))
    result = Message("user", (ToolResultBlock("c", content, is_error),))
    heard = t.ask(Turn("A dot."), t.thoughtful(messages=[user_message("hi"), said, result]))
    assert heard.answer.text == "A dot."
    assert PIXEL in heard.sent
    assert "a picture:" in heard.sent


PROMPTS: Final = ("\ud83e", "\x00\x07", "zwölf 🦄", "x" * 1_000_000, "</s> <|im_end|> \n\nHuman:")


@case("content", *PROMPTS)
def any_text_is_a_prompt(t: Trial, text: str) -> None:
    """Any string can be a prompt, even with a lone surrogate."""
    assert t.ask(Turn("Hi."), t.request(text=text)).answer.text == "Hi."


@case("content", "", "Be brief. 🦄")
def a_system_prompt(t: Trial, system: str) -> None:
    """The system prompt is sent in the wire's place for it; an empty one is omitted."""
    heard = t.ask(Turn("Hi."), t.request(system=system))
    assert heard.answer.text == "Hi."
    assert system in heard.sent


@case("content")
def one_side_twice_in_a_row(t: Trial) -> None:
    """Consecutive messages of one side are merged, or sent in any form that the provider
    accepts."""
    messages = [
        *(user_message("one"), user_message("two")),
        *(Message("assistant", (TextBlock("three"),)), Message("assistant", (TextBlock("four"),))),
        *(user_message("five"), user_message("six")),
    ]
    heard = t.ask(Turn("Hi."), t.request(messages=messages))
    assert heard.answer.text == "Hi."
    assert all(word in heard.sent for word in "one two three four five six".split())


@case("content", "", " ", "\n")
def an_answer_without_words(t: Trial, text: str) -> None:
    """An empty answer in the history, which some providers give and none accepts."""
    said = Message("assistant", (TextBlock(text),) if text else ())
    asked = t.request(messages=[user_message("hi"), said, user_message("go on")])
    assert t.ask(Turn("Hi."), asked).answer.text == "Hi."


@case("content")
def a_hundred_turns(t: Trial) -> None:
    """A long conversation is sent completely, in order."""
    messages = [
        user_message(f"question {number}")
        if number % 2 == 0
        else Message("assistant", (TextBlock(f"answer {number}"),))
        for number in range(101)
    ]
    heard = t.ask(Turn("Hi."), t.request(messages=messages))
    places = [heard.sent.index(message.text + '"') for message in messages]
    assert heard.answer.text == "Hi."
    assert places == sorted(places)


SCHEMA: Final[dict[str, JSON]] = {
    "type": "object",
    "properties": {"zq_name": {"type": "string"}},
    "required": ["zq_name"],
    "additionalProperties": False,
}
ASKED: Final[tuple[tuple[str, Any, str], ...]] = (
    # field, value, how it looks on the wire
    ("temperature", 0.125, "0.125"),
    ("top_p", 0.875, "0.875"),
    ("top_k", 37, "37"),
    ("seed", 424242, "424242"),
    ("stop_sequences", ("ZQSTOP",), "ZQSTOP"),
    ("output", OutputSchema("zq_form", SCHEMA), "zq_name"),
)


@case("fields", *[(form, name) for form in STREAMED for name, _, _ in ASKED])
def sent_or_named_as_dropped(t: Trial, form: str, name: str) -> None:
    """A requested field is on the wire, or in `extra["dropped"]`: one of the two."""
    value, mark = next((value, mark) for known, value, mark in ASKED if known == name)
    asked: dict[str, Any] = {name: value}
    heard = t.ask(Turn("Hi."), t.request(form, **asked))
    left_out = dropped(heard.answer)
    assert (mark in heard.sent) is not (name in left_out)
    assert set(left_out) <= {name}


@case("fields", "low", "medium", "high")
def effort_is_sent_or_dropped(t: Trial, effort: str) -> None:
    """An effort changes the request, or is named as dropped."""
    plain, heard = t.ask(Turn("Hi."), t.request()), t.ask(Turn("Hi."), t.request(effort=effort))
    assert heard.answer.text == "Hi."
    assert (heard.sent != plain.sent) is not ("effort" in dropped(heard.answer))


@case("fields")
def all_fields_at_once(t: Trial) -> None:
    """A request that asks for everything is answered, not refused."""
    fields: dict[str, Any] = {name: value for name, value, _ in ASKED}
    asked = t.request(
        system="Be brief.",
        tools=TOOLS,
        thinking_tokens=2000,
        effort="high",
        cache=CacheMarks(system=True, tools=True, message=0),
        **fields,
    )
    heard = t.ask(Turn("Hi."), asked)
    assert heard.answer.text == "Hi."
    known = {*fields, "effort", "thinking_tokens", "tools", "tool_choice", "cache"}
    assert set(map(str, dropped(heard.answer))) <= known


@case("fields", *STREAMED)
def nothing_asked_nothing_dropped(t: Trial, form: str) -> None:
    """A plain request drops nothing, and reports nothing as dropped."""
    assert "dropped" not in t.ask(Turn("Hi."), t.request(form)).answer.extra


@case("fields", *STREAMED)
def the_limit_of_the_answer(t: Trial, form: str) -> None:
    """`max_tokens` is on the wire; with thinking, its budget is added to it, never taken from
    it."""
    assert "4321" in t.ask(Turn("Hi."), t.request(form, max_tokens=4321)).sent
    assert "6321" in t.ask(Turn("Hi."), t.thoughtful(form, max_tokens=4321)).sent


@case("fields")
def marks_for_a_cache(t: Trial) -> None:
    """Cache marks are accepted, wherever they are."""
    for message in (None, 0, -1, 7):
        marks = CacheMarks(system=True, tools=True, message=message)
        asked = t.request(system="Be brief.", tools=TOOLS, cache=marks)
        assert t.ask(Turn("Hi."), asked).answer.text == "Hi."


@case("fields")
def the_same_request_is_the_same_bytes(t: Trial) -> None:
    """What is sent depends on the request only: a cached prompt stays valid."""
    first, second = t.ask(), t.ask()
    assert first.sent == second.sent


@case("fields")
def a_longer_conversation_begins_as_the_shorter(t: Trial) -> None:
    """A longer conversation begins with the bytes sent before: a cached prompt stays valid."""
    messages = [user_message("first question")]
    short = t.ask(Turn("Hi."), t.thoughtful(messages=messages)).sent
    messages += [Message("assistant", (TextBlock("an answer"),)), user_message("second question")]
    long = t.ask(Turn("Hi."), t.thoughtful(messages=messages)).sent
    head = short[: short.index("first question") + len("first question")]
    assert long.startswith(head)


@case("fields")
def a_request_is_left_as_it_was(t: Trial) -> None:
    """A model does not change the request: it may be sent to another one next."""
    said = Message("assistant", (ToolUse("c", "ls", {"a": [1]}),))
    messages = [user_message("hi"), said, Message("user", (ToolResultBlock("c", "a"),))]
    asked = t.thoughtful(messages=messages)
    before, plain = deepcopy(asked), dumps([message.to_json() for message in messages])
    assert t.ask(Turn("Hi."), asked).answer.text == "Hi."
    assert asked == before
    assert dumps([message.to_json() for message in asked.messages]) == plain


CASES: Final = gathered(globals())
