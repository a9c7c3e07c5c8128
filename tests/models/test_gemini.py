"""The Gemini wire: what is sent, and what is made of the answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.jsonable import dumps
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    user_message,
)
from lorimer.core.model import CountsTokens, ListsModels
from lorimer.core.request import (
    OutputSchema,
    Request,
    Response,
    StopReason,
    ToolInputDelta,
    ToolSpec,
    Usage,
)
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.models.wires.gemini_request import UNSEALED, abilities, encode
from lorimer.testing.fake_server import FakeLLMServer, FakeUsage, ToolCall, Turn, recorded_body
from lorimer.world.real import RealWorld
from tests.models.support import KEY, Heard, NoWorld, Provider, Reply, ask, models, request, sse

Code = ExecutorErrorCode
READ = ToolSpec("read", "Read a file.", {"type": "object", "properties": {}})
LIST = ToolSpec("ls", "List.", {"type": "object"})
NEW = "gemini-3.5-flash"
OLD = "gemini-2.5-flash"
RESULT = Message("user", (ToolResultBlock("1", "r"),))


def asked(model: str = NEW, **fields: Any) -> Request:
    return request("google", model=model, **fields)


def wire(request: Request, effort: str = "") -> dict[str, Any]:
    return json.loads(json.dumps(encode(request, effort).body))


def config(model: str = NEW, effort: str = "", **fields: Any) -> dict[str, Any]:
    return wire(asked(model, **fields), effort)["generationConfig"]


def contents(*messages: Message, model: str = NEW) -> list[dict[str, Any]]:
    return wire(Request(model, messages))["contents"]


def hear(*chunks: object, **fields: Any) -> Heard:
    return ask("google", Provider(Reply([sse(*chunks)])), asked(**fields))


def play(turn: Turn, **fields: Any) -> Response:
    return ask("google", Provider(Reply([recorded_body(turn, "google")])), asked(**fields)).answer


def chunk(*parts: object, finish: str = "", **fields: object) -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"role": "model", "parts": list(parts)}}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **fields}


def text(said: str, signature: str = "", *, thought: bool = False) -> dict[str, object]:
    part: dict[str, object] = {"text": said}
    if thought:
        part["thought"] = True
    if signature:
        part["thoughtSignature"] = signature
    return part


def call(id: str, name: str = "t", signature: str = "", **args: object) -> dict[str, object]:
    part: dict[str, object] = {"functionCall": {"id": id, "name": name, "args": args}}
    if signature:
        part["thoughtSignature"] = signature
    return part


def seal(signature: str, thought: str = "") -> ThinkingBlock:
    return ThinkingBlock(thought, signature, origin="google")


# ---------------------------------------------------------------- requests


def test_a_plain_request() -> None:
    provider = Provider(Reply([recorded_body(Turn("hi"), "google")]))
    ask("google", provider, asked(system="Be.", max_tokens=7, stop_sequences=("X",)))
    assert provider.sent == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "Be."}]},
        "generationConfig": {"maxOutputTokens": 7, "stopSequences": ["X"]},
    }
    sent = provider.requests[0]
    official = "https://generativelanguage.googleapis.com/v1beta"
    assert str(sent.url) == f"{official}/models/{NEW}:streamGenerateContent?alt=sse"
    assert sent.headers["x-goog-api-key"] == KEY
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["user-agent"].startswith("google-genai-sdk/")
    assert KEY not in str(sent.url)


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models/gemini-3-flash", "models/gemini-3-flash"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("odd name?:x/../y", "models/odd%20name%3F%3Ax%2F..%2Fy"),
    ],
)
def test_where_a_model_lives(model: str, path: str) -> None:
    body = recorded_body(Turn("hi"), "google")
    provider = Provider(Reply([body]), Reply.of(chunk(text("x"), finish="STOP")))
    for stream, verb in ((True, "streamGenerateContent?alt=sse"), (False, "generateContent")):
        ask("google", provider, asked(model, stream=stream), base_url="http://proxy.test/g/")
        sent = provider.requests[-1].url
        assert sent.raw_path.decode() == f"/g/v1beta/{path}:{verb}"


def test_what_the_environment_says_about_other_uses_of_the_sdk_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v9")
    monkeypatch.setenv("GOOGLE_API_KEY", "another")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://elsewhere.test")
    provider = Provider(Reply([recorded_body(Turn("hi"), "google")]))
    ask("google", provider)
    assert provider.requests[0].url.host == "generativelanguage.googleapis.com"
    assert provider.requests[0].url.path.startswith("/v1beta/")
    assert provider.requests[0].headers["x-goog-api-key"] == KEY


def test_a_token_that_is_no_key_is_refused_before_it_is_sent() -> None:
    provider = Provider(Reply())
    world = NoWorld(provider)

    async def go() -> Heard:
        bundle = CredentialBundle({"google": ProviderCredentials("auth_tokens/x")}, env={})
        heard = Heard()
        try:
            async for item in (
                Models(bundle, world).resolve(f"google:{NEW}").stream(asked(), world=world)
            ):
                heard.items.append(item)
        except Exception as error:  # noqa: BLE001 - looked at below
            heard.error = error  # type: ignore[assignment]
        return heard

    error = asyncio.run(go()).error
    assert error is not None
    assert error.code is Code.EXEC_API_AUTH_INVALID_KEY
    assert provider.requests == []


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", None),
        ("any", {"mode": "ANY"}),
        ("none", {"mode": "NONE"}),
        ("read", {"mode": "ANY", "allowedFunctionNames": ["read"]}),
    ],
)
def test_tools(choice: str, sent: object) -> None:
    body = wire(asked(tools=(READ, LIST), tool_choice=choice))
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "parametersJsonSchema": tool.input_schema,
                }
                for tool in (READ, LIST)
            ]
        }
    ]
    assert body.get("toolConfig", {}).get("functionCallingConfig") == sent
    assert "toolConfig" not in wire(asked(tool_choice=choice))


@pytest.mark.parametrize(
    ("model", "budget", "level", "sealed", "both"),
    [
        ("gemini-2.0-flash", None, False, False, False),
        ("gemini-2.5-pro", range(128, 32_769), False, False, False),
        ("gemini-2.5-flash", range(24_577), False, False, False),
        ("gemini-2.5-flash-lite", range(512, 24_577), False, False, False),
        ("gemini-2.5-flash-image", None, False, False, False),
        ("gemini-3-pro-preview", None, True, True, True),
        ("models/gemini-3.1-flash-lite", None, True, True, True),
        ("gemini-4-pro", None, True, True, True),
        ("gemini-flash-latest", None, True, True, True),
        ("gemini-robotics-er-1.5-preview", None, True, True, True),
        ("gemma-3-27b-it", None, False, False, False),
    ],
)
def test_what_models_take(
    model: str, budget: range | None, level: bool, sealed: bool, both: bool
) -> None:
    able = abilities(model)
    assert (able.budget, able.level) == (budget, level)
    assert (able.sealed_calls, able.form_with_tools) == (sealed, both)


@pytest.mark.parametrize(
    ("model", "fields", "thinking", "limit", "dropped"),
    [
        # a budget, within what the model can do, and never more than was reserved
        (OLD, {"thinking_tokens": 2000}, {"thinkingBudget": 2000, "includeThoughts": True}, 2500,
         []),
        (OLD, {"thinking_tokens": 90_000}, {"thinkingBudget": 24_576, "includeThoughts": True},
         90_500, []),
        ("gemini-2.5-flash-lite", {"thinking_tokens": 100},
         {"thinkingBudget": 512, "includeThoughts": True}, 600, []),
        ("gemini-2.5-flash-lite", {"thinking_tokens": 10}, None, 500, ["thinking_tokens"]),
        (OLD, {}, {"thinkingBudget": 0}, 500, []),
        ("gemini-2.5-pro", {}, None, 500, []),
        (OLD, {"effort": "high"}, None, 500, ["effort"]),
        # a level
        (NEW, {}, None, 500, []),
        (NEW, {"thinking_tokens": 2000}, {"thinkingLevel": "LOW", "includeThoughts": True}, 2500,
         []),
        (NEW, {"thinking_tokens": 9000}, {"thinkingLevel": "MEDIUM", "includeThoughts": True},
         9500, []),
        (NEW, {"thinking_tokens": 2000, "effort": "high"},
         {"thinkingLevel": "HIGH", "includeThoughts": True}, 2500, []),
        (NEW, {"effort": "low"}, {"thinkingLevel": "LOW"}, 500, []),
        ("gemini-3-pro-preview", {"effort": "medium"}, {"thinkingLevel": "HIGH"}, 500, []),
        ("gemini-3.1-pro-preview", {"effort": "medium"}, {"thinkingLevel": "MEDIUM"}, 500, []),
        # neither
        ("gemini-2.0-flash", {"thinking_tokens": 2000, "effort": "low"}, None, 500,
         ["effort", "thinking_tokens"]),
    ],
)  # fmt: skip
def test_thinking(
    model: str, fields: dict[str, Any], thinking: object, limit: int, dropped: list[str]
) -> None:
    encoded = encode(asked(model, max_tokens=500, **fields), "")
    sent: Any = encoded.body["generationConfig"]
    assert sent.get("thinkingConfig") == thinking
    assert sent["maxOutputTokens"] == limit
    assert encoded.dropped == dropped


def test_the_effort_of_the_spec() -> None:
    assert config(effort="low")["thinkingConfig"] == {"thinkingLevel": "LOW"}
    assert config(effort="low", thinking_tokens=9)["thinkingConfig"]["thinkingLevel"] == "LOW"


def test_sampling() -> None:
    sent = config(temperature=0.0, top_p=0.5, top_k=3, seed=-7)
    assert {name: sent[name] for name in ("temperature", "topP", "topK", "seed")} == {
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 3,
        "seed": -7,
    }
    stops = tuple("abcdef")
    encoded = encode(asked(seed=2**31, stop_sequences=stops), "")
    kept: Any = encoded.body["generationConfig"]
    assert "seed" not in kept
    assert kept["stopSequences"] == list("abcde")
    assert encoded.dropped == ["seed", "stop_sequences"]


def test_an_output_schema() -> None:
    form = OutputSchema("answer", {"type": "object", "additionalProperties": False})
    for model, tools in ((OLD, ()), (NEW, ()), (NEW, (READ,))):
        sent = config(model, output=form, tools=tools)
        assert sent["responseMimeType"] == "application/json"
        assert sent["responseJsonSchema"] == form.schema
    encoded = encode(asked(OLD, output=form, tools=(READ,)), "")
    assert encoded.dropped == ["output"]
    assert "responseMimeType" not in str(encoded.body)
    told: Any = encoded.body["systemInstruction"]
    assert told["parts"][0]["text"].endswith(f"this JSON Schema:\n{dumps(form.schema)}")
    assert play(Turn("{}"), model=OLD, output=form, tools=(READ,)).extra == {"dropped": ["output"]}


def test_messages_of_one_role_are_merged_results_first() -> None:
    sent = contents(
        user_message("a"),
        user_message("b"),
        Message("assistant", (TextBlock("c"), ToolUse("1", "read", {"x": 1}))),
        Message("assistant", (ToolUse("2", "ls", {}),)),
        user_message("by the way"),
        Message("user", (ToolResultBlock("1", "one"), ToolResultBlock("2", "", is_error=True))),
        model=OLD,
    )
    assert [content["role"] for content in sent] == ["user", "model", "user"]
    assert sent[1]["parts"] == [text("c"), call("1", "read", x=1), call("2", "ls")]
    assert sent[2]["parts"] == [
        {"functionResponse": {"id": "1", "name": "read", "response": {"output": "one"}}},
        {"functionResponse": {"id": "2", "name": "ls", "response": {"error": ""}}},
        {"text": "by the way"},
    ]


def test_every_block() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "CC"}}
    blocks: tuple[Block, ...] = (
        TextBlock("t"),
        ImageBlock("image/png", "AAAA"),
        ImageBlock(url="https://x.test/a.PNG?size=1.x#y"),
        ImageBlock("image/gif", url="https://x.test/b"),
        DocumentBlock("application/pdf", "BBBB", title="T"),
        DocumentBlock(url="https://x.test/a.pdf"),
        DocumentBlock(url="https://generativelanguage.googleapis.com/v1beta/files/abc"),
        ToolResultBlock(
            "1", (TextBlock("r"), ImageBlock("image/png", "CC"), ImageBlock(url="https://x.test/c"))
        ),
        TextBlock("  \n"),
    )
    before = [user_message("a"), Message("assistant", (ToolUse("1", "shot", {}),))]
    result = {"id": "1", "name": "shot", "response": {"output": "r"}}
    link = {"fileData": {"fileUri": "https://x.test/c"}}
    rest = [
        {"text": "t"},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"fileData": {"fileUri": "https://x.test/a.PNG?size=1.x#y", "mimeType": "image/png"}},
        {"fileData": {"fileUri": "https://x.test/b", "mimeType": "image/gif"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "BBBB"}},
        {"fileData": {"fileUri": "https://x.test/a.pdf", "mimeType": "application/pdf"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
    ]
    label = {"text": "Images in the result of 1:"}
    new = contents(*before, Message("user", blocks))[2]["parts"]
    assert new[0] == {"functionResponse": {**result, "parts": [picture]}}
    assert [part for part in new[1:] if part not in (label, link)] == rest
    assert new.index(link) == new.index(label) + 1
    old = contents(*before, Message("user", blocks), model=OLD)[2]["parts"]
    assert old[0] == {"functionResponse": result}
    at = old.index(label)
    assert old[at + 1 : at + 3] == [picture, link]


def test_foreign_things_are_made_fit() -> None:
    sent = contents(
        user_message("a"),
        Message(
            "assistant",
            (
                ThinkingBlock("another vendor's"),
                ThinkingBlock("sealed by it", "s=="),
                ThinkingBlock("and this", "s==", origin="openai", id="rs_1"),
                ThinkingBlock("ours, not sealed", origin="google"),
                ToolUse("call.1:x", "1-functions.read/it", {}),
            ),
        ),
        Message("user", (ToolResultBlock("call.1:x", "ok"),)),
        Message("assistant", (ThinkingBlock("only"),)),
    )
    assert len(sent) == 3
    (made,) = sent[1]["parts"]
    found = sent[2]["parts"][0]["functionResponse"]
    assert made["functionCall"]["name"] == found["name"] == "_1-functions_read_it"
    assert made["functionCall"]["id"] == found["id"]
    assert found["id"].startswith("id_")


def test_a_call_of_another_provider_gets_what_google_documents_for_it() -> None:
    """The first of each step, of models that want one; a seal of Google's own goes before."""
    step = Message("assistant", (TextBlock("x"), ToolUse("1", "t", {}), ToolUse("2", "t", {})))
    results = Message("user", (ToolResultBlock("1", ""), ToolResultBlock("2", "")))
    own = Message("assistant", (ToolUse("3", "t", {}, signature="own=="),))
    history = (user_message("a"), step, results, own)
    steps = [content["parts"] for content in contents(*history) if content["role"] == "model"]
    assert [part.get("thoughtSignature") for part in steps[0]] == [None, UNSEALED, None]
    assert [part.get("thoughtSignature") for part in steps[1]] == ["own=="]
    assert UNSEALED not in json.dumps(contents(*history, model=OLD))


