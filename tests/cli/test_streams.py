"""Standard streams that are closed, or take nothing."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from tempfile import TemporaryFile

import pytest

from lorimer.cli import main
from lorimer.cli.fail import INTERRUPTED
from lorimer.testing.fake_server import FakeLLMServer, Turn
from tests.cli.support import PATIENCE_S, Done, last_run, listed
from tests.forker import Forked


def shell(*words: str, then: str) -> Done:
    """The command line as a shell runs it, with these redirections."""
    command = shlex.join([sys.executable, "-m", "lorimer", *words])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} {then}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        timeout=PATIENCE_S,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def to_a_full_device(*words: str) -> Done:
    """The command line in a process of its own whose standard output takes nothing."""
    with open("/dev/full", "wb") as full, TemporaryFile() as said:
        with open(os.devnull, "rb") as nothing:
            streams = (nothing.fileno(), full.fileno(), said.fileno())
            process = Forked(words, dict(os.environ), streams)
        code = process.wait(PATIENCE_S)
        said.seek(0)
        return Done(code, "", said.read().decode())


def asks(server: FakeLLMServer) -> tuple[str, ...]:
    """On the wire whose SDK is imported in half the time of Anthropic's."""
    return ("run", "hi", "-m", "vllm:some-model", "--base-url", f"{server.url}/v1")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_stop_a_run(closed: str) -> None:
    with FakeLLMServer([Turn(text="done")]) as server:
        # connections too may be given the numbers of the streams; the SDK takes a second
        words = asks(server) if closed.count("&") == 3 else ("run", "hi", "-m", "scripted:obedient")
        done = shell(*words, then=closed)
    assert done.code == 0, done.err
    assert done.out == ("" if " >&-" in f" {closed}" else "done\n")
    assert "Traceback" not in done.err
    assert [run["status"] for run in listed()] == ["ok"]


def test_a_task_from_a_closed_standard_input() -> None:
    done = shell("run", "-", then="<&-")
    assert done.code == 2
    assert done.err.startswith("error: standard input is closed\n")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
@pytest.mark.parametrize("form", ["text", "json", "stream-json"])
def test_an_answer_that_nothing_takes_is_kept(form: str) -> None:
    with FakeLLMServer([Turn(text="Hello.")]) as server:
        done = to_a_full_device(*asks(server), "--output-format", form)
    assert done.code == 1
    kept = "the run" if form == "stream-json" else "the answer"
    assert done.err.splitlines()[-1] == (
        f"error: cannot write to standard output: No space left on device; {kept} is kept: "
        f"lorimer runs show {last_run()[:12]}"
    )
    assert "Traceback" not in done.err


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_help_that_nothing_takes() -> None:
    done = shell("--help", then="> /dev/full")
    told = "error: cannot write to standard output: No space left on device\n"
    assert (done.code, done.err) == (1, told)


def test_a_second_ctrl_c_while_the_first_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def told(error: Exception, store: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorimer.cli.app._told", told)
    monkeypatch.setattr(sys, "argv", ["lorimer", "nosuch"])
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == INTERRUPTED
    assert capfd.readouterr().err == ""


def test_ctrl_c_while_modules_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorimer.cli._fill_closed_streams", begun)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == INTERRUPTED
