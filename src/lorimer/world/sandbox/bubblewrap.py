"""bubblewrap: separate namespaces for a process and all its descendants (level L2).

Its process namespace ends with its first process, which ends with us: nothing can outlive either.
But bubblewrap establishes the latter last, when everything is set up; if we were killed before
that, it would stay. So the program inside waits until we have answered (`pipes.Threshold`).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from lorimer.world.sandbox.view import Access, View

_SOCKETS: Final = Path("/proc/net/unix")
_APART: Final = (*("--die-with-parent", "--unshare-all", "--new-session", "--cap-drop", "ALL"),)


def found(writable: Iterable[Path] = ()) -> str | None:
    """The path of the program. One in a `writable` folder does not count: an earlier program in the
    sandbox may have put it there, in order to be run outside of it."""
    open_to_it = [Path(os.path.realpath(folder)) for folder in writable]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        program = shutil.which("bwrap", path=folder) if os.path.isabs(folder) else None
        if program is None:
            continue
        named = Path(os.path.realpath(folder), "bwrap")
        ways = (named, Path(os.path.realpath(program)))
        if not any(way.is_relative_to(each) for way in ways for each in open_to_it):
            return program
    return None


def sockets(view: View) -> list[Path]:
    """Unix sockets of outside programs that `view` would expose: a read-only disk does not prevent
    connecting to them. Those that are opened later are unknown."""
    try:
        lines = os.fsdecode(_SOCKETS.read_bytes()).split("\n")[1:]
    except OSError:
        return []
    names = [line.split(maxsplit=7)[7:] for line in lines]
    found: list[Path] = []
    for name in dict.fromkeys([path for path, *_ in filter(None, names) if path[0] == "/"]):
        path = Path(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
        holding = [access for folder, access in view.words if path.is_relative_to(folder)]
        if holding and holding[-1] is not Access.READ:  # the deepest one decides, and comes last
            continue
        with suppress(OSError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                found.append(path)
    return found


def command(
    program: str,
    argv: Sequence[str],
    *,
    view: View,
    cwd: Path,
    seccomp_fd: int,
) -> list[str]:
    """The command that runs `argv` in `cwd`, with the disk as in `view`. The filter is read from
    `seccomp_fd`. It has to be started with the clean environment already: its initial environment
    can be read inside, at `/proc/1/environ`."""
    root = Path("/")
    bind = "--bind" if root in view.of(Access.WRITE) else "--ro-bind"
    words = [program, *_APART, bind, "/", "/", "--dev", "/dev", "--proc", "/proc"]
    # in it root without capabilities may still change settings of the kernel, some of which name
    # programs that it starts outside; bubblewrap itself leaves /proc/sys as it is
    words += "--remount-ro", "/proc"
    sealed: list[str] = []  # at the end: mount points have to be created in them first
    for path, access in view.words:
        name = str(path)
        match access:
            case _ if path == root:
                pass
            case Access.PRIVATE:
                words += "--tmpfs", name
            case Access.HIDDEN if path.is_dir():
                words += "--tmpfs", name
                sealed += "--remount-ro", name
            case Access.HIDDEN:
                words += "--ro-bind", "/dev/null", name
            case Access.READ:
                words += "--ro-bind", name, name
            case Access.WRITE:
                words += "--bind", name, name
    for path in sockets(view):
        words += "--ro-bind", "/dev/null", str(path)
    words += sealed
    return [*words, "--chdir", str(cwd), "--seccomp", str(seccomp_fd), "--", *argv]
