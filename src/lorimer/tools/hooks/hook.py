"""A hook: the point and the tools that it is for, and what answers: a function of the host's (here)
or a program (`command.py`)."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import anyio

from lorimer.core.errors import ConfigError, ExecutorErrorCode, LorimerError
from lorimer.core.first_wait import keeping
from lorimer.core.hooks import NOTHING, Answer, HookEvent
from lorimer.core.jsonable import JSON
from lorimer.tools.encode import describe
from lorimer.tools.hooks.answers import checked, failure
from lorimer.tools.running import within

if TYPE_CHECKING:
    from lorimer.core.context import RunContext
    from lorimer.core.world import World

Function: TypeAlias = Callable[[dict[str, JSON]], "Awaitable[Answer | None] | Answer | None"]
"""Takes a copy of the point's fields; what an observer returns is ignored."""

DEFAULT_S: Final = 30.0
"""Default time-out of a hook, in seconds."""
MAX_S: Final = 600.0

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

_OF_TOOLS: Final = (
    HookEvent.PRE_TOOL_USE,
    HookEvent.POST_TOOL_USE,
    HookEvent.POST_TOOL_FAILURE,
)


class Hook(ABC):
    """A guard or an observer at one point. Immutable; serves many runs at once.

    `tools`: only for these; a name may end with `*`. Empty: for all. `timeout_s`: time-out in
    seconds, at most 600. Raises ConfigError for invalid values.
    """

    def __init__(
        self,
        event: HookEvent | str,
        *,
        name: str,
        tools: Iterable[str] = (),
        timeout_s: float = DEFAULT_S,
    ) -> None:
        self.event = HookEvent.named(event)
        self.name = name
        self.tools = (tools,) if isinstance(tools, str) else tuple(tools)
        self.timeout_s = timeout_s
        if not name:
            raise ConfigError(f"a hook of {self.event.value} has no name")
        if self.tools and self.event not in _OF_TOOLS:
            raise ConfigError(
                f"the hook {name!r} names tools, and {self.event.value} is about none"
            )
        if not 0 < timeout_s <= MAX_S:
            raise ConfigError(
                f"the hook {name!r} has timeout_s {timeout_s!r}: "
                f"it must be more than 0, at most {MAX_S:g}"
            )

    def is_about(self, tool: str) -> bool:
        """Whether it is called for this tool."""
        if not self.tools:
            return True
        return any(
            tool.startswith(name[:-1]) if name.endswith("*") else tool == name
            for name in self.tools
        )

    @abstractmethod
    async def answer(self, payload: Mapping[str, JSON], run: RunContext) -> Answer:
        """Ask a guard. Raises HookError for any failure of it."""

    @abstractmethod
    def tell(self, payload: Mapping[str, JSON], world: World) -> Awaitable[None] | None:
        """Notify an observer; None: it is done. Raises whatever the observer raises."""


class FunctionHook(Hook):
    """A function of the host's, plain or async. It runs in Lorimer's own process: a plain function
    should be fast, since nothing can stop it; an async one is cancelled at its time-out."""

    def __init__(
        self,
        event: HookEvent | str,
        function: Function,
        *,
        name: str = "",
        tools: Iterable[str] = (),
        timeout_s: float = DEFAULT_S,
    ) -> None:
        if not callable(function):
            raise ConfigError(f"a hook is a function, not {function.__class__.__name__}")
        named = name or str(getattr(function, "__name__", "")) or type(function).__name__
        super().__init__(event, name=named, tools=tools, timeout_s=timeout_s)
        self._function = function

    async def answer(self, payload: Mapping[str, JSON], run: RunContext) -> Answer:
        try:
            said = self._function(_copies(payload))
        except BaseException as error:
            raise failure(self.event, self.name, f"failed: {describe(error)}") from error
        if said is None:
            return NOTHING
        if inspect.isawaitable(said):
            said = await self._in_time(said, run)
            if said is None:
                return NOTHING
        if not isinstance(said, Answer):
            what = type(said).__name__
            raise failure(self.event, self.name, f"returned a {what}, neither an Answer nor None")
        return checked(self.event, self.name, said)

    async def _in_time(self, said: Awaitable[object], run: RunContext) -> object:
        kept: list[object] = []
        try:
            return await within(keeping(said, kept), kept, self.name, self.timeout_s, run)
        except LorimerError as error:
            if error.code is ExecutorErrorCode.EXEC_TOOL_TIMEOUT:
                raise too_slow(self) from error
            raise failure(self.event, self.name, f"failed: {error.message}") from error

    def tell(self, payload: Mapping[str, JSON], world: World) -> Awaitable[None] | None:
        said = self._function(_copies(payload))
        return self._wait(said) if inspect.isawaitable(said) else None

    async def _wait(self, said: Awaitable[object]) -> None:
        with anyio.fail_after(self.timeout_s):
            await said


def too_slow(hook: Hook) -> LorimerError:
    """The error of a hook that timed out."""
    return failure(
        hook.event,
        hook.name,
        f"did not answer within {hook.timeout_s:g} s",
        ExecutorErrorCode.EXEC_HOOK_TIMEOUT,
    )


def _copies(payload: Mapping[str, JSON]) -> dict[str, JSON]:
    """A copy, so that a hook's changes do not affect anything else."""
    copies = dict(payload)
    for name, value in payload.items():
        if type(value) not in _SCALARS:
            copies[name] = _copied(value)
    return copies


def _copied(value: JSON) -> JSON:
    if type(value) in _SCALARS:  # nearly all are
        return value
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in cast("list[JSON]", value)]
    return value
