"""Cases: one answer, its deltas, its usage and why it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lorimer.core.jsonable import dumps
from lorimer.core.messages import (
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    user_message,
)
from lorimer.core.request import (
    NO_USAGE,
    Response,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    Usage,
)
from lorimer.models.failover import NUDGE
from lorimer.testing.fake_turn import FakeUsage, ToolCall, Turn
from lorimer.testing.providers.case import STREAMED, case, gathered
from lorimer.testing.providers.trial import TURN, Trial, says

TEXTS: Final = (
    "Done.",
    " leading and trailing \n",
    "zwölf Boxkämpfer, 日本語, עברית, 🦄👩‍👩‍👧",
    'quotes " and \\ and </tags> and {"json": [1]}',
    "data: [DONE]\n\nevent: message_stop\n\n",
    "\u2028 \u2029 \ufeff \u200b \x00 \x1b[31m \x7f",
)
FORMS_AND_TEXTS: Final = [(form, text) for form in STREAMED for text in TEXTS]


@case("answer", *FORMS_AND_TEXTS)
def text_arrives_unchanged(t: Trial, form: str, text: str) -> None:
    """A text is delivered unchanged, whatever it contains."""
    heard = t.ask(Turn(text), t.request(form))
    assert heard.answer.text == text
    assert heard.answer.content == (TextBlock(text),)
    assert heard.text in (text, "")


@case("answer", *STREAMED)
def a_long_text(t: Trial, form: str) -> None:
    """A text of 300 KB is read as fast as it comes, and completely."""
    text = "The quick brown 🦊. " * 15_000
    assert t.ask(Turn(text), t.request(form)).answer.text == text


@case("answer", *STREAMED)
def thinking_text_and_calls(t: Trial, form: str) -> None:
    """Thinking, text and calls of one answer are all there, in the order in which they came."""
    heard = t.ask(TURN, t.thoughtful(form))
    says(heard.answer, TURN)
    kinds = [type(block) for block in heard.answer.content if not _only_sealed(block)]
    assert kinds == [ThinkingBlock, TextBlock, ToolUse, ToolUse]


def _only_sealed(block: object) -> bool:
    return isinstance(block, ThinkingBlock) and not block.text


@case("answer", *STREAMED)
def it_says_who_answered(t: Trial, form: str) -> None:
    """The answer names the model that gave it, which may differ from the one requested, and its
    id."""
    answer = t.ask(Turn("Hi.", model="another-model-0711"), t.request(form)).answer
    assert answer.model == "another-model-0711"
    assert answer.id


@case("answer", *STREAMED)
def nothing_at_all(t: Trial, form: str) -> None:
    """An answer without content is an answer: handling it is up to the caller."""
    heard = t.ask(Turn(usage=FakeUsage(10, 1)), t.request(form))
    assert heard.answer.text == ""
    assert heard.answer.tool_calls == []
    assert heard.answer.stop is StopReason.END_TURN


@case("answer", *STREAMED)
def only_thinking(t: Trial, form: str) -> None:
    """An answer may consist of thinking only."""
    heard = t.ask(Turn(thinking="Hm."), t.thoughtful(form))
    says(heard.answer, Turn(thinking="Hm."))


@case("answer", *STREAMED)
def only_white_space(t: Trial, form: str) -> None:
    """White space is text."""
    assert t.ask(Turn(" \n\n"), t.request(form)).answer.text == " \n\n"


EMPTY: Final[Mapping[str, Turn]] = {
    "nothing": Turn(usage=FakeUsage(10, 1)),
    "only thought": Turn(thinking="Hm.", usage=FakeUsage(10, 1)),
    "white space": Turn(" \n", usage=FakeUsage(10, 1)),
}


@case("answer", *[(form, name) for form in STREAMED for name in EMPTY])
def an_empty_answer_is_asked_for_with_a_nudge(t: Trial, form: str, name: str) -> None:
    """After an empty answer the question is asked once more, with a nudge at the end, which the
    provider accepts: also after the results of calls."""
    said = Message("assistant", (ToolUse("c1", "read", {"p": "a"}),))
    result = Message("user", (ToolResultBlock("c1", "text of a"),))
    for messages in ([user_message("hi")], [user_message("hi"), said, result]):
        asked = t.thoughtful(form, messages=messages)
        answer, seen = t.call([EMPTY[name], Turn("Done.")], asked)
        assert answer.text == "Done."
        first, second = [dumps(request.body) for request in seen]
        assert (NUDGE in first, second.count(NUDGE)) == (False, 1)


@case("answer")
def one_piece_has_no_deltas(t: Trial) -> None:
    """A request without streaming gets the answer and nothing else."""
    assert len(t.ask(TURN, t.thoughtful("in one piece")).items) == 1


@case("deltas")
def a_sign_of_life_first(t: Trial) -> None:
    """The first item of a stream comes with the provider's response, before any content: it ends
    the connect timeout."""
    first = t.ask().items[0]
    assert not isinstance(first, Response | TextDelta | ThinkingDelta | ToolInputDelta)


@case("deltas")
def deltas_add_up(t: Trial) -> None:
    """Deltas of text and thinking, joined, are the answer's, once."""
    heard = t.ask()
    assert heard.text == heard.answer.text == "One 🦄, zwölf."
    assert heard.thinking == "Let me think."


