"""Attempts of a step to get out of its worker. One that ends without an OSError got out.

Each is harmless where it succeeds. `SETUP` runs before, with what is known of the outside as
`known`; attempts that this machine cannot make at all raise `Absent`.
"""

from __future__ import annotations

SETUP = """
import ctypes, mmap, os, signal, socket, stat, struct
libc = ctypes.CDLL(None, use_errno=True)
class Absent(Exception): ...
def call(number, *arguments):
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
machine = os.uname().machine
def number(x86_64, aarch64):
    return {'x86_64': x86_64, 'aarch64': aarch64}[machine]
def reads(path):
    with open(path, 'rb') as file:
        assert file.read(1)
"""

ESCAPES: dict[str, str] = {
    # files
    "keys of the user": "reads(known['home'] + '/.ssh/id')",
    "logins of the user": "reads(known['home'] + '/.aws/credentials')",
    "a link to the keys": (
        "os.symlink(known['home'] + '/.ssh', 'to_keys') if not os.path.islink('to_keys') else 0\n"
        "reads('to_keys/id')"
    ),
    "dots to the keys": "reads(os.path.relpath(known['home'] + '/.ssh/id'))",
    "files of others in /tmp": "reads(known['tmp'])",
    "a file outside": "open(known['outside'] + '/made', 'w').close()",
    "a longer file outside": "open(known['outside'] + '/file', 'a').write('x')",
    "a shorter file outside": "os.truncate(known['outside'] + '/file', 0)",
    "no file outside": "os.remove(known['outside'] + '/file')",
    "another name outside": "os.rename(known['outside'] + '/file', known['outside'] + '/other')",
    "a folder outside": "os.mkdir(known['outside'] + '/folder')",
    "a link to the outside": (
        "os.symlink(known['outside'], 'out') if not os.path.islink('out') else 0\n"
        "open('out/made', 'w').close()"
    ),
    "a second name of a file outside": (
        "os.link(known['outside'] + '/file', 'twin')\nopen('twin', 'a').write('x')"
    ),
    "a file by its handle": (
        "handle = ctypes.create_string_buffer(struct.pack('Ii', 64, 0) + bytes(64))\n"
        "call(number(303, 264), -100, b'/', handle, ctypes.byref(ctypes.c_int()), 0)"
    ),
    "another owner outside": "os.chown(known['outside'] + '/file', 65534, 65534)",
    "an attribute outside": "os.setxattr(known['outside'] + '/file', 'user.x', b'x')",
    "an attribute outside, by a newer call": (
        "value = ctypes.create_string_buffer(b'x')\n"
        "given = struct.pack('=QII', ctypes.addressof(value), 1, 0)\n"
        "call(463, -100, (known['outside'] + '/file').encode(), 0, b'user.x', given, 16)"
    ),
    "a pipe with a name outside": (
        "file = os.open(known['outside'] + '/pipe', os.O_WRONLY | os.O_NONBLOCK)\n"
        "os.write(file, b'x')\nos.close(file)"
    ),
    "a pipe with a name inside": "os.mkfifo('pipe')",
    "shared memory of others": "reads('/dev/shm/' + known['shared'])",
    "another root": "os.chroot('.')",
    # the network
    "a server (TCP)": "socket.create_connection(('127.0.0.1', known['tcp']), 1)",
    "a server (UDP)": (
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
        "    s.sendto(b'x', ('127.0.0.1', known['udp']))"
    ),
    "a server of its own": "socket.create_server(('127.0.0.1', 0))",
    "a Unix socket": (
        "with socket.socket(socket.AF_UNIX) as s:\n    s.connect(known['outside'] + '/unix')"
    ),
    "an abstract Unix socket": (
        "with socket.socket(socket.AF_UNIX) as s:\n    s.connect('\\0' + known['abstract'])"
    ),
    "the kernel's own sockets": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "raw packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)",
    # programs and processes
    "a program": "import subprocess\nsubprocess.run(['/bin/true'])",
    "a spawned program": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
    "a program in memory": "os.memfd_create('program')",
    "a signal to us": "os.kill(known['pid'], 0)",
    "a signal to its keeper": "os.kill(os.getppid(), 0)",
    "a signal to another session": "os.kill(known['sibling'], 0)",
    "the priority of another session": "os.setpriority(os.PRIO_PROCESS, known['sibling'], 19)",
    "the processors of another session": (
        "before = os.sched_getaffinity(known['sibling'])\n"
        "os.sched_setaffinity(known['sibling'], {min(before)})\n"
        "if os.sched_getaffinity(known['sibling']) == before: raise PermissionError"
    ),
    "tracing its keeper": "call(number(101, 117), 16, os.getppid(), 0, 0)",
    "tracing another session": "call(number(101, 117), 16, known['sibling'], 0, 0)",
    "the memory of its keeper": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "the memory of another session": (
        "call(number(310, 270), known['sibling'], None, 0, None, 0, 0)"
    ),
    "a descriptor of its keeper": "call(number(438, 438), os.pidfd_open(os.getppid()), 0, 0)",
    "our environment": (
        "found = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "def secret(p):\n"
        "    try: return known['secret'] in open(f'/proc/{p}/environ', 'rb').read().decode()\n"
        "    except OSError: return False\n"
        "if not any(map(secret, found)): raise PermissionError"
    ),
    "secrets in its environment": (
        "if known['secret'] not in str(dict(os.environ)): raise PermissionError"
    ),
    "descriptors that were left open": (
        "def kind(fd):\n"
        "    try: return stat.S_IFMT(os.fstat(fd).st_mode)\n"
        "    except OSError: return 0\n"
        "left = [fd for fd in range(3, 1024) if kind(fd) not in (0, stat.S_IFSOCK)\n"
        "        and not os.fstat(fd).st_nlink == 0]\n"
        "if not left: raise PermissionError"
    ),
    # rights and namespaces
    "another user": "os.setuid(65534)",
    "another group": "os.setgroups([65534])",
    "a device": "os.mknod('device', stat.S_IFCHR | 0o600, os.makedev(1, 3))",
    "the memory of the machine": "open('/dev/mem', 'rb')",
    "the log of the kernel": "call(number(103, 116), 10, None, 0)",
    "a mount": "call(number(165, 40), b'none', known['outside'].encode(), b'tmpfs', 0, None)",
    "a namespace of users": "call(number(272, 97), 0x10000000)",
    "a namespace of networks": "call(number(272, 97), 0x40000000)",
    "a process in namespaces": "call(number(56, 220), 0x20000000 | 17, 0, 0, 0, 0)",
    "the namespaces of others": ("call(number(308, 268), os.pidfd_open(os.getppid()), 0x00020000)"),
    "the name of the machine": "socket.sethostname(socket.gethostname())",
    "another limit for its mark": (
        "import resource\n"
        "try: resource.setrlimit(resource.RLIMIT_RSS, (1, 1))\n"
        "except ValueError as error: raise PermissionError from error"
    ),
    "higher limits": (
        "import resource\n"
        "try: resource.setrlimit(resource.RLIMIT_DATA, (2**50, 2**50))\n"
        "except ValueError as error: raise PermissionError from error"
    ),
    # the kernel
    "keys of the kernel": "call(number(250, 219), 0, -3, 0)",
    "a key in the kernel": "call(number(248, 217), b'user', b'name', b'x', 1, -3)",
    "io_uring": "call(425, 1, ctypes.create_string_buffer(120))",
    "bpf": "call(number(321, 280), 0, ctypes.create_string_buffer(72), 72)",
    "performance counters": (
        "event = ctypes.create_string_buffer(bytes([1, 0, 0, 0, 112, 0, 0, 0]), 112)\n"
        "call(number(298, 241), event, 0, -1, -1, 0)"
    ),
    "page faults": "call(number(323, 282), 1)",
    "memory shared by key": "call(number(29, 194), 0, 4096, 0o1600)",
    "a queue of messages": "call(number(240, 180), b'lorimer', 0o102, 0o600, None)",
    "a module of the kernel": "call(number(175, 105), b'', 0, b'')",
    "system calls by another table": (
        "if machine != 'x86_64': raise Absent\ncall(0x40000000 | 39)"
    ),
}
