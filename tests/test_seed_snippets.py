"""The first seed's README snippets, with the package's name replaced, against a real server.

Only what a snippet leaves open is added: an event loop, a key's server, something to assert.

| Block of that README | Test |
|---|---|
| `pip install` of the package and its extras | `test_plugin_package.py`, which installs one |
| Minimal pipeline | `test_minimal_pipeline` |
| Chat pipeline | `test_chat_pipeline` |
| Full agent, with a tool | `test_full_agent_with_a_tool` |
| Custom pipeline with builder | `test_builder` |
| Manifest-driven pipeline, `stages[6].config["provider"]` | `test_manifest_driven_pipeline` |
| Error codes | `test_error_codes` |
| Payload of `pipeline.error` | `test_the_payload_of_an_error` |
| Sessions | `test_sessions` |
| Event system | `test_events_and_decorator` |
| Streaming | `test_streaming` |
| Tools: the calculator, with the safe evaluator that it asks for | `test_a_calculator` |
| MCP: `MCPManager().connect(...)` | none: there is no MCP yet |
| Pipeline presets | `test_presets_have_their_stages`; `geny_vtuber`: `test_plugin_package.py` |
| Custom strategy | `test_custom_strategy` |
| Custom stage | `test_custom_stage` |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from lorimer.stages.catalogue import CATALOGUE
from lorimer.testing import FakeLLMServer
from lorimer.testing.fake_turn import ToolCall, Turn
from lorimer.testing.faults import Status

Serve = Callable[[Sequence[Turn]], FakeLLMServer]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a provider that plays turns, where the vendor's variable points to it."""
    with ExitStack() as running:

        def start(turns: Sequence[Turn]) -> FakeLLMServer:
            server = running.enter_context(FakeLLMServer(turns))
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            return server

        yield start


