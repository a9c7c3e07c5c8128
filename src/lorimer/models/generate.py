"""One typed answer from a model: `generate_as`, outside of any run or within one.

Calls are made by the attempt loop (`attempts.py`), with its retries, failover, clocks and costs; an
answer that does not fit is sent back to the model once for repair. How a type is requested and
parsed: `typed.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Final, Generic, TypeVar

from pydantic import TypeAdapter

from lorimer.core.context import RunContext, short_hash
from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode
from lorimer.core.history import History
from lorimer.core.jsonable import JSON, canonical
from lorimer.core.limits import Limits
from lorimer.core.messages import Message
from lorimer.core.model import Model, ModelResolver, Target
from lorimer.core.own_loop import in_own_loop
from lorimer.core.record import record
from lorimer.core.request import Request, TextDelta, ThinkingDelta, ToolInputDelta
from lorimer.core.state import PipelineState
from lorimer.core.world import World
from lorimer.models.alone import alone
from lorimer.models.attempts import call
from lorimer.models.backoff import Backoff
from lorimer.models.caller import Caller, own_price
from lorimer.models.health import Health
from lorimer.models.registry import Models, targets_of
from lorimer.models.typed import Form, Unfit
from lorimer.models.typed_request import TypedRequest
from lorimer.world.real import RealWorld

T = TypeVar("T")

LIMITS: Final = Limits(timeout_s=300.0, max_cost_usd=5.0, allow_unpriced=True)
"""Limits of a call that is not part of a run."""


@record
class Partial:
    """The beginning of an answer, as plain data. It is not validated, may still grow, and starts
    over after a failed attempt."""

    data: JSON


async def generate_as(
    wanted: type[T] | TypeAdapter[T],
    prompt: str | Sequence[Message],
    *,
    model: str | Model,
    models: ModelResolver | None = None,
    run: RunContext | None = None,
    system: str = "",
    max_tokens: int = 8192,
    temperature: float | None = None,
    limits: Limits | None = None,
    world: World | None = None,
) -> T:
    """Ask a model for a value of a type: a BaseModel, a dataclass, a TypedDict (before Python 3.12
    that of typing_extensions), a list or a plain type, or the TypeAdapter of anything else
    (`TypeAdapter(Cat | Dog)`). Every field is requested, even one with a default: make it `X |
    None` if it may be unknown.

    model: a spec, a chain `a,b`, or a Model. models: the resolver, closed by the caller; default:
        the vendors' keys in the environment. The schema is sent natively to models that can be held
        to one, else as a forced tool, else as instructions.
    max_tokens: per answer. system, temperature: as in Request.
    limits: those of a standalone call, including repair and retries; default: 300 s and 5 USD,
        where a model of unknown price counts as free. Not with `run`, whose own limits apply.
    run: the run that this call is part of (`state.run`, in a tool `context.run`). Every attempt is
        then journalled as an effect of the kind `generate`, with its answer, usage and cost: it
        counts towards the run's spend (not towards max_turns), and a resumed run that asks for the
        same thing does not ask the model again. Without a run nothing is journalled. The sinks of
        Models are notified of each attempt either way.

    Raises APIError: that of the attempts; `exec.api.output_invalid` when the answer was cut off at
    max_tokens, or when neither it nor its repair fits; `exec.api.refused`. LimitError; ConfigError
    for a type or a model that cannot be used.
    """
    asking = TypedRequest(Form(wanted), prompt, system, max_tokens, temperature)
    return await _generate(asking, model, models, run, limits, world)


def generate_as_sync(
    wanted: type[T] | TypeAdapter[T],
    prompt: str | Sequence[Message],
    *,
    model: str | Model,
    models: ModelResolver | None = None,
    system: str = "",
    max_tokens: int = 8192,
    temperature: float | None = None,
    limits: Limits | None = None,
    world: World | None = None,
) -> T:
    """`generate_as` for programs without an event loop. Raises PipelineError inside one."""
    asking = TypedRequest(Form(wanted), prompt, system, max_tokens, temperature)
    work = _generate(asking, model, models, None, limits, world)
    return in_own_loop("generate_as", work, models)


async def generate_as_stream(
    wanted: type[T] | TypeAdapter[T],
    prompt: str | Sequence[Message],
    *,
    model: str | Model,
    models: ModelResolver | None = None,
    run: RunContext | None = None,
    system: str = "",
    max_tokens: int = 8192,
    temperature: float | None = None,
    limits: Limits | None = None,
    world: World | None = None,
) -> AsyncGenerator[Partial | T, None]:
    """`generate_as` that also yields partial answers: a Partial whenever there is more, and finally
    the value. A slow reader misses some Partials, but never the last item. Leaving the loop early
    ends the call and its spending; close the generator then (`contextlib.aclosing`). In a resumed
    run a recorded answer is yielded as the value alone."""
    asking = TypedRequest(Form(wanted), prompt, system, max_tokens, temperature)
    shown = asking.hearer = _Shown(asking.form)
    task = asyncio.create_task(_generate(asking, model, models, run, limits, world))
    task.add_done_callback(shown.over)
    try:
        while await shown.more():
            data = shown.data()
            if data is not None:
                yield Partial(data)
        yield await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


class _Shown(Generic[T]):
    """The pieces of an answer on their way to the reader."""

    def __init__(self, form: Form[T]) -> None:
        self._form = form
        self._parts: list[str] = []
        self._size = self._read = 0
        self._last: JSON = None
        self._news = asyncio.Event()
        self._over = False

    def piece(self, item: TextDelta | ThinkingDelta | ToolInputDelta) -> int:
        if isinstance(item, ThinkingDelta):
            return 0
        text = item.text if isinstance(item, TextDelta) else item.partial_json
        self._parts.append(text)
        self._size += len(text)
        # every parse starts from the beginning: a long answer is parsed only after growing by a
        # 64th
        if self._size >= self._read + max(1, self._read // 64):
            self._news.set()
        return len(text)

    def restart(self) -> None:
        self._parts.clear()
        self._size = self._read = 0

    def over(self, task: asyncio.Task[T]) -> None:
        self._over = True
        self._news.set()

    async def more(self) -> bool:
        """Wait for more; False: no more will come."""
        await self._news.wait()
        self._news.clear()
        return not self._over

    def data(self) -> JSON:
        """The answer so far; None: nothing, or nothing new."""
        self._read = self._size
        data = self._form.partial("".join(self._parts))
        if data == self._last:
            return None
        self._last = data
        return data


async def _apart(work: Coroutine[None, None, T], run: RunContext) -> T:
    """Run `work` in a task of its own, which ends before this returns: clocks cancel the task that
    waits for a model, and the task of a tool belongs to the run."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with run.cancellation.shielded():  # the cost so far is still recorded
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:
                    continue
        raise
    finally:
        if task.done() and not task.cancelled():
            task.exception()  # marks it as retrieved, also if the cancellation is raised instead


