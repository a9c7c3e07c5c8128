"""How much is reserved before a model call, so that a cost limit is never exceeded.

An upper bound, not a guess: no tokenizer in use makes more tokens than there are bytes. What the
provider has already counted of the same conversation is taken as counted; everything newer as one
token per byte. For the probable number of tokens of a prompt see `counting.py`.
"""

from __future__ import annotations

from typing import Final

from lorimer.core.context import short_hash
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.excerpt import Trailed
from lorimer.core.history import History, PromptCount, RecordedCount
from lorimer.core.messages import canonical_message
from lorimer.core.model import Target
from lorimer.core.request import NO_MARKS, Request, Response, Usage
from lorimer.core.state import PipelineState
from lorimer.models.caller import Caller, not_whole

FRAME: Final = 64
"""Tokens that a provider adds around a prompt."""
TOOL_FRAME: Final = 1_000
"""Tokens of a provider's instructions for tool use: 290 to 804 at Anthropic, by its page on tool
use."""


def reservation(caller: Caller, target: Target, request: Request, state: PipelineState) -> int:
    """The maximum cost of a call, in nano-dollars; 0 without a cost limit and a budget.

    The prompt at the price of cache writes, if they are possible and cost more; the answer at its
    maximum length. Raises APIError `exec.api.unpriced` where a limit or budget does not allow
    models of unknown price; TypeError for a price that is no amount.
    """
    limits, purses = state.run.bounds.limits, state.run.spend.purses
    if limits.max_cost_usd is None and not purses:
        return 0
    prompt = prompt_bound(caller, request, state)
    answer = request.max_tokens + (request.thinking_tokens or 0)
    price = caller.price(
        Usage(input_tokens=prompt, output_tokens=answer), request.model, target.model
    )
    if price is not None and request.cache is not NO_MARKS:
        written = Usage(cache_creation_input_tokens=prompt, output_tokens=answer)
        price = max(price, caller.price(written, request.model, target.model) or 0)
    if price is None:
        if limits.max_cost_usd is not None and not limits.allow_unpriced:
            raise APIError(
                f"The price of {request.model!r} is not known, and this run has a cost limit.",
                code=ExecutorErrorCode.EXEC_API_UNPRICED,
                hint="Give its price, or set limits.allow_unpriced, or drop max_cost_usd.",
            )
        strict = [purse.name for purse in purses if not purse.allow_unpriced]
        if strict:
            raise APIError(
                f"The price of {request.model!r} is not known, and budget {strict[0]} pays for "
                "this run.",
                code=ExecutorErrorCode.EXEC_API_UNPRICED,
                hint="Give its price, or make the budget with allow_unpriced.",
            )
        return 0
    if type(price) is not int or price < 0:
        raise not_whole(request.model, price)
    return price


def prompt_bound(caller: Caller, request: Request, state: PipelineState) -> int:
    """Upper bound of the tokens of the prompt. Media, which bytes do not measure, at their maximum
    by `core/history.py`."""
    context, known = state.context, _counted(caller, request, state)
    if known is None or not isinstance(context, History):
        bound = FRAME + state.context_size
    else:
        bound = known.tokens + context.size_from(known.length)
    for message in request.messages[len(state.context) :]:  # an answer to be continued
        bound += len(canonical_message(message))
    if request.system and (known is None or known.system != request.system):
        bound += len(request.system.encode("utf-8", "surrogatepass"))
    if request.tools and (known is None or known.tools != request.tools):
        bound += TOOL_FRAME + sum([tool.size for tool in request.tools])
    if request.output is not None and known is None:
        from lorimer.models.wires.strict import in_words  # only needed if there is one

        words = in_words(request.output.schema)  # as a model may see them
        bound += FRAME + len(words.encode("utf-8", "surrogatepass"))
    return bound


def note(request: Request, response: Response, state: PipelineState) -> None:
    """Keep the provider's count for the next call of this conversation."""
    usage = response.usage
    tokens = usage.prompt_tokens
    history = state.context
    if not isinstance(history, History) or not tokens or response.extra.get("usage_estimated"):
        return
    trailed = isinstance(request.messages, Trailed)  # included in the count
    length = len(request.messages) - trailed
    if length == len(history):  # a continued answer had more messages at its end
        history.counted = PromptCount(
            length, history.digest, tokens, request.model, request.system, request.tools
        )


def _counted(caller: Caller, request: Request, state: PipelineState) -> PromptCount | None:
    """What is known about the beginning of this prompt."""
    history = state.context
    if not isinstance(history, History):
        return None
    known = history.counted
    if known is None and history.recorded is not None:
        known = history.counted = _recalled(caller, request, history, history.recorded)
    if known is None or known.model != request.model:
        return None
    return known if history.begins_with(known) else None


def _recalled(
    caller: Caller, request: Request, history: History, recorded: RecordedCount
) -> PromptCount | None:
    """The count that an earlier process recorded, if its request was the beginning of this prompt,
    with the same system prompt and tools: then the hash is the same."""
    digest = history.digest_at(recorded.length)
    if digest is None or short_hash(caller.fingerprint(request, digest)) != recorded.hash:
        return None
    return PromptCount(
        recorded.length, digest, recorded.tokens, request.model, request.system, request.tools
    )
