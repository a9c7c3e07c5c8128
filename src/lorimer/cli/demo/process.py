"""The agent's process: started and killed like any program.

`World.spawn` runs a program to its end with its output in a buffer. This one has to write to the
user's terminal while it works, and to be killed by a real SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess  # noqa: TID251 - see above
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_OWN_END_S: Final = 3.0
"""Seconds that it gets to end by itself: Ctrl-C reaches it too."""
_GRACE_S: Final = 15.0


class AgentProcess:
    """`python -m lorimer ...` as a child process on our terminal."""

    def __init__(self, arguments: Sequence[str]) -> None:
        environment = dict(os.environ)
        # makes `python3` in the agent's commands the interpreter that runs us
        here = str(Path(sys.executable).parent)
        environment["PATH"] = os.pathsep.join([here, environment.get("PATH", os.defpath)])
        sys.stdout.flush()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and package
            [sys.executable, "-m", "lorimer", *arguments], env=environment
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def kill(self) -> None:
        """Send SIGKILL: none of its code runs any more."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Make sure that it ends: wait for it, else terminate it, else kill it. Blocks. Does
        nothing if it has ended."""
        for step, patience_s in ((lambda: None, _OWN_END_S), (self._process.terminate, _GRACE_S)):
            if self._process.poll() is not None:
                return
            step()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        if self._process.poll() is None:
            self.kill()
