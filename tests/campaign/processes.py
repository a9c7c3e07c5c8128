"""Workers in processes of their own: started, stopped, killed and asked how they ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


class Parent:
    """Starts one process at a time; see `forks.py`. What they say goes into a file."""

    def __init__(self, errors: Path, module: str = "tests.campaign.worker_process") -> None:
        self._errors = errors
        self._pid = 0
        self._status: int | None = None
        with errors.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                bufsize=0,
            )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def start(self, order: DataclassInstance) -> None:
        """Begin a process; the one before it must be dead."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        self._status = None
        self._pid = int(self._line())

    @property
    def status(self) -> int | None:
        """How the worker ended, as `subprocess` has it; None: it lives."""
        assert self._process.stdout is not None
        if self._status is None and select.select([self._process.stdout], [], [], 0)[0]:
            self._status = int(self._line())
        return self._status

    def signal(self, number: int) -> None:
        """To the worker, dead or alive."""
        os.kill(self._pid, number)

    def freeze(self) -> None:
        """Stop the worker; returns when it stands still."""
        self.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._pid}/task")
        while any(_state(task) not in "TZX" for task in tasks.iterdir()):
            time.sleep(0.001)

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Until it is dead."""
        until = time.monotonic() + seconds
        while (status := self.status) is None:
            assert time.monotonic() < until, "a worker does not end"
            time.sleep(0.001)
        return status

    def kill(self) -> None:
        """With -9; returns when it is dead."""
        self.signal(signal.SIGKILL)
        self.wait()

    def said(self) -> str:
        """The last words of workers that should not have had any."""
        return self._errors.read_text()[-1500:]

    def __enter__(self) -> Parent:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pid and self._status is None:
            with suppress(ProcessLookupError):
                self.kill()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # a thread that has ended
        return "X"