# ---------------------------------------------------------------- seals


PARTS: list[tuple[list[object], tuple[Block, ...]]] = [
    # a call, the first of several
    ([call("1", signature="A+/=="), call("2")],
     (ToolUse("1", "t", {}, signature="A+/=="), ToolUse("2", "t", {}))),
    # each with its own
    ([call("1", signature="A=="), call("2", signature="B==")],
     (ToolUse("1", "t", {}, signature="A=="), ToolUse("2", "t", {}, signature="B=="))),
    # a text, an empty part after one, an empty part alone and before a call
    ([text("t", "A==")], (seal("A=="), TextBlock("t"))),
    ([text("t"), text("", "A==")], (TextBlock("t"), seal("A=="))),
    ([text("", "A==")], (seal("A=="),)),
    ([text("", "A=="), call("1")], (seal("A=="), ToolUse("1", "t", {}))),
    ([text("a", "A=="), text("b", "B=="), call("1", signature="C==")],
     (seal("A=="), TextBlock("a"), seal("B=="), TextBlock("b"),
      ToolUse("1", "t", {}, signature="C=="))),
    ([text("a", "A=="), text("b")], (seal("A=="), TextBlock("a"), TextBlock("b"))),
    # a thought, which goes back because it is sealed
    ([text("hm", "A==", thought=True), text("t")], (seal("A==", "hm"), TextBlock("t"))),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "blocks"), PARTS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_seal_goes_back_byte_for_byte_on_the_part_it_came_with(
    parts: list[object], blocks: tuple[Block, ...], stream: bool
) -> None:
    whole = chunk(*parts, finish="STOP")
    pieces = [*[chunk(part) for part in parts], chunk(text(""), finish="STOP")]
    reply = Reply([sse(*pieces)]) if stream else Reply.of(whole)
    made = ask("google", Provider(reply), asked(OLD, stream=stream)).answer
    assert made.content == blocks
    assert contents(user_message("a"), made.message, model=OLD)[1]["parts"] == parts


