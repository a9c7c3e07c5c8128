"""A connection that is closed before TLS is agreed on is told with its reason, not by the name of a
class: by a model as by a tool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lorimer import Pipeline
from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.presets import preset_manifest
from lorimer.tools.builtin.search_services import SearchQuery, SearXNG
from lorimer.world import RealWorld


def closing(ask: Callable[[str], Awaitable[str]]) -> str:
    """What is told by `ask` of a server that closes each connection."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    async def main() -> str:
        async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
            return await ask(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    return asyncio.run(main())


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "openai:gpt-5"])
def test_by_a_model(model: str) -> None:
    async def ask(url: str) -> str:
        manifest = preset_manifest("chat", model=model)
        manifest.stages["api"].strategies["retry"] = "no_retry"
        async with Pipeline(manifest, api_key="sk-test", base_url=url) as pipeline:
            error = (await pipeline.run("go", raise_on_error=False)).exception
        assert error is not None
        assert error.code is ExecutorErrorCode.EXEC_API_NETWORK
        return str(error)

    assert "EOF" in closing(ask)


def test_by_a_tool() -> None:
    async def ask(url: str) -> str:
        with pytest.raises(ToolExecutionError) as told:
            await SearXNG(url).search(SearchQuery("q"), RealWorld())
        return str(told.value)

    assert "EOF" in closing(ask)
