"""The one attempt loop: a model call, its clocks, its retries. Every attempt is an effect.

Failover joins here; stage 6 holds only the strategies that decide.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from random import Random
from typing import Protocol

from lorimer.core.context import RunContext, Safety
from lorimer.core.errors import APIError, ExecutorErrorCode, JournalError
from lorimer.core.history import History
from lorimer.core.jsonable import JSON
from lorimer.core.messages import (
    NO_MARKS,
    NO_USAGE,
    Request,
    Response,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    Usage,
    UsageDelta,
    canonical_message,
    response_from_json,
)
from lorimer.core.model import Model
from lorimer.core.record import record
from lorimer.core.state import PipelineState
from lorimer.core.wellformed import own_ids
from lorimer.models.clocks import Clocks


class RetryPolicy(Protocol):
    """Decides whether a failed attempt is made again. Strategies of stage 6."""

    def delay_s(self, error: APIError, attempt: int, dice: Random) -> float | None:
        """Seconds to wait before attempt number `attempt` + 1 (the first is 1); None: give up."""
        ...


@record
class Caller:
    """What every call of one pipeline has in common."""

    model: Model
    retry: RetryPolicy
    price: Callable[[Usage, str], int | None]
    """Nano-dollars for some usage of the model that answered; None: unknown."""
    settings: bytes
    """All that is fixed about its requests: goes into their fingerprints."""


async def call(
    caller: Caller, request: Request, state: PipelineState
) -> tuple[Response, Mapping[str, JSON]]:
    """Get one answer, as an object and as its fact has it, with as many attempts as the retry
    policy allows.

    Journals a model.intent and a model.reply for every attempt. Text that a listener was given
    is never given twice: once any was released, a failed attempt is final. Raises APIError
    (with `attempts`, the number made), LimitError when the reservation does not fit.
    """
    run = state.run
    asked = _fingerprint(request, caller.settings)
    reserve = _reservation(caller, request, state)
    number = 0
    while True:
        number += 1
        attempt = _Attempt(caller, request, state, reserve)
        fresh = state.unrecorded()
        intent: Mapping[str, JSON] = (
            {"messages": [message.to_json() for message in fresh]} if fresh else {}
        )
        if run.wants("api.request"):
            run.signal("api.request", _described(caller, request, number))
        try:
            data = await run.effect(
                "model",
                str(number - 1),
                attempt.make,
                request=asked,
                safety=Safety.IDEMPOTENT,
                intent=intent,
                reserve_nano=reserve,
                aborted=attempt.spent,
            )
        except APIError as error:
            error.attempts = number
            wait = None if attempt.released else caller.retry.delay_s(error, number, run.dice)
            if wait is None or not _in_time(wait, run):
                raise
            run.signal(
                "api.retry",
                {
                    "attempt": number,
                    "code": error.code.value,
                    "category": error.category.value,
                    "error": str(error),
                    "delay_s": wait,
                },
            )
            await run.sleep(wait)
            continue
        except BaseException:
            if not run.has_begun("model", str(number - 1)):
                state.untold(fresh)
            raise
        return attempt.response or _recorded(data), data


def _in_time(wait: float, run: RunContext) -> bool:
    """The run's time is not over before the wait is; a wait that is recorded was in time."""
    return run.replaying or run.world.monotonic() + wait <= run.bounds.deadline


def _recorded(data: Mapping[str, JSON]) -> Response:
    try:
        return response_from_json(data)
    except ValueError as error:
        raise JournalError(
            f"A recorded reply cannot be read: {error}.",
            code=ExecutorErrorCode.EXEC_JOURNAL_VERSION,
            hint="Another version of lorimer wrote it: resume the run with that one.",
        ) from None


