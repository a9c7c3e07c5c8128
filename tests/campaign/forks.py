"""Forks processes to be killed, one after the other, so that each begins its life with all imported
that it needs."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

MOST_S = 900
"""Seconds that a process lives at most, should nobody be there any more to end it."""


def serve(live: Callable[[dict[str, Any]], None]) -> None:
    """One line in: an order, which a new process lives by. Two lines out: its id and, when it is
    dead, its status. It is reaped with the next order, so that until then its id is nobody
    else's."""
    print("ready", flush=True)
    dead = 0
    for line in sys.stdin:
        if dead:
            os.waitpid(dead, 0)
        dead = os.fork()
        if not dead:
            signal.alarm(MOST_S)
            live(json.loads(line))
            return
        print(dead, flush=True)
        info = os.waitid(os.P_PID, dead, os.WEXITED | os.WNOWAIT)
        print(-info.si_status if info.si_code != os.CLD_EXITED else info.si_status, flush=True)