def test_fragments_of_a_text_are_one_part_whose_seal_may_come_last() -> None:
    heard = hear(
        chunk(text("th", thought=True)),
        chunk(text("ink", thought=True)),
        chunk(text("", "T==", thought=True)),
        chunk(text("Hel")),
        chunk(text("lo", "A==")),
        chunk(text(""), finish="STOP"),
    )
    assert heard.answer.content == (seal("T==", "think"), seal("A=="), TextBlock("Hello"))
    assert (heard.text, heard.thinking) == ("Hello", "think")
    assert contents(user_message("a"), heard.answer.message)[1]["parts"] == [
        text("think", "T==", thought=True),
        text("Hello", "A=="),
    ]


def test_seals_survive_a_journal() -> None:
    from lorimer.core.messages import message_from_json

    signature = 'S+/=="\\\u2028é'
    made = play(Turn(tool_calls=(ToolCall("1", "t"),), signature=signature)).message
    back = message_from_json(json.loads(json.dumps(made.to_json())))
    assert contents(user_message("a"), back)[1]["parts"][0]["thoughtSignature"] == signature


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("STOP", StopReason.END_TURN),
        ("MAX_TOKENS", StopReason.MAX_TOKENS),
        ("CONTINUATION", StopReason.MAX_TOKENS),
        ("SAFETY", StopReason.REFUSAL),
        ("RECITATION", StopReason.REFUSAL),
        ("BLOCKLIST", StopReason.REFUSAL),
        ("PROHIBITED_CONTENT", StopReason.REFUSAL),
        ("SPII", StopReason.REFUSAL),
        ("IMAGE_SAFETY", StopReason.REFUSAL),
        ("LANGUAGE", StopReason.REFUSAL),
        ("MODEL_ARMOR", StopReason.REFUSAL),
        ("BRAND_NEW", StopReason.END_TURN),
    ],
)
def test_stop_reasons(said: str, reason: StopReason) -> None:
    made = play(Turn("x", stop=said))
    assert made.stop is reason
    plain = said in ("STOP", "MAX_TOKENS", "CONTINUATION")
    assert made.extra.get("stop_reason") == (None if plain else said)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("MALFORMED_FUNCTION_CALL", Code.EXEC_API_SERVER_ERROR),
        ("UNEXPECTED_TOOL_CALL", Code.EXEC_API_SERVER_ERROR),
        ("MALFORMED_RESPONSE", Code.EXEC_API_SERVER_ERROR),
        ("OTHER", Code.EXEC_API_SERVER_ERROR),
        ("TOO_MANY_TOOL_CALLS", Code.EXEC_API_TERMINAL),
        ("MISSING_THOUGHT_SIGNATURE", Code.EXEC_API_BAD_REQUEST),
    ],
)
def test_reasons_without_an_answer(said: str, code: Code) -> None:
    ended = chunk(text("half"), finish=said, usageMetadata={"promptTokenCount": 9})
    ended["candidates"][0]["finishMessage"] = f"Malformed: {KEY}"  # type: ignore[index]
    for heard in (hear(ended), ask("google", Provider(Reply.of(ended)), asked(stream=False))):
        assert heard.error is not None
        assert heard.error.code is code
        assert str(heard.error) == f"google broke off its answer: {said}: Malformed: ***"
        assert heard.error.usage == Usage(9)