class _Attempt:
    """One attempt: pulls the stream, tells listeners, remembers what it cost so far."""

    __slots__ = ("_caller", "_request", "_reserve", "_state", "_usage", "released", "response")

    def __init__(
        self, caller: Caller, request: Request, state: PipelineState, reserve: int
    ) -> None:
        self._caller = caller
        self._request = request
        self._state = state
        self._reserve = reserve
        self._usage = NO_USAGE
        self.released = False
        """A listener was given a piece of the answer."""
        self.response: Response | None = None

    async def make(self) -> Mapping[str, JSON]:
        run, caller = self._state.run, self._caller
        request = self._request
        heard = request.stream and run.heard
        clocks = Clocks(run.alarm, run.bounds.limits, streamed=request.stream)
        stream = caller.model.stream(request, world=run.world)
        response: Response | None = None
        try:
            while (item := await clocks.next(stream)) is not None:
                if isinstance(item, Response):
                    response = item  # always the last
                    break
                if isinstance(item, UsageDelta):
                    self._usage = item.usage
                elif heard:
                    self.released |= _release(item, self._state)
                    if run.crowded:
                        await run.room()
        except APIError as error:
            self._usage = error.usage or self._usage
            raise
        finally:
            clocks.close()
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()
        if response is None:
            raise APIError(
                "The model's stream ended without an answer.",
                code=ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE,
            )
        self._usage = response.usage
        if response.extra.get("dropped"):
            _tell_dropped(caller.model, response, self._state)
        taken = self._state.messages.call_ids
        response.content = own_ids(response.content, taken, run.world.new_id)
        response.cost_nano = self._cost(response.model or request.model)
        self.response = response
        return response.to_json()

    def spent(self) -> Mapping[str, JSON]:
        """What a failed or cancelled attempt has used, as far as the provider told."""
        if self._usage is NO_USAGE:
            return {}
        return {"usage": self._usage.to_json(), "cost": self._cost(self._request.model)}

    def _cost(self, model: str) -> int:
        # a kind of token without a price: under a cost limit it is not free, but what was set aside
        cost = self._caller.price(self._usage, model)
        return self._reserve if cost is None else cost


def _tell_dropped(model: Model, response: Response, state: PipelineState) -> None:
    """Tell listeners what was asked for and not sent: of each model and field once a run."""
    dropped = response.extra["dropped"]
    names = [str(name) for name in dropped] if isinstance(dropped, list | tuple) else []
    fresh = [name for name in names if (model.provider, model.name, name) not in state.unsupported]
    state.unsupported.update([(model.provider, model.name, name) for name in fresh])
    if fresh:
        state.run.signal(
            "llm_client.feature_unsupported",
            {"provider": model.provider, "model": model.name, "fields": fresh},
        )


def _release(item: TextDelta | ThinkingDelta | ToolInputDelta, state: PipelineState) -> bool:
    """Tell listeners of this kind of piece; whether there were any."""
    run = state.run
    if isinstance(item, TextDelta):
        heard = run.wants("text.delta")
        run.signal("text.delta", {"text": item.text})
    elif isinstance(item, ThinkingDelta):
        heard = run.wants("thinking.delta")
        run.signal("thinking.delta", {"text": item.text})
    else:
        heard = run.wants("tool.input_delta")
        run.signal(
            "tool.input_delta",
            {"index": item.index, "name": item.name, "partial_json": item.partial_json},
        )
    return heard


def _described(caller: Caller, request: Request, number: int) -> Mapping[str, JSON]:
    return {
        "model": request.model,
        "provider": caller.model.provider,
        "attempt": number,
        "message_count": len(request.messages),
        "has_tools": bool(request.tools),
        "stream": request.stream,
    }


def _reservation(caller: Caller, request: Request, state: PipelineState) -> int:
    """An upper estimate of the call's price in nano-dollars, to set aside before it is made.

    A byte is counted as a third of a token, which is more than English or code have; the prompt
    as written to a cache, if that may happen and costs more; the answer as the most it may be.
    Raises APIError `exec.api.unpriced` under a cost limit.
    """
    limits = state.run.bounds.limits
    if limits.max_cost_usd is None:
        return 0
    size = state.context_size + len(request.system.encode("utf-8", "surrogatepass"))
    prompt = (size + sum([tool.size for tool in request.tools])) // 3 + 16
    answer = request.max_tokens + (request.thinking_tokens or 0)
    price = caller.price(Usage(input_tokens=prompt, output_tokens=answer), request.model)
    if price is not None and request.cache is not NO_MARKS:
        written = Usage(cache_creation_input_tokens=prompt, output_tokens=answer)
        price = max(price, caller.price(written, request.model) or 0)
    if price is None and not limits.allow_unpriced:
        raise APIError(
            f"The price of {request.model!r} is not known, and this run has a cost limit.",
            code=ExecutorErrorCode.EXEC_API_UNPRICED,
            hint="Give its price, or set limits.allow_unpriced, or drop max_cost_usd.",
        )
    return price or 0


def _fingerprint(request: Request, settings: bytes) -> bytes:
    """What is asked, in bytes that differ when anything of it differs. The history is in it by
    its running digest, so this costs the same however long it is."""
    messages = request.messages
    body = (
        messages.digest
        if isinstance(messages, History)
        else b"".join([canonical_message(message) for message in messages])
    )
    tools = b"".join([tool.fingerprint for tool in request.tools])
    system = request.system.encode("utf-8", "surrogatepass")
    return b"%b\0%b\0%b\0%b\0%b" % (body, tools, system, request.model.encode(), settings)
