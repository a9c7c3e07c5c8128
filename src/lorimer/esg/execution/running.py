"""Compiles and runs the code of one step in a namespace: its output, last value and error."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import linecache
import sys
import threading
import traceback
import types
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final, cast

from lorimer.esg.analysis.parts import Parts, find
from lorimer.esg.execution import displays, evaluating, lending, loading
from lorimer.esg.execution import namespace as namespaces
from lorimer.esg.execution.namespace import TrackedNamespace
from lorimer.esg.execution.streams import MAX_OUTPUT, Streams
from lorimer.esg.resources import settings
from lorimer.esg.resources.reading import Key, reading
from lorimer.esg.values.store import Lost

_AWAITS: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_RAISED: Final = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)
"""Not what asks the process to end."""
_DEPTH: Final = 200
"""The recursion limit that running steps needs."""
_TOO_LOW: Final = (
    "the step leaves a recursion limit of {}; what runs the steps needs {}: set it back in the step"
)
_STAND_INS: Final = frozenset(each.__file__ for each in (evaluating, lending, loading, namespaces))
"""Files whose frames are omitted from tracebacks."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step raised."""

    type: str
    """The class of the exception, such as `KeyError`."""
    message: str
    line: int | None
    """The line of the step that was running; None if the step is not in the traceback."""
    traceback: str
    """As Python prints it, from the step's code on."""


@dataclass(slots=True)
class Outcome:
    """The outcome of running a text."""

    stdout: str = ""
    stderr: str = ""
    value: object = None
    """The value of the last line, if that is an expression."""
    shown: str = ""
    """The value as an interactive Python would show it, at that time; empty for None."""
    displays: tuple[displays.Display, ...] = ()
    """Its figures, and the value as HTML or picture."""
    failure: Failure | None = None
    error: BaseException | None = None
    lost: Lost | None = None
    used: frozenset[str] = frozenset()
    """Settings of libraries read by its code."""
    used_to_show: frozenset[str] = frozenset()
    """Those read to show its last value."""
    looked: frozenset[Key] = frozenset()
    """Exactly what was read of the settings in `used`, where that is known."""
    looked_to_show: frozenset[Key] = frozenset()
    """The same for `used_to_show`."""
    seconds: float = 0.0
    """Elapsed time, including waiting."""


def run(
    step_id: str,
    source: str,
    namespace: TrackedNamespace,
    clock: Callable[[], float],
    streams: Streams,
    *,
    whole: bool,
    parts: bool,
) -> Outcome:
    """Run a step. `streams`: those of its session. `whole`: its code may look at the namespace as a
    whole; `parts`: it may use parts of values.

    Whatever it raises is in the outcome, except what asks the process to end (KeyboardInterrupt):
    that is raised.
    """
    outcome = Outcome()
    filename = f"<step {step_id}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    out, err = streams.begin()
    begun = clock()
    figures = displays.open_figures()
    reads = reading()
    reads.begin()
    try:
        with contextlib.redirect_stdout(streams.out), contextlib.redirect_stderr(streams.err):
            body, last, used = _compiled(source, filename, parts=parts)
            if used:
                namespace.lend_parts(used, *(each for each in (body, last) if each is not None))
            for code in (body, last):
                if code is not None:
                    namespace.prepare(code, whole=whole)
            try:
                outcome.value = _call(body, last, namespace)
            finally:
                low = _low_limit()
            if low:
                raise RecursionError(_TOO_LOW.format(low, _DEPTH))
            outcome.used = settings.used(reads, shows=bool(out.text()))
            outcome.looked = frozenset(reads.seen)
            _show(outcome, figures)
        namespace.check()
    except Lost as lost:
        outcome.lost = lost
    except _RAISED as error:  # told in the outcome
        outcome.error = error
        namespace.end()  # Python looks there for names to suggest; those are not reads of the step
        outcome.failure = _failure(error, filename)
    finally:
        displays.close(figures)
    outcome.seconds = clock() - begun
    outcome.stdout, outcome.stderr = out.text(), err.text()
    return outcome


def _show(outcome: Outcome, figures: frozenset[int]) -> None:
    """Show the last value, and the open figures except these."""
    reads = reading()
    reads.begin()
    if outcome.value is not None:
        outcome.shown = repr(outcome.value)[:MAX_OUTPUT]
    outcome.displays = displays.collect(outcome.value, figures)
    outcome.used_to_show = settings.used(
        reads,
        shows=bool(outcome.shown),
        draws=displays.drawn(outcome.value, outcome.displays),
    )
    outcome.looked_to_show = frozenset(reads.seen)


def _compiled(
    source: str, filename: str, *, parts: bool
) -> tuple[types.CodeType, types.CodeType | None, Parts]:
    """The step, its last expression separately, and the names of which it uses parts."""
    tree = ast.parse(source, filename)
    used: Parts = find(tree) if parts else {}
    last: types.CodeType | None = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        expression = ast.Expression(cast("ast.Expr", tree.body.pop()).value)
        last = compile(expression, filename, "eval", flags=_AWAITS, dont_inherit=True)
    return compile(tree, filename, "exec", flags=_AWAITS, dont_inherit=True), last, used


def _call(body: types.CodeType, last: types.CodeType | None, space: TrackedNamespace) -> object:
    """Run the step, and return the value of its last line. If it awaits, all of it runs in one
    event loop: a task that it begins is there when its last line awaits it."""
    codes = [body] if last is None else [body, last]
    if not any(code.co_flags & inspect.CO_COROUTINE for code in codes):
        found = [cast("object", eval(code, space)) for code in codes]  # noqa: S307 - what this is for
        return found[-1]

    async def work() -> object:
        found: object = None
        for code in codes:
            found = eval(code, space)  # noqa: S307 - see above
            if code.co_flags & inspect.CO_COROUTINE:
                found = await cast("Coroutine[object, object, object]", found)
        return found

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    return _elsewhere(work())


def _low_limit() -> int:
    """The recursion limit, if it was too low; it is enough then. 0: it was enough."""
    limit = sys.getrecursionlimit()
    if limit >= _DEPTH:
        return 0
    sys.setrecursionlimit(_DEPTH)
    return limit


def _elsewhere(waiting: Coroutine[object, object, object]) -> object:
    """Run a coroutine in the loop of another thread, while the caller's loop stands still."""
    found: list[object] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            found.append(asyncio.run(waiting))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=work, name="lorimer-step")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return found[0]


def _failure(error: BaseException, filename: str) -> Failure:
    frames = traceback.extract_tb(error.__traceback__)
    own = [number for number, frame in enumerate(frames) if frame.filename == filename]
    line = frames[own[-1]].lineno if own else None
    if isinstance(error, SyntaxError) and error.filename == filename:
        line = error.lineno
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = traceback.StackSummary.from_list(frames[own[0] :] if own else [])
    _leave_out_ours(shown)
    return Failure(type(error).__name__, _message(error), line, "".join(shown.format()))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - of a class of the step, or of what was given to it
        return "<exception str() failed>"  # as in the traceback


def _leave_out_ours(shown: traceback.TracebackException) -> None:
    """The step called `eval` or imported something, not our replacement for that."""
    each: traceback.TracebackException | None = shown
    while each is not None:
        seen = [frame for frame in each.stack if frame.filename not in _STAND_INS]
        each.stack = traceback.StackSummary.from_list(seen)
        each = each.__cause__ or each.__context__
