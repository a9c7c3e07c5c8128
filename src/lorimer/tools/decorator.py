"""`@tool`: a typed function as a tool. Its signature becomes the schema, its docstring the
description."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import (
    Generic,
    ParamSpec,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

from typing_extensions import TypedDict, Unpack

from lorimer.core.errors import ConfigError, nearest
from lorimer.tools.base import (
    EFFECTS,
    Check,
    Effect,
    NotDone,
    Tool,
    ToolContext,
    ToolInput,
    ToolResult,
    declared,
)
from lorimer.tools.docstring import read_docstring
from lorimer.tools.encode import MAX_ITEMS
from lorimer.tools.signature import Converted, Signature, target_of

P = ParamSpec("P")
R = TypeVar("R")

_Found: TypeAlias = ToolResult | NotDone | None
Reconcile: TypeAlias = Callable[[str, ToolInput, ToolContext], _Found | Awaitable[_Found]]
"""`Tool.reconcile` as a function of the call's key, its arguments and its context."""


class ToolOptions(TypedDict, total=False):
    """The options of `tool`: attributes of `Tool`, with the same defaults. None counts as left
    out."""

    name: str | None
    """Default: the function's name."""
    description: str | None
    """What the model reads. Default: the function's docstring, without its sections."""
    effects: Effect | Iterable[Effect] | None
    """What it may do to the world. Default: everything."""
    idempotent: bool
    """Repeating an interrupted call, with the same `idempotency_key`, has no further effect."""
    concurrency_safe: bool
    """May run in parallel with other calls of the same reply."""
    early: bool
    """May start while the model is still writing its reply: it only reads."""
    polling: bool
    """It is called repeatedly on purpose, until something has changed: that is no loop."""
    timeout_s: float | None
    """Seconds for one call. Default: `limits.tool_timeout_s`."""
    max_result_chars: int | None
    """Most characters of its result, if fewer than `limits.max_result_chars`."""
    reconcile: Reconcile | None
    """Finds out whether an interrupted call took effect."""
    subject: str
    """The parameter that the pattern of a rule such as `Bash(ls)` is matched against."""
    paths: str | Iterable[str]
    """Parameters that are paths: rules compare them relative to the working directory."""
    rooted: bool
    """It opens those paths only through `ToolContext.files`."""
    commands: str | Iterable[str]
    """Parameters that are command lines for a shell."""
    urls: str | Iterable[str]
    """Parameters that are URLs."""
    author_requires: str
    """The role required of whoever adds it to an agent."""
    callers: str | Iterable[str]
    """Roles of which whoever runs the agent needs one."""
    share_safe: bool
    """It may remain in an agent that is run by someone other than its author."""
    untrusted: bool
    """Its results are untrusted content, such as a web page."""
    approval: str
    """Why a person has to approve each call."""


