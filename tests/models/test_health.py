"""The breakers: when they open, for how long, and who probes."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.models.health import COOL_DOWN_S, LONGEST_S, TARGETS, Health, TargetHealth

A, B = "one:m", "two:m"


def test_two_failures_in_a_row_bench_and_one_answer_clears() -> None:
    health = Health()
    health.failed(A, 0)
    assert health.admit(A, 0, "r") and health.left_s(A, 0) == 0
    health.succeeded(A)
    health.failed(A, 1)
    assert health.admit(A, 1, "r"), "an answer lay between the two"
    health.failed(A, 2)
    assert not health.admit(A, 2, "r")
    assert health.admit(B, 2, "r")
    assert health.left_s(A, 2) == COOL_DOWN_S
    assert health.left_s(A, 4) == COOL_DOWN_S - 2
    health.succeeded(A)
    assert health.admit(A, 2, "r") and not health.troubled


def test_cool_downs_double_up_to_the_longest() -> None:
    health, now = Health(), 0.0
    health.failed(A, now)
    waits: list[float] = []
    for _ in range(9):
        health.failed(A, now)
        waits.append(health.left_s(A, now))
        now += waits[-1]
    assert waits == [5, 10, 20, 40, 80, 160, LONGEST_S, LONGEST_S, LONGEST_S]


def test_one_probes_at_a_time_and_says_how_it_went() -> None:
    health = Health()
    health.bench(A, 10, now=0)
    assert not health.admit(A, 9.9, "first")
    assert health.admit(A, 10, "first")
    assert not health.admit(A, 10, "second")
    health.release(A, "second")
    assert not health.admit(A, 11, "second"), "only who has the probe gives it back"
    health.release(A, "first")
    assert health.admit(A, 11, "second")
    health.failed(A, 12, began=11)
    assert not health.admit(A, 12, "first") and health.left_s(A, 12) == COOL_DOWN_S
    assert health.admit(A, 17, "first")
    health.succeeded(A)
    assert health.admit(A, 17, "x") and health.admit(A, 17, "y")


def test_a_probe_that_is_never_heard_of_again_does_not_last_for_ever() -> None:
    health = Health()
    health.bench(A, 10, now=0)
    assert health.admit(A, 10, "lost")
    assert not health.admit(A, 10 + LONGEST_S - 1, "next")
    assert health.admit(A, 10 + LONGEST_S, "next")


def test_failures_of_calls_that_began_before_do_not_prolong_a_cool_down() -> None:
    health = Health()
    for _ in range(50):  # so many runs at once
        health.failed(A, 3, began=0)
    assert health.left_s(A, 3) == COOL_DOWN_S
    health.failed(A, 60, began=1)
    assert health.left_s(A, 60) == 0, "it only now tells of what was known"
    health.failed(A, 61, began=60)
    assert health.left_s(A, 61) == 2 * COOL_DOWN_S


def test_operators_see_and_change_it_and_observers_are_told() -> None:
    told: list[TargetHealth] = []
    health = Health(told.append)
    health.failed(B, 0)
    health.failed(A, 0)
    health.failed(A, 0)
    assert health.snapshot(1) == [
        TargetHealth(A, "open", 2, 4.0),
        TargetHealth(B, "closed", 1),
    ]
    assert health.snapshot(5)[0] == TargetHealth(A, "half-open", 2)
    health.unbench(A)
    health.unbench("never heard of")
    health.bench(B, 60, now=5)
    assert health.left_s(B, 5) == 60
    assert told == [
        TargetHealth(A, "open", 2, 5.0),
        TargetHealth(A, "closed", 0),
        TargetHealth(B, "open", 1, 60.0),
    ]


def test_an_observer_that_raises_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def observer(health: TargetHealth) -> None:
        raise ValueError("broken")

    with caplog.at_level(logging.CRITICAL + 1, "lorimer.models"):
        health = Health(observer)
        health.bench(A, 1, now=0)
    assert health.left_s(A, 0) == 1


def test_it_remembers_a_bounded_number_of_targets() -> None:
    health = Health()
    for number in range(TARGETS + 10):
        health.failed(f"t:{number}", 0)
    assert len(health.troubled) == TARGETS
    assert f"t:{TARGETS + 9}" in health.troubled and "t:0" not in health.troubled


EVENT = st.tuples(
    st.sampled_from(["fail", "succeed", "probe fails", "probe succeeds", "probe is lost"]),
    st.floats(0, 400),
)


@given(st.lists(EVENT, max_size=40))
def test_it_is_the_breaker_that_is_specified(events: list[tuple[str, float]]) -> None:
    """Against the rules as they are written: a count, a cool-down, a time."""
    health, now = Health(), 0.0
    failures, cool_down, until = 0, COOL_DOWN_S, -1.0
    for what, passes in events:
        now += passes
        may = until < 0 or now >= until
        assert health.admit(A, now, "r") is may
        if what == "probe is lost":
            health.release(A, "r")
        elif what.endswith(("succeed", "succeeds")):
            if may:
                health.succeeded(A)
                failures, cool_down, until = 0, COOL_DOWN_S, -1.0
        elif may:
            health.failed(A, now, began=now)
            failures += 1
            if failures >= 2 or until >= 0:
                until, cool_down = now + cool_down, min(2 * cool_down, LONGEST_S)
        assert (health.left_s(A, now) > 0) is (until > now)
        if until > now:
            assert health.left_s(A, now) == pytest.approx(until - now)