@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "PROHIBITED_CONTENT", "BRAND_NEW"])
def test_a_prompt_that_was_blocked(reason: str) -> None:
    feedback = {"blockReason": reason, "blockReasonMessage": "no"}
    blocked = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}}
    made = hear(blocked).answer
    assert (made.content, made.stop, made.usage) == ((), StopReason.REFUSAL, Usage(4))
    assert made.extra == {"stop_reason": reason, "stop_message": "no"}


def test_calls() -> None:
    heard = hear(
        chunk(text("Look")),
        chunk({"functionCall": {"name": "ls"}}),
        chunk(call("7", "read", path="ü"), call("7", "read"), {"functionCall": {"name": "x",
              "args": [1]}}, finish="STOP"),
    )  # fmt: skip
    made = heard.answer
    assert made.stop is StopReason.TOOL_USE
    assert made.tool_calls == [
        ToolUse("", "ls", {}),
        ToolUse("7", "read", {"path": "ü"}),
        ToolUse("7", "read", {}),
        ToolUse("", "x", {}, "[1]"),
    ]
    names = [item.name for item in heard.items if isinstance(item, ToolInputDelta) and item.name]
    assert names == ["ls", "read", "read", "x"]
    assert [heard.arguments(n) for n in range(4)] == ["{}", '{"path":"ü"}', "{}", "[1]"]