@case("deltas")
def arguments_add_up(t: Trial) -> None:
    """Deltas of arguments, joined for each call, are the JSON of its arguments."""
    heard = t.ask()
    assert [heard.arguments(0), heard.arguments(1) or "{}"] == ['{"p":"ü/a"}', "{}"]


@case("deltas")
def a_call_is_named_once(t: Trial) -> None:
    """The first delta of a call names its tool, and no other does."""
    named = [(delta.index, delta.name) for delta in t.ask().inputs if delta.name]
    assert named == [(0, "read"), (1, "ls")]


@case("deltas")
def deltas_in_order(t: Trial) -> None:
    """Thinking, text and calls are released in the order of the answer."""
    kinds = (ThinkingDelta, TextDelta, ToolInputDelta)
    order = [kinds.index(type(item)) for item in t.ask().items if isinstance(item, kinds)]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}


@case("deltas")
def a_piece_at_a_time(t: Trial) -> None:
    """A text that comes in 40 pieces is released in pieces, not at the end."""
    pieces = tuple([f"word{number} " for number in range(40)])
    heard = t.ask(Turn(pieces), t.request())
    assert len([item for item in heard.items if isinstance(item, TextDelta)]) > 20
    assert heard.text == "".join(pieces)


@case("usage", *STREAMED)
def tokens_are_counted(t: Trial, form: str) -> None:
    """Input and output tokens are those reported by the provider."""
    usage = t.ask(Turn("Hi.", usage=FakeUsage(123, 45)), t.request(form)).answer.usage
    assert usage == Usage(123, 45)


@case("usage", *STREAMED)
def a_cache_is_counted_once(t: Trial, form: str) -> None:
    """Tokens read from a cache are not input tokens; none is counted twice, none is lost."""
    usage = t.ask(Turn("Hi.", usage=FakeUsage(50, 7, cache_read=400)), t.request(form)).answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (50, 400)


@case("usage", *STREAMED)
def a_cache_write_is_not_lost(t: Trial, form: str) -> None:
    """Tokens written to a cache are counted as such, if the provider reports them."""
    turn = Turn("Hi.", usage=FakeUsage(50, 7, cache_write=30))
    usage = t.ask(turn, t.request(form)).answer.usage
    assert usage.input_tokens == 50
    assert usage.cache_creation_input_tokens in (30, 0)


@case("usage", *STREAMED)
def thoughts_are_part_of_the_output(t: Trial, form: str) -> None:
    """Reasoning tokens are reported, and included in the output tokens."""
    turn = Turn("Hi.", "Hm.", usage=FakeUsage(50, 20, reasoning=8))
    usage = t.ask(turn, t.thoughtful(form)).answer.usage
    assert (usage.output_tokens, usage.reasoning_tokens) == (20, 8)


@case("usage", *STREAMED)
def missing_usage_is_estimated(t: Trial, form: str) -> None:
    """If a provider reports no usage it is estimated, and the answer says so: never silently 0."""
    _estimated(t, form, None)


@case("usage", *STREAMED)
def usage_of_nothing_is_estimated(t: Trial, form: str) -> None:
    """Zeros are sent by servers that do not count: no answer is free."""
    _estimated(t, form, FakeUsage(0, 0))


