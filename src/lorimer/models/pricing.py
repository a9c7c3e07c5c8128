"""Prices of tokens. The only price table: overrides first, then the data of genai-prices.

Amounts are whole nano-dollars; rates are whole pico-dollars per token (USD per million x 10^6), so
sums are exact and only the final division rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from math import inf
from operator import attrgetter, mul
from typing import TYPE_CHECKING, Final, TypeAlias

from lorimer.core.errors import ConfigError
from lorimer.core.record import record
from lorimer.core.request import USAGE_FIELDS, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_PICO: Final = 10**6
_VALID_S: Final = 60.0
_counts: Final = attrgetter(*USAGE_FIELDS)


@record
class Price:
    """US dollars per million tokens."""

    input_per_million: float
    output_per_million: float
    cache_read_per_million: float | None = None
    """None: same as input."""
    cache_write_per_million: float | None = None
    """None: same as input."""
    since: date | None = None
    """The first day on which it applies, in UTC; None: always."""

    def __post_init__(self) -> None:
        for rate in (
            self.input_per_million,
            self.output_per_million,
            self.cache_read_per_million or 0,
            self.cache_write_per_million or 0,
        ):
            if not 0 <= rate < inf:
                raise ConfigError(f"a price must be a finite number, not negative: {rate}")

    def tiers(self) -> Tiers:
        """The rates in the form that `cost_nano` takes."""
        read, write = self.cache_read_per_million, self.cache_write_per_million
        fresh = round(self.input_per_million * _PICO)
        return (
            Rates(
                -1,
                fresh,
                round(self.output_per_million * _PICO),
                fresh if read is None else round(read * _PICO),
                fresh if write is None else round(write * _PICO),
            ),
        )


@record
class Rates:
    """Pico-dollars per token when the prompt has more than `above` tokens. None: no price for this
    kind."""

    above: int
    input: int | None
    output: int | None
    cache_read: int | None
    cache_write: int | None
    reasoning: int | None = None
    """None: same as output."""
    request: int = 0
    """Pico-dollars for the call itself."""
    flat: tuple[int, int, int, int, int] | None = field(init=False, repr=False, compare=False)
    """In the order of `USAGE_FIELDS`; for reasoning, its surcharge. None: not all are known."""

    def __post_init__(self) -> None:
        rates = (self.input, self.output, self.cache_read, self.cache_write)
        into, out, read, write = [-1 if rate is None else rate for rate in rates]
        more = 0 if self.reasoning is None else self.reasoning - out
        flat = None if None in rates else (into, out, write, read, more)
        object.__setattr__(self, "flat", flat)


Tiers: TypeAlias = tuple[Rates, ...]
"""Ascending by `above`. The last one that the prompt exceeds applies to all tokens."""


def cost_nano(tiers: Tiers, usage: Usage) -> int | None:
    """Nano-dollars, rounded to the nearest; None if a kind of token that was used has no price."""
    rates = tiers[0]
    if len(tiers) > 1:
        prompt = usage.prompt_tokens
        rates = next((tier for tier in reversed(tiers) if prompt > tier.above), rates)
    if rates.flat is not None:  # nearly always the case
        return (rates.request + sum(map(mul, rates.flat, _counts(usage))) + 500) // 1000
    reasoning = usage.reasoning_tokens if rates.reasoning is not None else 0
    total = rates.request
    for count, rate in (
        (usage.input_tokens, rates.input),
        (usage.output_tokens - reasoning, rates.output),
        (usage.cache_read_input_tokens, rates.cache_read),
        (usage.cache_creation_input_tokens, rates.cache_write),
        (reasoning, rates.reasoning),
    ):
        if count:
            if rate is None:
                return None
            total += count * rate
    return (total + 500) // 1000


class Prices:
    """Looks prices up, once per model, and computes costs.

    `overrides` is keyed by `provider:model`, by the model alone, or by `provider:*` for all models
    of a provider that have no override of their own. Several prices of one model succeed each other
    by their `since`; before the first of them, the price is that of genai-prices. `now` returns
    seconds since the epoch (`World.time`): prices change by date and, for some vendors, by the time
    of day. Without it the newest apply. If genai-prices is not installed, only the overrides are
    known.
    """

    def __init__(
        self,
        overrides: Mapping[str, Price | Sequence[Price]] | None = None,
        *,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._overrides = {
            name: _dated([price] if isinstance(price, Price) else price)
            for name, price in (overrides or {}).items()
        }
        self._now = now
        self._found: dict[tuple[str, str, str, str, bool], tuple[Tiers | None, float]] = {}

    def nano(
        self,
        provider: str,
        model: str,
        usage: Usage,
        *,
        answered: str = "",
        base_url: str = "",
        batch: bool = False,
    ) -> int | None:
        """Nano-dollars for `usage` of `model`; None: unknown.

        `answered` is the name under which the provider answered, tried first; `base_url` the
        endpoint if it is not the provider's own. `batch`: sent in a batch, which most vendors
        discount; if the batch rate is unknown, the usual one applies.
        """
        key = (provider, model, answered, base_url, batch)
        found = self._found.get(key)
        if found is None or (self._now is not None and found[1] <= self._now()):
            found = self._found[key] = self._find(provider, model, answered, base_url, batch)
        return None if found[0] is None else cost_nano(found[0], usage)

    def _find(
        self, provider: str, model: str, answered: str, base_url: str, batch: bool
    ) -> tuple[Tiers | None, float]:
        names = [name for name in (answered, model) if name]
        keys = [key for name in names for key in (f"{provider}:{name}", name)]
        until = inf
        for key in [*keys, f"{provider}:*"]:
            for start, tiers in self._overrides.get(key, ()):
                if self._now is None or start <= self._now():
                    return tiers, until
                until = min(until, start)
        for name in names:
            info = lookup(provider, name, base_url)
            if info is not None:
                tiers, valid = self._resolve(info, batch)
                return tiers, min(valid, until)
        return None, until

    def _resolve(self, info: ModelInfo, batch: bool) -> tuple[Tiers | None, float]:
        if not isinstance(info.prices, list) and not batch:
            return _tiers(info.prices), inf
        context = {"processing": "batch"} if batch else None
        # Dated prices: without a clock the newest apply, with one those of this minute.
        if self._now is None:
            return _tiers(info.get_prices(datetime.max.replace(tzinfo=UTC), context)), inf
        now = self._now()
        price = info.get_prices(datetime.fromtimestamp(now, UTC), context)
        return _tiers(price), now - now % _VALID_S + _VALID_S


def _dated(prices: Sequence[Price]) -> list[tuple[float, Tiers]]:
    """The start of each price, in seconds since the epoch, and its rates; newest first."""
    found = [
        (
            -inf if price.since is None else datetime.combine(price.since, time(), UTC).timestamp(),
            price.tiers(),
        )
        for price in prices
    ]
    if len({start for start, _ in found}) < len(found):
        raise ConfigError("two prices of one model begin on the same day")
    return sorted(found, key=lambda item: item[0], reverse=True)


def lookup(provider: str, model: str, base_url: str = "") -> ModelInfo | None:
    """The entry of genai-prices for a model, found by the endpoint or by the provider's exact
    name."""
    try:
        # Bundled data only, never its network update; imported late because it takes 0.1 s.
        from genai_prices.data_snapshot import get_snapshot
    except ModuleNotFoundError:
        return None
    snapshot = get_snapshot()
    places: list[tuple[str | None, str | None]] = [(None, base_url)] if base_url else []
    # exact match: by genai-prices' own rules `my-openai` would get OpenAI's prices
    if any(provider == known.id for known in snapshot.providers):
        places.append((provider, None))
    for provider_id, url in places:
        try:
            return snapshot.find_provider_model(model, None, provider_id, url)[1]
        except LookupError:
            continue
    return None


def _tiers(price: ModelPrice) -> Tiers | None:
    starts = {-1}
    for value in (
        price.input_mtok,
        price.output_mtok,
        price.cache_read_mtok,
        price.cache_write_mtok,
    ):
        if value is not None and not isinstance(value, Decimal):
            starts.update(tier.start for tier in value.tiers)
    tiers = tuple(_rates_from(price, start) for start in sorted(starts))
    known = [tier for tier in tiers if tier.input is not None or tier.output is not None]
    return tiers if known else None


def _rates_from(price: ModelPrice, above: int) -> Rates:
    def pico(name: str) -> int | None:
        value = price.__getattribute__(name) if name in price.__dict__ else None
        if value is None:
            return None
        if not isinstance(value, Decimal):
            fitting = [tier.price for tier in value.tiers if tier.start <= above]
            value = fitting[-1] if fitting else value.base
        return round(value * _PICO)

    fresh = pico("input_mtok")
    read, write = pico("cache_read_mtok"), pico("cache_write_mtok")
    return Rates(
        above,
        fresh,
        pico("output_mtok"),
        fresh if read is None else read,
        fresh if write is None else write,
        pico("output_reasoning_mtok"),
        (pico("requests_kcount") or 0) * 1000,
    )