def test_minimal_pipeline(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve([Turn("Paris.")])

    from lorimer import PipelinePresets

    async def main() -> None:
        pipeline = PipelinePresets.minimal(api_key="sk-ant-...")
        result = await pipeline.run("What is the capital of France?")
        print(result.text)
        await pipeline.aclose()

    asyncio.run(main())
    assert capsys.readouterr().out == "Paris.\n"


def test_chat_pipeline(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve([Turn("They wrap functions."), Turn("Decorators.")])

    async def main() -> None:
        from lorimer import PipelinePresets

        pipeline = PipelinePresets.chat(
            api_key="sk-ant-...",
            system_prompt="You are a helpful coding assistant.",
        )

        result = await pipeline.run("Explain Python decorators")
        print(result.text)
        print(f"Cost: ${result.total_cost_usd:.4f}")

        again = await pipeline.run("What did I ask about?")
        assert again.text == "Decorators."
        await pipeline.aclose()

    asyncio.run(main())
    text, cost = capsys.readouterr().out.splitlines()
    assert text == "They wrap functions."
    assert cost.startswith("Cost: $")
    assert float(cost.removeprefix("Cost: $")) >= 0
    assert len(server.requests[1].body["messages"]) == 3


def test_sessions(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve([Turn("Hello, Alice."), Turn("Alice.")])

    async def main() -> None:
        from lorimer import PipelinePresets
        from lorimer.session import SessionManager

        manager = SessionManager()
        pipeline = PipelinePresets.chat(api_key="sk-ant-...")
        session = manager.create(pipeline)

        await session.run("My name is Alice")
        result = await session.run("What's my name?")
        print(result.text)

        for info in manager.list_sessions():
            print(f"{info.session_id}: {info.message_count} msgs, ${info.total_cost_usd:.4f}")
        await pipeline.aclose()

    asyncio.run(main())
    text, info = capsys.readouterr().out.splitlines()
    assert text == "Alice."
    assert info.startswith("session_")
    assert ": 4 msgs, $0." in info
    assert len(server.requests[1].body["messages"]) == 3


def test_full_agent_with_a_tool(serve: Serve) -> None:
    serve(
        [
            Turn(tool_calls=(ToolCall("t1", "search", {"query": "Python release"}),)),
            Turn("3.15 is out."),
        ]
    )

    async def main() -> None:
        from lorimer import PipelinePresets
        from lorimer.tools import Tool, ToolContext, ToolRegistry, ToolResult

        class SearchTool(Tool):
            @property
            def name(self) -> str:
                return "search"

            @property
            def description(self) -> str:
                return "Search the web for information"

            @property
            def input_schema(self) -> dict:
                return {
                    "type": "object",
                    "properties": {"query": {"type": "string"}},
                    "required": ["query"],
                }

            async def execute(self, input, context: ToolContext):
                return ToolResult(content=f"Results for: {input['query']}")

        registry = ToolRegistry()
        registry.register(SearchTool())

        pipeline = PipelinePresets.agent(
            api_key="sk-ant-...",
            system_prompt="You are a research assistant. Use tools to find answers.",
            tools=registry,
            max_turns=20,
        )

        result = await pipeline.run("Find the latest Python release version")
        assert result.text == "3.15 is out."
        assert [step.content for step in result.steps] == ["Results for: Python release"]
        await pipeline.aclose()

    asyncio.run(main())


def test_events_and_decorator(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve([Turn("hello"), Turn(faults=(Status(401),))])

    async def main() -> None:
        from lorimer import APIError, PipelinePresets

        pipeline = PipelinePresets.minimal(api_key="sk-ant-...")

        @pipeline.on("stage.enter")
        async def _(event):
            print(f"→ {event.stage}")

        @pipeline.on("pipeline.error")
        async def _(event):
            print(f"❌ {event.data['code']}: {event.data['error']}")

        seen = []

        @pipeline.on("*")
        async def _(event):
            seen.append(event.type)  # firehose

        await pipeline.run("hi")
        assert seen[-1] == "pipeline.complete"
        with pytest.raises(APIError):
            await pipeline.run("hi")
        assert seen[-1] == "pipeline.error"
        await pipeline.aclose()

    asyncio.run(main())
    out = capsys.readouterr().out
    assert out.startswith("→ input\n→ api\n→ parse\n→ yield\n")
    assert "❌ exec.api.auth.invalid_key: " in out


def test_streaming(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve([Turn("one two three")])

    async def main() -> None:
        from lorimer import PipelinePresets

        pipeline = PipelinePresets.minimal(api_key="sk-ant-...")
        deltas = ""
        async for event in pipeline.run_stream("Solve step by step"):
            if event.type == "stage.enter":
                print(f"Stage: {event.stage}")
            elif event.type == "text.delta":
                deltas += event.data["text"]
            elif event.type == "pipeline.complete":
                print(f"Final: {event.data['result'].text}")
        assert deltas == "one two three"
        await pipeline.aclose()

    asyncio.run(main())
    assert capsys.readouterr().out.splitlines() == [
        "Stage: input",
        "Stage: api",
        "Stage: parse",
        "Stage: yield",
        "Final: one two three",
    ]


def test_builder(serve: Serve) -> None:
    server = serve([Turn("Done.")])

    async def main() -> None:
        from lorimer import PipelineBuilder
        from lorimer.tools import ToolRegistry

        my_registry = ToolRegistry()

        pipeline = (
            PipelineBuilder("my-agent", api_key="sk-ant-...")
            .with_model(model="claude-sonnet-4-6", max_tokens=4096)
            .with_system(prompt="You are a concise assistant.")
            .with_context()
            .with_guard(cost_budget_usd=1.0, max_iterations=30)
            .with_cache(strategy="aggressive")
            .with_tools(registry=my_registry)
            .with_think(enabled=True, budget_tokens=10000)
            .with_evaluate()
            .with_loop(max_turns=30)
            .with_memory()
            .build()
        )

        result = await pipeline.run("Complex multi-step task here")
        assert result.text == "Done."
        limits = pipeline.manifest.limits
        assert (limits.max_cost_usd, limits.max_turns) == (1.0, 30)
        await pipeline.aclose()

    asyncio.run(main())
    body = server.requests[0].body
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 10000}
    assert body["max_tokens"] == 4096 + 10000


@pytest.mark.parametrize("provider", ["anthropic", ""])
def test_manifest_driven_pipeline(
    serve: Serve, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve([Turn("Hello to you.")])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)

    async def main() -> None:
        from lorimer import CredentialBundle, EnvironmentManifest, Pipeline, ProviderCredentials
        from lorimer.presets import chat_manifest

        Path("envs").mkdir()
        written = chat_manifest()
        if provider:  # "a session picks its provider" by this
            written.stages[6].config["provider"] = provider
        written.save("./envs/my_env.json")

        manifest = EnvironmentManifest.load("./envs/my_env.json")
        credentials = CredentialBundle(
            by_provider={
                "anthropic": ProviderCredentials(api_key="sk-ant-..."),
            }
        )
        pipeline = await Pipeline.from_manifest_async(manifest, credentials=credentials)
        result = await pipeline.run("Hello!")
        assert result.text == "Hello to you."
        await pipeline.aclose()

        again = await Pipeline.from_manifest_async("./envs/my_env.json", credentials=credentials)
        assert again.plan.digest == pipeline.plan.digest

    asyncio.run(main())
    assert [request.wire for request in server.requests] == ["anthropic"]


def test_a_calculator(serve: Serve) -> None:
    server = serve(
        [Turn(tool_calls=(ToolCall("t1", "calculator", {"expression": "6 * 7"}),)), Turn("42.")]
    )

    async def main() -> None:
        import operator

        from lorimer import PipelinePresets
        from lorimer.tools import Tool, ToolContext, ToolRegistry, ToolResult

        def evaluate(text: str) -> int:  # "use a safe evaluator!"
            left, sign, right = text.split()
            return {"*": operator.mul, "+": operator.add}[sign](int(left), int(right))

        class Calculator(Tool):
            @property
            def name(self):
                return "calculator"

            @property
            def description(self):
                return "Perform arithmetic."

            @property
            def input_schema(self):
                return {
                    "type": "object",
                    "properties": {"expression": {"type": "string"}},
                    "required": ["expression"],
                }

            async def execute(self, input, context: ToolContext):
                return ToolResult(content=str(evaluate(input["expression"])))

        registry = ToolRegistry()
        registry.register(Calculator())

        pipeline = PipelinePresets.chat(api_key="sk-ant-...", tools=registry)
        result = await pipeline.run("What is 6 * 7?")
        assert [step.content for step in result.steps] == ["42"]
        await pipeline.aclose()

    asyncio.run(main())
    assert server.requests[0].body["tools"][0]["name"] == "calculator"


@pytest.mark.parametrize(
    ("preset", "some"),
    [
        ("minimal", ["input", "api", "parse", "yield"]),
        ("chat", ["context", "system", "guard", "cache", "token", "tool", "loop", "memory"]),
        ("agent", list(CATALOGUE)),
        ("evaluator", ["input", "system", "api", "parse", "evaluate", "yield"]),
    ],
)
def test_presets_have_their_stages(preset: str, some: list[str]) -> None:
    from lorimer import PipelinePresets

    pipeline = getattr(PipelinePresets, preset)(api_key="sk-ant-...")
    assert set(some) <= {stage["name"] for stage in pipeline.describe()}


def test_the_payload_of_an_error(serve: Serve) -> None:
    serve([Turn(faults=(Status(401),))])

    async def main() -> None:
        from lorimer import PipelinePresets

        pipeline = PipelinePresets.minimal(api_key="sk-ant-...")
        seen = []
        pipeline.on("pipeline.error", seen.append)
        await pipeline.run("hi", raise_on_error=False)
        [event] = seen
        assert event.type == "pipeline.error"
        assert event.data["code"] == "exec.api.auth.invalid_key"
        assert event.data["exception_type"] == "lorimer.core.errors.APIError"
        assert event.data["error"]
        await pipeline.aclose()

    asyncio.run(main())


def test_error_codes(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve([Turn(faults=(Status(529),)) for _ in range(4)])

    async def main() -> None:
        from lorimer import APIError, ErrorCategory, ExecutorErrorCode, PipelinePresets

        pipeline = PipelinePresets.minimal(api_key="sk-ant-...")
        pipeline.swap_strategy("api", "retry", "no_retry")

        try:
            result = await pipeline.run("...")
            print(result.text)
        except APIError as e:
            if e.code is ExecutorErrorCode.EXEC_CLI_AUTH_FAILED:
                print("Please re-login to Claude Code CLI.")
            elif e.category.is_recoverable:
                print(f"Recoverable failure ({e.code.value}); retrying.")
            print(e.result.status, e.category is ErrorCategory.SERVER_ERROR)
        await pipeline.aclose()

    asyncio.run(main())
    assert capsys.readouterr().out.splitlines() == [
        "Recoverable failure (exec.api.server_error); retrying.",
        "error True",
    ]


def test_custom_strategy(serve: Serve) -> None:
    server = serve([Turn("from the vault")])

    async def main() -> None:
        from lorimer import PipelinePresets
        from lorimer.core.messages import user_message
        from lorimer.core.stage import Strategy

        class MyContextStrategy(Strategy):
            name = "my_context"
            description = "Custom context loading with RAG"

            def configure(self, config: dict) -> None:
                self.top_k = config.get("top_k", 5)

            async def load(self, state):
                return [user_message(f"{self.top_k} documents"), *state.messages]

        pipeline = PipelinePresets.chat(api_key="sk-ant-...")
        pipeline.swap_strategy("context", "strategy", MyContextStrategy, {"top_k": 3})
        result = await pipeline.run("What do we know?")
        assert result.text == "from the vault"
        await pipeline.aclose()

    asyncio.run(main())
    assert "3 documents" in str(server.requests[0].body["messages"])


def test_custom_stage(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve([Turn("fine")])

    async def main() -> None:
        from lorimer import PipelinePresets
        from lorimer.core.stage import Stage
        from lorimer.core.state import PipelineState

        class LoggingStage(Stage[dict, dict]):
            name = "logging"
            order = 7  # after API, before Think
            category = "execution"

            async def execute(self, input, state: PipelineState):
                print(f"[{state.iteration}] API response received")
                return input

        pipeline = PipelinePresets.chat(api_key="sk-ant-...")
        pipeline.register_stage(LoggingStage())
        result = await pipeline.run("hello")
        assert result.usage.total > 0  # the Token stage is still there
        names = [stage["name"] for stage in pipeline.describe()]
        assert names[names.index("token") + 1] == "logging"
        await pipeline.aclose()

    asyncio.run(main())
    assert capsys.readouterr().out == "[0] API response received\n"