def test_usage_grows_and_the_last_counts() -> None:
    heard = hear(
        chunk(text("a"), usageMetadata={"promptTokenCount": 20, "totalTokenCount": 20}),
        chunk(
            text("b"),
            usageMetadata={
                "promptTokenCount": 20,
                "candidatesTokenCount": 2,
                "thoughtsTokenCount": 5,
                "cachedContentTokenCount": 8,
            },
        ),
        chunk(
            finish="STOP",
            usageMetadata={
                "promptTokenCount": 20,
                "candidatesTokenCount": 4,
                "thoughtsTokenCount": 6,
                "toolUsePromptTokenCount": 3,
            },
        ),
        chunk(usageMetadata=None),
    )
    assert [delta.usage for delta in heard.usages[1:]] == [
        Usage(20),
        Usage(12, 7, 0, 8, 5),
        Usage(15, 10, 0, 8, 6),
    ]
    assert heard.answer.usage == Usage(15, 10, 0, 8, 6)


def test_usage_that_nobody_tells_is_estimated_and_flagged() -> None:
    made = play(Turn("word " * 40, usage=None))
    assert made.extra["usage_estimated"] is True
    assert made.usage.input_tokens > 10
    assert 40 < made.usage.output_tokens < 80


def test_the_cost_is_in_the_answer() -> None:
    turn = Turn("x", usage=FakeUsage(1000, 10), model="priced")
    assert play(turn).cost_nano == 1_020_000
    thought = Turn("x", usage=FakeUsage(0, 10, reasoning=6), model="gemini-2.5-flash")
    assert play(thought).cost_nano == 10 * 2500  # thoughts cost what the answer costs
    assert play(Turn("x", model="unheard-of"), model="unheard-of").cost_nano == 0


