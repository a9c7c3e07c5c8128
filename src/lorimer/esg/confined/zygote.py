"""The program that sessions are forked from: `python -I -B zygote.py PACKAGE MODULE...`.

Its standard input is a socket. Each session is requested with one message: its settings, and two
descriptors, one to talk to it and one to end it. The zygote has no threads, runs no code of an
agent, and ends when the socket is closed. The sandbox that it was started in applies to everything
it forks.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
from typing import Final

MESSAGE_BYTES: Final = 65_536


def main() -> None:
    """Load modules, then fork a session for each request."""
    package, modules = sys.argv[1], sys.argv[2:]
    door = socket.socket(fileno=os.dup(0))
    _load(package)
    from lorimer.esg.confined import hold, keeper

    hold.prepare()
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or each fork's first collection would copy all of it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        message, descriptors, _, _ = socket.recv_fds(door, MESSAGE_BYTES, 2)
        if not message:
            return
        if os.fork() == 0:  # noqa: TID251 - this is what it is for
            door.close()
            keeper.keep(json.loads(message), *descriptors)
            os._exit(0)
        for each in descriptors:
            os.close(each)


def _load(package: str) -> None:
    """Make Lorimer importable, from where it was started: what is next to it may be hidden."""
    spec = importlib.util.spec_from_file_location(
        "lorimer", f"{package}/__init__.py", submodule_search_locations=[package]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["lorimer"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
