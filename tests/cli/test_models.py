"""`lorimer models`: what is known here, and whether it answers."""

from __future__ import annotations

import json
import re
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from lorimer import PipelinePresets
from lorimer.core.errors import ExecutorErrorCode
from lorimer.testing.fake_server import FakeLLMServer, FakeUsage, ToolCall, Turn
from lorimer.testing.faults import Status
from tests.cli.support import HangsOnce, Running, asked, invoke, last_run, run_process

Code = ExecutorErrorCode
KEY = "sk-not-to-be-shown-4711"
FILE = """
[tiers]
fast = "haiku, gpu:qwen3"
[aliases]
haiku = "anthropic:claude-haiku-4-5"
[providers.gpu]
kind = "vllm"
base_url = "http://127.0.0.1:1/v1"
key_env = "GPU_KEY"
capabilities = { tools = true, top_k = false }
context_window = 32768
[prices."gpu:qwen3"]
input = 0.25
output = 1
"""


@dataclass(frozen=True)
class WireUnderTest:
    """How a provider is reached whose server is at `url` (without a path)."""

    spec: str
    path: str
    key: str
    address: str
    also: tuple[str, str] = ("", "")
    """Another variable, and its value."""


WIRES = {
    "anthropic": WireUnderTest(
        "anthropic:claude-haiku-4-5", "", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"
    ),
    "openai": WireUnderTest("openai:gpt-4o-mini", "/v1", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "responses": WireUnderTest(
        "openai:gpt-4o-mini",
        "/v1",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        ("LORIMER_OPENAI_API", "responses"),
    ),
    "google": WireUnderTest(
        "google:gemini-2.5-flash", "", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"
    ),
    "vllm": WireUnderTest("vllm:qwen3", "/v1", "VLLM_API_KEY", "LORIMER_VLLM_BASE_URL"),
}
"""Every wire there is, by one line each."""


@pytest.fixture
def host_file(own_place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = own_place / "models.toml"
    path.write_text(FILE, "utf-8")
    monkeypatch.setenv("LORIMER_MODELS", str(path))
    return path


def point(wire: str, url: str, monkeypatch: pytest.MonkeyPatch, key: str = KEY) -> str:
    """Set the wire's variables; its spec."""
    monkeypatch.setenv(WIRES[wire].key, key)
    monkeypatch.setenv(WIRES[wire].address, url + WIRES[wire].path)
    if WIRES[wire].also[0]:
        monkeypatch.setenv(*WIRES[wire].also)
    return WIRES[wire].spec


def one_line(result: Result) -> str:
    """The one line of a check that failed, which is whole: what, code, what to do."""
    assert result.exit_code == 1, result.output
    assert result.stderr == ""
    assert KEY not in result.output
    (line,) = result.stdout.splitlines()
    assert line.startswith(" ✗ ")
    return line


# ---------------------------------------------------------------- ls


def test_ls_tells_names_and_providers(host_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("LORIMER_PROVIDER_BAD", "nonsense")
    shown = invoke("models", "ls", "--output-format", "json")
    assert shown.exit_code == 0, shown.output
    told: dict[str, Any] = json.loads(shown.stdout)
    assert told["host_file"] == str(host_file)
    names = {name["name"]: name for name in told["names"]}
    assert names["fast"]["kind"] == "tier"
    haiku, qwen = names["fast"]["models"]
    assert haiku["spec"] == "anthropic:claude-haiku-4-5"
    assert haiku["ready"] is True
    assert haiku["input_usd_per_million"] == pytest.approx(1)
    assert haiku["output_usd_per_million"] == pytest.approx(5)
    assert haiku["context_window"] == 200_000
    assert qwen["ready"] is False
    assert "set GPU_KEY" in qwen["missing"]
    assert (qwen["input_usd_per_million"], qwen["context_window"]) == (0.25, 32768)
    assert names["haiku"] == {"name": "haiku", "kind": "alias", "models": [haiku]}
    providers = {one["name"]: one for one in told["providers"]}
    assert providers["anthropic"]["ready"]
    assert providers["gpu"]["key_variable"] == "GPU_KEY"
    assert providers["ollama"]["base_url"] == "http://localhost:11434/v1"
    assert providers["bad"]["missing"].startswith("LORIMER_PROVIDER_BAD describes no provider")
    monkeypatch.setenv("GPU_KEY", KEY)
    told = json.loads(invoke("models", "ls", "--output-format", "json").stdout)
    able = told["names"][0]["models"][1]["capabilities"]
    assert (able["tools"], able["top_k"]) == (True, False)


def test_ls_as_a_table(host_file: Path) -> None:
    shown = invoke("models", "ls")
    assert shown.exit_code == 0, shown.output
    assert "gpu:qwen3" in shown.stdout
    assert "set ANTHROPIC_API_KEY" in " ".join(shown.stdout.split())
    assert str(host_file) in shown.stdout.replace("\n", "")


def test_ls_imports_no_sdk(host_file: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom lorimer.cli.app import lorimer\n"
        "result = CliRunner().invoke(lorimer, ['models', 'ls'])\n"
        "assert result.exit_code == 0, result.output\n"
        "print([name for name in ('anthropic', 'openai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_fault_of_a_host_file_has_a_line(own_place: Path) -> None:
    path = own_place / "bad.toml"
    path.write_text('[tiers]\na = ""\n[providers.x]\nkey = "sk-1"\n', "utf-8")
    for words in (["models", "ls"], ["models", "check"], ["run", "hi"]):
        result = invoke(*words, "--models", str(path))
        assert result.exit_code == 2
        assert "has 3 errors" in result.stderr
        assert "key_env" in result.stderr
        assert "Traceback" not in result.stderr
    result = invoke("models", "ls", "--models", "absent.toml")
    assert result.exit_code == 2
    assert "the host file absent.toml does not exist" in result.stderr


def test_the_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "config" / "lorimer"
    folder.mkdir(parents=True)
    (folder / "models.toml").write_text('[tiers]\nmine = "scripted:echo"\n', "utf-8")
    assert '"mine"' in invoke("models", "ls", "--output-format", "json").stdout


# ---------------------------------------------------------------- runs


def test_a_run_on_a_tier_of_the_file(own_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--models` is remembered: a resumed run finds its tier without it."""
    answer = HangsOnce(0, Turn("It is done."))
    with FakeLLMServer(answer, api_key=KEY) as server:
        path = own_place / "mine.toml"
        path.write_text(
            f'[tiers]\nmine = "gpu:qwen3:low"\n[providers.gpu]\nbase_url = "{server.openai_url}"\n'
            'key_env = "GPU_KEY"\n',
            "utf-8",
        )
        monkeypatch.setenv("GPU_KEY", KEY)
        words = ("run", "-m", "mine", "--preset", "minimal", "--models", "mine.toml", "hi")
        with Running(*words) as process:
            asked(server, 1)
            process.send(signal.SIGTERM)
            assert process.wait().code == 143
        result = invoke("runs", "resume", last_run())
        assert result.exit_code == 0, result.output
        assert result.stdout == "It is done.\n"
        assert server.requests[0].model == "qwen3"
        assert server.requests[0].body["reasoning_effort"] == "low"


def test_explain_says_what_is_known_of_a_name(host_file: Path, own_place: Path) -> None:
    made = own_place / "agent.yaml"
    for model, expected in (
        ("fast", "fast, which is by {file}: claude-haiku-4-5 of anthropic, else qwen3 of gpu"),
        ("gpu:qwen3:low", "qwen3 of gpu, effort low;"),
        ("slow", "or a tier or alias of the host that runs it; here 'slow' is none"),
        ("claude-haiku-4-5", "claude-haiku-4-5 of anthropic;"),
    ):
        assert invoke("manifest", "new", "-m", model, "-o", str(made), "--force").exit_code == 0
        shown = invoke("manifest", "explain", str(made))
        assert shown.exit_code == 0, shown.output
        assert expected.format(file=host_file) in shown.stdout


# ---------------------------------------------------------------- check


@pytest.mark.parametrize("wire", WIRES)
def test_check_says_who_answered(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn(
        tool_calls=(ToolCall("1", "ready", {"ok": True}),), usage=FakeUsage(20, 5), model="m-2026"
    )
    with FakeLLMServer([turn], api_key=KEY) as server:
        spec = point(wire, server.url, monkeypatch)
        result = invoke("models", "check", spec)
        assert result.exit_code == 0, result.output
        assert len(server.requests) == 1
        body = server.requests[0].body
    assert f" ✓ {spec}  m-2026 answered in " in result.stdout
    if wire == "vllm":
        assert "tools" not in body
    else:
        assert "tools work" in result.stdout
        assert "$0.0000" in result.stdout


def test_check_says_when_tools_are_off_or_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer([Turn("ok"), Turn("ok")]) as server:
        off = invoke("models", "check", point("vllm", server.url, monkeypatch))
        unused = invoke("models", "check", point("openai", server.url, monkeypatch))
    assert "tools off" in off.stdout
    assert "tools were not used" in unused.stdout
    assert (off.exit_code, unused.exit_code) == (0, 0)


def test_check_asks_all_that_names_stand_for(
    host_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPU_KEY", KEY)
    with FakeLLMServer([Turn("ok")]) as server:
        point("anthropic", server.url, monkeypatch)
        result = invoke("models", "check", "--output-format", "json")
    first, second = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (first["spec"], first["ok"]) == ("anthropic:claude-haiku-4-5", True)
    assert (second["spec"], second["code"]) == ("gpu:qwen3", "exec.api.network")
    assert "127.0.0.1:1" in second["advice"]


def test_check_without_anything_to_check() -> None:
    result = invoke("models", "check")
    assert result.exit_code == 2
    assert "there is nothing to check" in result.stderr


def test_what_could_cost_more_than_a_cent_is_not_asked(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_place / "m.toml"
    path.write_text('[prices."openai:dear"]\ninput = 1\noutput = 900\n', "utf-8")
    monkeypatch.setenv("LORIMER_PROVIDER_FAR", "https://gpu.invalid")
    with FakeLLMServer([]) as server:
        point("openai", server.url, monkeypatch)
        dear = one_line(invoke("models", "check", "openai:dear", "--models", str(path)))
        assert "could cost more than $0.01 (exec.api.unpriced)" in dear
        unknown = one_line(invoke("models", "check", "far:some-model"))
        assert "its price is not known (exec.api.unpriced)" in unknown
        assert "--allow-unpriced" in unknown
        assert server.requests == []


def test_a_dear_model_gets_a_shorter_answer(
    own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_place / "m.toml"
    path.write_text('[prices."openai:dear"]\ninput = 1\noutput = 100\n', "utf-8")
    with FakeLLMServer([Turn("ok")]) as server:
        point("openai", server.url, monkeypatch)
        assert invoke("models", "check", "openai:dear", "--models", str(path)).exit_code == 0
        limit = server.requests[0].body["max_tokens"]
    assert isinstance(limit, int)
    assert 16 <= limit <= 90  # 0.01 $ at 100 $ a million, less the prompt


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("input", "output"), [(5, 25), (15, 75), (15, 120), (30, 60), (0, 500)])
def test_the_most_that_a_check_can_cost_is_a_cent(
    wire: str, input: float, output: float, own_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were each character a token, with what a vendor adds to tell of tools: 804 at most."""
    path = own_place / "m.toml"
    with FakeLLMServer([Turn("ok")]) as server:
        spec = point(wire, server.url, monkeypatch)
        path.write_text(f'[prices."{spec}"]\ninput = {input}\noutput = {output}\n', "utf-8")
        assert invoke("models", "check", spec, "--models", str(path)).exit_code == 0
        (seen,) = server.requests
    limits = re.findall(r"'max\w*okens': (\d+)", str(seen.body))
    tools = seen.body.get("tools")
    prompt = len("Call the tool `ready` with ok set to true. If you have no tools, answer: ok.")
    prompt += len(str(tools)) + 804 if tools else 0
    assert prompt * input + int(limits[0]) * output <= 10_000, "millionths of a dollar"
    assert limits[1:] == []


def test_what_no_price_is_known_of_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer([Turn("ok"), Turn("ok")]) as server:
        spec = point("vllm", server.url, monkeypatch)
        assert "price unknown" in invoke("models", "check", spec).stdout
        (told,) = json.loads(invoke("models", "check", spec, "--output-format", "json").stdout)
    assert told["cost_usd"] is None


# ---------------------------------------------------------------- bad input, over every wire


@pytest.mark.parametrize("wire", WIRES)
def test_a_wrong_key(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer([Turn("ok")], api_key="another") as server:
        line = one_line(invoke("models", "check", point(wire, server.url, monkeypatch)))
    assert Code.EXEC_API_AUTH_INVALID_KEY.value in line
    assert f"Check {WIRES[wire].key}" in line


@pytest.mark.parametrize("wire", WIRES)
def test_no_key(wire: str) -> None:
    line = one_line(invoke("models", "check", WIRES[wire].spec))
    assert Code.EXEC_API_NO_CLIENT.value in line
    assert WIRES[wire].key in line or WIRES[wire].address in line


@pytest.mark.parametrize("wire", WIRES)
def test_a_wrong_url(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer([Turn("ok")]) as server:
        line = one_line(
            invoke("models", "check", point(wire, f"{server.url}/elsewhere", monkeypatch))
        )
    assert Code.EXEC_API_BAD_REQUEST.value in line
    assert f"Check the base URL {server.url}/elsewhere" in line


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("scheme", ["gpu:8000", "ftp://gpu"])
def test_no_url_at_all(wire: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WIRES[wire].key, KEY)
    monkeypatch.setenv(WIRES[wire].address, scheme)
    line = one_line(invoke("models", "check", WIRES[wire].spec))
    assert "is not an http:// or https:// URL" in line
    assert Code.EXEC_API_NO_CLIENT.value in line


@pytest.mark.parametrize("wire", WIRES)
def test_no_network(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        line = one_line(invoke("models", "check", point(wire, url, monkeypatch)))
    assert Code.EXEC_API_NETWORK.value in line
    assert f"Check the network, and the address {url}" in line


@pytest.mark.parametrize("wire", WIRES)
def test_somebody_elses_server(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A web page answers, with 200."""
    page = Turn(faults=(Status(200, body=b"<html>Welcome to nginx</html>"),))
    with FakeLLMServer([page]) as server:
        line = one_line(invoke("models", "check", point(wire, server.url, monkeypatch)))
    assert Code.EXEC_API_STREAM_INCOMPLETE.value in line
    assert "speak this provider's language?" in line


def body(**error: str) -> bytes:
    return json.dumps({"type": "error", "error": error}).encode()


def openai_model(model: str) -> bytes:
    return body(message=f"The model `{model}` does not exist", code="model_not_found")


REGION = body(
    code="unsupported_country_region_territory",
    message="Country, region, or territory not supported",
    type="request_forbidden",
)
ANSWERS: list[tuple[str, Status, Code, str]] = [
    ("wrong model", Status(404, body=openai_model("x")), Code.EXEC_API_BAD_REQUEST,
     "Check the model's name."),
    ("wrong model, Anthropic", Status(404, body=body(type="not_found_error", message="model: x")),
     Code.EXEC_API_BAD_REQUEST, "Check the model's name."),
    ("wrong model, Google", Status(404, body=body(
        status="NOT_FOUND", message="models/x is not found for API version v1beta")),
     Code.EXEC_API_BAD_REQUEST, "Check the model's name."),
    ("wrong model, Ollama", Status(404, body=b'{"error":{"message":"model \\"x\\" not found"}}'),
     Code.EXEC_API_BAD_REQUEST, "Check the model's name."),
    ("region, OpenAI", Status(403, body=REGION), Code.EXEC_API_TERMINAL, "use another provider"),
    ("region, Anthropic", Status(403, body=body(type="forbidden", message="Request not allowed")),
     Code.EXEC_API_TERMINAL, "use another provider"),
    ("region, Google", Status(400, body=body(
        status="FAILED_PRECONDITION",
        message="User location is not supported for the API use.")),
     Code.EXEC_API_TERMINAL, "use another provider"),
    ("quota, OpenAI", Status(429, body=body(
        code="insufficient_quota", message="You exceeded your current quota")),
     Code.EXEC_API_TERMINAL, "plan and billing"),
    ("quota, Anthropic", Status(400, body=body(
        type="invalid_request_error", message="Your credit balance is too low")),
     Code.EXEC_API_TERMINAL, "plan and billing"),
    ("quota, OpenRouter", Status(402, body=body(message="Insufficient credits")),
     Code.EXEC_API_TERMINAL, "plan and billing"),
    ("rate", Status(429), Code.EXEC_API_RATE_LIMITED, "Wait a little"),
    ("down", Status(503), Code.EXEC_API_SERVER_ERROR, "Try again later"),
    ("forbidden", Status(403, "not yours"), Code.EXEC_API_AUTH_INVALID_KEY, "what the key may use"),
]  # fmt: skip


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("answer", "code", "advice"),
    [row[1:] for row in ANSWERS],
    ids=[row[0] for row in ANSWERS],
)
def test_what_providers_answer(
    wire: str, answer: Status, code: Code, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLLMServer([Turn(faults=(answer,))]) as server:
        line = one_line(invoke("models", "check", point(wire, server.url, monkeypatch)))
        assert len(server.requests) == 1
    assert f"({code.value})" in line
    assert advice in line


def fault_of_a_run(*words: str) -> tuple[str, str]:
    """The two lines in which a run says what went wrong, and what to do."""
    result = invoke("run", "hi", "--preset", "minimal", *words)
    assert result.exit_code == 1, result.output
    assert KEY not in result.stderr
    error, hint = result.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return error, hint


ONCE = [row for row in ANSWERS if not row[2].is_recoverable]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("answer", "code", "advice"), [row[1:] for row in ONCE], ids=[row[0] for row in ONCE]
)
def test_a_run_says_what_providers_answer(
    wire: str, answer: Status, code: Code, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLLMServer([Turn(faults=(answer,))]) as server:
        error, hint = fault_of_a_run("-m", point(wire, server.url, monkeypatch))
        assert len(server.requests) == 1
    assert error.endswith(f"({code.value})")
    assert advice in hint


@pytest.mark.parametrize("wire", WIRES)
def test_a_run_says_that_its_address_is_wrong(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer([Turn("ok")]) as server:
        url = f"{server.url}/elsewhere"
        _, hint = fault_of_a_run("-m", point(wire, url, monkeypatch))
    assert f"{url}{WIRES[wire].path}" in hint
    assert ("/v1 is added" in hint) == (wire in ("anthropic", "google"))


def test_a_run_names_the_variable_of_the_key_that_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MINE", KEY)
    with FakeLLMServer([], api_key="another") as server:
        words = ("-m", "anthropic:claude-haiku-4-5", "--base-url", server.url)
        _, hint = fault_of_a_run(*words, "--api-key-env", "MINE")
    assert hint == "hint: Check MINE and what the key may use."


@pytest.mark.parametrize("wire", WIRES)
def test_a_program_is_told_what_to_do(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without a command line to say it: every error that a provider answers has a hint."""
    for _, answer, code, _ in ANSWERS:
        with FakeLLMServer([Turn(faults=(answer,))]) as server:
            pipeline = PipelinePresets.minimal(model=point(wire, server.url, monkeypatch))
            pipeline.swap_strategy("api", "retry", "no_retry")
            result = pipeline.run_sync("hi", raise_on_error=False)
        assert result.code is code
        assert result.exception is not None
        assert result.exception.hint


def test_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    from lorimer.testing.faults import Hang

    with FakeLLMServer([Turn(faults=(Hang(),))]) as server:
        spec = point("openai", server.url, monkeypatch)
        line = one_line(invoke("models", "check", "--timeout", "0.3s", spec))
    assert "openai did not answer within 0.3 s (exec.api.timeout)" in line


def test_check_as_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer([Turn("ok")]) as server:
        done = run_process("models", "check", point("openai", server.url, monkeypatch))
    assert (done.code, done.err) == (0, "")


def test_doctor_reads_the_host_file(host_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorimer.cli.doctor._sandbox", lambda: iter(()))  # tries every level
    assert f"host file {host_file}" in invoke("doctor").stdout.replace("\n", "")
    host_file.write_text("[nope]\n", "utf-8")
    told = invoke("doctor")
    assert told.exit_code == 1
    assert "nope: there is no such section" in told.stdout