def test_parts_and_candidates_of_the_future() -> None:
    second = {"index": 1, "content": {"parts": [text("no")]}, "finishReason": "SAFETY"}
    made = hear(
        chunk(text("be"), {"executableCode": {"code": "1"}}, {"newPart": 1}),
        {"candidates": [second]},
        {"candidates": [{"finishReason": "STOP", "content": {"role": "model"}}]},
        chunk(text("gin"), {"inlineData": {"mimeType": "x", "data": ""}, "thoughtSignature": "S"}),
    ).answer
    assert made.content == (TextBlock("begin"), seal("S"))
    assert made.stop is StopReason.END_TURN


def test_a_stream_as_an_array_of_chunks() -> None:
    chunks = [chunk(text("Hel")), chunk(text("lo"), finish="STOP")]
    assert ask("google", Provider(Reply.of(chunks))).answer.text == "Hello"


def test_a_surrogate_pair_cut_in_two() -> None:
    heard = hear(
        chunk(text("a\ud83e")),
        chunk(text("\udd84b")),
        chunk(text("c\ud83e")),
        chunk(call("1", "t\ud83e", x="\ud83e"), finish="STOP"),
    )
    assert heard.text == "a🦄bc"
    assert heard.answer.content[0] == TextBlock("a🦄bc\ufffd")
    assert heard.answer.tool_calls == [ToolUse("1", "t\ufffd", {"x": "\ufffd"})]


# ---------------------------------------------------------------- counting and listing


