"""Landlock: the kernel's own list of what a process and its descendants may open (level L1).

No privileges are needed. Restrictions belong to a thread and are inherited by what it starts, so a
thread of this process restricts itself, starts the program, and ends. The minimum is Linux 6.2
(Landlock 3), which controls truncation; 6.12 (Landlock 6) also controls signals.
"""

from __future__ import annotations

import ctypes
import gc
import os
import stat
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from lorimer.world.sandbox.view import Access, View

T = TypeVar("T")

OLDEST: Final = 3
TCP: Final = 4
SIGNALS: Final = 6

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_ABI_VERSION: Final = 1  # a flag of create_ruleset
_PATH_BENEATH, _NET_PORT = 1, 2  # types of rules
_BIND_TCP, _CONNECT_TCP = 1, 2
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER, _SET_CHILD_SUBREAPER = 38, 22, 2, 36  # of prctl

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_MAKE_DEVICES: Final = 1 << 6 | 1 << 11  # of characters, of blocks: the disk itself is one
_SCOPES: Final = 0b11  # abstract Unix sockets, signals

_BOUNDING_READ, _BOUNDING_DROP, _AMBIENT, _AMBIENT_CLEAR = 23, 24, 47, 4  # of prctl
_KEPT: Final = frozenset({0, 1, 2, 3, 4, 6, 7})
"""Capabilities of root for files, which the rules bound, and for becoming another user. All others
are for the machine: its network, its devices, its clock."""
_CAPABILITIES_3: Final = 0x20080522
_SETPCAP: Final = 1 << 8

