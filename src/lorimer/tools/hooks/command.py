"""A hook that is a program of the host's: JSON on its standard input, an answer on its standard
output. It runs with the rights of Lorimer's own process, so only trusted sources may name one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ConfigError, LorimerError
from lorimer.core.hooks import Answer, HookEvent
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.world import ProcessLimits
from lorimer.tools.hooks.answers import MAX_REASON, failure, parsed
from lorimer.tools.hooks.hook import DEFAULT_S, Hook, too_slow
from lorimer.tools.hooks.pinned import digest_of

if TYPE_CHECKING:
    from lorimer.core.context import RunContext
    from lorimer.core.world import Finished, World

MAX_OUTPUT: Final = 262_144
"""Bytes that it may print; printing more is an error."""
BLOCK: Final = 2
"""The exit code that blocks; stderr gives the reason."""
_MAX_NAME: Final = 60
_ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType({"PYTHONDONTWRITEBYTECODE": "1"})
"""Added to the clean environment: running must not change a pinned folder."""


class CommandHook(Hook):
    """A program: `argv`, started in `folder` without a shell, with a clean environment.

    `name`: by default the words of `argv`. `pin`: the digest that the folder must have at each
    start (`pinned.digest_of`), so that only trusted contents run. "": not checked.
    """

    def __init__(
        self,
        event: HookEvent | str,
        argv: Sequence[str],
        folder: Path,
        *,
        name: str = "",
        tools: Iterable[str] = (),
        timeout_s: float = DEFAULT_S,
        pin: str = "",
    ) -> None:
        if is_a(argv, str):
            raise wrong("argv", argv, "a list of words", '["python3", "no_pushes.py"]')
        if not argv or not all(argv):
            raise ConfigError("a hook has no program to run")
        named = name or " ".join([Path(argv[0]).name, *argv[1:]])[:_MAX_NAME]
        super().__init__(event, name=named, tools=tools, timeout_s=timeout_s)
        self.argv = tuple(argv)
        self.folder = folder
        self.pin = pin
        self._not_from: Path | None = None

    def not_from(self, workspace: Path) -> CommandHook:
        """The same hook, whose program is not searched in folders of the PATH that lie in a
        workspace, such as that of a virtual environment: a file that an agent may write cannot be a
        guard."""
        other = copy(self)
        other._not_from = Path(os.path.realpath(workspace))
        return other

    async def answer(self, payload: Mapping[str, JSON], run: RunContext) -> Answer:
        finished = await self._run(payload, run.world)
        if finished.returncode == BLOCK:
            reason = _words(finished.errors) or "it gave no reason"
            return Answer("block", reason, hook=self.name)
        if finished.total_bytes > MAX_OUTPUT:
            why = f"printed {finished.total_bytes:,} bytes, of {MAX_OUTPUT:,} at most"
            raise failure(self.event, self.name, why)
        return parsed(self.event, self.name, finished.output)

    async def tell(self, payload: Mapping[str, JSON], world: World) -> None:
        finished = await self._run(payload, world)
        if finished.returncode != 0:
            raise self._failed(f"ended with exit code {BLOCK}, and there is nothing to refuse")

    async def _run(self, payload: Mapping[str, JSON], world: World) -> Finished:
        """Raises HookError if it does not end by itself with 0 or `BLOCK`."""
        await self._must_be_unchanged(world)
        limits = ProcessLimits(self.timeout_s, MAX_OUTPUT, apart=True)
        try:
            finished = await world.spawn(
                self.argv,
                cwd=self.folder,
                env=self._environment(),
                stdin=dumps(payload).encode("utf-8", "replace"),
                limits=limits,
            )
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror or error}") from error
        if finished.timed_out:
            raise too_slow(self)
        if finished.returncode not in (0, BLOCK):
            told = _words(finished.errors)
            how = (
                f"was killed by signal {-finished.returncode}"
                if finished.returncode < 0
                else f"ended with exit code {finished.returncode}"
            )
            raise self._failed(f"{how}{f': {told}' if told else ''}")
        return finished

    def _environment(self) -> Mapping[str, str]:
        if self._not_from is None:
            return _ENVIRONMENT
        folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
        kept = [
            folder
            for folder in filter(os.path.isabs, folders)
            if not Path(os.path.realpath(folder)).is_relative_to(self._not_from)
        ]
        return {**_ENVIRONMENT, "PATH": os.pathsep.join(kept)}

    async def _must_be_unchanged(self, world: World) -> None:
        if not self.pin:
            return
        with world.outside("a thread that reads a hook's files"):
            found = await anyio.to_thread.run_sync(digest_of, self.folder)
        if found != self.pin:
            raise self._failed(f"is not what was trusted: {self.folder} has changed since")

    def _failed(self, why: str) -> LorimerError:
        return failure(self.event, self.name, why)


def _words(output: bytes) -> str:
    return " ".join(output.decode("utf-8", "replace").split())[:MAX_REASON]
