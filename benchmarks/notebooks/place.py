"""Where a run happens: a process of its own, a copy of the notebook's folder, no network."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import NoReturn, TypeVar


class Place:
    """A folder that looks like the notebook's own: links to what lies there.

    `fresh` makes it anew, so that files which a run has written are gone. `keep` and `again` hold
    and bring back what lies there. The path is always the same, and so is the text that shows it.
    """

    def __init__(self, original: Path, root: Path) -> None:
        self.folder, self._kept, self._original = root / "here", root / "kept", original

    def fresh(self) -> None:
        """As the notebook's author left it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for each in self._original.iterdir():
            if each.is_dir():
                shutil.copytree(each, self.folder / each.name, copy_function=_link, symlinks=True)
            else:
                _link(each, self.folder / each.name)

    def keep(self) -> None:
        """Remember what lies there."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self.folder, self._kept, symlinks=True)

    def again(self) -> None:
        """What was there when `keep` was called."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._kept, self.folder, symlinks=True)


_SMALL = 2 * 2**20
"""Bytes up to which a file is copied, so that a run may write it; larger ones are links."""
T = TypeVar("T")


def _link(source: str | Path, target: str | Path) -> None:
    if os.path.getsize(source) <= _SMALL:
        shutil.copy2(source, target)
    else:
        os.symlink(os.path.realpath(source), target)


def apart(work: Callable[[], T], place: Place, limit_s: float) -> T | str:
    """What `work` returns, in a fork of this process; or a text that says why there is nothing.

    The result goes through JSON. The fork has no network and is killed after `limit_s`.
    """
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        _be_apart(work, place, into)
    os.close(into)
    data, end = bytearray(), monotonic() + limit_s
    while (left := end - monotonic()) > 0:
        if not select.select([out], [], [], left)[0]:
            continue
        piece = os.read(out, 1 << 20)
        if not piece:
            break
        data += piece
    else:
        left = 0.0
    os.close(out)
    if left <= 0:
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if left <= 0:
        return f"over {limit_s:g} s"
    if not data:
        return "the process ended without a word"
    kind, found = json.loads(data)
    return f"the harness raised: {found}" if kind == "error" else found


def _be_apart(work: Callable[[], object], place: Place, into: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        os.chdir(place.folder)
        sys.path.insert(0, str(place.folder))
        _go_offline()
        numpy = sys.modules.get("numpy")
        random.seed(0)
        if numpy is not None:
            numpy.random.seed(0)
        data = json.dumps(["result", work()])
    except BaseException:  # noqa: BLE001 - told to the parent
        data = json.dumps(["error", traceback.format_exc()[-2000:]])
    try:
        with os.fdopen(into, "wb") as pipe:
            pipe.write(data.encode())
    finally:  # nor go on in the parent's place when that has been ended
        os._exit(0)


def _go_offline() -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError("no network in a measurement")

    refused = dict.fromkeys(("connect", "connect_ex", "bind", "sendto"), refuse)
    socket.socket = type("socket", (socket.socket,), refused)
    socket.getaddrinfo = refuse