_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_OF_PROC: Final = (
    *("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "sys", "uptime", "version"),
)
"""Files that reveal information about the machine. Never `self`: a rule would apply to *this*
process."""


def abi() -> int:
    """The version of Landlock in this kernel; 0: not supported."""
    try:
        return max(0, _system_call(_CREATE_RULESET, None, 0, _ABI_VERSION))
    except OSError:
        return 0


@contextmanager
def ruleset(view: View, temporary: Path, *, port: int | None) -> Generator[int]:
    """A descriptor of the rules for `view`; `temporary` is writable, and TCP connections to `port`
    are allowed, at any address."""
    version = abi()
    files = (1 << {3: 15, 4: 15}.get(version, 16)) - 1
    tcp = _BIND_TCP | _CONNECT_TCP if version >= TCP else 0
    scopes = _SCOPES if version >= SIGNALS else 0
    attributes = struct.pack("=QQQ", files, tcp, scopes)
    size = 24 if version >= SIGNALS else 16 if version >= 4 else 8
    with _rules(attributes, size) as descriptor:
        closed = {*view.of(Access.PRIVATE), *view.of(Access.HIDDEN), Path("/proc"), Path("/dev")}
        for path in _open_parts({str(path) for path in closed}):
            _allow(descriptor, path, _READ)
        for path in view.of(Access.READ):
            _allow(descriptor, path, _READ)
        for path in (*view.of(Access.WRITE), temporary):
            _allow(descriptor, path, files & ~_MAKE_DEVICES)
        for name in _DEVICES:
            _allow(descriptor, Path("/dev", name), _READ_FILE | _WRITE_FILE | (files & _IOCTL_DEV))
        for name in _OF_PROC:
            _allow(descriptor, Path("/proc", name), _READ_FILE | _READ_DIR)
        if port is not None and tcp:
            rule = struct.pack("=QQ", _CONNECT_TCP, port)
            _system_call(_ADD_RULE, descriptor, _NET_PORT, rule, 0)
        yield descriptor


def start_restricted(rules: int, seccomp: bytes, start: Callable[[], T]) -> T:
    """Returns what `start` returns (or raises), called in a thread that is restricted by the rules
    and the filter for the rest of its life. Blocks for about a millisecond."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            _restrict(rules)
            _give_up_the_machine()
            filter_calls(seccomp)
            outcome.append(start())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            failure.append(error)

    thread = threading.Thread(target=work, name="lorimer-landlock")
    # finalisers must not run in a thread that may not access their files
    collecting = gc.isenabled()
    gc.disable()
    try:
        thread.start()
        thread.join()
    finally:
        if collecting:
            gc.enable()
    if failure:
        raise failure[0]
    return outcome[0]


def filter_calls(seccomp: bytes) -> None:
    """Restrict this thread, and everything that it will start, by one more filter."""
    _prctl(_SET_NO_NEW_PRIVS, 1)
    filter_ = ctypes.create_string_buffer(seccomp, len(seccomp))
    described = _FilterProgram(len(seccomp) // 8, ctypes.addressof(filter_))
    _prctl(_SET_SECCOMP, _FILTER, ctypes.byref(described))


def keep_apart() -> bool:
    """Prevent this thread, and everything that it will start, from signalling and tracing any
    existing process. False if the kernel does not support it (before Linux 6.12)."""
    if abi() < SIGNALS:
        return False
    with _rules(struct.pack("=QQQ", 0, 0, _SCOPES), 24) as rules:
        _restrict(rules)
    return True


def write_only_beneath(folders: Iterable[Path]) -> bool:
    """Prevent this thread, and everything that it will start, from writing to anything but these
    folders and plain devices: also to pipes and devices, which a read-only mount permits. False if
    the kernel does not support it."""
    if abi() < OLDEST:
        return False
    writes = ((1 << 15) - 1) & ~_READ
    with _rules(struct.pack("=Q", writes), 8) as rules:
        for path in folders:
            _allow(rules, path, writes)
        for name in _DEVICES:
            _allow(rules, Path("/dev", name), _WRITE_FILE)
        _restrict(rules)
    return True


@contextmanager
def _rules(attributes: bytes, size: int) -> Generator[int]:
    descriptor = _system_call(_CREATE_RULESET, attributes, size, 0)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _restrict(rules: int) -> None:
    _prctl(_SET_NO_NEW_PRIVS, 1)
    _system_call(_RESTRICT_SELF, rules, 0)


def _give_up_the_machine() -> None:
    """Programs that this thread starts have no capabilities but `_KEPT`, as root neither. Where it
    may not give them up (see `keeps_the_machine`), they have those that a container left us."""
    libc = _library()
    words = _capabilities()
    if not words[0] & _SETPCAP:
        return
    capability = 0
    while (there := libc.prctl(_BOUNDING_READ, capability, 0, 0, 0)) >= 0:
        if there and capability not in _KEPT:
            _prctl(_BOUNDING_DROP, capability)
        capability += 1
    _prctl(_AMBIENT, _AMBIENT_CLEAR)
    words[2] = words[5] = 0
    header = struct.pack("=Ii", _CAPABILITIES_3, 0)
    if libc.capset(header, struct.pack("=6I", *words)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def keeps_the_machine() -> bool:
    """Whether programs at this level keep capabilities that we have, but may not give up."""
    words = _capabilities()
    held = words[1] | words[4] << 32
    return not words[0] & _SETPCAP and bool(held & ~sum(1 << each for each in _KEPT))


def _capabilities() -> list[int]:
    """Effective, permitted and inheritable ones of this thread: the lower 32 bits, then the
    upper."""
    held = ctypes.create_string_buffer(24)
    if _library().capget(struct.pack("=Ii", _CAPABILITIES_3, 0), held) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    return list(struct.unpack("=6I", held.raw))


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants of this process."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def _open_parts(closed: set[str]) -> Iterator[str]:
    """The largest parts of the disk that contain nothing closed."""
    split = {str(parent) for path in closed for parent in Path(path).parents}
    left = ["/"]
    while left:
        path = left.pop()
        if path not in split:
            if path not in closed:
                yield path
            continue
        try:
            with os.scandir(path) as entries:
                left += [entry.path for entry in entries if not entry.is_symlink()]
        except OSError:
            continue


def _allow(rules: int, path: str | Path, access: int) -> None:
    """Allow this access to it and everything beneath it. What cannot be opened gets no rule."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_FILES
        _system_call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", access, descriptor), 0)
    finally:
        os.close(descriptor)


@cache  # opening it again costs more than the call
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _system_call(number: int, *arguments: object) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = _library().syscall(ctypes.c_long(number), *words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result


def _prctl(option: int, *arguments: object) -> None:
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in arguments]
    words += [ctypes.c_ulong(0)] * (4 - len(words))
    if _library().prctl(ctypes.c_int(option), *words) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")
