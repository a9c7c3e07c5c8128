"""Standard streams that are closed, or take nothing."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from lorimer.cli import main
from lorimer.cli.fail import INTERRUPTED
from lorimer.testing.fake_server import FakeLLMServer, SeenRequest, Turn
from tests.cli.support import PATIENCE_S, Done, invoke, last_run, listed
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


def test_no_module_is_loaded_from_the_current_folder(own_place: Path) -> None:
    """It is the workspace: what lies there may be an agent's, or a stranger's."""
    for name in ("click", "rich", "typing_extensions", "pydantic"):
        (own_place / f"{name}.py").write_text("open('loaded', 'w')\n")
    done = shell("--version", then="")
    assert done.code == 0, done.err
    assert not (own_place / "loaded").exists()


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


def test_whoever_asks_a_closed_standard_input_says_so(own_place: Path) -> None:
    (own_place / "script.py").write_text("# %%\na = 1\n", "utf-8")
    (own_place / ".lorimer").mkdir()
    (own_place / ".lorimer" / "permissions.toml").write_text("allow = ['Read']\n", "utf-8")
    for words, told in (
        (("chat", "--preset", "chat", "-m", "scripted:echo"), "standard input is closed"),
        (("steps", "edit", "script.py", "1", "--code", "-"), "standard input is closed"),
        (("permissions", "trust"), "nobody can be asked whether to trust it"),
    ):
        done = shell(*words, then="<&-")
        assert (done.code, done.err.splitlines()[0]) == (2, f"error: {told}")
    (own_place / "latin1.txt").write_bytes("ü = 1".encode("latin-1"))
    done = shell("steps", "edit", "script.py", "1", "--code", "-", then="< latin1.txt")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: the new text is not UTF-8 text")


def beside(given: int, *words: str) -> Done:
    """A run that is given no `-`, with this as its standard input; it stays open on our side."""
    with TemporaryFile() as out, TemporaryFile() as err:
        streams = (given, out.fileno(), err.fileno())
        words = words or ("run", "Summarize this.", "-m", "scripted:obedient")
        code = Forked(words, dict(os.environ), streams).wait(PATIENCE_S)
        out.seek(0)
        err.seek(0)
        return Done(code, out.read().decode(), err.read().decode())


NOT_READ = (
    "note: standard input is not read; if it belongs to the task, add - behind that: "
    'lorimer run "..." -\n'
)


@pytest.mark.parametrize("closed", [True, False])
def test_what_waits_in_a_pipe_is_told_and_left_there(closed: bool) -> None:
    out, given = os.pipe()
    os.write(given, b"notes\n")
    if closed:
        os.close(given)
    done = beside(out)
    assert (done.code, done.out, done.err.count(NOT_READ)) == (0, "done\n", 1)
    assert os.read(out, 100) == b"notes\n"


def test_what_waits_in_a_pipe_beside_a_file_is_told_too(own_place: Path) -> None:
    (own_place / "task.txt").write_text("Which?", "utf-8")
    out, given = os.pipe()
    os.write(given, b"notes\n")
    told = beside(out, "run", "--input-file", "task.txt", "-m", "scripted:obedient").err
    assert told.count("note: standard input is not read beside --input-file; if it belongs to") == 1
    assert os.read(out, 100) == b"notes\n"


def test_what_comes_into_a_pipe_later_is_told_at_the_end() -> None:
    out, given = os.pipe()

    def answer(request: object) -> Turn:
        os.write(given, b"notes\n")
        return Turn(text="Which?")

    with FakeLLMServer(answer) as server:
        done = beside(out, *asks(server))
    assert (done.code, done.err.endswith(NOT_READ), done.err.count(NOT_READ)) == (0, True, 1)


def test_a_file_with_something_left_in_it_is_told_and_left_there() -> None:
    with TemporaryFile() as notes:
        notes.write(b"notes\n")
        notes.seek(2)
        assert NOT_READ in beside(notes.fileno()).err
        assert notes.read() == b"tes\n"
        assert NOT_READ not in beside(notes.fileno()).err  # it is at its end


def test_nothing_to_read_is_nothing_to_tell() -> None:
    idle, given = os.pipe()  # as cron and CI leave one: nobody closes it
    ended, closed = os.pipe()
    os.close(closed)
    screen, terminal = os.openpty()
    os.write(screen, b"typed ahead\n")
    with open(os.devnull, "rb") as nothing:
        for stream in (idle, ended, terminal, nothing.fileno()):
            done = beside(stream)
            assert (done.code, done.out, "note:" in done.err) == (0, "done\n", False)
    for stream in (idle, given, ended, screen, terminal):
        os.close(stream)


def test_standard_input_that_is_read_or_is_not_to_be_told_of(own_place: Path) -> None:
    (own_place / "notes.txt").write_text("notes", "utf-8")
    words = ("run", "Summarize this.", "-m", "scripted:echo")
    assert NOT_READ in shell(*words, then="< notes.txt").err
    assert shell(*words, "-q", then="< notes.txt").err == ""
    read = shell(*words, "-", then="< notes.txt")
    assert (read.out, "note:" in read.err) == ("Summarize this.\n\nnotes\n", False)


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
def test_a_chat_whose_answers_nothing_takes(own_place: Path) -> None:
    (own_place / "said.txt").write_text("Hello.\nAnd again.\n", "utf-8")
    done = shell("chat", "-m", "scripted:echo", then="< said.txt > /dev/full")
    told = "error: cannot write to standard output: No space left on device"
    assert (done.code, done.err.splitlines()[-1]) == (1, told)
    assert [run["status"] for run in listed()] == ["ok"]  # and nothing more was asked


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe stands for a disk that fills")
def test_a_run_whose_recording_finds_no_room_goes_on(own_place: Path) -> None:
    pipe = own_place / "said.jsonl"
    os.mkfifo(pipe)

    def read_its_first_line() -> None:
        with pipe.open("rb") as reader:
            reader.readline()

    reading = threading.Thread(target=read_its_first_line)
    reading.start()

    def answered(request: SeenRequest) -> Turn:
        reading.join()
        return Turn(text="Hello.")

    with FakeLLMServer(answered) as server:
        done = invoke(*asks(server), "--record", str(pipe))
    reading.join()
    assert (done.exit_code, done.stdout) == (1, "Hello.\n")
    assert done.stderr.splitlines()[-1] == (
        f"error: the recording is not whole: {pipe} cannot be written: Broken pipe"
    )
    assert [run["status"] for run in listed()] == ["ok"]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_help_that_nothing_takes() -> None:
    done = shell("--help", then="> /dev/full")
    told = "error: cannot write to standard output: No space left on device\n"
    assert (done.code, done.err) == (1, told)


def test_the_current_folder_was_removed(own_place: Path) -> None:
    gone = own_place / "gone"
    gone.mkdir()
    words = shlex.join([sys.executable, "-m", "lorimer", "run", "hi", "-m", "scripted:obedient"])
    done = subprocess.run(
        ["/bin/sh", "-c", f"cd {shlex.quote(str(gone))} && rmdir ../gone && exec {words}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    told = "error: the current folder no longer exists\nhint: Go to another one.\n"
    assert (done.returncode, done.stderr) == (2, told)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
@pytest.mark.parametrize("words", [("manifest", "schema"), ("runs", "ls")])
def test_what_nothing_takes_and_python_does_not_buffer(words: tuple[str, ...]) -> None:
    assert invoke("run", "hi", "-m", "scripted:obedient").exit_code == 0
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "lorimer", *words],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    told = "error: cannot write to standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


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
