"""The system calls that a sandboxed program may not make, as a filter program for the kernel.

Forbidden calls fail with EPERM, so that programs report it and continue. The filter is a few
hundred bytes of classic BPF, generated from a table; no library is needed.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal, TypeAlias

# a new name needs its number in both tables
_X86_64: Final = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "mount": 165, "umount2": 166, "pivot_root": 155, "swapon": 167, "swapoff": 168, "reboot": 169,
    "acct": 163, "settimeofday": 164, "clock_settime": 227, "adjtimex": 159, "quotactl": 179,
    "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246,
    "kexec_file_load": 320, "add_key": 248, "request_key": 249, "keyctl": 250,
    "perf_event_open": 298, "bpf": 321, "userfaultfd": 323, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "setns": 308, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "open_tree_attr": 467,
    "pidfd_getfd": 438,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "sethostname": 170, "setdomainname": 171, "syslog": 103, "iopl": 172, "ioperm": 173,
    "vhangup": 153, "fanotify_init": 300,
    "socket": 41, "clone": 56, "unshare": 272, "clone3": 435, "setrlimit": 160, "prlimit64": 302,
    "setpriority": 141, "ioprio_set": 251, "sched_setparam": 142, "sched_setscheduler": 144,
    "sched_setaffinity": 203, "sched_setattr": 314,
}  # fmt: skip
_AARCH64: Final = {
    "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
    "mount": 40, "umount2": 39, "pivot_root": 41, "swapon": 224, "swapoff": 225, "reboot": 142,
    "acct": 89, "settimeofday": 170, "clock_settime": 112, "adjtimex": 171, "quotactl": 60,
    "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104,
    "kexec_file_load": 294, "add_key": 217, "request_key": 218, "keyctl": 219,
    "perf_event_open": 241, "bpf": 280, "userfaultfd": 282, "name_to_handle_at": 264,
    "open_by_handle_at": 265, "setns": 268, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "open_tree_attr": 467,
    "pidfd_getfd": 438,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "sethostname": 161, "setdomainname": 162, "syslog": 116, "vhangup": 58, "fanotify_init": 262,
    "socket": 198, "clone": 220, "unshare": 97, "clone3": 435, "setrlimit": 164, "prlimit64": 261,
    "setpriority": 140, "ioprio_set": 30, "sched_setparam": 118, "sched_setscheduler": 119,
    "sched_setaffinity": 122, "sched_setattr": 274,
}  # fmt: skip
# additionally of no use to code that starts no programs
_CODE_X86_64: Final = {
    "execve": 59, "execveat": 322, "memfd_create": 319, "memfd_secret": 447, "personality": 135,
    "setuid": 105, "setgid": 106, "setreuid": 113, "setregid": 114, "setgroups": 116,
    "setresuid": 117, "setresgid": 119, "setfsuid": 122, "setfsgid": 123, "capset": 126,
    "chroot": 161, "mknod": 133, "mknodat": 259, "chown": 92, "fchown": 93, "lchown": 94,
    "fchownat": 260, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197,
    "lremovexattr": 198, "fremovexattr": 199, "setxattrat": 463, "removexattrat": 466,
    "file_setattr": 469, "modify_ldt": 154,
    "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "mq_open": 240,
}  # fmt: skip
_CODE_AARCH64: Final = {
    "execve": 221, "execveat": 281, "memfd_create": 279, "memfd_secret": 447, "personality": 92,
    "setuid": 146, "setgid": 144, "setreuid": 145, "setregid": 143, "setgroups": 159,
    "setresuid": 147, "setresgid": 149, "setfsuid": 151, "setfsgid": 152, "capset": 91,
    "chroot": 51, "mknodat": 33, "fchown": 55, "fchownat": 54, "setxattr": 5, "lsetxattr": 6,
    "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
    "setxattrat": 463, "removexattrat": 466, "file_setattr": 469,
    "shmget": 194, "shmat": 196, "semget": 190, "msgget": 186, "mq_open": 180,
}  # fmt: skip
_OF_CODE: Final = {"x86_64": _CODE_X86_64, "aarch64": _CODE_AARCH64}
_MACHINES: Final = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}

_SCHEDULING: Final[Mapping[str, tuple[tuple[int, ...], int]]] = {
    "setpriority": ((0, 0), errno.EPERM),
    "ioprio_set": ((1, 0), errno.EPERM),
    "sched_setparam": ((0,), errno.EPERM),
    "sched_setscheduler": ((0,), errno.EPERM),
    "sched_setattr": ((0,), errno.EPERM),
    "sched_setaffinity": ((0,), 0),
}
"""Calls about how much a process may run, their first arguments for the thread that makes them, and
the error for another: a filter cannot tell a thread of the same program from another program. A
program binds its threads to processors without expecting an error: OpenMP ends with it. So that
does nothing, and is no error."""
_CONDITIONAL: Final = (
    *("socket", "clone", "unshare", "clone3", "setrlimit", "prlimit64"),
    *_SCHEDULING,
)
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEW: Final = 0x7E020000
"""A new namespace of any kind."""
_RLIMIT_RSS: Final = 5
_X32: Final = 0x40000000

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16  # as Linux numbers them
_LOCAL: Final = (_AF_UNIX, _AF_NETLINK)
_SOCK_STREAM, _TYPE_MASK, _IPPROTO_TCP = 1, 0xF, 6  # the rest of a type is flags

Sockets: TypeAlias = Literal["local", "tcp", "any"]

# Classic BPF: load a word; keep some bits; jump if equal, greater or equal, any bit; return.
_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16


def supported() -> bool:
    """Whether the system call numbers of this machine are known."""
    return platform.system() == "Linux" and platform.machine() in _MACHINES


@cache  # a pure function of constants; building it takes longer than starting the program
def program(*, sockets: Sockets) -> bytes:
    """The filter. Allowed sockets: Unix and netlink (`local`), also TCP (`tcp`), or all internet
    ones (`any`).

    Raises KeyError where `supported` is false.
    """
    arch, numbers = _MACHINES[platform.machine()]
    code = _refusing(arch, numbers)
    for name in ("clone", "unshare"):
        code.block(numbers[name], _not_if(_ANY_BIT, _CLONE_NEWUSER))
    code.block(numbers["socket"], _sockets(sockets))
    # the number that marks descendants of a process
    code.block(numbers["setrlimit"], _not_if(_EQUAL, _RLIMIT_RSS))
    code.block(numbers["prlimit64"], _own_limits())
    if sockets != "any":  # elsewhere there are no other processes
        _schedule_only_itself(code, numbers)
    code.give(_ALLOW)
    return code.packed()


@cache
def code_program(*, network: bool) -> bytes:
    """The filter for code that starts no programs: in addition to what `program` forbids, also
    other programs, namespaces, identities, devices, memory that is shared or has no file (memfd),
    and every socket unless there is a `network`; socket pairs are allowed.

    Raises KeyError where `supported` is false.
    """
    arch, numbers = _MACHINES[platform.machine()]
    code = _refusing(arch, numbers | _OF_CODE[platform.machine()])
    code.when(_EQUAL, numbers["unshare"], errno.EPERM)
    code.block(numbers["clone"], _not_if(_ANY_BIT, _CLONE_NEW))
    if not network:
        code.when(_EQUAL, numbers["socket"], errno.EPERM)
    _schedule_only_itself(code, numbers)
    code.give(_ALLOW)
    return code.packed()


def _refusing(arch: int, numbers: Mapping[str, int]) -> _Code:
    """The beginning of a filter: calls that are forbidden whatever their arguments."""
    code = _Code()
    code.load(_ARCH_AT)
    code.unless(_EQUAL, arch, errno.EPERM)
    code.load(_NUMBER_AT)
    code.when(_AT_LEAST, _X32, errno.EPERM)
    for name, number in numbers.items():
        if name not in _CONDITIONAL:
            code.when(_EQUAL, number, errno.EPERM)
    # glibc falls back to clone, whose flags can be inspected
    code.when(_EQUAL, numbers["clone3"], errno.ENOSYS)
    return code


def _schedule_only_itself(code: _Code, numbers: Mapping[str, int]) -> None:
    """Landlock does not prevent slowing down other processes of the same user."""
    for name, (own, error) in _SCHEDULING.items():
        body = _Code()
        for index, value in enumerate(own):
            body.load(_argument(index))
            body.unless(_EQUAL, value, error)
        body.give(_ALLOW)
        code.block(numbers[name], body)


@dataclass(slots=True)
class _Code:
    steps: list[tuple[int, int, int, int]] = field(default_factory=list[tuple[int, int, int, int]])

    def load(self, offset: int) -> None:
        self.steps.append((_LOAD, 0, 0, offset))

    def give(self, verdict: int) -> None:
        self.steps.append((_RETURN, 0, 0, verdict))

    def when(self, test: int, value: int, error: int) -> None:
        """Fail with `error` if the condition holds, else continue."""
        self.steps.append((test, 0, 1, value))
        self.give(_ERRNO | error)

    def unless(self, test: int, value: int, error: int) -> None:
        """Continue if the condition holds, else fail."""
        self.steps.append((test, 1, 0, value))
        self.give(_ERRNO | error)

    def block(self, number: int, body: _Code) -> None:
        """`body` decides about that system call; it has to end with a verdict."""
        self.steps.append((_EQUAL, 0, len(body.steps), number))
        self.steps += body.steps

    def packed(self) -> bytes:
        return b"".join([struct.pack("=HBBI", *step) for step in self.steps])


def _argument(index: int, *, high: bool = False) -> int:
    """Offset of the lower (or upper) half of an argument; both architectures are little-endian."""
    return _ARGUMENTS_AT + 8 * index + (4 if high else 0)


def _not_if(test: int, value: int) -> _Code:
    """Forbidden if the condition holds for the first argument."""
    body = _Code()
    body.load(_argument(0))
    body.when(test, value, errno.EPERM)
    body.give(_ALLOW)
    return body


def _sockets(allowed: Sockets) -> _Code:
    body = _Code()
    body.load(_argument(0))
    internet = () if allowed == "local" else (_AF_INET, _AF_INET6)
    if allowed == "tcp":
        only = _only_tcp()
        for family in internet:
            body.block(family, only)
        internet = ()
    for family in (*_LOCAL, *internet):
        body.steps.append((_EQUAL, 0, 1, family))
        body.give(_ALLOW)
    body.give(_ERRNO | errno.EPERM)
    return body


def _only_tcp() -> _Code:
    """For internet sockets: Landlock controls TCP, but no other kind of stream (MPTCP, SCTP)."""
    body = _Code()
    body.load(_argument(1))
    body.steps.append((_AND, 0, 0, _TYPE_MASK))
    body.unless(_EQUAL, _SOCK_STREAM, errno.EPERM)
    body.load(_argument(2))
    for protocol in (0, _IPPROTO_TCP):
        body.steps.append((_EQUAL, 0, 1, protocol))
        body.give(_ALLOW)
    body.give(_ERRNO | errno.EPERM)
    return body


def _own_limits() -> _Code:
    """Of the mark, and of another process, limits may be read (there is no new value), never
    changed: one second of CPU time would be as good as a signal."""
    body = _Code()
    body.load(_argument(1))
    body.steps.append((_EQUAL, 3, 0, _RLIMIT_RSS))
    body.load(_argument(0))
    body.steps.append((_EQUAL, 0, 1, 0))
    body.give(_ALLOW)
    for high in (False, True):
        body.load(_argument(2, high=high))
        body.unless(_EQUAL, 0, errno.EPERM)
    body.give(_ALLOW)
    return body
