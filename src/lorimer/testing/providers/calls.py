"""Cases: tool calls, including odd ones."""

from __future__ import annotations

import json
from typing import Final

from lorimer.core.jsonable import JSON
from lorimer.core.messages import Message, ToolResultBlock, ToolUse, user_message
from lorimer.core.model import Model
from lorimer.core.request import StopReason
from lorimer.core.world import World
from lorimer.testing.fake_turn import ToolCall, Turn
from lorimer.testing.providers.case import STREAMED, case, gathered
from lorimer.testing.providers.trial import TOOLS, LLMServer, Trial, hear, says

INPUTS: Final[tuple[dict[str, JSON], ...]] = (
    {},
    {"p": ""},
    {"p": 'q"\\/\b\f\n\r\t\x00\x7f'},
    {"p": "日本語 🦄 \u2028"},
    {"n": [0, -1, 0.1, 1e300, 9007199254740993], "b": [True, False, None]},
    {"a": {"b": {"c": [{"d": []}, {}]}}},
    {"": 1, "__proto__": 2, "ключ": 3},
)


@case("calls", *[(form, data) for form in STREAMED for data in INPUTS])
def arguments_arrive_unchanged(t: Trial, form: str, data: dict[str, JSON]) -> None:
    """The arguments are the object that the model wrote."""
    turn = Turn(tool_calls=(ToolCall("c1", "read", data),))
    says(t.ask(turn, t.thoughtful(form)).answer, turn)


@case("calls", *STREAMED)
def calls_in_parallel(t: Trial, form: str) -> None:
    """Many calls in one answer keep their order, ids and arguments."""
    calls = tuple([ToolCall(f"c{n}", "read", {"p": f"file {n}"}) for n in range(20)])
    says(t.ask(Turn(tool_calls=calls), t.thoughtful(form)).answer, Turn(tool_calls=calls))


@case("calls", *STREAMED)
def two_hundred_calls(t: Trial, form: str) -> None:
    """Two hundred calls are all reported: how many are run is up to the caller."""
    calls = tuple([ToolCall(f"c{n}", "ls") for n in range(200)])
    assert len(t.ask(Turn(tool_calls=calls), t.thoughtful(form)).answer.tool_calls) == 200


@case("calls", *STREAMED)
def the_same_call_twice(t: Trial, form: str) -> None:
    """Two calls that differ only in their id are two."""
    turn = Turn(tool_calls=(ToolCall("c1", "read", {"p": "a"}), ToolCall("c2", "read", {"p": "a"})))
    says(t.ask(turn, t.thoughtful(form)).answer, turn)


@case("calls", *STREAMED)
def five_megabytes_of_arguments(t: Trial, form: str) -> None:
    """Large arguments arrive."""
    turn = Turn(tool_calls=(ToolCall("c1", "read", {"p": "x" * 5_000_000}),))
    says(t.ask(turn, t.thoughtful(form)).answer, turn)


NAMES: Final = ("no_such_tool", "READ", "rеad", "read ", "mcp__server__read", "a" * 300, "функция")


@case("calls", *NAMES)
def a_tool_nobody_has(t: Trial, name: str) -> None:
    """A model may call a tool that does not exist, or a name that only resembles one: the call is
    reported unchanged. Answering it is up to the code that runs tools."""
    turn = Turn(tool_calls=(ToolCall("c1", name, {"p": "a"}),))
    says(t.ask(turn, t.thoughtful()).answer, turn)


BROKEN: Final = (
    *('{"p": "a', '{"p": }', "{p: 1}", "{'p': 1}", "not json", "{}{}", '{"p":1}]'),
    *("[1]", '"text"', "7", "true", '{"p": NaN}', '{"p": 1e999}', '{"p": -Infinity}'),
    *("[" * 5000, '{"a":' * 5000, '{"p": 01}', '{"p": "\x01"}', "\ufeff{}"),
)


@case("odd calls", *BROKEN)
def arguments_that_are_no_object(t: Trial, text: str) -> None:
    """What is not a JSON object is kept in `raw`, and cannot be run by mistake; no exception."""
    heard = t.ask(Turn(tool_calls=(ToolCall("c1", "read", raw=text),)), t.thoughtful())
    if heard.error is not None:  # a wire whose arguments are an object, not text
        assert heard.error.code.is_recoverable
        return
    (call,) = heard.answer.tool_calls
    assert call.input == {}
    assert call.name == "read"


@case("odd calls", *BROKEN)
def they_are_kept_for_the_model_to_see(t: Trial, text: str) -> None:
    """Where arguments are sent as text, `raw` has them unchanged."""
    heard = t.ask(Turn(tool_calls=(ToolCall("c1", "read", raw=text),)), t.thoughtful())
    (call,) = heard.answer.tool_calls
    assert call.raw == text


@case("odd calls", "", "  ", "null")
def no_arguments_at_all(t: Trial, text: str) -> None:
    """An empty text is an empty object, and so is null."""
    heard = t.ask(Turn(tool_calls=(ToolCall("c1", "ls", raw=text),)), t.thoughtful())
    (call,) = heard.answer.tool_calls
    assert (call.input, call.raw) == ({}, "")


