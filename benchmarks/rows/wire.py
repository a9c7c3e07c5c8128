"""Rows 6 and 7: a provider over real HTTP, through the official SDKs."""

from __future__ import annotations

from benchmarks.provider import MAX_TOKENS, MODELS, Provider, per_call, per_delta, provider
from benchmarks.rows.agents import Work, check, manifest
from benchmarks.scale import Figures, Scale
from benchmarks.support import expect
from benchmarks.task import TOOL_CALLS
from lorimer.pipeline import Pipeline


async def anthropic_calls(scale: Scale) -> Figures:
    """Row 6, answers in one piece."""
    return await _calls("anthropic", scale, stream=False)


async def anthropic_streamed_calls(scale: Scale) -> Figures:
    """Row 6, answers streamed, as a pipeline asks for by default."""
    return await _calls("anthropic", scale, stream=True)


async def openai_calls(scale: Scale) -> Figures:
    """Row 6, answers in one piece."""
    return await _calls("openai", scale, stream=False)


async def openai_streamed_calls(scale: Scale) -> Figures:
    """Row 6, answers streamed."""
    return await _calls("openai", scale, stream=True)


async def responses_calls(scale: Scale) -> Figures:
    """Row 6, answers in one piece."""
    return await _calls("responses", scale, stream=False)


async def responses_streamed_calls(scale: Scale) -> Figures:
    """Row 6, answers streamed."""
    return await _calls("responses", scale, stream=True)


async def google_calls(scale: Scale) -> Figures:
    """Row 6, answers in one piece."""
    return await _calls("google", scale, stream=False)


async def google_streamed_calls(scale: Scale) -> Figures:
    """Row 6, answers streamed."""
    return await _calls("google", scale, stream=True)


async def anthropic_deltas(scale: Scale) -> Figures:
    """Row 7."""
    return await _deltas("anthropic", scale)


async def openai_deltas(scale: Scale) -> Figures:
    """Row 7."""
    return await _deltas("openai", scale)


async def responses_deltas(scale: Scale) -> Figures:
    """Row 7."""
    return await _deltas("responses", scale)


async def google_deltas(scale: Scale) -> Figures:
    """Row 7."""
    return await _deltas("google", scale)


async def _calls(vendor: str, scale: Scale, *, stream: bool) -> Figures:
    with provider("calls", TOOL_CALLS) as server:
        work = Work()
        async with _agent(vendor, server, work, stream=stream) as agent:

            async def run() -> None:
                check(await agent.run("hi"), TOOL_CALLS)

            figures = await per_call(run, server, scale.wire_runs, TOOL_CALLS + 1)
        expect("tool calls", work.calls, (scale.wire_runs + 1) * TOOL_CALLS)
        return figures


async def _deltas(vendor: str, scale: Scale) -> Figures:
    with provider("deltas", scale.deltas) as server:
        async with _agent(vendor, server, None, stream=True) as agent:

            async def run() -> int:
                pieces: list[str] = []
                last = ""
                async for event in agent.run_stream("hi"):
                    if event.type == "text.delta":
                        pieces.append(str(event.data["text"]))
                    last = event.type
                expect("last event", last, "pipeline.complete")
                return len(pieces)

            return await per_delta(run, server, scale.streams, scale.deltas)


def _agent(vendor: str, server: Provider, work: Work | None, *, stream: bool) -> Pipeline:
    provider = "openai" if vendor == "responses" else vendor
    made = manifest(f"{provider}:{MODELS[vendor]}")
    if vendor == "responses":
        made.model.api = "responses"
    made.model.max_tokens = MAX_TOKENS
    made.stages["context"].config["stateless"] = True
    made.stages["api"].config["stream"] = stream
    return Pipeline(
        made,
        tools=None if work is None else [work],
        api_key="any",
        base_url=server.url + ("/v1" if provider == "openai" else ""),
    )
