"""Forks command lines for one process of the tests; see `forked.py`."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests import forked

ROOT = Path(__file__).parents[1]


@cache
def socket_path() -> str:
    """Where to ask; whoever answers there is started with the first question. It takes no warning
    while it imports, and so do those that it forks."""
    path = os.path.join(tempfile.mkdtemp(prefix="lorimer-forked-"), "socket")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.forked", path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    atexit.register(process.communicate)  # ends its standard input
    return path


class Forked:
    """A command line with an environment of its own, in a session of its own."""

    def __init__(
        self, words: Sequence[str], env: Mapping[str, str], streams: tuple[int, int, int]
    ) -> None:
        self._asked = forked.ask(socket_path(), list(words), dict(env), list(streams))
        self.pid = forked.answer(self._asked)
        self.status: int | None = None

    def send(self, number: signal.Signals) -> None:
        """Nothing once it is dead."""
        if self.status is None:
            with suppress(ProcessLookupError):  # its parent waited for it, and nobody asked yet
                os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """How it ended, as `subprocess` has it. Raises TimeoutError."""
        if self.status is None:
            self._asked.settimeout(timeout_s)
            self.status = forked.answer(self._asked)
            self._asked.close()
        return self.status

    def close(self) -> None:
        """However it ended: nobody asks any more."""
        self._asked.close()
