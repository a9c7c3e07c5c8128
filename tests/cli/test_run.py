"""`lorimer run` against real wires: what comes out where, and what may be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorimer.presets import preset_manifest
from lorimer.testing.fake_server import FakeLLMServer, Turn
from lorimer.testing.faults import Hang, Status
from tests.cli.support import by_turn, call, invoke, lines, listed

HELLO = Turn(text="Hello there.\n")


def test_the_answer_is_on_stdout_and_nothing_else_is() -> None:
    with FakeLLMServer([HELLO]) as server:
        result = invoke("run", "hi", "--base-url", server.url)
    assert (result.exit_code, result.stdout) == (0, "Hello there.\n")
    assert "ok: 1 turn" in result.stderr
    assert "10 tokens in, 5 out · $0.0001" in result.stderr


def test_openai_s_wire() -> None:
    with FakeLLMServer([HELLO]) as server:
        result = invoke("run", "hi", "-m", "openai:some-model", "--base-url", server.openai_url)
        assert [request.wire for request in server.requests] == ["openai"]
    assert (result.exit_code, result.stdout) == (0, "Hello there.\n")
    assert "price unknown" in result.stderr, "what has no price is not called free"


def test_json_is_one_object() -> None:
    with FakeLLMServer([HELLO]) as server:
        result = invoke("run", "hi", "--base-url", server.url, "--output-format", "json")
    data = json.loads(result.stdout)
    assert data["status"] == "ok"
    assert data["text"] == "Hello there.\n"
    assert data["usage"] == {"input_tokens": 10, "output_tokens": 5}
    assert data["run_id"] == listed()[0]["run_id"]


FORM = """{"type": "object", "properties": {"people": {"type": "integer", "minimum": 0}},
"required": ["people"], "additionalProperties": false}"""


@pytest.fixture
def form(tmp_path: Path) -> str:
    path = tmp_path / "form.json"
    path.write_text(FORM)
    return str(path)


@pytest.mark.parametrize("preset", ["agent", "chat"])
def test_an_answer_of_a_form_is_json_and_nothing_else(form: str, preset: str) -> None:
    turns = [Turn("About 126."), Turn('Here it is:\n```json\n{"people": 126}\n```')]
    with FakeLLMServer(turns) as server:
        words = ("run", "hi", "--preset", preset, "--output-schema", form)
        result = invoke(*words, "--base-url", server.url)
        assert len(server.requests) == 2
    assert (result.exit_code, result.stdout) == (0, '{"people":126}\n')
    with FakeLLMServer([turns[-1]]) as server:
        result = invoke(*words, "--base-url", server.url, "--output-format", "json")
    assert json.loads(result.stdout)["output"] == {"people": 126}


def test_an_answer_that_never_has_its_form_is_an_error(form: str) -> None:
    with FakeLLMServer([Turn("About 126.")] * 3) as server:
        result = invoke("run", "hi", "--output-schema", form, "--base-url", server.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not accepted after 3 tries" in result.stderr


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("[1]", (), "must hold fields with values"),
        ('{"type": "array"}', (), "form.json must have type 'object'"),
        ("{x", (), "not valid JSON"),
        (FORM, ("--preset", "evaluator"), "evaluated in another way (agent_evaluation)"),
    ],
)
def test_a_form_that_cannot_be_is_one_line(
    form: str, text: str, more: tuple[str, ...], says: str
) -> None:
    Path(form).write_text(text)
    result = invoke("run", "hi", "--output-schema", form, "-m", "scripted:echo", *more)
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[0]


def test_stream_json_is_the_facts_and_then_the_result() -> None:
    script = by_turn(call("Glob", pattern="*"), HELLO)
    with FakeLLMServer(script) as server:
        result = invoke("run", "hi", "--base-url", server.url, "--output-format", "stream-json")
    events = lines(result.stdout)
    facts = [event for event in events if event.get("seq") is not None]
    assert [fact["seq"] for fact in facts] == list(range(1, len(facts) + 1))
    assert [facts[0]["type"], facts[-1]["type"]] == ["run.start", "run.end"]
    assert (events[-1]["type"], events[-1]["status"]) == ("result", "ok")
    assert not [event for event in events if event["type"] == "text.delta"]


def test_stream_json_with_pieces_of_text() -> None:
    words = ("run", "hi", "--output-format", "stream-json", "--include-partial-messages")
    with FakeLLMServer([Turn(text=("Hel", "lo"))]) as server:
        result = invoke(*words, "--base-url", server.url)
    deltas = [event["data"] for event in lines(result.stdout) if event["type"] == "text.delta"]
    assert deltas == [{"text": "Hel"}, {"text": "lo"}]


def test_quiet_says_nothing_while_all_is_well() -> None:
    with FakeLLMServer([HELLO]) as server:
        result = invoke("run", "hi", "-q", "--base-url", server.url)
    assert (result.stdout, result.stderr) == ("Hello there.\n", "")


def test_the_task_comes_from_standard_input_or_a_file(own_place: Path) -> None:
    (own_place / "task.md").write_text("from a file", "utf-8")
    with FakeLLMServer(lambda _: HELLO) as server:
        assert invoke("run", "-", "--base-url", server.url, input="from a pipe").exit_code == 0
        assert invoke("run", "--input-file", "task.md", "--base-url", server.url).exit_code == 0
        words = ("run", "Review this:", "-", "--base-url", server.url)
        assert invoke(*words, input="+ x = 1").exit_code == 0
        asked = [json.dumps(request.body["messages"]) for request in server.requests]
    assert "from a pipe" in asked[0]
    assert "from a file" in asked[1]
    assert "Review this:\\n\\n+ x = 1" in asked[2]
    nothing = invoke(*words, input=" \n")
    assert (nothing.exit_code, "standard input is empty" in nothing.stderr) == (2, True)


def test_reading_is_free_and_the_rest_needs_a_rule(own_place: Path) -> None:
    (own_place / "notes.txt").write_text("remember", "utf-8")
    script = by_turn(
        call("Read", file_path="notes.txt"),
        call("Write", file_path="yes.txt", content="written"),
        call("Write", file_path="no.txt", content="written"),
        call("Bash", command="touch no-either"),
        HELLO,
    )
    with FakeLLMServer(script) as server:
        result = invoke("run", "go", "--base-url", server.url, "--allow", "Write(yes.txt)")
    assert result.exit_code == 0
    assert (own_place / "yes.txt").read_text("utf-8") == "written"
    assert sorted(path.name for path in own_place.iterdir()) == ["notes.txt", "yes.txt"]
    assert "✓ Read notes.txt" in result.stderr
    assert "✗ Write no.txt" in result.stderr
    assert "--allow 'Write(no.txt)' --allow 'Bash(touch no-either)'" in result.stderr


def test_tools_stay_in_the_workspace(own_place: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("s3cret", "utf-8")
    (own_place / "work").mkdir()
    script = by_turn(call("Read", file_path=str(tmp_path / "secret.txt")), HELLO)
    with FakeLLMServer(script) as server:
        result = invoke("run", "go", "--base-url", server.url, "--workspace", "work")
        assert "s3cret" not in json.dumps([request.body for request in server.requests])
    assert "outside the permitted folders" in result.stderr


def test_what_a_model_writes_cannot_move_the_cursor() -> None:
    script = by_turn(call("Bash", command="ls \x1b[2K\x1b[1A\u202efoo"), HELLO)
    with FakeLLMServer(script) as server:
        result = invoke("run", "go", "--base-url", server.url)
    assert "\x1b" not in result.stderr
    assert "ls \\x1b[2K\\x1b[1A\\u202efoo" in result.stderr


@pytest.mark.parametrize(
    ("words", "requests", "code"),
    [
        (("--max-turns", "3"), 3, "exec.loop.max_turns"),
        (("--max-cost-usd", "0.000001"), 0, "exec.limit.cost"),
    ],
)
def test_limits_stop_a_run_with_exit_code_3(
    words: tuple[str, ...], requests: int, code: str
) -> None:
    with FakeLLMServer(by_turn(call("Glob", pattern="*"))) as server:
        result = invoke("run", "go", "--base-url", server.url, *words)
        assert len(server.requests) == requests
    assert result.exit_code == 3
    assert f"({code})" in result.stderr
    assert "hint: Raise" in result.stderr
    assert result.stdout == ""


def test_the_time_limit() -> None:
    with FakeLLMServer([Turn(faults=(Hang(),))]) as server:
        result = invoke("run", "go", "--base-url", server.url, "--timeout", "0.3s")
    assert result.exit_code == 3, result.stderr
    assert "timeout: 1 turn" in result.stderr
    assert "error: Stopped after 0.3 s, the time limit of the run (exec.limit.timeout)" in (
        result.stderr
    )


def test_a_run_that_fails_says_why_and_ends_with_1() -> None:
    with FakeLLMServer([Turn(faults=(Status(401, "wrong key"),))]) as server:
        result = invoke("run", "go", "--base-url", server.url, "--output-format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "exec.api.auth.invalid_key"
    assert "(exec.api.auth.invalid_key)" in result.stderr


def test_a_retry_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Turn(faults=(Status(429, headers={"retry-after": "0"}),))
    with FakeLLMServer([failed, HELLO]) as server:
        result = invoke("run", "go", "--base-url", server.url)
    assert result.exit_code == 0
    assert "↻ asking again in" in result.stderr
    assert "(exec.api.rate_limited)" in result.stderr


def test_a_missing_key_is_told_before_any_run_is_begun() -> None:
    result = invoke("run", "hi")
    assert result.exit_code == 2
    assert "set ANTHROPIC_API_KEY (exec.api.no_client)" in result.stderr
    assert listed() == []
    result = invoke("run", "hi", "-m", "gpt-5.2")
    assert "set OPENAI_API_KEY (exec.api.no_client)" in result.stderr


def test_the_vendor_s_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer([HELLO], api_key="sk-the-key-itself") as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-the-key-itself")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        result = invoke("run", "hi")
    assert result.exit_code == 0, result.stderr


def test_a_key_goes_only_where_it_was_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-the-key-itself")
    monkeypatch.setenv("MY_KEY", "sk-for-this-server")
    with FakeLLMServer(lambda _: HELLO) as server:
        first = invoke("run", "hi", "--base-url", server.url)
        second = invoke("run", "hi", "--base-url", server.url, "--api-key-env", "MY_KEY")
        assert [request.api_key for request in server.requests] == ["none", "sk-for-this-server"]
    assert "sk-" not in first.output + second.output


def test_a_manifest_is_run_and_flags_change_it(own_place: Path) -> None:
    assert invoke("manifest", "new", "--preset", "chat", "-o", "agent.yaml").exit_code == 0
    words = ("--manifest", "agent.yaml", "-m", "other-model", "--system", "Be brief.")
    with FakeLLMServer([HELLO]) as server:
        result = invoke("run", "hi", *words, "--base-url", server.url)
        body = server.requests[0].body
    assert result.exit_code == 0, result.stderr
    assert body["model"] == "other-model"
    assert "Be brief." in json.dumps(body["system"])
    assert "tools" not in body


def test_a_run_that_ends_well_without_an_answer_says_so(own_place: Path) -> None:
    made = preset_manifest("agent", model="scripted:obedient")
    made.tools.built_in = ["Glob"]
    made.stages["loop"].strategy_configs["controller"] = {"max_turns": 1}
    made.save("a.yaml")
    result = invoke("run", "--manifest", "a.yaml", 'CALL Glob {"pattern": "*"}')
    assert (result.exit_code, result.stdout.strip()) == (0, "")
    assert "ended before there was an answer (controller_max_turns); see: lorimer runs explain" in (
        result.stderr
    )
    assert "ended before" not in invoke("run", "--manifest", "a.yaml", "hello").stderr


def test_which_tools_the_model_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(*words: str) -> list[str]:
        with FakeLLMServer([HELLO]) as server:
            assert invoke("run", "hi", "--base-url", server.url, *words).exit_code == 0
            tools = server.requests[0].body.get("tools", [])
            return [tool["name"] for tool in tools]  # type: ignore[index, union-attr]

    usual = "Read Write Edit Glob Grep Bash Monitor WebFetch"
    assert names() == usual.split()
    assert names("--tools", "web") == ["WebFetch"], "nobody searches here"
    assert names("--tools", "web,WebSearch") == ["WebFetch", "WebSearch"]
    monkeypatch.setenv("SEARXNG_URL", "http://localhost:8080")
    assert names() == [*usual.split(), "WebSearch"]
    assert names("--tools", "Grep, Read") == ["Grep", "Read"]
    assert names("--tools", "") == []
    assert names("--preset", "chat") == []


def test_a_refused_key_says_that_none_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-mine")
    with FakeLLMServer(lambda _: HELLO, api_key="sk-mine") as server:
        words = ("run", "hi", "--base-url", server.url)
        refused = invoke(*words)
        assert invoke(*words, "--api-key-env", "ANTHROPIC_API_KEY").exit_code == 0
    assert refused.exit_code == 1
    assert (
        "hint: The key in the environment is not sent to --base-url; to send it, add "
        "--api-key-env ANTHROPIC_API_KEY"
    ) in refused.stderr
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with FakeLLMServer(lambda _: HELLO, api_key="sk-mine") as server:
        told = invoke("run", "hi", "--base-url", server.url).stderr
    export = "export ANTHROPIC_API_KEY=..., and add --api-key-env ANTHROPIC_API_KEY"
    assert f"hint: If it wants a key: {export}" in told


def test_a_program_gets_the_answer_as_it_is() -> None:
    task = "printf '\x1b[31mred\x1b[0m'"
    assert invoke("run", "--preset", "minimal", "-m", "scripted:echo", task).stdout == f"{task}\n"


@pytest.mark.parametrize("url", ["notaurl", "ftp://x", "http://x:port"])
def test_a_base_url_that_is_none_is_not_called_a_missing_key(url: str) -> None:
    result = invoke("run", "hi", "--base-url", url)
    assert result.exit_code == 2
    assert "the base URL for 'anthropic' is not an http:// or https:// URL" in result.stderr
    assert url in result.stderr


def test_where_a_request_went_that_found_nothing() -> None:
    with FakeLLMServer([Turn(faults=(Status(404, "no such page"),))]) as server:
        result = invoke("run", "hi", "-m", "openai:x", "--base-url", f"{server.url}/")
        assert f"hint: Does the base URL end in /v1? It is {server.url}" in result.stderr


def test_the_address_that_could_not_be_reached() -> None:
    from lorimer.cli.call import Call
    from lorimer.cli.remedy import remedy
    from lorimer.core.errors import APIError, ExecutorErrorCode

    asked = "claude-sonnet-4-6"
    error = APIError("no route", code=ExecutorErrorCode.EXEC_API_NETWORK)
    vendor = remedy(error, asked, Call())
    assert vendor.startswith("The address tried was https://api.anthropic.com: check the network")
    assert "--base-url or ANTHROPIC_BASE_URL" in vendor
    own = remedy(error, asked, Call(base_url="http://me:p4ss@localhost:9/"))
    assert own == "The address tried was http://***@localhost:9: check the network"


def test_a_model_without_a_price_under_a_cost_limit() -> None:
    with FakeLLMServer([HELLO]) as server:
        words = ("run", "hi", "-m", "openai:x", "--base-url", server.openai_url)
        result = invoke(*words, "--max-cost-usd", "1")
        assert "hint: Add --allow-unpriced" in result.stderr
        assert len(server.requests) == 0
        assert invoke(*words, "--max-cost-usd", "1", "--allow-unpriced").exit_code == 0


def test_a_model_s_own_provider_said_twice_is_no_fault() -> None:
    with FakeLLMServer(lambda _: HELLO) as server:
        words = ("run", "hi", "--provider", "openai", "--base-url", server.openai_url, "-m")
        assert invoke(*words, "openai:x").exit_code == 0
        assert invoke(*words, "anthropic/x").exit_code == 0
        assert [seen.body["model"] for seen in server.requests] == ["x", "anthropic/x"]
