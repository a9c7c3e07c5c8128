"""A real server of OpenAI's dialect, asked through the `vllm` provider: `make real-server`.

The server is as it comes, and so are its liberties: no `[DONE]`, errors as bare strings in the
middle of a stream, arguments that are no object. `tiny_model` says what the model answers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from lorimer import PipelinePresets, tool
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.messages import user_message
from lorimer.core.model import ListsModels, Model
from lorimer.core.request import Request, StopReason, TextDelta, ToolSpec, UsageDelta
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.testing.providers.trial import Heard, hear
from lorimer.world.real import RealWorld

URL = os.environ.get("LORIMER_REAL_SERVER", "")
NAME = os.environ.get("LORIMER_REAL_MODEL", "")
if not URL:
    pytest.skip("make real-server sets LORIMER_REAL_SERVER", allow_module_level=True)

Code = ExecutorErrorCode
LOOK = ToolSpec("look", "Look there.", {"type": "object", "properties": {"at": {"type": "string"}}})
FORMS = pytest.mark.parametrize("stream", [True, False])
TOO_LONG = "x" * 600
"""The window has 512 tokens."""


def models() -> Models:
    """The server as `vllm`, with models that can call."""
    known = ProviderCredentials("any", URL)
    made = Models(CredentialBundle({"vllm": known}, env={}))
    made.configure_capabilities("vllm", tools=True)
    return made


def with_model(go: Callable[[Model, RealWorld], Awaitable[None]], name: str = "") -> None:
    """Let `go` ask; the connections are closed afterwards."""

    async def main() -> None:
        made = models()
        await go(made.resolve(f"vllm:{name or NAME}"), RealWorld())
        await made.aclose()

    asyncio.run(main())


def ask(text: str, *, stream: bool, model: str = "", **fields: object) -> Heard:
    """One call."""
    out: list[Heard] = []

    async def go(found: Model, world: RealWorld) -> None:
        asked = Request(model or NAME, [user_message(text)], stream=stream, **fields)  # type: ignore[arg-type]
        out.append(await hear(found.stream(asked, world=world)))

    with_model(go, model)
    return out[0]


def failure(text: str, *, stream: bool, model: str = "", **fields: object) -> APIError:
    """The error of a call: clean, coded, one line."""
    error = ask(text, stream=stream, model=model, **fields).failure
    assert "\n" not in str(error)
    assert "Traceback" not in str(error)
    return error


@FORMS
def test_chat(stream: bool) -> None:
    heard = ask("What do you see? 9", stream=stream)
    assert heard.answer.text == "Nothing to look at."
    assert heard.answer.stop is StopReason.END_TURN
    assert heard.answer.usage.input_tokens > 20
    assert heard.answer.usage.output_tokens == 3
    assert "usage_estimated" not in heard.answer.extra
    assert heard.answer.cost_nano == 0
    if stream:
        assert isinstance(heard.items[0], UsageDelta)
        texts = [item.text for item in heard.items if isinstance(item, TextDelta)]
        assert texts == ["Nothing", " to look at."] or "".join(texts) == heard.answer.text


@FORMS
def test_noise_that_is_no_utf_8(stream: bool) -> None:
    heard = ask("abc", stream=stream, max_tokens=60)
    assert heard.answer.stop is StopReason.MAX_TOKENS
    assert heard.answer.usage.output_tokens == 60
    assert "\ufffd" in heard.answer.text
    heard.answer.text.encode()
    if stream:
        assert heard.text == heard.answer.text


@FORMS
def test_a_call(stream: bool) -> None:
    answer = ask("look 1", stream=stream, tools=(LOOK,)).answer
    assert answer.stop is StopReason.TOOL_USE
    (call,) = answer.tool_calls
    assert (call.name, call.input, call.raw) == ("look", {"at": "here"}, "")
    assert call.id


@FORMS
def test_two_calls_at_once(stream: bool) -> None:
    answer = ask("look 7", stream=stream, tools=(LOOK,)).answer
    assert [call.input for call in answer.tool_calls] == [{"at": "a"}, {"at": "b"}]
    assert len({call.id for call in answer.tool_calls}) == 2


@FORMS
@pytest.mark.parametrize(
    ("text", "raw"), [("look 2", "[1, 2]"), ("look 3", "true"), ("look 6", '{"at": NaN}')]
)
def test_arguments_that_are_no_object(stream: bool, text: str, raw: str) -> None:
    (call,) = ask(text, stream=stream, tools=(LOOK,)).answer.tool_calls
    assert (call.name, call.input, call.raw) == ("look", {}, raw)


@FORMS
@pytest.mark.parametrize("text", ["look 5", "look 8"])
def test_calls_that_the_server_cannot_read(stream: bool, text: str) -> None:
    """What the model wrote is not JSON, or no call: the server fails, with status 500 or in the
    middle of its stream, where even its error may be broken JSON."""
    error = failure(text, stream=stream, tools=(LOOK,))
    assert error.code in (Code.EXEC_API_SERVER_ERROR, Code.EXEC_API_STREAM_INCOMPLETE)
    assert error.code.is_recoverable


@FORMS
def test_a_call_cut_in_the_middle(stream: bool) -> None:
    """By the limit of the answer (look 1), or because the model stops there (look 4). The server
    leaves the call out of a stream, and fails where the answer is to come in one piece."""
    for text, limit in (("look 1", 1), ("look 4", 50)):
        heard = ask(text, stream=stream, tools=(LOOK,), max_tokens=limit)
        if heard.error is None:
            assert heard.answer.tool_calls == []
        else:
            assert heard.failure.code is Code.EXEC_API_SERVER_ERROR


@FORMS
def test_a_prompt_that_is_too_long(stream: bool) -> None:
    """The server does not look before: it fails, with status 500 or in the middle of a stream."""
    error = failure(TOO_LONG, stream=stream)
    assert error.code in (Code.EXEC_API_SERVER_ERROR, Code.EXEC_API_TOKEN_LIMIT)


@FORMS
def test_a_window_that_ends_in_the_middle_of_the_answer(stream: bool) -> None:
    heard = ask("x" * 450, stream=stream, max_tokens=500)
    assert heard.failure.code in (Code.EXEC_API_SERVER_ERROR, Code.EXEC_API_TOKEN_LIMIT)
    if stream:
        assert heard.text


@FORMS
def test_an_unknown_model(stream: bool) -> None:
    error = failure("hi 9", stream=stream, model="nobody/has-this")
    assert error.code is Code.EXEC_API_BAD_REQUEST
    assert not error.code.is_recoverable
    assert "nobody/has-this" in str(error)


def test_the_list_of_models() -> None:
    async def go(model: Model, world: RealWorld) -> None:
        assert isinstance(model, ListsModels)
        assert isinstance(await model.list_models(world=world), list)

    with_model(go)


def test_leaving_early_and_asking_again() -> None:
    """A long answer is left after its first words; the server is there for the next call."""

    async def go(model: Model, world: RealWorld) -> None:
        asked = Request(NAME, [user_message("abc")], max_tokens=400)
        for _ in range(3):
            async with aclosing(model.stream(asked, world=world)) as stream:  # type: ignore[type-var]
                async for item in stream:
                    if isinstance(item, TextDelta):
                        break
        asked = Request(NAME, [user_message("hi 9")])
        assert (await hear(model.stream(asked, world=world))).answer.text == "Nothing to look at."

    with_model(go)


def test_cancelling() -> None:
    async def go(model: Model, world: RealWorld) -> None:
        asked = Request(NAME, [user_message("abc")], max_tokens=400)
        task = asyncio.ensure_future(hear(model.stream(asked, world=world)))
        await world.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_model(go)


def test_many_at_once() -> None:
    async def go(model: Model, world: RealWorld) -> None:
        calls = [
            hear(model.stream(Request(NAME, [user_message(f"{n} 9")]), world=world))
            for n in range(10)
        ]
        for heard in await asyncio.gather(*calls):
            assert heard.answer.text == "Nothing to look at."

    with_model(go)


def test_an_agent() -> None:
    """A whole run: the model calls a tool, and answers when it has the result."""
    seen: list[str] = []

    @tool(effects=["read"])
    def look(at: str) -> str:
        """Look there."""
        seen.append(at)
        return "a cat 9"  # the last letter decides what the model says next

    pipeline = PipelinePresets.agent(model=f"vllm:{NAME}", models=models(), tools=[look])
    result = pipeline.run_sync("look 1", limits={"max_turns": 3, "allow_unpriced": True})
    assert (seen, result.text, result.status) == (["here"], "Nothing to look at.", "ok")


@pytest.mark.parametrize(("text", "told"), [("look 2", "[1, 2]"), ("look 3", "true")])
def test_an_agent_is_told_of_arguments_that_are_no_object(text: str, told: str) -> None:
    """It gets an error to read, with what it wrote; nothing is run."""

    @tool(effects=["read"])
    def look(at: str) -> str:
        """Look there."""
        raise AssertionError("it was run")

    pipeline = PipelinePresets.agent(model=f"vllm:{NAME}", models=models(), tools=[look])
    limits = {"max_turns": 1, "allow_unpriced": True}
    result = pipeline.run_sync(text, limits=limits, raise_on_error=False)
    assert result.steps[0].is_error
    assert told in result.steps[0].content
