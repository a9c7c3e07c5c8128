"""The thoughts of servers with OpenAI's chat API, and Gemini's signatures there: they go back as
they came to the server that sent them, and to nobody else."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lorimer.core.messages import Message, ThinkingBlock, ToolResultBlock, user_message
from lorimer.core.redaction import of_environment
from lorimer.core.request import Request, Response
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.models.scrubbing import Scrubber
from tests.models.support import WIRES, NoWorld, Provider, Reply, Wire, ask, hear, request, sse
from tests.quick import quick

ELSEWHERE = "http://localhost:8000/v1"
SAID = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
CALL = {"index": 0, "id": "c1", "function": {"name": "read", "arguments": "{}"}}


def chunk(finish: str | None = None, **delta: object) -> dict[str, object]:
    return {"id": "c", "model": "m", "choices": [{"delta": delta, "finish_reason": finish}]}


def whole(**message: object) -> Reply:
    choice = {"message": message, "finish_reason": "stop"}
    return Reply.of({"id": "c", "model": "m", "choices": [choice], "usage": SAID["usage"]})


def streamed(*deltas: dict[str, object]) -> Reply:
    return Reply([sse(*[chunk(**delta) for delta in deltas], chunk("stop"), SAID, "[DONE]")])


def made_of(reply: Reply, spec: str = "openai:m") -> Response:
    return talk(spec, Provider(reply), request("openai")).answer


def talk(spec: str, provider: Provider, asked: Request) -> Any:
    """One call to a server that is known as `openai`, `vllm` or `gate`."""
    world = NoWorld(provider)
    known = dict.fromkeys(("openai", "vllm", "google"), ProviderCredentials("k", ELSEWHERE))
    made = Models(CredentialBundle(known, env={}), world)
    made.configure_capabilities("vllm", tools=True)

    async def go() -> Any:
        heard = await hear(made.resolve(spec), asked, world)
        await made.aclose()
        return heard

    return asyncio.run(go())


def after(answer: Response) -> list[Message]:
    """The conversation after an answer with a call."""
    result = Message("user", (ToolResultBlock(answer.tool_calls[0].id, "r"),))
    return [user_message("go"), answer.message, result]


def sent_after(answer: Response, spec: str = "openai:m") -> dict[str, Any]:
    """What a server is sent of the model's turn."""
    provider = Provider(streamed({"content": "ok"}))
    talk(spec, provider, Request(spec.partition(":")[2], after(answer), api="chat"))
    return provider.sent["messages"][1]


DETAILS = [
    {"type": "reasoning.text", "text": "I", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.text", "text": " think.", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.text", "signature": "sealed", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "xx", "id": "c1", "index": 1},
    {"type": "reasoning.encrypted", "data": "yy", "id": "c2", "index": 1},
    {"type": "reasoning.summary", "summary": "So ", "index": 2},
    {"type": "reasoning.summary", "summary": "it is.", "index": 2},
]
"""As OpenRouter streams them: a seal covers the whole text, which comes in pieces."""
JOINED = [
    {**DETAILS[0], "text": "I think.", "signature": "sealed"},
    *DETAILS[3:5],
    {**DETAILS[5], "summary": "So it is."},
]


@pytest.mark.parametrize("form", [streamed, whole])
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_a_thought_goes_back_in_its_field(form: Any, field: str) -> None:
    deltas = [{field: "I "}, {field: "think."}, {"tool_calls": [CALL]}]
    reply = (
        streamed(*deltas) if form is streamed else whole(**{field: "I think."}, tool_calls=[CALL])
    )
    answer = made_of(reply)
    said = sent_after(answer)
    assert said[field] == "I think."
    assert [call["id"] for call in said["tool_calls"]] == ["c1"]
    assert {"reasoning", "reasoning_content"} & said.keys() == {field}


@pytest.mark.parametrize("form", [streamed, whole])
def test_sealed_details_go_back_whole(form: Any) -> None:
    pieces = [{"reasoning": piece.get("text"), "reasoning_details": [piece]} for piece in DETAILS]
    reply = (
        streamed(*pieces, {"tool_calls": [CALL]})
        if form is streamed
        else whole(reasoning="I think.", reasoning_details=JOINED, tool_calls=[CALL])
    )
    answer = made_of(reply)
    assert isinstance(answer.content[0], ThinkingBlock)
    assert answer.content[0].text == "I think."
    said = sent_after(answer)
    assert said["reasoning_details"] == JOINED
    assert "reasoning" not in said