def _estimated(t: Trial, form: str, usage: FakeUsage | None) -> None:
    answer = t.ask(Turn("word " * 100, usage=usage), t.request(form, "x" * 4000)).answer
    assert answer.extra.get("usage_estimated") is True
    assert 500 < answer.usage.input_tokens < 5000
    assert 50 < answer.usage.output_tokens < 1000


@case("usage", *STREAMED)
def told_usage_is_no_estimate(t: Trial, form: str) -> None:
    """Reported usage is not marked as estimated."""
    assert "usage_estimated" not in t.ask(TURN, t.thoughtful(form)).answer.extra


@case("usage")
def growing_usage_is_not_added_up(t: Trial) -> None:
    """Intermediate counts are totals so far: they only grow, and the answer's is the last."""
    heard = t.ask()
    totals = [one.usage.total for one in heard.usages if one.usage != NO_USAGE]
    assert totals == sorted(totals)
    assert not totals or totals[-1] <= heard.answer.usage.total
    assert heard.answer.usage.output_tokens == 9


@case("usage")
def large_counts(t: Trial) -> None:
    """A count of a billion is handled."""
    usage = t.ask(Turn("Hi.", usage=FakeUsage(10**9, 10**7)), t.request()).answer.usage
    assert usage == Usage(10**9, 10**7)


@case("usage", *STREAMED)
def the_cost_is_the_price(t: Trial, form: str) -> None:
    """The answer's cost is `price` of its usage; an unknown price is None, never 0."""
    answer = t.ask(TURN, t.thoughtful(form)).answer
    price = t.model().price(answer.usage, model=answer.model)
    assert price is None or (isinstance(price, int) and price > 0)
    assert answer.cost_nano == (price or 0)


STOPS: Final = (
    ("end_turn", {StopReason.END_TURN}),
    ("max_tokens", {StopReason.MAX_TOKENS}),
    ("stop_sequence", {StopReason.STOP_SEQUENCE, StopReason.END_TURN}),
    ("refusal", {StopReason.REFUSAL}),
    ("pause", {StopReason.PAUSE, StopReason.END_TURN}),
    ("context_overflow", {StopReason.CONTEXT_OVERFLOW, StopReason.MAX_TOKENS}),
)


@case("stop", *[(form, said) for form in STREAMED for said, _ in STOPS])
def why_it_stopped(t: Trial, form: str, said: str) -> None:
    """Every stop reason maps to one of `StopReason`; what a wire cannot distinguish to the
    nearest."""
    answer = t.ask(Turn("Well, ", stop=said), t.request(form)).answer
    assert answer.stop in dict(STOPS)[said]


@case("stop", *STREAMED)
def it_stopped_to_call(t: Trial, form: str) -> None:
    """An answer with calls has stopped because of them."""
    turn = Turn("Well.", tool_calls=(ToolCall("c1", "ls"),))
    assert t.ask(turn, t.thoughtful(form)).answer.stop is StopReason.TOOL_USE


@case("stop", *STREAMED)
def calls_under_another_name(t: Trial, form: str) -> None:
    """Some servers say `end_turn` after calls: they still count as calls."""
    turn = Turn("Well.", tool_calls=(ToolCall("c1", "ls"),), stop="end_turn")
    answer = t.ask(turn, t.thoughtful(form)).answer
    assert answer.tool_calls
    assert answer.stop is StopReason.TOOL_USE


@case("stop", *STREAMED)
def a_reason_nobody_knows(t: Trial, form: str) -> None:
    """An unknown stop reason is kept in `extra["stop_reason"]`, and the answer is not a failure."""
    answer = t.ask(Turn("Well.", stop="tea_break"), t.request(form)).answer
    assert answer.text == "Well."
    assert answer.extra.get("stop_reason") == "tea_break"


@case("stop")
def a_refusal_keeps_what_was_said(t: Trial) -> None:
    """A refusal keeps the text that came with it."""
    heard = t.ask(Turn("I would rather not.", stop="refusal"), t.request())
    assert heard.answer.stop is StopReason.REFUSAL
    assert heard.answer.text == "I would rather not."


CASES: Final = gathered(globals())
