"""`eval` and `exec` as steps find them: they supply only the names that the evaluated text uses.

The interpreter looks up the names in such a text without asking the namespace. Without this module
every name would have to be supplied before, and each step that calls `eval` would depend on all
steps.
"""

from __future__ import annotations
import __future__

import builtins
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final, Protocol, cast

_FUTURE: Final[int] = reduce(
    int.__or__,
    [getattr(__future__, name).compiler_flag for name in __future__.all_feature_names],
)
_OPTIMIZED: Final = 0x1
"""`CO_OPTIMIZED`: a function."""
_SNAPSHOTS: Final = sys.version_info >= (3, 13)
"""From then on the locals of a function are a copy."""


class Lends(Protocol):
    """The part of a session's globals that is used here."""

    def lend_for(self, code: types.CodeType, local: Mapping[str, object]) -> None:
        """Supply the names that this code finds neither there nor in `local`."""
        ...


def _eval(source: Any, globals: Any = None, locals: Any = None) -> object:
    code, spaces = _ready(source, "eval", globals, locals, inspect.currentframe())
    return builtins.eval(code, *spaces)  # noqa: S307 - called by a step


def _exec(source: Any, globals: Any = None, locals: Any = None, *, closure: Any = None) -> None:
    code, spaces = _ready(source, "exec", globals, locals, inspect.currentframe())
    if closure is None:
        builtins.exec(code, *spaces)  # noqa: S102 - called by a step
    else:
        builtins.exec(code, *spaces, closure=closure)  # noqa: S102


def _ready(
    source: Any, mode: str, given: Any, local: Any, frame: types.FrameType | None
) -> tuple[Any, tuple[Any, ...]]:
    """The code, and the namespaces that the builtin would take from its caller."""
    caller = frame and frame.f_back
    if caller is None:
        raise RuntimeError(f"{mode} needs a frame that calls it")
    if given is None:
        given = caller.f_globals
        if local is None:
            local = caller.f_locals
            if _SNAPSHOTS and caller.f_code.co_flags & _OPTIMIZED:
                local = dict(local)
    code = source
    if isinstance(source, str | bytes | bytearray):
        text = source if isinstance(source, str) else bytes(source)
        if mode == "eval":
            text = text.lstrip(" \t") if isinstance(text, str) else text.lstrip(b" \t")
        flags = caller.f_code.co_flags & _FUTURE
        code = compile(text, "<string>", mode, flags, dont_inherit=True)
    if isinstance(code, types.CodeType) and hasattr(given, "lend_for"):
        cast("Lends", given).lend_for(code, local if local is not None else {})
    return code, (given,) if local is None else (given, local)


TRACKED: Final[Mapping[str, Callable[..., object]]] = {"eval": _eval, "exec": _exec}
"""Name of a builtin -> its replacement."""
