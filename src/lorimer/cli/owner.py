"""The owner name under which this process claims runs. It identifies the process, so that others
can tell whether it is alive.

A claim on a conversation expires some time after its process died. On the same machine, a resume
does not have to wait for that: it can see at once that the process is gone.
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
    """Whether the process of that name is alive. `unknown`: the name is not one of ours, or of
    another machine."""
    kind, _, rest = name.partition(":")
    machine, _, rest = rest.partition(":")
    pid, _, start = rest.partition(":")
    if kind != _KIND or not pid.isdecimal() or machine != lives.machine():
        return "unknown"
    return lives.fate(int(pid), start)


def pid_of(name: str) -> int:
    """The process id in a name whose `fate` is known."""
    return int(name.split(":")[2])
