"""The fake Gemini through Google's own SDK, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from lorimer.testing.fake_gemini_rules import UNSEALED, Issued, check
from lorimer.testing.fake_server import FakeUsage, ToolCall, Turn
from lorimer.testing.fake_turn import Refused, SeenRequest
from lorimer.testing.faults import ContextOverflow, ErrorEvent, Status
from tests.sdks import errors, types
from tests.testing.clients import CALLS, HELLO, faulty, gemini_chunks, plain_client, playing

NEW = "gemini-3.5-flash"
OLD = "gemini-2.5-flash"
FUNCTIONS = {
    "functionDeclarations": [
        {"name": name, "description": name, "parametersJsonSchema": {"type": "object"}}
        for name in ("weather", "clock")
    ]
}


# ---------------------------------------------------------------- through the SDK


@pytest.mark.parametrize("stream", [True, False])
def test_text_thinking_and_usage(stream: bool) -> None:
    turn = Turn("Hello, wörld", thinking="Hm.", usage=FakeUsage(10, 9, cache_read=4, reasoning=3))
    with playing(turn) as server:
        chunks = gemini_chunks(server, stream=stream)
        assert server.requests[0].model == NEW
        assert server.requests[0].stream is stream
        assert server.requests[0].api_key == "key"
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]  # type: ignore[index,union-attr]
    assert "".join([part.text or "" for part in parts if part.thought]) == "Hm."
    assert "".join([part.text or "" for part in parts if not part.thought]) == "Hello, wörld"
    last = chunks[-1]
    assert last.candidates is not None
    assert last.candidates[0].finish_reason is types.FinishReason.STOP
    usage = last.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (14, 4)
    assert (usage.candidates_token_count, usage.thoughts_token_count) == (6, 3)
    assert usage.total_token_count == 23
    assert last.model_version == NEW


@pytest.mark.parametrize("stream", [True, False])
def test_parallel_calls_go_round_with_their_seal(stream: bool) -> None:
    tools = types.GenerateContentConfig(
        tools=[types.Tool(functionDeclarations=FUNCTIONS["functionDeclarations"])],  # type: ignore[arg-type]
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    with playing(CALLS, HELLO, HELLO) as server:
        chunks = gemini_chunks(server, stream=stream, config=tools)
        parts = [part for c in chunks for part in c.candidates[0].content.parts]  # type: ignore[index,union-attr]
        calls = [part for part in parts if part.function_call]
        assert [bool(part.thought_signature) for part in calls] == [True, False]
        assert [part.function_call.id for part in calls] == ["call_1", "call_2"]
        results = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=part.function_call.id, name=part.function_call.name, response={"output": "x"}
                )
            )
            for part in calls
        ]
        history = [
            types.Content(role="user", parts=[types.Part(text="hi")]),
            types.Content(role="model", parts=calls),
            types.Content(role="user", parts=results),
        ]
        gemini_chunks(server, stream=stream, config=tools, contents=history)
        calls[0].thought_signature = b"forged"
        with pytest.raises(errors.ClientError, match="signature is not valid"):
            gemini_chunks(server, stream=stream, config=tools, contents=history)
        calls[0].thought_signature = None
        with pytest.raises(errors.ClientError, match="missing a thought_signature"):
            gemini_chunks(server, stream=stream, config=tools, contents=history)


def test_errors_are_the_sdks_own() -> None:
    busy = faulty(ErrorEvent(1, "busy"))
    with playing(faulty(Status(429)), faulty(ContextOverflow()), busy) as server:
        with pytest.raises(errors.ClientError) as caught:
            gemini_chunks(server)
        assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
        with pytest.raises(errors.ClientError, match="exceeds the maximum number of tokens"):
            gemini_chunks(server)
        with pytest.raises(errors.ServerError, match="busy"):
            gemini_chunks(server)
    with playing(HELLO, api_key="right") as server, pytest.raises(errors.ClientError) as wrong:
        gemini_chunks(server)
    assert wrong.value.code == 400
    assert wrong.value.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"


def test_both_versions_and_what_is_not_there() -> None:
    body = {"contents": [{"parts": [{"text": "hi"}]}]}
    with playing(HELLO, HELLO) as server, plain_client() as client:
        for version in ("v1", "v1beta"):
            url = f"{server.url}/{version}/models/{NEW}:generateContent"
            assert client.post(url, json=body).status_code == 200
            counted = client.post(url.replace("generateContent", "countTokens"), json=body)
            assert counted.json()["totalTokens"] > 3
        key = {"x-goog-api-key": "k"}
        unknown = client.post(f"{server.url}/v1beta/models/{NEW}:embed", json=body, headers=key)
        assert (unknown.status_code, unknown.json()["error"]["status"]) == (404, "NOT_FOUND")
        plain = client.post(f"{server.url}/v1beta/models/{NEW}:streamGenerateContent", json=body)
        assert plain.status_code == 400
        assert client.get(f"{server.url}/v1beta/models/{NEW}:generateContent").status_code == 405
        assert client.post(f"{server.url}/v1beta/models", json={}).status_code == 405
        other = {"generateContentRequest": {**body, "model": "models/another"}}
        url = f"{server.url}/v1beta/models/{NEW}:countTokens"
        assert client.post(url, json=other).status_code == 400
        assert server.turns_played == 2


def test_arguments_that_are_no_object() -> None:
    calls = (ToolCall("1", "a", raw="[1]"), ToolCall("2", "b", {"x": 1}, raw="{cut"))
    with playing(Turn(tool_calls=calls)) as server, plain_client() as client:
        body = {"contents": [{"parts": [{"text": "hi"}]}]}
        url = f"{server.url}/v1beta/models/{NEW}:generateContent"
        parts = client.post(url, json=body).json()["candidates"][0]["content"]["parts"]
    assert [part["functionCall"]["args"] for part in parts] == [[1], {"x": 1}]


# ---------------------------------------------------------------- what is refused


def good() -> dict[str, Any]:
    call = {"functionCall": {"id": "1", "name": "weather", "args": {}}}
    return {
        "systemInstruction": {"parts": [{"text": "Be."}]},
        "tools": [deepcopy(FUNCTIONS)],
        "toolConfig": {
            "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}
        },
        "generationConfig": {"maxOutputTokens": 9, "thinkingConfig": {"includeThoughts": True}},
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}]},
            {
                "role": "model",
                "parts": [
                    {"text": "Looking."},
                    {**call, "thoughtSignature": UNSEALED[0]},
                    {"functionCall": {"id": "2", "name": "clock"}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "2", "name": "clock", "response": {"output": "9"}}},
                    {
                        "functionResponse": {
                            "id": "1",
                            "name": "weather",
                            "response": {"output": "x"},
                            "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}],
                        }
                    },
                ],
            },
        ],
    }


def edited(*path: Any, value: Any) -> dict[str, Any]:
    """The good body with one place changed; `...` takes it out."""
    body = good()
    place: Any = body
    for step in path[:-1]:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    if value is ...:
        del place[path[-1]]
    elif path[-1] == "+":
        place.append(value)
    else:
        place[path[-1]] = value
    return body


def refused(body: Mapping[str, Any], model: str = NEW) -> str:
    seen = SeenRequest(1, "google", f"/v1beta/models/{model}:generateContent", {}, body)
    try:
        check(seen, Issued())
    except Refused as refusal:
        return f"{refusal.status} {refusal.message}"
    return ""


CONFIG = "generationConfig"
PARTS = ("contents", 1, "parts")
ANSWERS = ("contents", 2, "parts")
CHOICE = ("toolConfig", "functionCallingConfig")
DECLARED = ("tools", 0, "functionDeclarations")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (edited("model", value="x"), 'Unknown name "model"'),
        (edited("stream", value=True), 'Unknown name "stream"'),
        (edited("contents", value=[]), "contents is not specified"),
        (edited("contents", value=...), "contents is not specified"),
        (edited("contents", 0, "role", value="assistant"), "valid role"),
        (edited("contents", 0, "parts", value=[]), "parts must not be empty"),
        (edited("contents", 0, "parts", "+", value={"text": ""}), "the text is empty"),
        (edited("contents", 0, "parts", "+", value={"text": 7}), "TYPE_STRING"),
        (edited("contents", 0, "parts", "+", value={"thought": True}), "oneof field 'data'"),
        (edited("contents", 0, "parts", "+", value={"type": "text"}), 'Unknown name "type"'),
        (edited("contents", 0, "parts", 0, "thoughtSignature", value="x"), "the role model"),
        (edited("contents", 0, "parts", "+", value={"inlineData": {"data": "AA"}}), "mime_type"),
        (edited("contents", 0, "parts", "+",
                value={"inlineData": {"mimeType": "x", "data": "no base64"}}), "Base64"),
        (edited("contents", 0, "parts", "+", value={"fileData": {}}), "file_uri"),
        (edited("contents", "+", value={"role": "user", "parts": [{"text": "x"}]}), "alternate"),
        (edited("contents", 0, value={"role": "model", "parts": [{"text": "x"}]}), "alternate"),
        (edited("systemInstruction", "parts", value=[]), "system_instruction"),
        (edited(*DECLARED, 0, "name", value="1st"), "Invalid function name"),
        (edited(*DECLARED, 0, "name", value="clock"), "Duplicate function declaration"),
        (edited(*DECLARED, 0, "parameters", value={}), "only one of them"),
        (edited(*DECLARED, 0, "parametersJsonSchema", value=[]), "has to be an object"),
        (edited(*DECLARED, 0, "input_schema", value={}), 'Unknown name "input_schema"'),
        (edited(*CHOICE, "mode", value="FORCE"), "function_calling_config.mode"),
        (edited(*CHOICE, "mode", value="AUTO"), "only be set when the mode is ANY"),
        (edited(*CHOICE, "allowedFunctionNames", value=["nope"]), "nope is not declared"),
        (edited("tools", value=...), "without function_declarations"),
        (edited(CONFIG, "max_tokens", value=1), 'Unknown name "max_tokens"'),
        (edited(CONFIG, "maxOutputTokens", value=0), "positive"),
        (edited(CONFIG, "stopSequences", value=list("abcdef")), "stop sequences"),
        (edited(CONFIG, "seed", value=2**31), "TYPE_INT32"),
        (edited(CONFIG, "responseJsonSchema", value={}), "response_mime_type"),
        (edited(CONFIG, "thinkingConfig", "thinkingLevel", value="MEGA"), "MEGA"),
        (edited(CONFIG, "thinkingConfig", value={"thinkingLevel": "LOW", "thinkingBudget": 1}),
         "only one of thinking budget"),
        (edited(*PARTS, 2, "functionCall", "name", value=""), "Name cannot be empty"),
        (edited(*PARTS, 2, "functionCall", "args", value="{}"), "Struct"),
        (edited(*PARTS, 2, "functionCall", "id", value="1"), "have to differ"),
        (edited(*PARTS, 1, "thoughtSignature", value="forged"), "signature is not valid"),
        (edited(*PARTS, 1, "thoughtSignature", value=...), "call `weather`, position 2"),
        (edited(*PARTS, 0, "thoughtSignature", value=UNSEALED[0]), "signature is not valid"),
        (edited(*ANSWERS, 0, value=...), "equal to the number of function call parts"),
        (edited(*PARTS, 2, "functionCall", "id", value="3"), "do not fit"),
        (edited(*ANSWERS, 0, "functionResponse", "id", value="3"), "do not fit"),
        (edited(*ANSWERS, 0, "functionResponse", "name", value="weather"), "do not fit"),
        (edited(*ANSWERS, 0, "functionResponse", "response", value="9"), "Struct"),
        (edited(*ANSWERS, 0, "functionResponse", "response", value=...), "Struct"),
        (edited(*ANSWERS, 0, value={"text": "x"}), "equal to the number"),
        (edited("contents", 2, value=...), "equal to the number"),
        (edited("contents", 0, "parts", "+", value={"functionCall": {"name": "x"}}),
         "belongs to the role model"),
        (edited(*PARTS, "+", value={"functionResponse": {"name": "x", "response": {}}}),
         "belongs to the role user"),
    ],
)  # fmt: skip
def test_it_refuses(body: Mapping[str, Any], complaint: str) -> None:
    said = refused(body)
    assert said.startswith("400 ")
    assert complaint in said


@pytest.mark.parametrize(
    ("config", "model", "complaint"),
    [
        ({"thinkingConfig": {"thinkingBudget": 1}}, "gemini-2.0-flash", "not enabled"),
        ({"thinkingConfig": {"thinkingLevel": "LOW"}}, OLD, "not supported"),
        ({"thinkingConfig": {"thinkingLevel": "MEDIUM"}}, "gemini-3-pro-preview", "MEDIUM"),
        ({"thinkingConfig": {"thinkingBudget": 24_577}}, OLD, "between 0 and 24576"),
        ({"thinkingConfig": {"thinkingBudget": 0}}, "gemini-2.5-pro", "between 128"),
        ({"thinkingConfig": {"thinkingBudget": 9}}, "gemini-2.5-flash-lite", "between 512"),
        ({"responseMimeType": "application/json"}, OLD, "is unsupported"),
        ({"thinkingConfig": {"thinkingBudget": -1}}, OLD, ""),
        ({"thinkingConfig": {"thinkingBudget": 0}}, "gemini-2.5-flash-lite", ""),
        ({"thinkingConfig": {"thinkingBudget": 32_768}}, "gemini-2.5-pro", ""),
        ({"responseMimeType": "application/json", "responseJsonSchema": {}}, NEW, ""),
    ],
)
def test_what_depends_on_the_model(config: dict[str, Any], model: str, complaint: str) -> None:
    said = refused(edited(CONFIG, value=config), model)
    assert complaint in said
    assert bool(said) is bool(complaint)


def test_it_accepts() -> None:
    assert refused(good()) == ""
    assert refused(edited(*PARTS, 1, "thoughtSignature", value=UNSEALED[1])) == ""
    for name in ("toolConfig", "tools"):
        body = good()
        del body["toolConfig"]
        body.pop(name, None)
        assert refused(body) == ""
    # Only the current turn is looked at, and only by models that seal.
    bare = edited(*PARTS, 1, "thoughtSignature", value=...)
    assert refused(bare, OLD) == ""
    bare["contents"][2]["parts"].append({"text": "and now?"})
    assert refused(bare) == ""


def test_results_come_first() -> None:
    body = good()
    body["contents"][2]["parts"].insert(0, {"text": "x"})
    assert "before anything else" in refused(body)
