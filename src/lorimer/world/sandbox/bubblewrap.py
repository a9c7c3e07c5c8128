"""bubblewrap: namespaces of its own for a process and all its descendants (level L2).

Its process namespace ends with its first process, and that with us: nothing can outlive either.
But bubblewrap ties it to us last, when all is set up; a kill of ours before that would leave it.
So what is to run in it waits there until we have answered (`pipes.Threshold`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from lorimer.world.sandbox.view import Access, View

_APART: Final = (*("--die-with-parent", "--unshare-all", "--new-session", "--cap-drop", "ALL"),)


def found(writable: Iterable[Path] = ()) -> str | None:
    """Where the program is. One that lies in a `writable` folder does not count: what has been in
    the sandbox before may have put it there, to be started outside of it."""
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


def command(
    program: str,
    argv: Sequence[str],
    *,
    view: View,
    cwd: Path,
    seccomp_fd: int,
) -> list[str]:
    """The command that runs `argv` in `cwd`, seeing what `view` shows. The filter is read from
    `seccomp_fd`. It has to be started with the clean environment already: what it was started
    with can be read inside, at `/proc/1/environ`."""
    root = Path("/")
    bind = "--bind" if root in view.of(Access.WRITE) else "--ro-bind"
    words = [program, *_APART, bind, "/", "/", "--dev", "/dev", "--proc", "/proc"]
    sealed: list[str] = []  # at the end: places for mounts have to be made in them first
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
    words += sealed
    return [*words, "--chdir", str(cwd), "--seccomp", str(seccomp_fd), "--", *argv]
