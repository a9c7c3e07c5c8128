"""What servers with OpenAI's API reject, each in its own words, and how they are asked again."""

# ruff: noqa: E501 - what servers say stands here as they say it

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from lorimer import Pipeline, PipelinePresets, tool
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.messages import (
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    user_message,
)
from lorimer.core.request import OutputSchema, Request, ToolSpec
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.testing.fake_server import (
    FakeLLMServer,
    SeenRequest,
    ToolCall,
    Turn,
    recorded_body,
)
from lorimer.testing.faults import Status
from tests.models.support import NoWorld, Provider, Reply, hear, sse
from tests.quick import quick

FORM = OutputSchema("answer", {"type": "object", "properties": {"x": {"type": "string"}}})
READ = ToolSpec("read", "Read.", {"type": "object"})
DONE = {
    "id": "c",
    "model": "m",
    "choices": [{"delta": {"content": "ok"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}


def openai(message: str, **more: object) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


def pydantic(*where: str) -> dict[str, object]:
    fault = {"type": "extra_forbidden", "loc": list(where), "msg": "Extra inputs are not permitted"}
    return {"object": "error", "message": {"detail": [fault]}, "type": "invalid_request_error"}


LIMIT = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

REFUSALS = [
    ("max_tokens", "", 400, openai(LIMIT, param="max_tokens", code="unsupported_parameter")),
    ("max_tokens", "", 400, openai(f"litellm.BadRequestError: AzureException - {LIMIT}")),
    ("stream_options", "", 422, pydantic("body", "stream_options", "include_usage")),
    ("stream_options", "", 400, openai("Unknown parameter: 'stream_options.include_usage'.")),
    ("seed", "seed", 422, pydantic("body", "seed")),
    ("top_k", "top_k", 400, openai("property 'top_k' is unsupported")),
    ("temperature", "temperature", 400, openai("invalid temperature: only 1 is allowed for this model")),
    ("temperature", "temperature", 400, openai("`temperature` is deprecated for this model.")),
    ("temperature", "temperature", 400, openai("Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is supported.")),
    ("top_p", "top_p", 400, openai("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")),
    ("stop", "stop_sequences", 400, openai('Unsupported parameter: "stop"')),
    ("stop", "stop_sequences", 400, {"code": "Client error", "error": "Argument not supported on this model: stop"}),
    ("reasoning_effort", "effort", 400, openai("`reasoning_effort` is not supported with this model")),
    ("reasoning_effort", "effort", 400, openai('"llama3.2" does not support thinking')),
    ("tool_choice", "tool_choice", 400, openai("Thinking mode does not support this tool_choice")),
    ("response_format", "output", 400, openai("This response_format type is unavailable now")),
    ("response_format", "output", 400, openai("This model does not support response format `json_schema`.")),
    ("response_format", "output", 400, openai("'response_format.type' : value is not one of the allowed values ['text','json_object']")),
    ("response_format", "output", 400, openai("Provider returned error", metadata={"raw": json.dumps(openai("This response_format type is unavailable now"))})),
]  # fmt: skip
"""The field, its name in `Request`, and a refusal."""


def everything() -> Request:
    return Request(
        "m",
        [user_message("hi")],
        "Be kind.",
        (READ,),
        "any",
        9,
        0.5,
        0.5,
        3,
        ("x",),
        effort="low",
        output=FORM,
        seed=7,
    )


def asked_twice(
    *replies: Reply, request: Request | None = None, model: str = "m"
) -> tuple[Provider, list[Any]]:
    """One model that is asked twice: its requests, and what was heard."""
    provider = Provider(*replies)
    world = NoWorld(provider)
    known = ProviderCredentials("", "http://localhost:8000/v1")
    made = Models(CredentialBundle({"openai": known}, env={}), world)

    async def go() -> list[Any]:
        asked = made.resolve(f"openai:{model}")
        heard = [await hear(asked, request or everything(), world) for _ in range(2)]
        await made.aclose()
        return heard

    return provider, asyncio.run(go())


def sent(provider: Provider, number: int) -> dict[str, Any]:
    return json.loads(provider.requests[number].content)


@pytest.mark.parametrize(("field", "name", "status", "refusal"), REFUSALS, ids=range(len(REFUSALS)))
def test_what_a_server_rejects_is_left_out_and_named(
    field: str, name: str, status: int, refusal: object
) -> None:
    """The request is made again at once, and the next is not rejected first."""
    answer = Reply([sse(DONE, "[DONE]")])
    provider, heard = asked_twice(Reply.of(refusal, status), answer, answer)
    assert [one.answer.text for one in heard] == ["ok", "ok"]
    assert len(provider.requests) == 3
    assert field in sent(provider, 0)
    for number in (1, 2):
        body = sent(provider, number)
        assert field not in body
        kept = [other for other in sent(provider, 0) if other not in (field, "messages")]
        assert [other for other in kept if body.get(other) != sent(provider, 0)[other]] == []
    for one in heard:
        assert one.answer.extra.get("dropped", []) == ([name] if name else [])
    assert sent(provider, 1).get("max_completion_tokens") == (9 if field == "max_tokens" else None)
    told = sent(provider, 2)["messages"][0]["content"]
    assert ("JSON Schema" in told) is (field == "response_format")
    assert ("Use tools first" in told) is (field == "response_format")


@pytest.mark.parametrize(
    ("field", "name", "said"),
    [
        ("temperature", "temperature", "Unsupported parameter: 'temperature' is not supported with this model."),
        ("include", "messages.thinking", "Encrypted content is not supported with this model."),
    ],
)  # fmt: skip
def test_the_same_on_the_other_wire(field: str, name: str, said: str) -> None:
    """At Azure a deployment's name says nothing about its model."""
    request = Request(
        "m" if field == "temperature" else "o3", [user_message("hi")], api="responses"
    )
    request.temperature = 0.5 if field == "temperature" else None
    answer = Reply([recorded_body(Turn("ok"), "responses")])
    provider, heard = asked_twice(Reply.of(openai(said), 400), answer, answer, request=request)
    assert [one.answer.text for one in heard] == ["ok", "ok"]
    assert [field in sent(provider, number) for number in range(3)] == [True, False, False]
    assert [one.answer.extra["dropped"] for one in heard] == [[name]] * 2


@pytest.mark.parametrize(
    "refusal",
    [
        openai("Invalid 'temperature': decimal above maximum value. Expected a value <= 2.", param="temperature"),
        openai("m does not support tools"),
        openai("The model `stop-seed` is unknown."),
        openai("Unknown parameter: 'messages[1].name'."),
        openai("Invalid schema for response_format 'answer': In context=('properties', 'x'), 'minLength' is not permitted."),
    ],
    ids=range(5),
)  # fmt: skip
def test_another_refusal_is_final(refusal: object) -> None:
    provider, heard = asked_twice(*[Reply.of(refusal, 400)] * 2)
    assert len(provider.requests) == 2
    assert [one.error.code for one in heard] == [ExecutorErrorCode.EXEC_API_BAD_REQUEST] * 2


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, "Rate limit reached: requests with temperature are unavailable for 20 s."),
        (503, "The workers for tool_choice are unavailable."),
        (401, "unknown key for the lane 'stop'"),
    ],
)
def test_what_is_no_bad_request_is_not_made_again_at_once(status: int, said: str) -> None:
    answer = Reply([sse(DONE, "[DONE]")])
    provider, heard = asked_twice(Reply.of(openai(said), status), answer)
    assert heard[0].error.status == status
    assert len(provider.requests) == 2
    assert heard[1].answer.extra.get("dropped", []) == []


