"""The agent's process: started like any program, and killed like one.

`World.spawn` runs a program to its end with its output in a buffer; this one has to be on the
reader's terminal while it works, and to die by a real SIGKILL.
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
"""Seconds in which it may end by itself: Ctrl-C reaches it as well as us."""
_GRACE_S: Final = 15.0


class AgentProcess:
    """`python -m lorimer ...` in a process of its own, on our terminal."""

    def __init__(self, arguments: Sequence[str]) -> None:
        environment = dict(os.environ)
        # `python3` in a command of the agent is the one that runs us
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
        """SIGKILL: nothing in it gets to run any more."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """See that it ends: by itself, else asked to, else killed. Blocks. Nothing to do when it
        has ended."""
        for step, patience_s in ((lambda: None, _OWN_END_S), (self._process.terminate, _GRACE_S)):
            if self._process.poll() is not None:
                return
            step()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        if self._process.poll() is None:
            self.kill()
