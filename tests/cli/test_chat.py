"""`lorimer chat` and `lorimer sessions`."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from lorimer.testing.fake_server import FakeLLMServer, Turn
from lorimer.testing.faults import Hang
from tests.cli.support import Running, asked, by_turn, call, in_terminal, invoke, last_run

ECHO = ("-m", "scripted:echo")


def chat(typed: str, *words: str) -> tuple[int, str, str]:
    result = invoke("chat", *ECHO, *words, input=typed)
    return result.exit_code, result.stdout, result.stderr


def sessions() -> list[dict[str, object]]:
    return [json.loads(line) for line in invoke("sessions", "ls", "--json").stdout.splitlines()]


def test_it_answers_line_by_line_and_tells_the_cost() -> None:
    code, out, err = chat("hello\n\nfirst \\\nsecond\n")
    assert code == 0
    assert out == "hello\nfirst \nsecond\n"
    assert err.count("10 in, 5 out") == 2
    assert "in 2 answers" in err


def test_it_goes_on_where_it_ended() -> None:
    chat("hello\n")
    chat("another\n")
    assert [row["title"] for row in sessions()] == ["another", "hello"]
    _, out, _ = chat("/history\nmore\n", "--continue")
    assert out == "> another\n  another\nmore\n"
    hello = str(sessions()[1]["session_id"])
    _, out, _ = chat("/history\n", "--session", hello[:16])
    assert out == "> hello\n  hello\n"
    assert [row["message_count"] for row in sessions()] == [4, 2]


def test_commands() -> None:
    code, out, err = chat("one\n/info\n/new\ntwo\n/sessions\n/quit\nnever\n")
    assert code == 0
    assert out == "one\ntwo\n"
    assert "2 messages · 1 answer · 1 model call" in err
    assert "  one\n" in err and "* session_" in err
    _, _, help_ = chat("/help\n")
    assert all(f"/{word}" in help_ for word in ("resume", "drop", "open", "exit"))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("/opne\n", "there is no /opne; did you mean 'open'?"),
        ("/open\n", "/open needs the id"),
        ("/open nope\n", "There is no session 'nope'"),
        ("/resume\n", "nothing is interrupted"),
        ("/drop\n", "nothing is interrupted"),
    ],
)
def test_wrong_commands_are_told_and_the_chat_goes_on(typed: str, told: str) -> None:
    _, out, err = chat(typed + "hi\n")
    assert told in err
    assert out == "hi\n"


def test_what_to_do_next_names_the_store() -> None:
    told = invoke("chat", *ECHO, "--store", "kept.db", input="/open nope\n").stderr
    assert "hint: See: lorimer sessions ls --store kept.db" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--continue",), "there is no conversation to continue"),
        (("--continue", "--session", "x"), "give one of them"),
        (("--session", "x"), "There is no session 'x'"),
        (("--preset", "minimal"), "remembers nothing"),
        (("--preset", "agnet"), "did you mean 'agent'"),
        (("--preset", "chat", "--manifest", __file__), "give one of them"),
    ],
)
def test_wrong_options_take_a_line(words: tuple[str, ...], told: str) -> None:
    code, out, err = chat("hi\n", *words)
    assert told in err
    assert code in (1, 2)
    assert out == ""
    assert "Traceback" not in err


def test_an_answer_that_fails_is_told_and_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lorimer.testing.faults import Status

    turns = [Turn("no", faults=(Status(400),)), Turn("yes")]
    with FakeLLMServer(turns) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        result = invoke("chat", "--preset", "chat", "-m", "claude-sonnet-4-6", input="a\nb\n")
    assert "exec.api.bad_request" in result.stderr
    assert result.stdout == "yes\n"
    assert result.exit_code == 0, "the last answer was good"


def test_tools_ask_and_what_they_do_is_shown(
    monkeypatch: pytest.MonkeyPatch, own_place: Path
) -> None:
    script = by_turn(call("Write", file_path="a.txt", content="hi"), Turn("Written."))
    with FakeLLMServer(script) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        done = in_terminal(
            *("chat", "-m", "claude-sonnet-4-6"),
            keys=[
                (b"> ", b"write it\n"),
                (b"[n]o", b"y\n"),
                (b"Written.", b""),
                (b"> ", b"\x04"),
            ],
        )
    assert (own_place / "a.txt").read_text() == "hi"
    assert done.code == 0
    assert "Write" in done.out and "a.txt" in done.out
    assert "\x1b[31m" not in done.out, "nothing failed"


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [Turn("never", faults=(Hang(),)), Turn("here")]
    with FakeLLMServer(turns) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        words = ("chat", "--preset", "chat", "-m", "claude-sonnet-4-6")
        with Running(*words, told=True) as process:
            process.write("one\n")
            asked(server, 1)
            process.send(signal.SIGINT)
            process.write("two\n")
            done = process.wait()
    assert "stopped" in done.err
    assert (done.code, done.out) == (0, "here\n")
    assert sessions()[0]["runs"] == 2, "the stopped one has an end of its own"


def test_an_answer_cut_off_by_a_kill_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [Turn("never", faults=(Hang(),)), Turn("here"), Turn("more")]
    words = ("--preset", "chat", "-m", "claude-sonnet-4-6")
    with FakeLLMServer(turns) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        with Running("chat", *words, told=True) as process:
            process.write("one\n")
            asked(server, 1)
        refused = invoke("chat", *words, "--continue", input="two\n")
        assert "unfinished run" in refused.stderr
        result = invoke("chat", *words, "--continue", input="/resume\ntwo\n")
    assert result.stdout == "here\nmore\n"
    assert sessions()[0]["message_count"] == 4


def test_what_a_model_without_a_price_has_cost_is_not_told_as_nothing() -> None:
    chat("a\n")
    told = invoke("sessions", "ls").stdout
    assert "–" in told
    assert "$0.00" not in told


def test_deleting() -> None:
    chat("a\n")
    chat("b\n")
    (b, a) = [str(row["session_id"]) for row in sessions()]
    asked_for = invoke("sessions", "delete", b)
    assert asked_for.exit_code == 2
    assert "--yes" in asked_for.stderr
    assert invoke("sessions", "delete", "--yes", b[:16]).exit_code == 0
    assert [row["session_id"] for row in sessions()] == [a]
    gone = invoke("sessions", "delete", "--yes", b)
    assert gone.exit_code == 2
    assert "There is no session" in gone.stderr
    nobody = invoke("sessions", "delete", "--yes", "")
    assert (nobody.exit_code, "There is no session ''" in nobody.stderr) == (2, True)
    assert [row["session_id"] for row in sessions()] == [a]


@pytest.mark.parametrize("columns", ["40", "80", ""])
def test_ids_are_listed_whole(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chat("a question that is as long as the room for questions in this list, and then some\n")
    session, run = str(sessions()[0]["session_id"])[:16], last_run()[:12]
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1" if columns else "")  # as a terminal of so many columns
    assert session in invoke("sessions", "ls").stdout
    assert run in invoke("runs", "ls").stdout


def test_no_conversations_yet() -> None:
    result = invoke("sessions", "ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "lorimer chat" in result.stderr
    assert invoke("sessions", "ls", "--json").stdout == ""


def test_a_model_cannot_move_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer([Turn("a\x1b[2Jb\n\tc")]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        result = invoke("chat", "--preset", "chat", "-m", "claude-sonnet-4-6", input="x\n")
    assert result.stdout == "a\\x1b[2Jb\n\tc\n"


def test_scripts_and_emoji_that_need_joiners_are_shown_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    persian, family = "می\u200cخواهم", "👩\u200d👧"
    pieces = ("می", "\u200c", "خواهم ", "👩\u200d", "👧", " a\u200db", "\u200d")
    with FakeLLMServer([Turn(pieces)]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        result = invoke("chat", "--preset", "chat", "-m", "claude-sonnet-4-6", input="x\n")
    assert result.stdout == f"{persian} {family} a\\u200db\\u200d\n", "hidden elsewhere"


def test_prose_is_broken_between_words_and_code_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "several words that go on " * 3
    code = "python program.py --with some --options that somebody may copy"
    wide = "中文字符" * 9
    said = f"{words}\n- {words}\n```\n{code}\n```\n{wide}\n" + "x" * 50
    with FakeLLMServer([Turn(said)]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        done = in_terminal(
            *("chat", "--preset", "chat", "-m", "claude-sonnet-4-6"),
            keys=[(b"> ", b"x\n"), (b"x" * 50, b""), (b"> ", b"\x04")],
            columns=40,
        )
    rows = [row.rstrip() for row in done.out.replace("\r", "").split("\n")]
    first = next(
        at for at, row in enumerate(rows) if row.endswith("words that go on several words")
    )
    assert rows[first + 1 : first + 4] == [
        "that go on several words that go on",
        "- several words that go on several words",
        "  that go on several words that go on",
    ]
    assert code in rows and wide[:20] in rows and wide[20:] in rows
    assert "x" * 50 in rows


def test_what_is_broken_loses_no_blank_and_parts_nothing_that_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link, voiced, family = f"https://example.org/{'x' * 40}", "か\u3099", "👩\u200d👧"
    wide = "か" * 19
    said = f"{'a' * 40} {link}\n{wide}{voiced}ab cd\n{wide}{family}\n{'b' * 35} 10\xa0km\nend."
    with FakeLLMServer([Turn(said)]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
        done = in_terminal(
            *("chat", "--preset", "chat", "-m", "claude-sonnet-4-6"),
            keys=[(b"> ", b"x\n"), (b"end.", b""), (b"> ", b"\x04")],
            columns=40,
        )
    rows = [row.rstrip() for row in done.out.replace("\r", "").split("\n")]
    assert link in rows, "joined to the word before"
    assert voiced in done.out and family in done.out
    assert "10\xa0km" in rows


def test_a_chat_takes_the_options_that_its_hints_name() -> None:
    with FakeLLMServer([Turn("here")]) as server:
        words = ("chat", "--preset", "chat", "-m", "openai:mine", "--base-url", server.openai_url)
        limited = (*words, "--max-cost-usd", "1", "--timeout", "30s")
        refused = invoke(*limited, input="x\n")
        assert "Add --allow-unpriced" in refused.stderr
        assert invoke(*limited, "--allow-unpriced", input="x\n").stdout == "here\n"