async def _generate(
    asking: TypedRequest[T],
    model: str | Model,
    models: ModelResolver | None,
    run: RunContext | None,
    limits: Limits | None,
    world: World | None,
) -> T:
    if run is not None and (limits is not None or world is not None):
        raise ConfigError("generate_as: the limits and the world of a run are the run's")
    own = models is None and isinstance(model, str)
    resolver = Models() if own else models
    try:
        targets = targets_of(model, resolver)
        shared = resolver if isinstance(resolver, Models) else None

        async def ask(run: RunContext) -> T:
            return await _ask(asking, targets, shared, run)

        if run is not None:
            return await _apart(ask(run), run)
        return await alone(ask, limits or LIMITS, world or RealWorld())
    finally:
        if own and resolver is not None:
            await resolver.aclose()


async def _ask(
    asking: TypedRequest[T], targets: Sequence[Target], models: Models | None, run: RunContext
) -> T:
    """Ask once, and a second time with the faults of the answer if it does not fit."""
    health = Health() if models is None else models.health
    sinks = None if models is None else models.sinks
    counts = None if models is None else models.counts
    request = asking.request(targets)
    response = None
    fault = ""
    for _ in range(2):
        if response is not None:
            request.messages = History([*request.messages, *asking.told(response, fault)])
        settings = _settings(request, targets)
        name = short_hash(settings + History(request.messages).digest)
        caller = Caller(
            targets,
            Backoff(),
            own_price,
            settings,
            health=health,
            after_release="restart",
            sinks=sinks,
            counts=counts,
            aside=f"{name}.{run.nth(name)}.",
            hearer=asking.hearer,
        )
        state = PipelineState(run, History(request.messages), None)
        response, _ = await call(caller, request, state)
        try:
            return asking.read(response)
        except Unfit as unfit:
            fault = str(unfit)
            asking.hearer.restart()
    raise APIError(
        f"The answer of {(response and response.model) or request.model!r} is no "
        f"{asking.form.name}, nor is the corrected one: {fault}.",
        code=ExecutorErrorCode.EXEC_API_OUTPUT_INVALID,
        hint="Say more in the prompt about what is wanted, or use a stronger model.",
    )


def _settings(request: Request, targets: Sequence[Target]) -> bytes:
    """Everything except the messages that distinguishes one request from another."""
    output = request.output
    said: JSON = [
        [target.spec for target in targets],
        request.system,
        [tool.to_json() for tool in request.tools],
        None if output is None else output.schema,
        request.max_tokens,
        request.temperature,
    ]
    return canonical(said)
