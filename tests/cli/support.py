"""What the tests of the command line share."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from click.testing import CliRunner, Result

from lorimer.cli.app import lorimer
from lorimer.core.jsonable import JSON
from lorimer.testing.fake_server import FakeLLMServer, SeenRequest, ToolCall, Turn
from lorimer.testing.faults import Hang
from tests.forker import Forked

PATIENCE_S = 60.0


def invoke(*words: str, input: str | None = None) -> Result:
    """The command line in this process."""
    return CliRunner().invoke(lorimer, list(words), input=input)


def lines(text: str) -> list[Mapping[str, JSON]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def by_turn(*turns: Turn) -> Callable[[SeenRequest], Turn]:
    """A script that answers by how many answers the conversation has, so it can be asked again."""

    def answer(request: SeenRequest) -> Turn:
        messages = request.body["messages"]
        assert isinstance(messages, Sequence)
        said = [m for m in messages if isinstance(m, Mapping) and m["role"] == "assistant"]
        return turns[min(len(said), len(turns) - 1)]

    return answer


def call(name: str, **given: JSON) -> Turn:
    """An answer that makes one call."""
    return Turn(text=f"I use {name}.", tool_calls=(ToolCall(f"toolu_{name}", name, given),))


class HangsOnce:
    """A script whose answer number `at` never comes the first time it is asked for."""

    def __init__(self, at: int, *turns: Turn) -> None:
        self._at = at
        self._answer = by_turn(*turns)
        self._hung = False

    def __call__(self, request: SeenRequest) -> Turn:
        messages = request.body["messages"]
        assert isinstance(messages, Sequence)
        said = sum(isinstance(m, Mapping) and m["role"] == "assistant" for m in messages)
        if said == self._at and not self._hung:
            self._hung = True
            return Turn(text="never", faults=(Hang(),))
        return self._answer(request)


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    code: int
    out: str
    err: str


class Running:
    """The command line in a process of its own. With `told`, its standard input is what `write`
    says until it is waited for; else there is none."""

    def __init__(
        self, *words: str, env: Mapping[str, str] | None = None, told: bool = False
    ) -> None:
        given, out, err = os.pipe(), os.pipe(), os.pipe()
        own = {**os.environ, **(env or {})}
        self._process = Forked(words, own, (given[0], out[1], err[1]))
        for end in (given[0], out[1], err[1]):
            os.close(end)
        self._given = os.fdopen(given[1], "wb", buffering=0)
        if not told:
            self._given.close()
        self._out, self._err = (os.fdopen(end, "rb") for end in (out[0], err[0]))

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.send(signal.SIGKILL)
            self._process.wait(PATIENCE_S)
        finally:
            for each in (self._process, self._given, self._out, self._err):
                each.close()

    def write(self, text: str) -> None:
        """To its standard input."""
        self._given.write(text.encode())

    def line(self) -> str:
        """The next line of what it says."""
        return self._out.readline().decode()

    def note(self) -> str:
        """The next line of what it says on stderr."""
        return self._err.readline().decode()

    def read_a_line_and_go(self) -> None:
        """What `| head -1` does."""
        self._out.readline()
        self._out.close()

    def send(self, number: signal.Signals) -> None:
        self._process.send(number)

    def wait(self) -> Done:
        self._given.close()
        with ThreadPoolExecutor(2) as pool:
            read = [pool.submit(_rest, stream) for stream in (self._out, self._err)]
            try:
                code = self._process.wait(PATIENCE_S)
            except TimeoutError:
                self._process.send(signal.SIGKILL)
                said = [one.result() for one in read]
                raise AssertionError(f"it hangs: {said}") from None
            return Done(code, *(one.result() for one in read))


def _rest(stream: IO[bytes]) -> str:
    return "" if stream.closed else stream.read().decode()


def run_process(*words: str) -> Done:
    """The command line in a process of its own, to its end."""
    with Running(*words) as process:
        return process.wait()


def asked(server: FakeLLMServer, number: int) -> None:
    """Wait until the server was asked that often."""
    server.wait_until(lambda seen: len(seen.requests) >= number, PATIENCE_S)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something outside of this process."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """There is such a process, and it is no zombie."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def listed() -> list[Mapping[str, JSON]]:
    """The runs of the default store, as a program sees them."""
    result = invoke("runs", "ls", "--json")
    assert result.exit_code == 0, result.stderr
    return lines(result.stdout)


def last_run() -> str:
    """The id of the latest run."""
    return str(listed()[0]["run_id"])


def in_terminal(
    *words: str,
    keys: Sequence[tuple[bytes, bytes]],
    term: str = "xterm",
    columns: int = 100,
    pager: str = "cat",
) -> Done:
    """The command line on a terminal of its own, of 24 rows. Of each pair in `keys` the second is
    typed once the first is shown."""
    screen, terminal = os.openpty()
    size = {"COLUMNS": str(columns), "LINES": "24"}
    process = Forked(
        words,
        {**os.environ, "TERM": term, "PAGER": pager, **size},
        (terminal, terminal, terminal),
    )
    os.close(terminal)
    shown, seen = bytearray(), 0
    try:
        for wanted, typed in keys:
            while (at := shown.find(wanted, seen)) < 0:
                piece = _shown(screen)
                assert piece, f"it ended: {bytes(shown)!r}"
                shown += piece
            seen = at + len(wanted)
            os.write(screen, typed)
        while piece := _shown(screen):
            shown += piece
        return Done(process.wait(PATIENCE_S), shown.decode(), "")
    finally:
        process.send(signal.SIGKILL)
        process.wait(PATIENCE_S)
        os.close(screen)


def _shown(screen: int) -> bytes:
    """What comes next; nothing once nobody is left at this terminal."""
    try:
        return os.read(screen, 4096)
    except OSError as error:
        if error.errno != errno.EIO:  # Linux says the end so
            raise
        return b""
