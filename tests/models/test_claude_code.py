"""Claude through the `claude` program, played by a script that speaks its wire."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from lorimer import Pipeline, PipelinePresets
from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.messages import (
    ImageBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUse,
    user_message,
)
from lorimer.core.request import Request, Response, TextDelta, ThinkingDelta, ToolSpec, Usage
from lorimer.models import CredentialBundle, Models
from lorimer.models.credentials import ProviderCredentials
from lorimer.models.provider_info import model_info, provider_status
from lorimer.models.wires.claude_code_answer import MAX_LINE, Lines
from lorimer.world import RealWorld
from tests.models.fake_claude import INIT, FakeClaude, event, message, result, streamed

CODE = ExecutorErrorCode
SPEC = "claude_code_cli:claude-sonnet-4-6"
USED = Usage(12, 7, cache_read_input_tokens=3)
HELLO = [user_message("Hello")]


@pytest.fixture
def claude(tmp_path: Path) -> FakeClaude:
    return FakeClaude(tmp_path)


def ask(models: Models, spec: str = SPEC, **fields: Any) -> tuple[list[object], Response]:
    """The deltas, and the answer."""

    async def main() -> list[object]:
        model = models.resolve(spec)
        request = Request(model.name, fields.pop("messages", HELLO), **fields)
        return [item async for item in model.stream(request, world=RealWorld())]

    *deltas, answer = asyncio.run(main())
    assert isinstance(answer, Response)
    return deltas, answer


def test_an_answer(claude: FakeClaude) -> None:
    claude.say(streamed("Hel", "lo!", thinking="Hm."))
    deltas, answer = ask(claude.models(), system="Be brief.", effort="high", max_tokens=900)
    texts = [d for d in deltas if isinstance(d, TextDelta | ThinkingDelta)]
    assert texts == [ThinkingDelta("Hm."), TextDelta("Hel"), TextDelta("lo!")]
    assert answer.content == (ThinkingBlock("Hm.", "sealed"), TextBlock("Hello!"))
    assert answer.usage == USED
    assert (answer.model, answer.id) == ("claude-sonnet-4-6", "msg_1")
    assert answer.extra == {"total_cost_usd": 0.0125}, "as the program says"
    assert answer.cost_nano == 12 * 3000 + 7 * 15_000 + 3 * 300, "by Anthropic's prices"
    assert claude.asked == [{"type": "text", "text": "Hello"}]
    assert claude.option("--model") == "claude-sonnet-4-6"
    assert claude.option("--system-prompt") == "Be brief."
    assert claude.option("--effort") == "high"
    for nothing in ("--tools", "--setting-sources"):
        assert claude.option(nothing) == ""
    assert {"--strict-mcp-config", "--no-session-persistence"} <= {*claude.called["argv"]}
    assert claude.called["cwd"] == "/"
    assert claude.called["env"]["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "900"
    assert claude.called["env"]["CLAUDE_CODE_MAX_RETRIES"] == "0"


def test_an_answer_that_comes_whole(claude: FakeClaude) -> None:
    """What it does where its stream has failed. One line for each block."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "sealed"}
    text = {"type": "text", "text": "Hello!"}
    claude.say([INIT, "garbage", "[1]", {"type": "new"}, message(thought), message(text), result()])
    _, answer = ask(claude.models())
    assert answer.content == (ThinkingBlock("Hm.", "sealed"), TextBlock("Hello!"))
    assert ask(claude.models(), stream=False)[1].text == "Hello!"


def test_an_end_without_figures_and_a_text_that_is_no_list(claude: FakeClaude) -> None:
    bare = {"type": "result", "subtype": "success"}
    claude.say([*streamed("Hello!")[:-1], bare])
    _, answer = ask(claude.models())
    assert answer.usage == Usage(12, 7), "as the stream said"
    assert "total_cost_usd" not in answer.extra
    said = message()
    said["message"]["content"] = "Hello!"
    claude.say([INIT, said, bare])
    assert ask(claude.models())[1].text == "Hello!"


def test_a_stream_that_broke_off_though_the_program_is_content(claude: FakeClaude) -> None:
    text = {"type": "text", "text": "Hello!"}
    claude.say([*streamed("Hel", "lo!")[:4], message(text), result("Hello!")])
    with pytest.raises(APIError) as failed:
        ask(claude.models())
    assert failed.value.code is CODE.EXEC_API_STREAM_INCOMPLETE
    assert failed.value.usage == USED


def test_lines_come_in_any_pieces() -> None:
    lines = Lines()
    assert [lines.feed(piece) for piece in (b"a", b"b\nc\n", b"d")] == [[], [b"ab", b"c"], []]
    assert lines.rest() == b"d"
    lines.feed(b"x" * (MAX_LINE - 1))
    with pytest.raises(ValueError, match="longer"):
        lines.feed(b"x")