def test_thoughts_go_nowhere_else() -> None:
    answer = made_of(streamed({"reasoning_content": "SECRET"}, {"tool_calls": [CALL]}), "vllm:m")
    assert "SECRET" in str(sent_after(answer, "vllm:m"))
    assert "SECRET" not in str(sent_after(answer, "openai:m"))


@pytest.mark.parametrize("wire", WIRES)
def test_no_vendor_is_sent_them(wire: Wire) -> None:
    delta = {
        "reasoning": "SECRET",
        "reasoning_details": [{"type": "reasoning.text", "x": "SECRET"}],
    }
    answer = made_of(streamed(delta, {"tool_calls": [CALL]}), "vllm:m")
    provider = Provider(Reply.of({"error": {"message": "x"}}, 400))
    asked = request(wire)
    asked.messages = after(answer)
    ask(wire, provider, asked)
    assert "SECRET" not in provider.requests[0].content.decode()


def test_openai_itself_is_sent_no_thoughts_of_the_server_that_had_its_name() -> None:
    answer = made_of(streamed({"reasoning_content": "SECRET"}, {"tool_calls": [CALL]}))
    provider = Provider(Reply.of({"error": {"message": "x"}}, 400))
    asked = request("openai")
    asked.messages = after(answer)
    ask("openai", provider, asked)
    assert "SECRET" not in provider.requests[0].content.decode()


def test_thoughts_in_many_pieces_are_read_in_time() -> None:
    pieces = [
        {"type": "reasoning.text", "text": "x", "index": index}
        for index in (*range(40_000), *[0] * 100)
    ]
    with quick():
        answer = made_of(streamed({"reasoning_details": pieces}))
    assert isinstance(answer.content[0], ThinkingBlock)
    assert "x" * 101 in answer.content[0].signature


def test_details_in_another_form_are_not_kept() -> None:
    answer = made_of(streamed({"reasoning": "Hm.", "reasoning_details": "none"}))
    assert answer.content == (ThinkingBlock("Hm.", origin="chat:openai", id="reasoning"),)


def test_a_secret_in_a_thought_does_not_go_back() -> None:
    """The thought does, as a server may demand one; a seal that no longer fits does not."""
    found = of_environment({"hunter2-hunter2": "key"})
    assert found is not None
    for delta in ({"reasoning": "it is hunter2-hunter2"},
                  {"reasoning": "it is hunter2-hunter2",
                   "reasoning_details": [{"text": "it is hunter2-hunter2"}]}):  # fmt: skip
        answer = made_of(streamed(delta, {"tool_calls": [CALL]}))
        Scrubber(found).answer(answer, answer.to_json())
        said = sent_after(answer)
        assert "hunter2" not in json.dumps(said)
        assert ("reasoning" in said) is ("reasoning_details" not in delta)


SIGNED = {**CALL, "extra_content": {"google": {"thought_signature": "sig=="}}}


@pytest.mark.parametrize("model", ["gemini-3-flash", "google/gemini-3-pro-preview"])
def test_a_geminis_call_keeps_its_signature(model: str) -> None:
    answer = made_of(streamed({"tool_calls": [SIGNED]}))
    assert answer.tool_calls[0].signature == "sig=="
    (call,) = sent_after(answer, f"openai:{model}")["tool_calls"]
    assert call["extra_content"] == SIGNED["extra_content"]


def test_other_models_get_no_signature() -> None:
    answer = made_of(streamed({"tool_calls": [SIGNED]}))
    assert "sig==" not in str(sent_after(answer, "openai:qwen3"))


def test_googles_own_server_is_told_that_a_call_was_not_made_by_gemini() -> None:
    answer = made_of(streamed({"tool_calls": [CALL, {**CALL, "index": 1, "id": "c2"}]}))
    answer.content = answer.content[:2]
    results = tuple([ToolResultBlock(call.id, "r") for call in answer.tool_calls])
    messages = [user_message("go"), answer.message, Message("user", results)]
    for base_url in ("https://generativelanguage.googleapis.com/v1beta/openai", ELSEWHERE):
        provider = Provider(streamed({"content": "ok"}))
        asked = Request("gemini-3-flash", messages, api="chat")
        ask("openai", provider, asked, base_url=base_url)
        calls = provider.sent["messages"][1]["tool_calls"]
        assert ["extra_content" in call for call in calls] == [base_url != ELSEWHERE, False]
