"""The number of tokens of a prompt: from the provider, else an estimate with its expected error.
The estimate itself: `estimate.py`; what is reserved for a call is an upper bound instead:
`reserving.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from lorimer.core.errors import APIError
from lorimer.core.messages import Message, prompt_messages
from lorimer.core.model import CountsTokens, Model, ModelResolver
from lorimer.core.record import record
from lorimer.core.request import Request, ToolSpec
from lorimer.core.world import World
from lorimer.models.estimate import Calibration, estimate
from lorimer.models.registry import Models, targets_of
from lorimer.world.real import RealWorld

LOOK_UP_S: Final = 15.0
"""How long a provider may take to count."""


@record
class TokenCount:
    """Number of tokens of a prompt, plus or minus `error`."""

    tokens: int
    error: int
    """0: counted by the provider."""
    why: str = ""
    """Why the provider was not asked, or gave no count."""


async def count_tokens(
    prompt: str | Sequence[Message],
    *,
    model: str | Model,
    models: ModelResolver | None = None,
    system: str = "",
    tools: tuple[ToolSpec, ...] = (),
    world: World | None = None,
) -> TokenCount:
    """Tokens of a prompt for the first model of a spec: counted by its provider if that is
    supported (free of charge at Anthropic, Google and OpenAI), within LOOK_UP_S seconds; else
    estimated. `models` is closed by the caller, and knows from earlier calls how far its estimates
    are off.

    Raises ConfigError for a model that cannot be used. Nothing is journalled: in a run, call it
    through `run.effect`.
    """
    own = models is None and isinstance(model, str)
    resolver = Models() if own else models
    try:
        target = targets_of(model, resolver)[0]
        messages = prompt_messages(prompt)
        request = Request(target.model.name, messages, system, tools, effort=target.effort)
        why = "its provider does not count"
        if isinstance(target.model, CountsTokens):
            try:
                async with asyncio.timeout(LOOK_UP_S):
                    counted = await target.model.count_tokens(request, world=world or RealWorld())
                return TokenCount(counted, 0)
            except APIError as error:
                why = str(error)
            except TimeoutError:
                why = f"its provider did not count within {LOOK_UP_S:g} s"
        known = resolver.counts if isinstance(resolver, Models) else Calibration()
        ratio, spread = known.of(target.place)
        tokens = estimate(request) * ratio
        return TokenCount(round(tokens), -int(-tokens * spread // 1), why)
    finally:
        if own and resolver is not None:
            await resolver.aclose()
