"""Rows 6 and 7 for the vendors' SDKs alone, in the cheapest way they can be used: messages are
plain dicts, the HTTP client is of the same kind as Lorimer's."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx2

from benchmarks.provider import MAX_TOKENS, MODELS, Provider, per_call, per_delta, provider
from benchmarks.scale import Figures, Scale
from benchmarks.support import expect
from benchmarks.task import DESCRIPTION, SCHEMA, TOOL, TOOL_CALLS

ANTHROPIC_TOOLS: Final[list[Any]] = [
    {"name": TOOL, "description": DESCRIPTION, "input_schema": SCHEMA}
]
OPENAI_TOOLS: Final[list[Any]] = [
    {
        "type": "function",
        "function": {"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA},
    }
]
RESPONSES_TOOLS: Final[list[Any]] = [
    {
        "type": "function",
        "name": TOOL,
        "description": DESCRIPTION,
        "parameters": SCHEMA,
        "strict": False,
    }
]
HI: Final = {"role": "user", "content": "hi"}


def _http() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=None, trust_env=False, follow_redirects=False)


# --- Anthropic ---------------------------------------------------------------------------------


def _anthropic(server: Provider) -> Any:
    from anthropic import AsyncAnthropic

    return AsyncAnthropic(
        api_key="any", base_url=server.url, max_retries=0, timeout=None, http_client=_http()
    )


async def anthropic_calls(scale: Scale) -> Figures:
    """Row 6, answers in one piece."""
    with provider("calls", TOOL_CALLS) as server:
        async with _anthropic(server) as client:

            async def run() -> None:
                messages: list[Any] = [HI]
                while True:
                    answer = await client.messages.create(
                        model=MODELS["anthropic"],
                        max_tokens=MAX_TOKENS,
                        tools=ANTHROPIC_TOOLS,
                        messages=messages,
                    )
                    calls = [
                        (block.id, block.name, block.input)
                        for block in answer.content
                        if block.type == "tool_use"
                    ]
                    if not calls:
                        break
                    messages += _anthropic_turn(calls)
                expect("tool calls", (len(messages) - 1) // 2, TOOL_CALLS)

            return await per_call(run, server, scale.wire_runs, TOOL_CALLS + 1)


async def anthropic_streamed_calls(scale: Scale) -> Figures:
    """Row 6, answers streamed and put together by hand."""
    with provider("calls", TOOL_CALLS) as server:
        async with _anthropic(server) as client:

            async def run() -> None:
                messages: list[Any] = [HI]
                while True:
                    events = await client.messages.create(
                        model=MODELS["anthropic"],
                        max_tokens=MAX_TOKENS,
                        tools=ANTHROPIC_TOOLS,
                        messages=messages,
                        stream=True,
                    )
                    begun: list[tuple[str, str, list[str]]] = []
                    async for event in events:
                        if event.type == "content_block_start":
                            block = event.content_block
                            if block.type == "tool_use":
                                begun.append((block.id, block.name, []))
                        elif event.type == "content_block_delta" and begun:
                            begun[-1][2].append(event.delta.partial_json)
                    calls = [
                        (call, name, json.loads("".join(parts))) for call, name, parts in begun
                    ]
                    if not calls:
                        break
                    messages += _anthropic_turn(calls)
                expect("tool calls", (len(messages) - 1) // 2, TOOL_CALLS)

            return await per_call(run, server, scale.wire_runs, TOOL_CALLS + 1)


def _anthropic_turn(calls: list[tuple[str, str, Any]]) -> list[Any]:
    return [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": call, "name": name, "input": given}
                for call, name, given in calls
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": call, "content": "ok"}
                for call, _, _ in calls
            ],
        },
    ]


async def anthropic_deltas(scale: Scale) -> Figures:
    """Row 7."""
    with provider("deltas", scale.deltas) as server:
        async with _anthropic(server) as client:

            async def run() -> int:
                events = await client.messages.create(
                    model=MODELS["anthropic"], max_tokens=MAX_TOKENS, messages=[HI], stream=True
                )
                pieces = [
                    event.delta.text
                    async for event in events
                    if event.type == "content_block_delta" and event.delta.type == "text_delta"
                ]
                return len(pieces)

            return await per_delta(run, server, scale.streams, scale.deltas)


# --- OpenAI ------------------------------------------------------------------------------------


def _openai(server: Provider) -> Any:
    from openai import AsyncOpenAI

    return AsyncOpenAI(
        api_key="any",
        base_url=f"{server.url}/v1",
        max_retries=0,
        timeout=None,
        http_client=_http(),
    )


async def openai_calls(scale: Scale) -> Figures:
    """Row 6, answers in one piece."""
    with provider("calls", TOOL_CALLS) as server:
        async with _openai(server) as client:

            async def run() -> None:
                messages: list[Any] = [HI]
                while True:
                    answer = await client.chat.completions.create(
                        model=MODELS["openai"],
                        max_tokens=MAX_TOKENS,
                        tools=OPENAI_TOOLS,
                        messages=messages,
                    )
                    found = answer.choices[0].message.tool_calls
                    if not found:
                        break
                    calls = [(c.id, c.function.name, c.function.arguments) for c in found]
                    messages += _openai_turn(calls)
                expect("tool calls", (len(messages) - 1) // 2, TOOL_CALLS)

            return await per_call(run, server, scale.wire_runs, TOOL_CALLS + 1)


async def openai_streamed_calls(scale: Scale) -> Figures:
    """Row 6, answers streamed and put together by hand."""
    with provider("calls", TOOL_CALLS) as server:
        async with _openai(server) as client:

            async def run() -> None:
                messages: list[Any] = [HI]
                while True:
                    chunks = await client.chat.completions.create(
                        model=MODELS["openai"],
                        max_tokens=MAX_TOKENS,
                        tools=OPENAI_TOOLS,
                        messages=messages,
                        stream=True,
                        stream_options={"include_usage": True},
                    )
                    begun: list[tuple[str, str, list[str]]] = []
                    async for chunk in chunks:
                        delta = chunk.choices[0].delta if chunk.choices else None
                        for piece in (delta.tool_calls or ()) if delta else ():
                            if piece.id:
                                begun.append((piece.id, piece.function.name, []))
                            begun[-1][2].append(piece.function.arguments or "")
                    calls = [(call, name, "".join(parts)) for call, name, parts in begun]
                    if not calls:
                        break
                    messages += _openai_turn(calls)
                expect("tool calls", (len(messages) - 1) // 2, TOOL_CALLS)

            return await per_call(run, server, scale.wire_runs, TOOL_CALLS + 1)


def _openai_turn(calls: list[tuple[str, str, str]]) -> list[Any]:
    if not json.loads(calls[0][2]):
        raise RuntimeError("a call without arguments")
    return [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": call, "type": "function", "function": {"name": name, "arguments": given}}
                for call, name, given in calls
            ],
        },
        *[{"role": "tool", "tool_call_id": call, "content": "ok"} for call, _, _ in calls],
    ]


async def openai_deltas(scale: Scale) -> Figures:
    """Row 7."""
    with provider("deltas", scale.deltas) as server:
        async with _openai(server) as client:

            async def run() -> int:
                chunks = await client.chat.completions.create(
                    model=MODELS["openai"],
                    max_tokens=MAX_TOKENS,
                    messages=[HI],
                    stream=True,
                    stream_options={"include_usage": True},
                )
                pieces = [
                    chunk.choices[0].delta.content
                    async for chunk in chunks
                    if chunk.choices and chunk.choices[0].delta.content
                ]
                return len(pieces)

            return await per_delta(run, server, scale.streams, scale.deltas)


# --- OpenAI Responses --------------------------------------------------------------------------


async def responses_calls(scale: Scale) -> Figures:
    """Row 6, answers in one piece."""
    with provider("calls", TOOL_CALLS) as server:
        async with _openai(server) as client:

            async def run() -> None:
                items: list[Any] = [HI]
                while True:
                    answer = await client.responses.create(
                        model=MODELS["responses"],
                        max_output_tokens=MAX_TOKENS,
                        tools=RESPONSES_TOOLS,
                        input=items,
                        store=False,
                    )
                    found = [item for item in answer.output if item.type == "function_call"]
                    if not found:
                        break
                    items += _responses_turn([(c.call_id, c.name, c.arguments) for c in found])
                expect("tool calls", (len(items) - 1) // 2, TOOL_CALLS)

            return await per_call(run, server, scale.wire_runs, TOOL_CALLS + 1)


async def responses_streamed_calls(scale: Scale) -> Figures:
    """Row 6, answers streamed and put together by hand."""
    with provider("calls", TOOL_CALLS) as server:
        async with _openai(server) as client:

            async def run() -> None:
                items: list[Any] = [HI]
                while True:
                    events = await client.responses.create(
                        model=MODELS["responses"],
                        max_output_tokens=MAX_TOKENS,
                        tools=RESPONSES_TOOLS,
                        input=items,
                        store=False,
                        stream=True,
                    )
                    begun: list[tuple[str, str, list[str]]] = []
                    async for event in events:
                        if event.type == "response.output_item.added":
                            item = event.item
                            if item.type == "function_call":
                                begun.append((item.call_id, item.name, []))
                        elif event.type == "response.function_call_arguments.delta":
                            begun[-1][2].append(event.delta)
                    calls = [(call, name, "".join(parts)) for call, name, parts in begun]
                    if not calls:
                        break
                    items += _responses_turn(calls)
                expect("tool calls", (len(items) - 1) // 2, TOOL_CALLS)

            return await per_call(run, server, scale.wire_runs, TOOL_CALLS + 1)


def _responses_turn(calls: list[tuple[str, str, str]]) -> list[Any]:
    if not json.loads(calls[0][2]):
        raise RuntimeError("a call without arguments")
    return [
        *[
            {"type": "function_call", "call_id": call, "name": name, "arguments": given}
            for call, name, given in calls
        ],
        *[
            {"type": "function_call_output", "call_id": call, "output": "ok"}
            for call, _, _ in calls
        ],
    ]


async def responses_deltas(scale: Scale) -> Figures:
    """Row 7."""
    with provider("deltas", scale.deltas) as server:
        async with _openai(server) as client:

            async def run() -> int:
                events = await client.responses.create(
                    model=MODELS["responses"],
                    max_output_tokens=MAX_TOKENS,
                    input=[HI],
                    store=False,
                    stream=True,
                )
                pieces = [
                    event.delta
                    async for event in events
                    if event.type == "response.output_text.delta"
                ]
                return len(pieces)

            return await per_delta(run, server, scale.streams, scale.deltas)


# --- Google ------------------------------------------------------------------------------------


def _google(server: Provider, http: httpx2.AsyncClient) -> Any:
    from google import genai

    options = genai.types.HttpOptions(base_url=server.url, httpx_async_client=http)
    return genai.Client(api_key="any", http_options=options).aio.models


def _google_config() -> dict[str, Any]:
    function = {"name": TOOL, "description": DESCRIPTION, "parameters_json_schema": SCHEMA}
    return {
        "max_output_tokens": MAX_TOKENS,
        "tools": [{"function_declarations": [function]}],
        "automatic_function_calling": {"disable": True},
    }


async def google_calls(scale: Scale) -> Figures:
    """Row 6, answers in one piece."""
    with provider("calls", TOOL_CALLS) as server:
        async with _http() as http:
            models = _google(server, http)

            async def run() -> None:
                contents: list[Any] = [{"role": "user", "parts": [{"text": "hi"}]}]
                while True:
                    answer = await models.generate_content(
                        model=MODELS["google"], contents=contents, config=_google_config()
                    )
                    parts = answer.candidates[0].content.parts
                    if not _google_turn(contents, parts):
                        break
                expect("tool calls", (len(contents) - 1) // 2, TOOL_CALLS)

            return await per_call(run, server, scale.wire_runs, TOOL_CALLS + 1)


async def google_streamed_calls(scale: Scale) -> Figures:
    """Row 6, answers streamed and put together by hand."""
    with provider("calls", TOOL_CALLS) as server:
        async with _http() as http:
            models = _google(server, http)

            async def run() -> None:
                contents: list[Any] = [{"role": "user", "parts": [{"text": "hi"}]}]
                while True:
                    chunks = await models.generate_content_stream(
                        model=MODELS["google"], contents=contents, config=_google_config()
                    )
                    parts = [
                        part async for chunk in chunks for part in chunk.candidates[0].content.parts
                    ]
                    if not _google_turn(contents, parts):
                        break
                expect("tool calls", (len(contents) - 1) // 2, TOOL_CALLS)

            return await per_call(run, server, scale.wire_runs, TOOL_CALLS + 1)


def _google_turn(contents: list[Any], parts: list[Any]) -> bool:
    """Add the calls, as they came, and their results. Whether there were any."""
    calls = [part for part in parts if part.function_call]
    if calls:
        contents.append({"role": "model", "parts": calls})
        results = [
            {"id": call.id, "name": call.name, "response": {"output": "ok"}}
            for call in (part.function_call for part in calls)
        ]
        parts = [{"function_response": result} for result in results]
        contents.append({"role": "user", "parts": parts})
    return bool(calls)


async def google_deltas(scale: Scale) -> Figures:
    """Row 7."""
    with provider("deltas", scale.deltas) as server:
        async with _http() as http:
            models = _google(server, http)

            async def run() -> int:
                chunks = await models.generate_content_stream(
                    model=MODELS["google"],
                    contents="hi",
                    config={"max_output_tokens": MAX_TOKENS},
                )
                pieces = [
                    part.text
                    async for chunk in chunks
                    for part in chunk.candidates[0].content.parts
                    if part.text
                ]
                return len(pieces)

            return await per_delta(run, server, scale.streams, scale.deltas)
