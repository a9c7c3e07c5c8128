"""The command line in processes of its own, each forked from one that has everything imported and
made that is made once: the SDKs alone take a second, all else a fifth of one. What a new
interpreter does is for tests that start one.

`python -m tests.forked PATH` serves a socket until its standard input ends, and then removes it and
its folder. A message is what to run, with three descriptors for its standard streams; the answers
are its process id and, when it is dead, its status as `subprocess` has it. `python tests/forked.py
PATH WORDS...` asks for one with its own streams, folder and environment.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import termios

MOST = 150_000
"""Bytes of a message: of an environment, above all."""


def ask(path: str, words: list[str], env: dict[str, str], streams: list[int]) -> socket.socket:
    """Have the command line run in the current folder; gives what the answers come through."""
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked.connect(path)
    what = {"words": words, "cwd": os.getcwd(), "env": env}
    socket.send_fds(asked, [json.dumps(what).encode()], streams)
    return asked


def answer(asked: socket.socket) -> int:
    """The next of the two numbers."""
    said = asked.recv(100)
    assert said, "there is nobody to fork any more"
    return int(said)


def serve(path: str) -> None:
    """Fork what is asked for. Returns in each forked process, and raises SystemExit in this."""
    from selectors import EVENT_READ, DefaultSelector
    from signal import SIGKILL

    selector = DefaultSelector()
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    door.bind(path)
    door.listen()
    selector.register(door, EVENT_READ)
    selector.register(0, EVENT_READ)
    living: dict[int, tuple[int, socket.socket]] = {}
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fd == 0:
                for pid, _ in living.values():
                    os.kill(pid, SIGKILL)
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
                raise SystemExit
            if key.fd in living:  # the death of a process
                pid, asked = living.pop(key.fd)
                selector.unregister(key.fd)
                os.close(key.fd)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                try:
                    asked.send(str(status).encode())
                except BrokenPipeError:
                    pass  # who asked has gone
                asked.close()
                continue
            asked, _ = door.accept()
            body, streams, _, _ = socket.recv_fds(asked, MOST, 3)
            pid = os.fork()
            if not pid:
                for death, (_, other) in living.items():
                    os.close(death)
                    other.close()
                for each in (selector, door, asked):
                    each.close()
                become(json.loads(body), streams)
                return
            for stream in streams:
                os.close(stream)
            asked.send(str(pid).encode())
            death = os.pidfd_open(pid)
            living[death] = pid, asked
            selector.register(death, EVENT_READ)


def become(what: dict[str, object], streams: list[int]) -> None:
    """As if this process had been started so."""
    from signal import SIGINT, default_int_handler, signal

    signal(SIGINT, default_int_handler)  # whoever runs the tests in the background ignores it
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if os.isatty(0):  # of the terminal that it is started on it is the foreground
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(str(what["cwd"]))
    os.environ.clear()
    os.environ.update(what["env"])  # type: ignore[call-overload]
    module = os.path.join(os.path.dirname(__file__), "..", "src", "lorimer", "__main__.py")
    sys.argv = [os.path.abspath(module), *what["words"]]  # type: ignore[misc]
    # as the interpreter opens them
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def main() -> None:
    if __spec__ is None:  # PATH WORDS...
        path, *words = sys.argv[1:]
        with ask(path, words, dict(os.environ), [0, 1, 2]) as asked:
            answer(asked)
            status = answer(asked)
        sys.exit(status if status >= 0 else 128 - status)

    import atexit
    import gc

    ended: list[int] = []
    atexit.register(leave, ended)  # the first that is registered is the last that is called
    make_ready()
    gc.collect()
    gc.freeze()
    serve(sys.argv[1])

    import lorimer.cli

    try:
        lorimer.cli.main()
    except SystemExit as end:
        if isinstance(end.code, int):
            ended.append(end.code)
        raise


def leave(ended: list[int]) -> None:
    """What an interpreter does last is to take all apart that was imported: for that each page of
    it is copied, which takes longer than most runs. What comes before that is done here."""
    import gc

    if ended:
        gc.collect()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # to be told as ever
        os._exit(ended[0])


def make_ready() -> None:
    """Make what the first run of a process makes and keeps: modules, schemas, prices, TLS."""
    from importlib import import_module
    from pkgutil import walk_packages

    import anthropic  # noqa: F401
    import anyio.lowlevel
    import openai  # noqa: F401

    import lorimer
    from lorimer.models.pricing import lookup
    from lorimer.presets import preset_manifest
    from lorimer.tools.builtin import GROUPS, builtin_tools
    from lorimer.world.real import trust

    for found in walk_packages(lorimer.__path__, "lorimer."):
        if not found.name.endswith(".__main__"):
            import_module(found.name)
    lorimer.Pipeline(preset_manifest("agent"), tools=builtin_tools(GROUPS), sandbox="off")
    lookup("anthropic", "claude-sonnet-4-6")
    trust()
    anyio.run(anyio.lowlevel.checkpoint)


if __name__ == "__main__":
    main()
