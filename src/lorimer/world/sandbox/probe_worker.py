"""Run by the probes inside a sandbox: tries to break out, and reports what worked.

A standalone program, run by file name with a bare interpreter; it imports nothing from Lorimer.
`try` reads one JSON object from stdin and writes one: the name of each attempt, and whether it was
prevented. `hold FILE` locks a file, writes its process id into it, and waits. `escape FILE` starts
`hold` as detached as it can, and ends.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import socket
import sys
import time

HELD_S = 60


def main() -> None:
    match sys.argv[1:]:
        case ["try"]:
            json.dump(attempts(json.load(sys.stdin)), sys.stdout)
        case ["hold", file]:
            hold(file)
        case ["escape", file]:
            escape(file)
        case _:
            raise SystemExit(2)


def attempts(known: dict[str, str]) -> dict[str, bool]:
    """Each attempt, and whether it was prevented."""
    tries = {
        "write": lambda: write(known["outside"]),
        "read": lambda: read(known["canary"]),
        "tcp": lambda: tcp(int(known["tcp"])),
        "udp": lambda: udp(int(known["udp"])),
        "signal": lambda: os.kill(int(known["pid"]), 0) is None,
        "environ": lambda: same_environ(known["pid"], known["environ"]),
        "any_environ": lambda: any_environ(known["environ"]),
        "processes": lambda: read(f"/proc/{known['pid']}/cmdline"),
        "mount": mount,
        "ptrace": lambda: _c().ptrace(0, 0, 0, 0) == 0,
    }
    held: dict[str, bool] = {}
    for name, attempt in tries.items():
        try:
            held[name] = not attempt()
        except OSError:
            held[name] = True
    return held


def _c() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def write(folder: str) -> bool:
    with open(os.path.join(folder, "written"), "wb") as file:
        file.write(b"x")
    return True


def read(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(1) != b""


def tcp(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def udp(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        sender.settimeout(0.5)
        sender.send(b"ping")
        return sender.recv(10) == b"pong"


def same_environ(pid: str, digest: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == digest
    except OSError:
        return False


def any_environ(digest: str) -> bool:
    return any(same_environ(pid, digest) for pid in os.listdir("/proc"))


def mount() -> bool:
    """With privileges of its own in a new user namespace, if it gets one."""
    if _c().unshare(0x10000000 | 0x00020000) != 0:
        return False
    return _c().mount(b"none", b"/mnt", b"tmpfs", 0, None) == 0


def hold(file: str) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, str(os.getpid()).encode())
    time.sleep(HELD_S)


def escape(file: str) -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            os.execve(sys.executable, [sys.executable, "-I", "-S", __file__, "hold", file], {})
        os._exit(0)
    until_held(file)


def until_held(file: str) -> int:
    """The process that holds the lock, once there is one; 0 after 5 s."""
    for _ in range(500):
        try:
            with open(file, "rb") as opened:
                if text := opened.read():
                    return int(text)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        time.sleep(0.01)
    return 0


if __name__ == "__main__":
    main()
