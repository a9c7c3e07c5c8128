"""One attempt at one model: pulls its stream under the clocks, notifies listeners, and accounts for
its cost, however it ends. Which attempts are made is decided in `attempts.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import AsyncGeneratorType
from typing import Final

from lorimer.core.errors import APIError, ErrorCategory, ExecutorErrorCode
from lorimer.core.jsonable import JSON, texts_of
from lorimer.core.messages import Block, TextBlock, ThinkingBlock
from lorimer.core.model import ModelCall, Target
from lorimer.core.request import (
    NO_USAGE,
    Delta,
    Request,
    Response,
    StopReason,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
    Usage,
    UsageDelta,
)
from lorimer.core.state import PipelineState
from lorimer.core.tool import EarlyCalls
from lorimer.core.wellformed import own_ids
from lorimer.models.caller import Caller, not_whole
from lorimer.models.clocks import Clocks
from lorimer.models.estimate import CHARS_PER_TOKEN, estimate
from lorimer.models.failover import Verdict, verdict
from lorimer.models.fitting import naming
from lorimer.models.images import Pictures, limits_of, pictured
from lorimer.models.scrubbing import Scrubber

_FINISHED: Final = (StopReason.END_TURN, StopReason.TOOL_USE)
_CUT_OFF: Final = ExecutorErrorCode.EXEC_RUN_CANCELLED.value
_MOST_NANO: Final = 10**15
"""A million dollars: no call costs more."""
_LOST: Final = frozenset({ErrorCategory.NETWORK, ErrorCategory.TIMEOUT})
"""Categories in which a stream just breaks off: a provider that reports an error within a stream
has rejected the request, and bills nothing."""


class Pull:
    """One attempt, made by `make`. `prefix` is the beginning of the answer, if an earlier attempt
    produced it: the answer is the prefix and what follows now."""

    __slots__ = (
        "_accepted",
        "_began",
        "_caller",
        "_estimated",
        "_number",
        "_prefix",
        "_released",
        "_request",
        "_reserve",
        "_said",
        "_state",
        "_target",
        "_uncounted",
        "_usage",
        "response",
    )

    def __init__(
        self,
        caller: Caller,
        target: Target,
        request: Request,
        state: PipelineState,
        reserve: int,
        number: int,
        prefix: str,
    ) -> None:
        self._caller = caller
        self._target = target
        self._request = request
        self._state = state
        self._reserve = reserve
        self._number = number
        self._prefix = prefix
        self._usage = NO_USAGE
        self._accepted = False
        """The provider has begun to answer: the prompt is billed."""
        self._uncounted = 0
        """Characters of the answer since the provider last reported usage."""
        self._estimated = False
        self._began: float | None = None
        self._released = 0
        """Characters of the answer that listeners were given."""
        self._said: list[str] | None = None
        """The text that listeners were given, if another attempt may continue it."""
        self.response: Response | None = None

    async def make(self) -> Mapping[str, JSON]:
        """The answer as recorded in its fact. Raises APIError, which says what was released."""
        run, caller, request = self._state.run, self._caller, self._request
        if caller.timed:
            self._began = run.world.monotonic()
        heard = (run.has_listeners or caller.hearer is not None) and request.stream
        if heard and caller.after_release == "continue":
            self._said = []
        scrubber = None if run.redactor is None else Scrubber(run.redactor)
        dropped = False
        if pictured(request.messages):
            limits = limits_of(self._target.model)
            pictures = run.owned.own(Pictures, Pictures)
            request, dropped = await pictures.fit(request, limits, run)
        stream = self._target.model.stream(request, world=run.world)
        early = None if caller.early is None else caller.early(self._state)
        try:
            response = await self._received(stream, early, scrubber, heard=heard)
            self._usage, self._uncounted = response.usage, 0
            if dropped:
                response.extra = naming(["images"], response.extra)
            if response.extra:
                self._tell_dropped(response)
            if not self._prefix and _says_nothing(response):
                raise APIError(
                    f"The model {request.model!r} gave an empty answer.",
                    code=ExecutorErrorCode.EXEC_API_EMPTY,
                )
        except APIError as error:
            if early is not None:
                early.anew()
            self._failed(error)
            raise
        except BaseException:
            self._estimate()
            if caller.sinks is not None:
                self._tell(_CUT_OFF)
            raise
        content = response.content
        if self._prefix:
            content = _joined(self._prefix, content)
        response.content = own_ids(content, self._state.messages.call_ids, run.world.new_id)
        name = response.model or request.model
        price = self._price(name)
        if price is not None and type(price) is not int:
            raise not_whole(name, price)
        response.cost_nano = self._cost(price)
        data = response.to_json()
        if scrubber is not None:
            data = scrubber.answer(response, data)
        self.response = response
        if caller.counts is not None:
            caller.counts.learn(self._target.place, request, response)
        if caller.health.troubled:
            caller.health.succeeded(self._target.place)
        if self._began is not None:
            self._tell("")
        return data

    async def _received(
        self,
        stream: AsyncIterator[Delta | Response],
        early: EarlyCalls | None,
        scrubber: Scrubber | None,
        *,
        heard: bool,
    ) -> Response:
        """Read the stream to its end and pass its pieces on, to listeners if `heard`."""
        run = self._state.run
        clocks = Clocks(run.alarm, run.bounds.limits, streamed=self._request.stream)
        response: Response | None = None
        try:
            while (item := await clocks.next(stream)) is not None:
                if isinstance(item, Response):
                    response = item  # always the last item
                    break
                if isinstance(item, UsageDelta):
                    self._accepted = True
                    self._told(item.usage)
                    continue
                self._uncounted += _length(item)
                if early is not None and isinstance(item, ToolInputDelta):
                    early.piece(item)
                if heard:
                    for piece in (item,) if scrubber is None else scrubber.take(item):
                        self._release(piece)
                    if run.reader_behind:
                        await run.wait_for_reader()
        finally:
            clocks.close()
            if isinstance(stream, (AsyncGeneratorType, AsyncGenerator)):  # the first is fast
                await stream.aclose()
        if response is None:
            raise APIError(
                "The model's stream ended without an answer.",
                code=ExecutorErrorCode.EXEC_API_STREAM_INCOMPLETE,
            )
        if scrubber is not None and heard:
            for piece in scrubber.rest():
                self._release(piece)
        return response

    def spent(self) -> Mapping[str, JSON]:
        """The usage of a failed or cancelled attempt: as the provider reported it, with estimates,
        named in `extra`, for the prompt or the output if it had not counted them yet."""
        if self._usage is NO_USAGE:
            return {}
        used = {
            "usage": self._usage.to_json(),
            "cost": self._cost(self._price(self._request.model)),
        }
        return {**used, "extra": {"usage_estimated": True}} if self._estimated else used

    def _told(self, usage: Usage) -> None:
        """The provider has reported usage, perhaps only that of the prompt."""
        if usage.output_tokens > self._usage.output_tokens:
            self._uncounted = 0
        self._usage = usage

    def _estimate(self, *, lost: bool = False) -> None:
        """The attempt is dead: its output will never be counted by the provider, nor its prompt if
        it was `lost`. Most providers count at the end, but bill anyway."""
        request, caller, told = self._request, self._caller, self._usage
        if not self._uncounted and (told.total or not (lost and self._accepted)):
            return
        prompt = 0.0
        if told.total == told.output_tokens:
            share = 1.0 if caller.counts is None else caller.counts.of(self._target.place)[0]
            prompt = estimate(request) * share
        said = min(
            -(-self._uncounted // CHARS_PER_TOKEN),
            request.max_tokens + (request.thinking_tokens or 0),  # what was reserved: never more
        )
        self._usage = told + Usage(round(prompt), said)
        self._uncounted, self._estimated = 0, True

    def _price(self, model: str) -> int | None:
        return self._caller.price(self._usage, model, self._target.model)

    def _cost(self, price: int | None) -> int:
        # For a kind of token without a price, an impossible count, or what is no amount: under a
        # cost limit the call is then neither free nor refunded, but costs what was reserved.
        return price if type(price) is int and 0 <= price <= _MOST_NANO else self._reserve

    def _failed(self, error: APIError) -> None:
        run, health, place = self._state.run, self._caller.health, self._target.place
        if error.usage is not None:
            self._told(error.usage)
        self._estimate(lost=error.category in _LOST)
        error.released = self._released
        error.partial = ""
        if self._released and self._said is not None:
            said = "".join(self._said)
            error.partial = said if (self._prefix + said).strip() else ""
        if verdict(error) is Verdict.TRANSIENT:
            health.failed(place, run.world.monotonic(), self._began)
        else:
            health.release(place, run.id)
        if self._caller.sinks is not None:
            self._tell(error.code.value)

    def _tell(self, code: str) -> None:
        sinks, run, response = self._caller.sinks, self._state.run, self.response
        if sinks is None or self._began is None:
            return
        model = self._request.model if response is None else response.model or self._request.model
        call = ModelCall(
            run.id,
            run.iteration,
            self._number,
            self._target.spec,
            model,
            self._usage,
            0 if self._usage is NO_USAGE else self._cost(self._price(model)),
            run.world.monotonic() - self._began,
            code,
        )
        sinks.tell(call, self._request, response)

    def _tell_dropped(self, response: Response) -> None:
        """Tell listeners what was requested but not sent: once per run for each model and field."""
        model, state = self._target.model, self._state
        names = texts_of(response.extra.get("dropped"))
        seen = state.unsupported
        fresh = [name for name in names if (model.provider, model.name, name) not in seen]
        if fresh:
            state.unsupported += tuple([(model.provider, model.name, name) for name in fresh])
            state.run.signal(
                "llm_client.feature_unsupported",
                {"provider": model.provider, "model": model.name, "fields": fresh},
            )

    def _release(self, item: TextDelta | ThinkingDelta | ToolInputDelta) -> None:
        """Give listeners a piece, and count what they were given."""
        run, hearer = self._state.run, self._caller.hearer
        if hearer is not None:
            self._released += hearer.piece(item)
        elif isinstance(item, TextDelta):
            if run.wants("text.delta"):
                self._released += len(item.text)
                run.signal("text.delta", {"text": item.text})
            if self._said is not None:
                self._said.append(item.text)
        elif isinstance(item, ThinkingDelta):
            if run.wants("thinking.delta"):
                self._released += len(item.text)
                run.signal("thinking.delta", {"text": item.text})
        else:
            self._said = None
            if run.wants("tool.input_delta"):
                self._released += len(item.name) + len(item.partial_json)
                run.signal(
                    "tool.input_delta",
                    {"index": item.index, "name": item.name, "partial_json": item.partial_json},
                )


def _length(item: TextDelta | ThinkingDelta | ToolInputDelta) -> int:
    """The length of a piece of an answer, in characters."""
    if isinstance(item, ToolInputDelta):
        return len(item.name) + len(item.partial_json)
    return len(item.text)


def _says_nothing(response: Response) -> bool:
    """Whether it ended normally but contains neither text nor calls: thinking or blanks at most."""
    for block in response.content:
        if isinstance(block, TextBlock):
            if block.text and not block.text.isspace():
                return False
        elif not isinstance(block, ThinkingBlock):
            return False
    return response.stop in _FINISHED


def _joined(prefix: str, content: tuple[Block, ...]) -> tuple[Block, ...]:
    """The content with `prefix` prepended to its text."""
    for index, block in enumerate(content):
        if isinstance(block, ThinkingBlock):
            continue
        if isinstance(block, TextBlock):
            return (*content[:index], TextBlock(prefix + block.text), *content[index + 1 :])
        return (*content[:index], TextBlock(prefix), *content[index:])
    return (*content, TextBlock(prefix))