def test_a_model_that_must_not_call_is_never_free_to() -> None:
    """Neither if its server rejects that, nor because it has rejected another choice."""
    refusal = openai("tool_choice 'required' is not supported")
    request = replace(everything(), tool_choice="none")
    provider, heard = asked_twice(*[Reply.of(refusal, 400)] * 2, request=request)
    assert [one.error.code for one in heard] == [ExecutorErrorCode.EXEC_API_BAD_REQUEST] * 2
    assert len(provider.requests) == 2


def test_a_server_that_is_never_content_is_not_asked_for_ever() -> None:
    """Each thing is tried once for a request."""
    missing = openai("The `reasoning_content` in the thinking mode must be passed back to the API.")
    unwanted = openai("property 'reasoning_content' is unsupported")
    history = [user_message("hi"), Message("assistant", (TextBlock("a"),)), user_message("b")]
    replies = [Reply.of(refusal, 400) for refusal in (missing, unwanted) * 4]
    provider, heard = asked_twice(*replies, request=Request("m", history))
    assert len(provider.requests) <= 6
    assert heard[0].error.code is ExecutorErrorCode.EXEC_API_BAD_REQUEST


@pytest.mark.parametrize("word", ["max_tokens ", "temperature ", "'seed' ", "tool_call_id "])
def test_a_refusal_made_to_be_slow_is_not(word: str) -> None:
    with quick():
        asked_twice(*[Reply.of(openai(word * 100_000), 400)] * 2)


CALLED = [
    user_message("go"),
    Message("assistant", (ToolUse("toolu_01/x", "read", {}),)),
    Message("user", (ToolResultBlock("toolu_01/x", "r"), TextBlock("and?"))),
]


def test_mistral_wants_short_ids_and_an_answer_to_results() -> None:
    order = {
        "object": "error",
        "message": "Unexpected role 'user' after role 'tool'",
        "code": "3230",
    }
    nine = {
        "object": "error",
        "message": "Tool call id was toolu_01/x but must be a-z, A-Z, 0-9, with a length of 9.",
    }
    answer = Reply([sse(DONE, "[DONE]")])
    replies = (Reply.of(order, 400), Reply.of(nine, 400), answer, answer)
    provider, heard = asked_twice(*replies, request=Request("m", CALLED))
    assert heard[1].answer.text == "ok"
    for number in (2, 3):
        messages = sent(provider, number)["messages"]
        assert [one["role"] for one in messages] == [
            "user",
            "assistant",
            "tool",
            "assistant",
            "user",
        ]
        (call,) = messages[1]["tool_calls"]
        assert call["id"] == messages[2]["tool_call_id"]
        assert call["id"].isalnum()
        assert len(call["id"]) == 9


