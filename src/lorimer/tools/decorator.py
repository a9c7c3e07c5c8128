"""`@tool`: a typed function as a tool. The signature is the schema, the docstring the text."""

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
"""`Tool.reconcile` as a function: of the call's key, its arguments and its context."""


class ToolOptions(TypedDict, total=False):
    """What `tool` may be told of a function: attributes of `Tool`, and what is left out is as
    there. None leaves it out too."""

    name: str | None
    """The function's, by default."""
    description: str | None
    """What the model reads; by default the function's docstring, up to its sections."""
    effects: str | Iterable[str] | None
    """Out of `read write exec net send secret policy`; left out: all of them."""
    idempotent: bool
    concurrency_safe: bool
    early: bool
    polling: bool
    timeout_s: float | None
    max_result_chars: int | None
    reconcile: Reconcile | None
    """Finds out about an interrupted call."""
    subject: str
    """The parameter that the parentheses of a rule are about."""
    paths: str | Iterable[str]
    """Parameters that are paths: rules compare them relative to the working directory."""
    rooted: bool
    commands: str | Iterable[str]
    """Parameters that are command lines for a shell."""
    urls: str | Iterable[str]
    """Parameters that are URLs."""
    author_requires: str
    """The role that whoever puts it into an agent has to have."""
    callers: str | Iterable[str]
    """Roles of which whoever runs the agent has to have one."""
    share_safe: bool
    untrusted: bool
    approval: str
    """Why a person has to agree to each call."""


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

    def _check_parameters(self) -> None:
        """What rules are told to look at is there: a rule on nothing would hold nothing back."""
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
        """Pickled by its name, as a function is, for processes that import its module; copies are
        itself."""
        return str(getattr(self, "__qualname__", self.name))

    def check(self) -> Check:
        """Pydantic's compiled validator: checks and converts in one go."""
        return self._signature.convert

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Call the function; a blocking one in a thread. What it returns is the content."""
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
        if isinstance(value, Iterator):  # a `map`, a generator expression: what it gives
            value = await context.in_thread(functools.partial(_drawn, value))
        return value if isinstance(value, ToolResult) else ToolResult(value)

    async def reconcile(self, key: str, input: ToolInput, context: ToolContext) -> _Found:
        """Call the function that the tool was given for it; a blocking one in a thread."""
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

    Every parameter needs a type. One annotated `ToolContext` gets the context and is not shown
    to the model, nor is one that a `functools.partial` has given. Descriptions come from the
    docstring, those of parameters from its `Args:` (or as NumPy or Sphinx write them),
    `Field(description=...)` or `Annotated[int, "how many"]`. A sync function runs in a thread. The
    options are those of `ToolOptions`: `effects` out of `read write exec net send secret policy`;
    left out, the tool counts as doing all of them. `reconcile(key, input, context)` finds out about
    an interrupted call; see `Tool.reconcile`.
    Raises ConfigError for a signature that no model could call, for an option that there is not,
    and for a `reconcile` that would never be asked.
    """

    if function is not None and not callable(function):  # @tool("stock")
        raise ConfigError("@tool takes its options by name", hint=f"@tool(name={function!r})")

    def decorate(function: Callable[P, R]) -> FunctionTool[P, R]:
        return FunctionTool(function, **options)

    return decorate if function is None else decorate(function)


def _known(options: ToolOptions) -> ToolOptions:
    """Those that are given. Raises ConfigError for one that there is not."""
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
    """Its docstring; of a partial that of the function, of an object perhaps its `__call__`'s."""
    partial = isinstance(cast("object", function), functools.partial)
    own = "" if partial else inspect.getdoc(function)
    return own or inspect.cleandoc(target_of(function).__doc__ or "")


def _name(function: Callable[..., object]) -> str:
    named: object = function
    while isinstance(named, functools.partial):  # which has none itself
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
