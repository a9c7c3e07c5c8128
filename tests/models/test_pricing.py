"""Prices: exact sums, tiers, dates, and never silently free."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import genai_prices
import pytest
from genai_prices.types import ConditionalPrice, ModelPrice
from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.errors import ConfigError
from lorimer.core.request import Usage
from lorimer.models import Price, Prices
from lorimer.models.pricing import (
    _tiers,  # pyright: ignore[reportPrivateUsage]
    cost_nano,
)

PLAIN = Price(3, 15, 0.3, 3.75)


def test_a_simple_price() -> None:
    prices = Prices({"openai:mine": PLAIN, "other": Price(1, 2)})
    usage = Usage(1000, 100, cache_creation_input_tokens=10, cache_read_input_tokens=20)
    expected = 3_000_000 + 1_500_000 + 37_500 + 6_000
    assert prices.nano("openai", "mine", usage) == expected
    assert prices.nano("openai", "other", Usage(1, 1, 1, 1)) == 1000 + 2000 + 1000 + 1000
    assert prices.nano("openai", "unheard-of", usage) is None
    assert prices.nano("nobody", "claude-sonnet-4-6", usage) is None


def test_the_answering_model_comes_first() -> None:
    prices = Prices({"a": Price(1, 1), "b": Price(2, 2)})
    assert prices.nano("openai", "a", Usage(1), answered="b") == 2000
    assert prices.nano("openai", "a", Usage(1), answered="a-2026-01-01") == 1000


@given(
    st.lists(st.decimals(0, 100, places=6), min_size=4, max_size=4),
    st.lists(st.integers(0, 10**7), min_size=4, max_size=4),
)
def test_sums_are_exact(rates: list[Decimal], counts: list[int]) -> None:
    price = Price(*[float(rate) for rate in rates])
    usage = Usage(counts[0], counts[1], counts[3], counts[2])
    exact = sum(
        (Fraction(rate) * 1000 * count for rate, count in zip(rates, counts, strict=True)),
        Fraction(0),
    )
    got = Prices({"m": price}).nano("p", "m", usage)
    assert got is not None
    assert abs(got - exact) <= Fraction(1, 2)


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf")])
def test_a_price_is_a_finite_number(rate: float) -> None:
    with pytest.raises(ConfigError):
        Price(rate, 1)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-haiku-4-5-20251001"),
        ("anthropic", "claude-sonnet-4-6"),
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "o3"),
        ("google", "gemini-2.5-pro"),
    ],
)
@pytest.mark.parametrize("prompt", [0, 1000, 199_000, 199_970, 199_971, 250_000])
@pytest.mark.parametrize(
    "when", [datetime(2025, 6, 9, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)]
)
def test_agrees_with_the_data(provider: str, model: str, prompt: int, when: datetime) -> None:
    usage = Usage(
        prompt,
        500,
        cache_read_input_tokens=20 if provider != "openai" else 30,
        cache_creation_input_tokens=10 if provider == "anthropic" else 0,
    )
    expected = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.total - usage.output_tokens,
            cache_read_tokens=usage.cache_read_input_tokens,
            cache_write_tokens=usage.cache_creation_input_tokens,
            output_tokens=500,
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=when,
    ).total_price
    got = Prices(now=when.timestamp).nano(provider, model, usage)
    assert got == round(expected * 10**9)


def test_dated_prices_follow_the_clock() -> None:
    now = [datetime(2025, 6, 9, 23, 59, 30, tzinfo=UTC).timestamp()]
    prices = Prices(now=lambda: now[0])
    assert prices.nano("openai", "o3", Usage(1)) == 10_000
    now[0] += 60
    assert prices.nano("openai", "o3", Usage(1)) == 2_000
    assert Prices().nano("openai", "o3", Usage(1)) == 2_000


def test_a_kind_of_token_without_a_price_is_unknown() -> None:
    tiers = _tiers(ModelPrice(input_mtok=Decimal(1)))
    assert tiers is not None
    assert cost_nano(tiers, Usage(5)) == 5000
    assert cost_nano(tiers, Usage(5, 1)) is None
    assert _tiers(ModelPrice(audio_hours=Decimal(1))) is None
    per_call = _tiers(
        ModelPrice(
            input_mtok=Decimal(1),
            output_mtok=Decimal(2),
            output_reasoning_mtok=Decimal(3),
            requests_kcount=Decimal(5),
        )
    )
    assert per_call is not None
    assert cost_nano(per_call, Usage(1, 3, reasoning_tokens=2)) == 1000 + 2000 + 6000 + 5_000_000
    assert ConditionalPrice(prices=ModelPrice()).constraint is None


def test_an_endpoint_of_its_own_is_looked_up_by_url() -> None:
    by_url = Prices().nano(
        "openai", "deepseek-chat", Usage(10**6), base_url="https://api.deepseek.com/v1"
    )
    assert by_url
    assert Prices().nano("openai", "gpt-4o", Usage(1), base_url="http://127.0.0.1:1/v1") == 2500


def test_overrides_follow_each_other_by_date() -> None:
    now = [0.0]
    prices = Prices(
        {
            "openai:gpt-4o": [
                Price(3, 3, since=date(2030, 1, 1)),
                Price(5, 5, since=date(2029, 1, 1)),
            ]
        },
        now=lambda: now[0],
    )

    def at(day: datetime) -> int | None:
        now[0] = day.timestamp()
        return prices.nano("openai", "gpt-4o", Usage(1_000_000))

    published = Prices().nano("openai", "gpt-4o", Usage(1_000_000))
    assert at(datetime(2028, 12, 31, 23, 59, 59, tzinfo=UTC)) == published
    assert at(datetime(2029, 1, 1, tzinfo=UTC)) == 5_000_000_000
    assert at(datetime(2029, 12, 31, 23, 59, 59, tzinfo=UTC)) == 5_000_000_000
    assert at(datetime(2030, 1, 1, tzinfo=UTC)) == 3_000_000_000
    with pytest.raises(ConfigError, match="same day"):
        Prices({"m": [Price(1, 1), Price(2, 2)]})


def test_a_price_for_all_of_a_provider() -> None:
    prices = Prices({"gpu:*": Price(1, 1), "gpu:big": Price(2, 2)})
    assert prices.nano("gpu", "small", Usage(1_000_000)) == 1_000_000_000
    assert prices.nano("gpu", "big", Usage(1_000_000)) == 2_000_000_000
    assert prices.nano("other", "small", Usage(1)) is None


def test_a_name_that_holds_a_vendors_is_not_sold_at_its_price() -> None:
    assert Prices().nano("my-openai", "gpt-4o", Usage(1)) is None
    assert Prices().nano("openai", "gpt-4o", Usage(1000)) is not None


def test_batches_cost_what_the_vendor_says() -> None:
    prices = Prices()
    usual = prices.nano("anthropic", "claude-haiku-4-5", Usage(1_000_000, 1_000_000))
    batch = prices.nano("anthropic", "claude-haiku-4-5", Usage(1_000_000, 1_000_000), batch=True)
    assert usual is not None
    assert batch == usual // 2
    own = Prices({"m": Price(1, 1)})
    assert own.nano("p", "m", Usage(9000), batch=True) == own.nano("p", "m", Usage(9000))
