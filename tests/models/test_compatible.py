"""Servers that speak OpenAI's dialect: where they are, what they can, the liberties they take."""

# ruff: noqa: E501 - what servers say stands here as they say it

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorimer import Pipeline, PipelinePresets, tool
from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.jsonable import dumps
from lorimer.core.limits import Limits
from lorimer.core.messages import (
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ToolResultBlock,
    ToolUse,
    user_message,
)
from lorimer.core.model import Capabilities, Capable
from lorimer.core.request import OutputSchema, Request, StopReason, ToolSpec, Usage
from lorimer.models import ClientRegistry, CredentialBundle, Models, ProviderCredentials, Tiers
from lorimer.models.credentials import Secret
from lorimer.models.fitting import NO_IMAGE, fit
from lorimer.models.provider_info import provider_status
from lorimer.models.redirected import WIRES, Redirected
from lorimer.models.unasked import Unasked
from lorimer.testing.fake_server import FakeLLMServer, ToolCall, Turn
from lorimer.world.real import RealWorld
from tests.models.support import Heard, NoWorld, Provider, Reply, hear, request, sse
from tests.quick import quick

Code = ExecutorErrorCode
LOCAL = {"LORIMER_VLLM_BASE_URL": "http://localhost:8000/v1"}
READ = ToolSpec("read", "Read.", {"type": "object"})


def models(provider: Provider, env: Mapping[str, str] = LOCAL) -> tuple[Models, NoWorld]:
    world = NoWorld(provider)
    return Models(CredentialBundle(env=dict(env)), world), world


def ask(provider: Provider, asked: Request, spec: str = "vllm:qwen3", **able: bool) -> Heard:
    made, world = models(provider)
    if able:
        made.configure_capabilities(spec.partition(":")[0], **able)

    async def go() -> Heard:
        heard = await hear(made.resolve(spec), asked, world)
        await made.aclose()
        return heard

    return asyncio.run(go())