def test_ids_go_back_as_they_were_until_they_are_rejected() -> None:
    """A model may have learnt its own form of ids, and a gateway may keep something in them."""
    pattern = openai(
        "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
    )
    answer = Reply([sse(DONE, "[DONE]")])
    provider, _ = asked_twice(Reply.of(pattern, 400), answer, answer, request=Request("m", CALLED))
    ids = [sent(provider, number)["messages"][2]["tool_call_id"] for number in range(3)]
    assert ids[0] == "toolu_01/x"
    assert ids[1] == ids[2] != ids[0]
    assert ids[1] == sent(provider, 1)["messages"][1]["tool_calls"][0]["id"]


def test_content_as_one_text_where_nothing_else_is_taken() -> None:
    refusal = openai("'messages.1.content' : value must be a string")
    picture = ImageBlock("image/png", "iVBORw0KGgo=")
    history = [*CALLED, Message("assistant", (TextBlock("a"),)), user_message("b")]
    history.append(Message("user", (TextBlock("c"),)))
    history += [Message("assistant", (TextBlock("d"),)), Message("user", (TextBlock("e"), picture))]
    answer = Reply([sse(DONE, "[DONE]")])
    provider, _ = asked_twice(Reply.of(refusal, 400), answer, answer, request=Request("m", history))
    before, after = [[one["content"] for one in sent(provider, at)["messages"]] for at in (0, 1)]
    assert before[1] is None
    assert before[5] == [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
    assert [*after[:5], after[6]] == ["go", "", "r", "and?", "a", "d"]
    assert after[5] == "b\n\nc"
    assert after[7] == before[7]


@pytest.mark.parametrize(
    "said", ["Corrupted thought signature.", "messages.1.content.0: Invalid `signature` in `thinking` block"]
)  # fmt: skip
def test_signatures_that_are_rejected_do_not_end_a_conversation(said: str) -> None:
    details = json.dumps([{"type": "reasoning.encrypted", "data": "sealed"}])
    thought = ThinkingBlock("", details, origin="chat:openai", id="reasoning_details")
    calls = (ToolUse("a", "read", {}, signature="sealed"), ToolUse("b", "read", {}))
    results = (ToolResultBlock("a", "r"), ToolResultBlock("b", "r"))
    history = [
        user_message("go"),
        Message("assistant", (thought, *calls)),
        Message("user", results),
    ]
    refusal = Reply.of(
        {"error": {"message": "Provider returned error", "metadata": {"raw": said}}}, 400
    )
    answer = Reply([sse(DONE, "[DONE]")])
    request = Request("google/gemini-3-pro", history)
    replies = (refusal, answer, answer)
    provider, heard = asked_twice(*replies, request=request, model=request.model)
    assert heard[0].answer.extra["dropped"] == ["messages.thinking"]
    # those of another conversation may be sound
    assert ["sealed" in str(sent(provider, number)) for number in range(3)] == [True, False, True]
    made = sent(provider, 1)["messages"][1]["tool_calls"]
    assert ["skip_thought_signature_validator" in str(call) for call in made] == [True, False]


@tool(effects=["read"])
async def look(city: str = "") -> str:
    """Look."""
    return f"{city} is fine"


def test_a_conversation_goes_on_at_a_model_that_wants_thoughts_nobody_had() -> None:
    """As DeepSeek and Kimi do, when another model has failed after its call."""

    def play(request: SeenRequest) -> Turn:
        if request.wire == "anthropic":
            if request.number > 1:
                return Turn(faults=(Status(401),))
            return Turn(tool_calls=(ToolCall("a", "look", {"city": "Ulm"}),))
        said = [one for one in request.body["messages"] if one["role"] == "assistant"]  # type: ignore[index,union-attr,call-overload]
        if not all(one.get("reasoning_content") for one in said):  # type: ignore[union-attr]
            body = json.dumps(
                openai(
                    "The `reasoning_content` in the thinking mode must be passed back to the API."
                )
            )
            return Turn(faults=(Status(400, body=body.encode()),))
        return Turn("Fine.")

    async def go(server: FakeLLMServer) -> str:
        env = {
            "ANTHROPIC_API_KEY": "k",
            "ANTHROPIC_BASE_URL": server.url,
            "LORIMER_VLLM_BASE_URL": server.openai_url,
        }
        made = Models(CredentialBundle(env=env))
        made.configure_capabilities("vllm", tools=True)
        chain = "claude-haiku-4-5,vllm:deepseek-v4"
        agent = PipelinePresets.agent(model=chain, models=made, tools=[look])
        agent.manifest.stages[6].config["on_refusal"] = "next"
        async with Pipeline(agent.manifest, models=made, tools=[look]) as pipeline:
            text = (await pipeline.run("How is Ulm?")).text
        await made.aclose()
        return text

    with FakeLLMServer(play) as server:
        assert asyncio.run(go(server)) == "Fine."
