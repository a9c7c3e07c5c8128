"""Start one program at its isolation level. The level was chosen in `levels`."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from lorimer.core.world import Isolation, ProcessLimits
from lorimer.world.sandbox import bubblewrap, landlock, rlimits, seccomp
from lorimer.world.sandbox.view import view_of

if TYPE_CHECKING:
    from lorimer.world.sandbox.outlet import Outlet

GO: Final = b"go\n"
"""Lets a waiting program continue."""

_Popen: TypeAlias = "Callable[[], subprocess.Popen[bytes]]"
_Restrict: TypeAlias = "Callable[[_Popen], subprocess.Popen[bytes]]"


@dataclass(slots=True)
class Started:
    """A running program, and what is needed to end it and clean up after it."""

    process: subprocess.Popen[bytes]
    mark: int | None = None
    """Carried by all its descendants; see `rlimits.mark`."""
    isolation: Isolation | None = None
    enclosed: bool = False
    """All its descendants end when it ends; it must not be asked to stop, only killed."""
    temporary: Path | None = None
    """To be removed with its contents."""
    threshold: socket.socket | None = None
    """Where it waits once it is enclosed; see `Threshold`."""


class Gated(NamedTuple):
    """A process that was released, and its mark."""

    process: subprocess.Popen[bytes]
    mark: int | None


def remove(temporary: Path) -> None:
    """Remove a temporary folder, even if its program removed permissions in it."""
    with suppress(OSError):
        temporary.chmod(0o700)
    for folder, names, _ in os.walk(temporary):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                with suppress(OSError):
                    os.chmod(path, 0o700)
    shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Start:
    """What to start, and its ends of the pipes."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    stdin: int
    output: int
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    outlet: Outlet | None = None
    """Its network access; None: there is none."""
    errors: int | None = None
    """The descriptor for stderr; None: merged with the output."""

    def run(self, isolation: Isolation | None) -> Started:
        """Start it. Raises OSError when it cannot be started."""
        if not self.argv:
            raise OSError(errno.EINVAL, "cannot start a program: the argument list is empty")
        try:
            if isolation is None:
                return Started(self._popen(self.argv, self.env, stderr=self.errors))
            if self.errors is not None:  # the gate of sandboxed programs uses it
                raise ValueError("stderr is not kept apart in a sandbox")
            self._must_exist()
            match isolation.in_force:
                case "L0":
                    argv = rlimits.limited(self.argv, self.limits)
                    return Started(*self._gated(argv, self._environment()), isolation)
                case "L1":
                    return self._restricted(isolation)
                case "L2":
                    return self._enclosed(isolation)
        except ValueError as error:  # NUL or a lone surrogate in an argument or a variable
            raise OSError(errno.EINVAL, f"cannot start {self.argv[0]!r}: {error}") from error

    def _popen(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        stderr: int | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            list(argv),
            cwd=self.cwd,
            env=dict(env),
            stdin=self.stdin,
            stdout=self.output,
            stderr=self.output if stderr is None else stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    def _environment(self, **more: str) -> dict[str, str]:
        found = {**self.env, **more}
        if self.outlet is not None:
            found.update(self.outlet.environment())
        return found

    def _must_exist(self) -> None:
        """The shell in between would report it too late."""
        name = self.argv[0]
        search = self.env.get("PATH", os.defpath)
        if "/" in name:
            name = str(self.cwd / name)
        if name and shutil.which(name, path=search) is None:
            if os.path.exists(name) and "/" in name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.argv[0])
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.argv[0])
        if not name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def _gated(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        restrict: _Restrict | None = None,
    ) -> Gated:
        """It begins once it carries its mark, and not at all if we die before."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                popen = partial(self._popen, rlimits.gated(argv), env, stderr=theirs.fileno())
                process = popen() if restrict is None else restrict(popen)
            return self._let_go(process, ours)

    def _let_go(self, process: subprocess.Popen[bytes], gate: socket.socket) -> Gated:
        number = secrets.randbelow(2**62) + 1
        marked = rlimits.mark(process.pid, number)
        with suppress(BrokenPipeError):  # it has ended already; its status says why
            gate.send(GO)
        return Gated(process, number if marked else None)

    # --- L1 ------------------------------------------------------------------------------

    def _restricted(self, isolation: Isolation) -> Started:
        sandbox = self.limits.sandbox
        assert sandbox is not None
        view = view_of(sandbox, self.cwd, self.env)
        temporary = Path(tempfile.mkdtemp(prefix="lorimer-"))
        try:
            port = None if self.outlet is None else self.outlet.port
            with landlock.ruleset(view, temporary, port=port) as rules:
                sockets: seccomp.Sockets = "local" if port is None else "tcp"
                restrict = partial(
                    landlock.start_restricted, rules, seccomp.program(sockets=sockets)
                )
                env = self._environment(TMPDIR=str(temporary))
                argv = rlimits.limited(self.argv, self.limits)
                gated = self._gated(argv, env, restrict=restrict)
        except BaseException:
            remove(temporary)
            raise
        return Started(*gated, isolation, temporary=temporary)

    # --- L2 ------------------------------------------------------------------------------

    def _enclosed(self, isolation: Isolation) -> Started:
        sandbox = self.limits.sandbox
        assert sandbox is not None
        program = bubblewrap.found(sandbox.writable)
        if program is None:
            raise FileNotFoundError(errno.ENOENT, "bubblewrap no longer exists", "bwrap")
        if not self.cwd.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.cwd))
        # loopback is a network of its own there, so sockets need not be forbidden
        code = seccomp.program(sockets="any")
        inner = self.argv if self.outlet is None else self.outlet.command(self.argv)
        with ExitStack() as cleanup:
            filter_fd = os.memfd_create("lorimer-seccomp")
            cleanup.callback(os.close, filter_fd)
            os.write(filter_fd, code)
            os.lseek(filter_fd, 0, os.SEEK_SET)
            argv = bubblewrap.command(
                program,
                rlimits.limited(inner, self.limits, enclosed=True),
                view=view_of(sandbox, self.cwd, self.env),
                cwd=Path(os.path.realpath(self.cwd)),
                seccomp_fd=filter_fd,
            )
            env = self._environment(TMPDIR="/tmp")  # noqa: S108 - its own
            door = None if self.outlet is None else self.outlet.theirs
            given = (filter_fd,) if door is None else (filter_fd, door)
            ours, theirs = socket.socketpair()
            cleanup.enter_context(theirs)
            failed = cleanup.enter_context(ExitStack())
            failed.enter_context(ours)
            process = self._popen(
                rlimits.gated(argv, twice=True), env, stderr=theirs.fileno(), pass_fds=given
            )
            gated = self._let_go(process, ours)
            failed.pop_all()
        return Started(*gated, isolation, enclosed=True, threshold=ours)