class FunctionTool(Tool, Generic[P, R]):
    """A function as a tool; calling it calls the function. Made by `tool`."""

    def __init__(self, function: Callable[P, R], **options: Unpack[ToolOptions]) -> None:
        options = _known(options)
        functools.update_wrapper(self, function)
        self.function = function
        name = options.get("name")
        self.name = _name(function) if name is None else name
        summary, notes = read_docstring(_doc(function))
        self.description = options.get("description", summary)
        effects = options.get("effects")
        self.effects = EFFECTS if effects is None else declared(self.name, effects)
        self.idempotent = options.get("idempotent", False)
        self.concurrency_safe = options.get("concurrency_safe", False)
        self.early = options.get("early", False)
        self.polling = options.get("polling", False)
        self.timeout_s = options.get("timeout_s")
        self.max_result_chars = options.get("max_result_chars")
        self.subject = options.get("subject", "")
        self.paths = _names(options.get("paths", ()))
        self.rooted = options.get("rooted", False)
        self.commands = _names(options.get("commands", ()))
        self.urls = _names(options.get("urls", ()))
        self.author_requires = options.get("author_requires", "")
        self.callers = _names(options.get("callers", ()))
        self.share_safe = options.get("share_safe", False)
        self.untrusted = options.get("untrusted", False)
        self.approval = options.get("approval", "")
        self._reconcile = reconcile = options.get("reconcile")
        if reconcile is not None and (self.idempotent or self.effects <= {"read"}):
            raise ConfigError(
                f"tool {self.name!r}: reconcile is never asked, because an interrupted call of a "
                "tool that is idempotent or only reads is simply made again"
            )
        self._signature = Signature(function, self.name, notes)
        self.input_schema = self._signature.schema
        self._check_parameters()
        self._is_async = _is_async(function)

    def __repr__(self) -> str:
        return f"<FunctionTool {self.name!r}>"

    def _check_parameters(self) -> None:
        """Check that the parameters named for rules exist: otherwise such a rule would restrict
        nothing."""
        known = list(self.input_schema.get("properties", {}))
        named = {"paths": self.paths, "commands": self.commands, "urls": self.urls}
        named["subject"] = frozenset([self.subject] if self.subject else ())
        for option, names in named.items():
            for name in sorted(names):
                if name not in known:
                    raise ConfigError(
                        f"tool {self.name!r}: {option} names {name!r}, which is not a parameter of "
                        f"it{nearest(name, known)}"
                    )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> str:
        """Pickled by name, like a function, for processes that import its module; a copy is the
        same object."""
        return str(getattr(self, "__qualname__", self.name))

    def check(self) -> Check:
        """Pydantic's compiled validator: checks and converts in one pass."""
        return self._signature.convert

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Call the function, a sync one in a thread. What it returns is the content."""
        arguments = self._arguments(input)
        if self._signature.context is not None:
            arguments = {**arguments, self._signature.context: context}
        call = cast("Callable[..., object]", self.function)
        if self._is_async:
            value = await cast("Awaitable[object]", call(**arguments))
        else:
            value = await context.in_thread(functools.partial(call, **arguments))
            if inspect.isawaitable(value):  # such as a lambda that calls a coroutine function
                value = await value
        if isinstance(value, Iterator):  # such as a `map` or a generator expression
            value = await context.in_thread(functools.partial(_drawn, value))
        return value if isinstance(value, ToolResult) else ToolResult(value)

    async def reconcile(self, key: str, input: ToolInput, context: ToolContext) -> _Found:
        """Call the `reconcile` function, a sync one in a thread."""
        look = self._reconcile
        if look is None:
            return None
        arguments = self._arguments(input)
        if _is_async(look):
            found = look(key, arguments, context)
        else:
            found = await context.in_thread(lambda: look(key, arguments, context))
        return await found if inspect.isawaitable(found) else found

    def _arguments(self, input: ToolInput) -> ToolInput:
        return input if isinstance(input, Converted) else self._signature.convert(input)


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(
    **options: Unpack[ToolOptions],
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None, /, **options: Unpack[ToolOptions]
) -> FunctionTool[P, R] | Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a tool of a typed function, sync or async.

    Every parameter needs a type. One annotated `ToolContext` receives the context and is not shown
    to the model, nor is one that a `functools.partial` has set. Descriptions come from the
    docstring, those of parameters from its `Args:` section (or NumPy's or Sphinx's equivalent),
    `Field(description=...)` or `Annotated[int, "how many"]`. A sync function runs in a thread.

    The options are those of `ToolOptions`. `effects` are of `read write exec net send secret
    policy`; a tool that declares none counts as having all. `reconcile(key, input, context)` finds
    out whether an interrupted call took effect; see `Tool.reconcile`.

    Raises ConfigError for a signature that no model could call, an unknown option, and a
    `reconcile` that would never be asked.
    """

    if isinstance(function, str):  # @tool("stock")
        raise ConfigError("@tool takes its options by name", hint=f"@tool(name={function!r})")

    def decorate(function: Callable[P, R]) -> FunctionTool[P, R]:
        if not callable(function):  # @tool above @classmethod or @property
            raise ConfigError(
                f"@tool needs a function, not a {type(function).__name__}",
                hint="Make the tool of a method: tool(effects=...)(Service.method).",
            )
        return FunctionTool(function, **options)

    return decorate if function is None else decorate(function)


def _known(options: ToolOptions) -> ToolOptions:
    """The options that are not None. Raises ConfigError for an unknown one."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in ToolOptions.__annotations__:
            known = list(ToolOptions.__annotations__)
            raise ConfigError(f"@tool has no option {name!r}{nearest(name, known)}")
    return cast("ToolOptions", cast("object", given))


def _names(given: str | Iterable[str]) -> frozenset[str]:
    return frozenset([given] if isinstance(given, str) else given)


def _drawn(values: Iterator[object]) -> list[object]:
    return list(islice(values, MAX_ITEMS))


def _doc(function: Callable[..., object]) -> str:
    """The docstring of a function, of the function in a partial, or of an object's `__call__`."""
    partial = isinstance(cast("object", function), functools.partial)
    own = "" if partial else inspect.getdoc(function)
    return own or inspect.cleandoc(target_of(function).__doc__ or "")


def _name(function: Callable[..., object]) -> str:
    named: object = function
    while isinstance(named, functools.partial):  # it has no name itself
        named = cast("functools.partial[object]", named).func
    name = cast("object", getattr(named, "__name__", None))
    if not isinstance(name, str) or name == "<lambda>":
        raise ConfigError("a tool needs a name: @tool(name=...)")
    return name


def _is_async(function: Callable[..., object]) -> bool:
    target: object = function
    while isinstance(target, functools.partial):
        target = cast("functools.partial[object]", target).func
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        getattr(target, "__call__", None)  # noqa: B004 - of an object that is called like a function
    )