def test_a_stream_that_began_anew_before_anything_was_shown(claude: FakeClaude) -> None:
    again = streamed("Hello!")
    claude.say([*again[:3], *again[1:]])
    assert ask(claude.models())[1].text == "Hello!"
    claude.say([*again[:4], *again[1:]])
    with pytest.raises(APIError) as failed:
        ask(claude.models())
    assert failed.value.code is CODE.EXEC_API_STREAM_INCOMPLETE


def test_in_a_conversation(claude: FakeClaude) -> None:
    claude.say(streamed("Hello!"))
    models = claude.models()
    agent = PipelinePresets.chat(model=SPEC, models=models)
    assert agent.run_sync("My name is Ada.").text == "Hello!"
    assert agent.run_sync('And "yours"?').total_cost_usd == 0.0001419
    (told,) = claude.asked
    lines = told["text"].split("\n\n")[1].splitlines()
    assert [json.loads(line) for line in lines] == [
        {"role": "user", "text": "My name is Ada."},
        {"role": "assistant", "text": "Hello!"},
        {"role": "user", "text": 'And "yours"?'},
    ]


def test_what_it_does_not_take_is_told_or_left_out_and_named(claude: FakeClaude) -> None:
    claude.say(streamed("Fine."))
    picture = ImageBlock("image/png", "AAAA")
    messages = [
        user_message("Look."),
        Message("assistant", (ToolUse("c", "look", {"at": "it"}),)),
        Message("user", (ToolResultBlock("c", (TextBlock("seen"), picture)),)),
    ]
    _, answer = ask(
        claude.models(),
        messages=messages,
        tools=(ToolSpec("look", "Looks.", {"type": "object"}),),
        temperature=0.5,
        stop_sequences=("x",),
    )
    assert answer.extra["dropped"] == ["tools", "stop_sequences", "temperature"]
    told, image = claude.asked
    assert '[I called look with {\\"at\\":\\"it\\"}]' in told["text"]
    assert "[look answered:]\\nseen\\n[attachment 1]" in told["text"]
    assert image["source"]["data"] == "AAAA"


def test_a_system_prompt_that_no_command_line_takes(claude: FakeClaude) -> None:
    claude.say(streamed("Fine."))
    ask(claude.models(), system="é" * 70_000)
    assert claude.asked[0]["text"].strip() == "é" * 70_000
    assert len(claude.option("--system-prompt")) < 100


# --- its environment -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        (None, {"ANTHROPIC_API_KEY": "sk-env", "ANTHROPIC_BASE_URL": "http://env"}),
        (
            ProviderCredentials("sk-own"),
            {"ANTHROPIC_API_KEY": "sk-own", "ANTHROPIC_BASE_URL": "http://env"},
        ),
        (
            ProviderCredentials(base_url="http://own"),
            {"ANTHROPIC_API_KEY": None, "ANTHROPIC_BASE_URL": "http://own"},
        ),
    ],
    ids=["as in a shell", "key given", "address given"],
)
def test_a_key_goes_only_where_it_was_meant_for(
    claude: FakeClaude, given: ProviderCredentials | None, keys: dict[str, str | None]
) -> None:
    claude.say(streamed("Fine."))
    env = {
        "ANTHROPIC_API_KEY": "sk-env",
        "ANTHROPIC_BASE_URL": "http://env",
        "OPENAI_API_KEY": "sk-other",
    }
    ask(claude.models(env, given))
    seen = claude.called["env"]
    assert {name: seen.get(name) for name in keys} == keys
    assert "OPENAI_API_KEY" not in seen


def test_without_the_program(tmp_path: Path) -> None:
    models = Models(CredentialBundle(env={"CLAUDE_CODE_BINARY": str(tmp_path / "none")}))
    with pytest.raises(ConfigError, match="was not found") as missing:
        models.resolve(SPEC)
    assert missing.value.code is CODE.EXEC_CLI_BINARY_NOT_FOUND
    assert "CLAUDE_CODE_BINARY" in missing.value.hint
    assert not provider_status(models, "claude_code_cli").ready


def test_it_is_listed_with_what_it_can(claude: FakeClaude) -> None:
    known = model_info(claude.models(), SPEC)
    assert known.status.ready
    assert known.capabilities is not None
    assert not known.capabilities.tools
    assert known.input_price is None or known.input_price > 0