DONE = {"id": "c", "model": "qwen3", "choices": [{"delta": {"content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1}}  # fmt: skip


def answering() -> Provider:
    return Provider(Reply([sse(DONE, "[DONE]")]))


# ---------------------------------------------------------------- where they are


@pytest.mark.parametrize(
    ("spec", "env", "url", "key"),
    [
        ("ollama:qwen3:8b", {}, "http://localhost:11434/v1", "none"),
        ("lmstudio:m", {}, "http://localhost:1234/v1", "none"),
        ("llamacpp:m", {"LLAMA_API_KEY": "k1"}, "http://localhost:8080/v1", "k1"),
        ("vllm/meta/llama", LOCAL | {"VLLM_API_KEY": "k2"}, "http://localhost:8000/v1", "k2"),
        ("openrouter:meta/llama:free", {"OPENROUTER_API_KEY": "k3"},
         "https://openrouter.ai/api/v1", "k3"),
        ("ollama:m", {"LORIMER_OLLAMA_BASE_URL": "http://big:1/v1"}, "http://big:1/v1", "none"),
        # described in the environment: https unless it is this machine, or says otherwise
        ("my-gpu:m", {"LORIMER_PROVIDER_MY_GPU": "vllm://to%40k:en@gpu.test"},
         "https://gpu.test/v1", "to@k:en"),
        ("my_gpu:m", {"LORIMER_PROVIDER_MY_GPU": "https://t@gpu.test:8443/x/"},
         "https://gpu.test:8443/x", "t"),
        ("g:m", {"LORIMER_PROVIDER_G": "vllm://localhost"}, "http://localhost:8000/v1", "none"),
        ("g:m", {"LORIMER_PROVIDER_G": "ollama://127.0.0.2"}, "http://127.0.0.2:11434/v1", "none"),
        ("g:m", {"LORIMER_PROVIDER_G": "custom://[::1]:5"}, "http://[::1]:5/v1", "none"),
        ("g:m", {"LORIMER_PROVIDER_G": "https+vllm://localhost"}, "https://localhost/v1", "none"),
        ("g:m", {"LORIMER_PROVIDER_G": "http+vllm://10.0.0.7:8000"},
         "http://10.0.0.7:8000/v1", "none"),
        ("g/a/b", {"LORIMER_PROVIDER_G": "openai://gpu.test"}, "https://gpu.test/v1", "none"),
        ("g:m", {"LORIMER_PROVIDER_G": "openrouter://t@proxy.test"},
         "https://proxy.test/api/v1", "t"),
    ],
)  # fmt: skip
def test_where_a_request_goes(spec: str, env: dict[str, str], url: str, key: str) -> None:
    provider = answering()
    made, world = models(provider, env)
    heard = asyncio.run(hear(made.resolve(spec), request("openai"), world))
    assert heard.answer.text == "ok"
    sent = provider.requests[0]
    assert str(sent.url) == f"{url}/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {key}"


@pytest.mark.parametrize(
    ("spec", "env", "told"),
    [
        ("vllm:m", {}, "set LORIMER_VLLM_BASE_URL"),
        ("openrouter:m", {}, "set OPENROUTER_API_KEY"),
        ("vllm:m", {"LORIMER_VLLM_BASE_URL": "gpu:8000"}, "not an http:// or https:// URL"),
        ("vlm:m", {}, "did you mean 'vllm'"),
        ("gpu:m", {"LORIMER_PROVIDER_GPU": "SECRET"}, "LORIMER_PROVIDER_GPU describes no provider"),
        ("gpu:m", {"LORIMER_PROVIDER_GPU": "vllm://SECRET@"}, "there is no host"),
        ("gpu:m", {"LORIMER_PROVIDER_GPU": "soap://SECRET@h"}, "the scheme is one of"),
        ("gpu:m", {"LORIMER_PROVIDER_GPU": "ftp+vllm://SECRET@h"}, "the scheme is one of"),
        ("gpu:m", {"LORIMER_PROVIDER_GPU": "vllm://SECRET@h:port"}, "it is no URL"),
        ("gpu:m", {"LORIMER_PROVIDER_GPU": "vllm://SECRET@h/v1?a=b"}, "there is a ? or #"),
    ],
)
def test_what_is_missing_is_told_in_one_line(spec: str, env: dict[str, str], told: str) -> None:
    made = Models(CredentialBundle(env=env))
    with pytest.raises(ConfigError) as caught:
        made.resolve(spec)
    assert told in str(caught.value)
    assert caught.value.code is Code.EXEC_API_NO_CLIENT
    assert caught.value.hint
    assert "SECRET" not in str(caught.value) + caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http+vllm", "http+custom"])
def test_the_token_of_such_a_server_is_in_no_fact(scheme: str) -> None:
    token = "tk-4711-not-to-be-shown"

    async def go(server: FakeLLMServer) -> str:
        value = f"{scheme}://{token}@{server.url.removeprefix('http://')}/v1"
        env = {"LORIMER_PROVIDER_MY_GPU": value, "LORIMER_PROVIDER_BAD": "vllm:/none"}
        made = Models(CredentialBundle(env=env))
        pipeline = PipelinePresets.minimal(model="my-gpu:m", models=made)
        result = await pipeline.run("hi", limits=Limits(allow_unpriced=True))
        await made.aclose()
        return result.text + str(result.events)

    with FakeLLMServer([Turn(f"It is {token}.")]) as server:
        said = asyncio.run(go(server))
        assert server.requests[0].api_key == token
    assert token not in said
    assert "[redacted:my_gpu key]" in said


def test_a_malformed_entry_hurts_nobody_else() -> None:
    env = {"LORIMER_PROVIDER_BAD": "???", "LORIMER_PROVIDER_": "x", "OPENAI_API_KEY": "k"}
    made = Models(CredentialBundle(env=env))
    assert made.resolve("openai:m").name == "m"
    assert "bad" in made.available()


def test_a_registered_name_wins_over_the_environment() -> None:
    env = {"LORIMER_PROVIDER_OLLAMA": "vllm://elsewhere.test"}
    provider = answering()
    made, world = models(provider, env)
    asyncio.run(hear(made.resolve("ollama:m"), request("openai"), world))
    assert provider.requests[0].url.host == "localhost"


def test_what_the_environment_says_for_openai_goes_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-4711")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-4711")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-4711\nx-mine: 4711")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-4711")
    provider = answering()
    made, world = models(provider, {})
    asyncio.run(hear(made.resolve("ollama:m"), request("openai"), world))
    assert "4711" not in str(dict(provider.requests[0].headers.raw))
    assert provider.requests[0].headers["authorization"] == "Bearer none"


# ---------------------------------------------------------------- what they can


def test_tools_are_off_until_configured() -> None:
    provider = answering()
    heard = ask(provider, request("openai", tools=(READ,), tool_choice="any"))
    assert "tools" not in provider.sent
    assert "tool_choice" not in provider.sent
    assert heard.answer.extra["dropped"] == ["tools"]
    provider = answering()
    heard = ask(provider, request("openai", tools=(READ,)), supports_tools=True)
    assert provider.sent["tools"][0]["function"]["name"] == "read"
    assert "dropped" not in heard.answer.extra


def test_a_models_own_word_counts_more_than_its_providers() -> None:
    made, _ = models(answering())
    made.configure_capabilities("vllm", tools=True, images=False)
    made.configure_capabilities("vllm:tiny", tools=False)

    def able(spec: str) -> Capabilities:
        model = made.resolve(spec)
        assert isinstance(model, Capable)
        return model.capabilities

    assert able("vllm:big") == Capabilities(images=False)
    assert able("vllm/tiny:low") == Capabilities(tools=False, images=False)
    with pytest.raises(ConfigError, match="no capability 'tolls'; did you mean 'tools'"):
        made.configure_capabilities("vllm", tolls=True)
    with pytest.raises(ConfigError, match="'vlm' is unknown; did you mean 'vllm'"):
        made.configure_capabilities("vlm", tools=True)


def test_any_vendor_can_be_limited() -> None:
    provider = Provider(Reply.of({"error": {"message": "x"}}, 400))
    world = NoWorld(provider)
    made = Models(CredentialBundle({"anthropic": ProviderCredentials("k")}, env={}), world)
    made.configure_capabilities("anthropic:claude-haiku-4-5", temperature=False)
    asked = request(temperature=0.5)
    asyncio.run(hear(made.resolve("claude-haiku-4-5"), asked, world))
    assert "temperature" not in provider.sent
    assert asked.temperature == 0.5


TOML = """
[providers.gate]
kind = "{wire}"
base_url = "{url}"
key_env = "GATE_KEY"
headers = {{ x-team = "bolts" }}
capabilities = {{ images = false }}
context_window = 4096
[prices."gate:*"]
input = 1
output = 1
"""


@pytest.mark.parametrize("described", ["file", "variable", "variable, http first", "program"])
@pytest.mark.parametrize("wire", WIRES)
def test_a_vendors_wire_under_another_name(
    wire: str, described: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is the vendor's goes there: no key, no headers, no prices."""
    for name in ("ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, "x-mine: vendor-4711")
    vendors = ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")
    env = {**dict.fromkeys(vendors, "vendor-4711"), "GATE_KEY": "gate-4711"}

    async def go(server: FakeLLMServer) -> None:
        host = server.url.removeprefix("http://")
        if described == "file":
            path = tmp_path / "m.toml"
            path.write_text(TOML.format(wire=wire, url=server.url), "utf-8")
            made = Models.from_file(path, credentials=CredentialBundle(env=env))
        elif described == "program":
            known = Redirected("gate", server.url, vendor=wire, key=Secret("gate-4711"))
            made = Models(CredentialBundle(env=env), providers={"gate": known})
        else:
            scheme = f"http+{wire}" if "first" in described else f"{wire}+http"
            env["LORIMER_PROVIDER_GATE"] = f"{scheme}://gate-4711@{host}"
            made = Models(CredentialBundle(env=env))
        held = provider_status(made, "gate")
        assert (held.ready, held.base_url) == (True, server.url)
        model = made.resolve("gate:some-model")
        assert (model.provider, model.name) == ("gate", "some-model")
        priced = model.price(Usage(1_000_000))
        assert priced == (1_000_000_000 if described == "file" else None)
        heard = await hear(model, request(wire, tools=(READ,)), RealWorld())
        assert heard.answer.text == "Paris."
        assert "dropped" not in heard.answer.extra
        if described == "file":
            assert isinstance(model, Capable)
            assert not model.capabilities.images
            assert made.targets("gate:some-model")[0].place == f"gate:some-model {server.url}"
        await made.aclose()

    with FakeLLMServer([Turn("Paris.")]) as server:
        asyncio.run(go(server))
        (seen,) = server.requests
    assert seen.headers.get("x-team") == ("bolts" if described == "file" else None)
    assert "gate-4711" in str(seen.headers)
    assert "vendor-4711" not in str(seen.headers)


def test_a_vendors_own_variables_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The headers for Anthropic go where its own variable says, and nowhere else."""
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-mine: 4711")
    seen: list[str | None] = []
    for base_url, url in (("", "http://proxy.test"), ("http://other.test", "http://proxy.test")):
        provider = Provider(Reply.of({"error": {"message": "x"}}, 400))
        world = NoWorld(provider)
        known = {"anthropic": ProviderCredentials("k", base_url)}
        made = Models(CredentialBundle(known, env={"ANTHROPIC_BASE_URL": url}), world)
        asyncio.run(hear(made.resolve("claude-haiku-4-5"), request(), world))
        seen.append(provider.requests[0].headers.get("x-mine"))
    assert seen == ["4711", None]


def test_a_pipeline_is_told_what_its_models_can() -> None:
    @tool(effects=["read"])
    async def look() -> str:
        """Look."""
        return "milk"

    async def go(server: FakeLLMServer) -> None:
        url = {"LORIMER_VLLM_BASE_URL": server.openai_url}
        made = Models(CredentialBundle(env=url), tiers=Tiers({"own": "vllm:qwen3:low, vllm:tiny"}))
        async with PipelinePresets.agent(model="own", models=made, tools=[look]) as pipeline:
            await pipeline.run("one")
            pipeline.configure_capabilities(supports_tools=True)
            await pipeline.run("two")
            pipeline.configure_capabilities("vllm:qwen3", tools=False)
            await pipeline.run("three")
            for spec, tools in {"vllm:qwen3": False, "vllm:tiny": True, "vllm:big": False}.items():
                model = made.resolve(spec)
                able = model.capabilities if isinstance(model, Capable) else Capabilities()
                assert able.tools == tools
            with pytest.raises(ConfigError, match="'tolls'"):
                pipeline.configure_capabilities(tolls=True)

    with FakeLLMServer([Turn("done")] * 3) as server:
        asyncio.run(go(server))
        assert ["tools" in request.body for request in server.requests] == [False, True, False]
    replayed = PipelinePresets.agent(model="vllm:qwen3", models=Unasked(), tools=[look])
    with pytest.raises(ConfigError, match="a Unasked does not accept declarations of capabilities"):
        replayed.configure_capabilities(tools=True)


HISTORY = [
    user_message("read a"),
    Message("assistant", (TextBlock("I look."), ToolUse("1", "read", {"path": "a"}))),
    Message(
        "user",
        (
            ToolResultBlock("1", (TextBlock("milk"), ImageBlock("image/png", "QUJD"))),
            ToolResultBlock("2", "gone", is_error=True),
            ImageBlock("image/png", "QUJD"),
            DocumentBlock("application/pdf", "QUJD", title="bill"),
            TextBlock("go on"),
        ),
    ),
]


def test_calls_become_prose_and_pictures_words() -> None:
    fitted, dropped = fit(
        Request("m", HISTORY), Capabilities(tools=False, images=False, documents=False)
    )
    assert dropped == ["images", "documents"]
    assert [message.role for message in fitted.messages] == ["user", "assistant", "user"]
    assert fitted.messages[0] is HISTORY[0]
    assert fitted.messages[1].text == 'I look.\n[I called read with {"path":"a"}]'
    assert fitted.messages[2].text.splitlines() == [
        "[read answered:]",
        "milk",
        NO_IMAGE,
        "[a tool failed:]",
        "gone",
        NO_IMAGE,
        "[a document was here; this model reads text only: bill]",
        "go on",
    ]
    assert all(isinstance(block, TextBlock) for block in fitted.messages[2].content)
    assert len(HISTORY[2].content) == 5


def test_a_blind_model_keeps_its_tools() -> None:
    fitted, dropped = fit(Request("m", HISTORY, tools=(READ,)), Capabilities(images=False))
    result = fitted.messages[2].content[0]
    assert isinstance(result, ToolResultBlock)
    assert result.content == (TextBlock("milk"), TextBlock(NO_IMAGE))
    assert dropped == ["images"]
    assert fitted.tools == (READ,)


FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("tools", {"tools": (READ,)}, "tools"),
    ("tool_choice", {"tools": (READ,), "tool_choice": "any"}, "tool_choice"),
    ("thinking", {"thinking_tokens": 1000}, "thinking_tokens"),
    ("thinking", {"effort": "high"}, "effort"),
    ("output_schema", {"output": OutputSchema("a", {"type": "object"})}, "output"),
    ("stop_sequences", {"stop_sequences": ("x",)}, "stop_sequences"),
    ("temperature", {"temperature": 0.0}, "temperature"),
    ("top_p", {"top_p": 0.5}, "top_p"),
    ("top_k", {"top_k": 5}, "top_k"),
    ("seed", {"seed": 0}, "seed"),
]


@pytest.mark.parametrize(("able", "given", "name"), FIELDS)
def test_what_a_model_cannot_is_left_out_and_named(
    able: str, given: dict[str, Any], name: str
) -> None:
    asked = Request("m", [user_message("hi")], **given)
    fitted, dropped = fit(asked, Capabilities(**{able: False}))
    assert dropped == [name]
    assert getattr(fitted, name) == getattr(Request("m", []), name)
    assert fit(asked, Capabilities()) == (asked, [])
    # who asks for nothing of it is told nothing
    assert fit(Request("m", [user_message("hi")]), Capabilities(**{able: False}))[1] == []


@pytest.mark.parametrize(("tools", "first"), [((), "Answer with"), ((READ,), "Use tools first")])
def test_the_form_of_an_answer_is_told_in_words_where_no_model_is_held_to_it(
    tools: tuple[ToolSpec, ...], first: str
) -> None:
    form = OutputSchema("a", {"type": "object", "required": ["city"]})
    asked = Request("m", [user_message("hi")], "Be kind.", tools, output=form)
    fitted, dropped = fit(asked, Capabilities(output_schema=False))
    assert dropped == ["output"]
    assert fitted.system.startswith(f"Be kind.\n\n{first}")
    assert fitted.system.endswith(dumps(form.schema))
    assert (
        fit(replace(asked, system=""), Capabilities(output_schema=False))[0].system[0] == first[0]
    )


def test_the_signal_comes_once_a_run() -> None:
    """Two model calls a run, neither with what the model cannot: one signal a run."""
    turns = [Turn(tool_calls=(ToolCall("1", "look"),)), Turn("done")] * 2
    told: list[Event] = []

    @tool(effects=["read"])
    async def look() -> str:
        """Look."""
        return "milk"

    async def go(server: FakeLLMServer) -> None:
        made = Models(CredentialBundle(env={"LORIMER_VLLM_BASE_URL": server.openai_url}))
        made.configure_capabilities("vllm", tools=True, top_k=False, stop_sequences=False)
        manifest = PipelinePresets.agent(model="vllm:qwen3", models=made, tools=[look]).manifest
        manifest.model.top_k = 4
        manifest.model.stop_sequences = ["x"]
        async with Pipeline(manifest, models=made, tools=[look]) as pipeline:
            pipeline.on("llm_client.feature_unsupported", told.append)
            for text in ("one", "two"):
                assert (await pipeline.run(text)).text == "done"

    with FakeLLMServer(turns) as server:
        asyncio.run(go(server))
        assert len(server.requests) == 4
    assert [event.data for event in told] == [
        {"provider": "vllm", "model": "qwen3", "fields": ["stop_sequences", "top_k"]}
    ] * 2
    assert len({event.run_id for event in told}) == 2


# ---------------------------------------------------------------- liberties with answers


def said(*events: object) -> Heard:
    return ask(Provider(Reply([sse(*events)])), request("openai"))


def chunk(finish: str | None = None, **delta: object) -> dict[str, object]:
    return {"id": "c", "model": "m", "choices": [{"delta": delta, "finish_reason": finish}]}


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thinking_has_two_names(field: str) -> None:
    heard = said(chunk(**{field: "Hm."}), chunk("stop", content="ok"), "[DONE]")
    assert heard.thinking == "Hm."
    assert heard.answer.text == "ok"


def test_text_in_parts() -> None:
    parts = [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "ok"}]
    assert said(chunk(content=parts), chunk("stop"), "[DONE]").answer.text == "ok"


def test_calls_with_one_index_no_ids_and_objects_for_arguments() -> None:
    calls = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}},
        {"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}},
        {"function": {"name": "h", "arguments": ""}},
        {"function": {"name": "i", "arguments": "[1]"}},
    ]
    made = said(chunk(tool_calls=calls), chunk("stop"), "[DONE]").answer
    assert [(call.name, call.input) for call in made.tool_calls] == [
        ("f", {"x": 1}),
        ("g", {}),
        ("h", {}),
        ("i", {}),
    ]
    assert made.tool_calls[3].raw == "[1]"
    assert made.stop is StopReason.TOOL_USE


def piece(name: str | None, arguments: str, id: str = "") -> dict[str, object]:
    """A chunk with a part of a call, as servers send it that give all calls the index 0."""
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return chunk(tool_calls=[{"index": 0, "function": function} | ({"id": id} if id else {})])


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        # each call in one piece: Ollama, gateways to Gemini
        ([piece("f", '{"x":1}'), piece("f", '{"x":2}'), piece("g", "{}")],
         [("f", '{"x":1}'), ("f", '{"x":2}'), ("g", "{}")]),
        # each in several, the arguments perhaps after the name
        ([piece("f", ""), piece(None, '{"x":"}'), piece(None, '{"}'), piece("g", ""),
          piece(None, '{"y":2}')],
         [("f", '{"x":"}{"}'), ("g", '{"y":2}')]),
        # the first has an id
        ([piece("f", '{"x":1}', "a"), piece("f", '{"x":2}')], [("f", '{"x":1}'), ("f", '{"x":2}')]),
        # the name again with every piece of one call
        ([piece("f", '{"x":'), piece("f", '{"y":1}'), piece("f", "}"), piece("f", "")],
         [("f", '{"x":{"y":1}}')]),
    ],
    ids=range(4),
)  # fmt: skip
def test_calls_that_share_an_index_and_have_no_ids(
    pieces: list[object], calls: list[tuple[str, str]]
) -> None:
    heard = said(*pieces, chunk("tool_calls"), "[DONE]")
    made = heard.answer.tool_calls
    assert [(call.name, call.raw or dumps(call.input)) for call in made] == calls
    shown = [(item.index, item.name) for item in heard.inputs if item.name]
    assert shown == [(at, name) for at, (name, _) in enumerate(calls)]
    for at, (_, arguments) in enumerate(calls):
        assert "".join([one.partial_json for one in heard.inputs if one.index == at]) == arguments


def test_a_call_told_again_under_its_id_is_not_two() -> None:
    told = piece("f", '{"x":1}', "a")
    [call] = said(told, told, chunk("tool_calls"), "[DONE]").answer.tool_calls
    assert (call.id, call.name, call.input, call.raw) == ("a", "f", {"x": 1}, "")


@pytest.mark.parametrize("rest", ["{", "{}", '{"'])
def test_calls_in_pieces_made_to_be_slow_are_not(rest: str) -> None:
    begun = piece("f", '{"x":[' + "1," * 300_000 + "}")
    with quick():
        heard = said(begun, *[piece("f", rest)] * 10_000, chunk("tool_calls"), "[DONE]")
    (call,) = heard.answer.tool_calls
    assert call.raw.endswith(rest)


@pytest.mark.parametrize(
    ("word", "stop"),
    [
        ("max_tokens", StopReason.MAX_TOKENS),
        ("tool_use", StopReason.END_TURN),
        ("refusal", StopReason.REFUSAL),
        ("eos", StopReason.END_TURN),
    ],
)
def test_words_of_other_vendors(word: str, stop: StopReason) -> None:
    assert said(chunk(word, content="x"), "[DONE]").answer.stop is stop


def test_usage_that_is_not_told_is_estimated_and_flagged() -> None:
    made = said(chunk("stop", content="x" * 40), "[DONE]").answer
    assert made.extra["usage_estimated"] is True
    assert made.usage.output_tokens >= 10
    assert made.usage.input_tokens > 0


@pytest.mark.parametrize(
    ("event", "code"),
    [
        # OpenRouter: https://openrouter.ai/docs/api/reference/errors-and-debugging
        ({**chunk("error", content=""), "error": {"code": 502, "message": "Provider disconnected"}},
         Code.EXEC_API_SERVER_ERROR),
        ({"error": {"code": 429, "message": "slow down"}}, Code.EXEC_API_RATE_LIMITED),
        ({"error": {"code": 402, "message": "Insufficient credits"}}, Code.EXEC_API_TERMINAL),
        # llama.cpp, in a stream that began with 200
        ({"error": {"code": 400, "type": "exceed_context_size_error", "n_ctx": 256,
                    "message": "request (300 tokens) exceeds the available context size"}},
         Code.EXEC_API_TOKEN_LIMIT),
        # LM Studio
        ({"error": {"message": "Trying to keep the first 10136 tokens when context the overflows."}},
         Code.EXEC_API_TOKEN_LIMIT),
        ({"error": "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)"},
         Code.EXEC_API_TOKEN_LIMIT),
        # vLLM
        (chunk("abort", content="x"), Code.EXEC_API_SERVER_ERROR),
        (chunk("error", content="x"), Code.EXEC_API_SERVER_ERROR),
    ],
)  # fmt: skip
def test_errors_in_mid_stream(event: object, code: Code) -> None:
    error = said(chunk(content="I beg"), event, "[DONE]").error
    assert error is not None
    assert error.code is code


TOO_LONG = [
    # vLLM, as it was and as it is
    (400, {"object": "error", "message": "This model's maximum context length is 6048 tokens. However,"
           " you requested 6616 tokens (568 in the messages, 6048 in the completion). Please reduce"
           " the length of the messages or completion.", "type": "BadRequestError", "code": 400}),
    (400, {"object": "error", "message": "max_tokens must be at least 1, got -186.",
           "type": "BadRequestError", "param": None, "code": 400}),
    (400, {"error": {"message": "The decoder prompt (length 9000) is longer than the maximum model"
                     " length of 8192.", "type": "BadRequestError", "code": 400}}),
    # llama.cpp: once 500, now 400
    (500, {"error": {"code": 500, "message": "the request exceeds the available context size. try"
                     " increasing the context size or enable context shift",
                     "type": "exceed_context_size_error", "n_prompt_tokens": 1407, "n_ctx": 256}}),
    (400, {"error": {"code": 400, "message": "request (1407 tokens) exceeds the available context size"
                     " (256 tokens), try increasing it", "type": "exceed_context_size_error"}}),
    # LM Studio
    (400, {"error": "Trying to keep the first 10136 tokens when context the overflows. However, the"
           " model is loaded with context length of only 7866 tokens, which is not enough."}),
    (400, {"error": "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)"}),
    # Ollama, where it does not cut in silence
    (400, {"error": {"message": "prompt too long; exceeded max context length by 12 tokens"}}),
    (400, {"error": {"message": "the input length exceeds the context length"}}),
    # OpenRouter
    (400, {"error": {"message": "This endpoint's maximum context length is 131072 tokens. However, you"
                     " requested about 141607 tokens (10535 of text input, 131072 in the output).",
                     "code": 400, "metadata": {"provider_name": "Chutes"}}}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body"), TOO_LONG, ids=[json.dumps(b)[:60] for _, b in TOO_LONG]
)
def test_a_prompt_that_is_too_long(status: int, body: object) -> None:
    error = ask(Provider(Reply.of(body, status)), request("openai")).error
    assert error is not None
    assert error.code is Code.EXEC_API_TOKEN_LIMIT


def test_no_credits_at_openrouter() -> None:
    body = {"error": {"code": 402, "message": "Insufficient credits. Add more credits."}}
    provider = Provider(Reply.of(body, 402))
    made, world = models(provider, {"OPENROUTER_API_KEY": "k"})
    error = asyncio.run(hear(made.resolve("openrouter:m"), request("openai"), world)).error
    assert error is not None
    assert error.code is Code.EXEC_API_TERMINAL
    assert "billing" in error.hint


def test_a_server_of_ones_own_is_unpriced_and_refused_under_a_cost_limit() -> None:
    async def go(server: FakeLLMServer, price: bool) -> None:
        from lorimer.models import Price, Prices

        prices = Prices({"vllm:*": Price(0, 0)}) if price else None
        made = Models(
            CredentialBundle(
                env={"LORIMER_VLLM_BASE_URL": server.openai_url, "OPENAI_API_KEY": "k"}
            ),
            prices=prices,
            tiers=Tiers({"fast": "vllm:qwen3, openai:gpt-5-mini"}),
        )
        async with PipelinePresets.minimal(model="fast", models=made) as pipeline:
            result = await pipeline.run("hi", limits=Limits(max_cost_usd=1))
            assert result.text == "ok"

    with FakeLLMServer([Turn("ok")]) as server:
        with pytest.raises(APIError) as caught:
            asyncio.run(go(server, price=False))
        assert caught.value.code is Code.EXEC_API_UNPRICED
        assert server.requests == []
        asyncio.run(go(server, price=True))


# ---------------------------------------------------------------- packages


SCRIPT = """
import asyncio, sys
from lorimer import PipelinePresets
from lorimer.core.errors import ConfigError
from lorimer.models import CredentialBundle, Models
models = Models(CredentialBundle(env={}))
assert "acme_models" not in sys.modules
print(sorted(set(models.available()) & {"acme", "broken", "absent", "twice", "odd"}))
assert "acme_models" not in sys.modules
print(asyncio.run(PipelinePresets.minimal(model="acme:big", models=models).run("hi")).text)
print(asyncio.run(PipelinePresets.minimal(model="acme/big", models=models).run("hi")).text)
for name in ("broken", "absent", "odd", "twice"):
    try:
        models.resolve(f"{name}:m")
    except ConfigError as error:
        print(error.code.value, error)
"""


def test_packages_offer_providers(tmp_path: Path) -> None:
    """Real installed metadata, found by its name and imported only when used."""
    (tmp_path / "acme_models.py").write_text(
        "from lorimer.core.messages import TextBlock\n"
        "from lorimer.core.request import Response\n"
        "class Acme:\n"
        "    provider, name = 'acme', 'big'\n"
        "    def __init__(self, spec, context): self.name = spec.model\n"
        "    def price(self, usage, *, model=''): return 0\n"
        "    async def stream(self, request, *, world):\n"
        "        yield Response((TextBlock(f'acme {request.model}'),))\n"
        "odd = 7\n"
    )
    (tmp_path / "acme_broken.py").write_text("raise RuntimeError('no licence')\n")
    for name, version, lines in (
        ("acme_lorimer", "1.2", "acme=acme_models:Acme\ntwice=acme_models:Acme"),
        (
            "other_lorimer",
            "0.1",
            "broken=acme_broken:X\nabsent=acme_gone:X\nodd=acme_models:odd\ntwice=acme_models:Acme",
        ),
    ):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[lorimer.providers]\n{lines}\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['absent', 'acme', 'broken', 'odd', 'twice']",
        "acme big",
        "acme big",
        "exec.api.no_client the provider 'broken' of the package other-lorimer 0.1 cannot be loaded:"
        " RuntimeError: no licence",
        "exec.api.no_client the provider 'absent' of the package other-lorimer 0.1 cannot be loaded:"
        " ModuleNotFoundError: No module named 'acme_gone'",
        "exec.api.no_client the provider 'odd' of the package other-lorimer 0.1 cannot be loaded:"
        " it is a int, no model and no factory",
        "exec.api.no_client the provider 'twice' is offered by acme-lorimer 1.2 and by other-lorimer"
        " 0.1",
    ]


def test_the_name_that_the_seed_has() -> None:
    registry = ClientRegistry(CredentialBundle(env={}))

    def factory(spec: object, context: object) -> Any:
        raise AssertionError("not called")

    registry.register("mine", factory)
    assert registry.get("mine") is factory
    assert "mine" in registry.available()
    with pytest.raises(ConfigError, match="'mien' is unknown; did you mean 'mine'"):
        registry.get("mien")