def test_counting_and_listing_through_the_sdk() -> None:
    async def go(server: FakeLLMServer) -> None:
        world = RealWorld()
        bundle = CredentialBundle({"google": ProviderCredentials("k", server.url)}, env={})
        resolver = Models(bundle, world)
        model = resolver.resolve(f"google:{NEW}")
        assert isinstance(model, CountsTokens)
        assert isinstance(model, ListsModels)
        small = await model.count_tokens(asked(), world=world)
        large = await model.count_tokens(asked(text="x" * 4000, tools=(READ,)), world=world)
        assert small > 10
        assert large > small + 1000
        assert await model.list_models(world=world) == [
            "gemini-3.5-flash",
            "gemini-3.1-pro-preview",
            "gemini-2.5-flash",
        ]
        await resolver.aclose()

    with FakeLLMServer([]) as server:
        asyncio.run(go(server))
        assert server.turns_played == 0
        assert {seen.api_key for seen in server.requests} == {"k"}
        server.wait_until(lambda seen: seen.open_connections == 0)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply.of({"error": {"code": 403}}, 403), Code.EXEC_API_AUTH_INVALID_KEY),
        (Reply.of([]), Code.EXEC_API_STREAM_INCOMPLETE),
        (Reply.of({"totalTokens": "many"}), Code.EXEC_API_STREAM_INCOMPLETE),
        (Reply([b'{"totalTokens": 1']), Code.EXEC_API_STREAM_INCOMPLETE),
        (Reply([OSError("gone")]), Code.EXEC_API_STREAM_INCOMPLETE),
    ],
)
def test_a_count_that_fails(reply: Reply, code: Code) -> None:
    from lorimer.core.errors import APIError

    provider = Provider(reply)
    world = NoWorld(provider)

    async def go() -> None:
        model = models(world).resolve(f"google:{NEW}")
        assert isinstance(model, CountsTokens)
        with pytest.raises(APIError) as caught:
            await model.count_tokens(asked(), world=world)
        assert caught.value.code is code

    asyncio.run(go())
    assert provider.closed == 1


def test_a_list_without_an_end_is_left() -> None:
    page = {"models": [{"name": "models/a", "supportedGenerationMethods": ["generateContent"]}]}
    provider = Provider(Reply.of({**page, "nextPageToken": "a/b&c"}))
    world = NoWorld(provider)

    async def go() -> list[str]:
        model = models(world).resolve(f"google:{NEW}")
        assert isinstance(model, ListsModels)
        return await model.list_models(world=world)

    assert asyncio.run(go()) == ["a"] * 20
    assert provider.requests[-1].url.query == b"pageSize=1000&pageToken=a%2Fb%26c"


@pytest.mark.parametrize("token", ["\ud800", "a" * 100_000, {"a": 1}])
def test_a_list_whose_next_page_cannot_be_asked_for_is_none(token: object) -> None:
    from lorimer.core.errors import APIError

    world = NoWorld(Provider(Reply.of({"models": [], "nextPageToken": token})))
    model = models(world).resolve(f"google:{NEW}")
    assert isinstance(model, ListsModels)
    with pytest.raises(APIError) as caught:
        asyncio.run(model.list_models(world=world))
    assert caught.value.code is Code.EXEC_API_STREAM_INCOMPLETE


def test_media_without_type_or_data_are_no_reason_to_be_refused() -> None:
    empty, untyped = ImageBlock(), DocumentBlock(data="eA==")
    body = encode(Request("gemini-3.5-flash", [Message("user", (empty, untyped))]), "").body
    assert json.loads(json.dumps(body))["contents"][0]["parts"] == [
        {"text": "(image without data)"},
        {"inlineData": {"mimeType": "application/octet-stream", "data": "eA=="}},
    ]


def test_seals_that_google_rejects_do_not_end_a_conversation() -> None:
    """As it may after a change of account or model: the request is made again without them."""
    refusal = Reply.of({"error": {"code": 400, "message": "Corrupted thought signature.", "status": "INVALID_ARGUMENT"}}, 400)  # fmt: skip # noqa: E501
    said = (
        ThinkingBlock("hm", "A==", origin="google"),
        ToolUse("1", "t", {}, signature="B=="),
        ToolUse("2", "t", {}, signature="C=="),
    )
    results = Message("user", (ToolResultBlock("1", ""), ToolResultBlock("2", "")))
    asked = Request(NEW, [user_message("a"), Message("assistant", said), results])
    provider = Provider(refusal, Reply([recorded_body(Turn("ok"), "google")]))
    made = ask("google", provider, asked).answer
    assert made.text == "ok"
    assert made.extra["dropped"] == ["messages.thinking"]
    parts = provider.sent["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [UNSEALED, None]
    again = Provider(refusal, refusal)
    error = ask("google", again, asked).error
    assert error is not None
    assert error.code is ExecutorErrorCode.EXEC_API_BAD_REQUEST
    assert len(again.requests) == 2