def test_a_program_that_is_gone_when_it_is_to_be_started(claude: FakeClaude) -> None:
    models = claude.models()
    models.resolve(SPEC)
    claude.program.unlink()
    with pytest.raises(APIError) as failed:
        ask(models)
    assert failed.value.code is CODE.EXEC_CLI_BINARY_NOT_FOUND


# --- what goes wrong -----------------------------------------------------------------------------


def failed_with(status: int | None, text: str, **data: Any) -> list[Any]:
    return [INIT, result(text, is_error=True, api_error_status=status, **data)]


@pytest.mark.parametrize(
    ("lines", "code", "stderr", "expected"),
    [
        (failed_with(None, "Not logged in · Please run /login"), 1, "", CODE.EXEC_CLI_AUTH_FAILED),
        (failed_with(401, "invalid x-api-key"), 1, "", CODE.EXEC_CLI_AUTH_FAILED),
        (failed_with(429, "slow down"), 1, "", CODE.EXEC_API_RATE_LIMITED),
        (failed_with(529, "Overloaded"), 1, "", CODE.EXEC_API_SERVER_ERROR),
        (failed_with(400, "bad thing"), 1, "", CODE.EXEC_API_BAD_REQUEST),
        (failed_with(400, "prompt is too long: 9 > 8"), 1, "", CODE.EXEC_API_TOKEN_LIMIT),
        (failed_with(None, "Request timed out"), 1, "", CODE.EXEC_CLI_TIMEOUT),
        (failed_with(None, "Unable to connect (ECONNREFUSED)"), 1, "", CODE.EXEC_API_NETWORK),
        (
            failed_with(None, "", subtype="error_max_turns", errors=["max turns"]),
            1,
            "",
            CODE.EXEC_CLI_PROTOCOL_ERROR,
        ),
        ([], 1, "error: unknown option '--tools'", CODE.EXEC_CLI_EXITED),
        ([INIT], 143, "", CODE.EXEC_CLI_EXITED),
        ([], 1, "EACCES: permission denied, open", CODE.EXEC_CLI_PERMISSION_DENIED),
        ([], 0, "", CODE.EXEC_CLI_PROTOCOL_ERROR),
        ([INIT, result("Hello!")], 0, "", CODE.EXEC_API_STREAM_INCOMPLETE),
        ([event("content_block_delta", index=7, delta={})], 0, "", CODE.EXEC_API_STREAM_INCOMPLETE),
        ([event("error", error={"type": "overloaded_error", "message": "x"})], 1, "",
         CODE.EXEC_API_SERVER_ERROR),
    ],
    ids="login 401 429 529 400 long timeout refused turns flag term denied nothing empty odd mid"
    .split(),
)  # fmt: skip
def test_failures_have_codes(
    claude: FakeClaude, lines: list[Any], code: int, stderr: str, expected: CODE
) -> None:
    claude.say(lines, code=code, stderr=stderr)
    with pytest.raises(APIError) as failed:
        ask(claude.models())
    assert failed.value.code is expected
    assert "\n" not in str(failed.value)


def test_a_failed_call_is_paid_for(claude: FakeClaude) -> None:
    claude.say(failed_with(529, "Overloaded"), code=1)
    with pytest.raises(APIError) as failed:
        ask(claude.models())
    assert failed.value.usage == USED


def test_cut_anywhere_it_is_no_answer(claude: FakeClaude) -> None:
    whole = "\n".join(json.dumps(line) for line in streamed("Hel", "lo!"))
    ends = [at for at, char in enumerate(whole) if char == "\n"]
    for at in [0, *ends[1::2], *[end + 40 for end in ends[::2]], len(whole) - 1]:
        claude.say([whole[:at]], end="")
        with pytest.raises(APIError):
            ask(claude.models())
    claude.say([whole], end="")
    assert ask(claude.models())[1].text == "Hello!"


@pytest.mark.parametrize("how", ["left", "cancelled"])
def test_nothing_of_it_is_left(claude: FakeClaude, how: str) -> None:
    claude.say([*streamed("Hel")[:4], "HANG"])

    async def main() -> None:
        pipeline = Pipeline.from_manifest(
            PipelinePresets.minimal(model=SPEC, models=claude.models()).manifest,
            models=claude.models(),
        )
        if how == "left":
            async for happened in pipeline.run_stream("Hello"):
                if happened.type == "text.delta":
                    await hanging()
                    break
            return
        run = asyncio.ensure_future(pipeline.run("Hello"))
        await hanging()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    async def hanging() -> None:
        while len(pids()) < 2:
            await asyncio.sleep(0.01)

    def pids() -> list[int]:
        path = claude.folder / "hangs"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 20
    assert not any(lives(pid) for pid in pids())


def lives(pid: int) -> bool:
    """Its parent may not have reaped it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