@case("odd calls")
def names_that_repeat(t: Trial) -> None:
    """For a duplicate key one value counts; nothing fails."""
    text = '{"p": 1, "p": 2}'
    heard = t.ask(Turn(tool_calls=(ToolCall("c1", "read", raw=text),)), t.thoughtful())
    (call,) = heard.answer.tool_calls
    assert call.input in ({"p": 1}, {"p": 2})


@case("odd calls")
def half_a_surrogate_pair(t: Trial) -> None:
    """An escape for a lone surrogate does not get into a string, which no file would accept."""
    text = r'{"p": "a\ud83e"}'
    heard = t.ask(Turn(tool_calls=(ToolCall("c1", "read", raw=text),)), t.thoughtful())
    (call,) = heard.answer.tool_calls
    json.dumps(call.to_json(), ensure_ascii=False).encode()


@case("odd calls", *STREAMED)
def cut_in_the_middle(t: Trial, form: str) -> None:
    """A call cut off by `max_tokens` is never complete: it cannot be run."""
    turn = Turn("I ", tool_calls=(ToolCall("c1", "read", raw='{"p": "/et'),), stop="max_tokens")
    answer = t.ask(turn, t.thoughtful(form)).answer
    assert answer.stop is StopReason.MAX_TOKENS
    assert all(call.input == {} for call in answer.tool_calls)


@case("odd calls", "max_tokens", "refusal")
def cut_where_it_looks_whole(t: Trial, stop: str) -> None:
    """Arguments that happen to be valid JSON where the answer was cut may be incomplete."""
    turn = Turn("I ", tool_calls=(ToolCall("c1", "read", {"p": "/"}),), stop=stop)
    answer = t.ask(turn, t.thoughtful()).answer
    assert all(call.raw for call in answer.tool_calls)


IDS: Final = (("", ""), ("c1", "c1"), ("a b/ü", "x" * 200), ("call|1", "call:1"))


@case("ids", *[(form, *pair) for form in STREAMED for pair in IDS])
def ids_may_be_anything(t: Trial, form: str, first: str, second: str) -> None:
    """Missing, equal and strange ids: both calls are reported. A run gives them new ids where
    needed."""
    calls = (ToolCall(first, "read", {"p": "1"}), ToolCall(second, "ls"))
    answer = t.ask(Turn(tool_calls=calls), t.thoughtful(form)).answer
    assert [(call.name, call.input) for call in answer.tool_calls] == [
        ("read", {"p": "1"}),
        ("ls", {}),
    ]


@case("ids", "a b/ü", "x" * 200, "call|1", "toolu_01", "-")
def strange_ids_go_back(t: Trial, id: str) -> None:
    """Whatever the ids in a history, call and result match on the wire."""
    asked = t.thoughtful(messages=_history(id, "read"))
    heard = t.ask(Turn("Done."), asked)
    assert heard.answer.text == "Done."


@case("ids", "no such tool!", "funcție", "x" * 300, "7up")
def strange_names_go_back(t: Trial, name: str) -> None:
    """A tool name that the model made up stays in the history, and the provider accepts it."""
    assert t.ask(Turn("Done."), t.thoughtful(messages=_history("c1", name))).answer.text == "Done."


def _history(id: str, name: str) -> list[Message]:
    return [
        user_message("hi"),
        Message("assistant", (ToolUse(id, name, {"p": "a"}),)),
        Message("user", (ToolResultBlock(id, "done"),)),
    ]


@case("results", *STREAMED)
def results_go_back(t: Trial, form: str) -> None:
    """Results in any order, one of them an error without text, are accepted by the provider."""

    async def go(model: Model, world: World, server: LLMServer) -> None:
        asked = t.thoughtful(form)
        first = (await hear(model.stream(asked, world=world))).answer
        one, two = first.tool_calls
        results = (ToolResultBlock(two.id, "a b"), ToolResultBlock(one.id, "", is_error=True))
        asked.messages = [*asked.messages, first.message, Message("user", results)]
        assert (await hear(model.stream(asked, world=world))).answer.text == "Done."
        assert len(server.requests) == 2

    calls = (ToolCall("c1", "read", {"p": "a"}), ToolCall("c2", "ls"))
    t.over_wire([Turn("I look.", "Hm.", tool_calls=calls), Turn("Done.", "So.")], go)


RESULTS: Final = ("", "text", " ", "zwölf 🦄", "\ud83e", "x" * 100_000, '{"a": 1}', "\x00\x1b[0m")


@case("results", *RESULTS)
def any_text_is_a_result(t: Trial, text: str) -> None:
    """Any string can be a result, even with a lone surrogate."""
    messages = _history("c1", "read")
    messages[-1] = Message("user", (ToolResultBlock("c1", text),))
    assert t.ask(Turn("Done."), t.thoughtful(messages=messages)).answer.text == "Done."


@case("choice", "auto", "any", "none", "read")
def the_choice_of_a_tool(t: Trial, choice: str) -> None:
    """`tool_choice` is something that the provider accepts, or is named as dropped."""
    heard = t.ask(Turn("Hi."), t.request(tools=TOOLS, tool_choice=choice))
    assert heard.answer.text == "Hi."
    assert all(tool.name in heard.sent for tool in TOOLS)


@case("choice")
def calls_in_the_past_and_no_tools_now(t: Trial) -> None:
    """A conversation with calls can continue without tools."""
    assert t.ask(Turn("Done."), t.request(messages=_history("c1", "read"))).answer.text == "Done."


CASES: Final = gathered(globals())
