"""What tokens cost. The only price table: overrides first, then the data of genai-prices.

Money is whole nano-dollars; rates are whole pico-dollars a token (USD per million x 10^6), so
sums are exact and only the last division rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from lorimer.core.errors import ConfigError
from lorimer.core.messages import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_PICO: Final = 10**6
_VALID_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input_per_million: float
    output_per_million: float
    cache_read_per_million: float | None = None
    """None: as input."""
    cache_write_per_million: float | None = None
    """None: as input."""

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
        """The rates that `cost_nano` wants."""
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


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-dollars per token from `above` prompt tokens on. None: this kind has no price."""

    above: int
    input: int | None
    output: int | None
    cache_read: int | None
    cache_write: int | None
    reasoning: int | None = None
    """None: as output."""
    request: int = 0
    """Pico-dollars for the call itself."""


Tiers: TypeAlias = tuple[Rates, ...]
"""Ascending by `above`. The last one that the prompt exceeds applies to all tokens."""


def cost_nano(tiers: Tiers, usage: Usage) -> int | None:
    """Nano-dollars, rounded to the nearest; None if a kind of token that was used has no price."""
    rates = tiers[0]
    if len(tiers) > 1:
        prompt = usage.total - usage.output_tokens
        rates = next((tier for tier in reversed(tiers) if prompt > tier.above), rates)
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
    """Looks prices up, once per model, and multiplies.

    `overrides` is keyed by `provider:model` or by the model alone. `now` gives seconds since the
    epoch (`World.time`): prices change by date and, for some vendors, by the time of day. Without
    genai-prices installed only the overrides are known.
    """

    def __init__(
        self,
        overrides: Mapping[str, Price] | None = None,
        *,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._overrides = {name: price.tiers() for name, price in (overrides or {}).items()}
        self._now = now
        self._found: dict[tuple[str, str, str, str], tuple[Tiers | None, float]] = {}

    def nano(
        self, provider: str, model: str, usage: Usage, *, answered: str = "", base_url: str = ""
    ) -> int | None:
        """Nano-dollars for `usage` of `model`; None: unknown.

        `answered` is the name under which the provider answered, tried first; `base_url` the
        endpoint if it is not the provider's own.
        """
        key = (provider, model, answered, base_url)
        found = self._found.get(key)
        if found is None or (self._now is not None and found[1] <= self._now()):
            found = self._found[key] = self._find(provider, model, answered, base_url)
        return None if found[0] is None else cost_nano(found[0], usage)

    def _find(
        self, provider: str, model: str, answered: str, base_url: str
    ) -> tuple[Tiers | None, float]:
        names = [name for name in (answered, model) if name]
        for name in names:
            for key in (f"{provider}:{name}", name):
                if key in self._overrides:
                    return self._overrides[key], inf
        for name in names:
            info = _lookup(provider, name, base_url)
            if info is not None:
                return self._resolve(info)
        return None, inf

    def _resolve(self, info: ModelInfo) -> tuple[Tiers | None, float]:
        if not isinstance(info.prices, list):
            return _tiers(info.prices), inf
        # Dated prices: without a clock the newest are right, with one those of this minute.
        if self._now is None:
            return _tiers(info.get_prices(datetime.max.replace(tzinfo=UTC))), inf
        now = self._now()
        price = info.get_prices(datetime.fromtimestamp(now, UTC))
        return _tiers(price), now - now % _VALID_S + _VALID_S


def _lookup(provider: str, model: str, base_url: str) -> ModelInfo | None:
    try:
        # Bundled data only, never its network update; imported late: it takes a tenth of a second.
        from genai_prices.data_snapshot import get_snapshot
    except ModuleNotFoundError:
        return None
    snapshot = get_snapshot()
    places: list[tuple[str | None, str | None]] = [(None, base_url)] if base_url else []
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
