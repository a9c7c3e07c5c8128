"""The owner name under which this process claims runs. It identifies the process, so that others
can tell whether it is alive.

A claim on a conversation ends by itself some time after its process died. Whoever resumes should
not have to wait for that: on the same machine it can be seen at once that a process is gone.
"""

from __future__ import annotations

import os
from typing import Final, Literal, TypeAlias

from lorimer.world import lives

Fate: TypeAlias = Literal["alive", "gone", "unknown"]

_KIND: Final = "cli"


def own_name() -> str:
    """The name of this process: `cli:<machine>:<pid>:<start>`."""
    pid = os.getpid()
    return f"{_KIND}:{lives.machine()}:{pid}:{lives.started(pid)}"


def fate(name: str) -> Fate:
    """Whether the process of that name lives. `unknown`: it is none of ours, or not of here."""
    kind, _, rest = name.partition(":")
    machine, _, rest = rest.partition(":")
    pid, _, start = rest.partition(":")
    if kind != _KIND or not pid.isdecimal() or machine != lives.machine():
        return "unknown"
    return lives.fate(int(pid), start)


def pid_of(name: str) -> int:
    """The process in a name that `fate` knows."""
    return int(name.split(":")[2])
