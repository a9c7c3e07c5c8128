"""One function over many items: within caps, and one outcome for each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer import ConfigError
from lorimer.run import Lane, Outcome, fan_out
from lorimer.testing import SimulatedWorld, simulate
from tests.quick import calls


@dataclass(frozen=True)
class Item:
    key: str
    takes: int
    fails: bool


ITEMS = st.lists(
    st.builds(
        Item,
        key=st.sampled_from(["a", "b", "free"]),
        takes=st.integers(0, 4),
        fails=st.booleans(),
    ),
    max_size=20,
)


def played(main: Callable[[SimulatedWorld], Awaitable[None]]) -> None:
    simulate(main)


@settings(max_examples=80, deadline=None)
@given(
    ITEMS,
    st.integers(1, 5),
    st.fixed_dictionaries({"a": st.integers(1, 3)}, optional={"b": st.integers(1, 3)}),
    st.one_of(st.none(), st.integers(0, 15)),
)
def test_row_77_caps_are_never_exceeded_and_nothing_idles(
    items: list[Item], cap: int, per_key: dict[str, int], cancel_at: int | None
) -> None:
    running: list[str] = []
    told: list[Outcome[int]] = []

    async def main(world: SimulatedWorld) -> None:
        begun: list[int] = []

        async def one(at: int) -> int:
            item = items[at]
            running.append(item.key)
            assert len(running) <= cap
            assert running.count(item.key) <= per_key.get(item.key, cap)
            begun.append(at)
            try:
                await world.sleep(item.takes)
            finally:
                running.remove(item.key)
            if item.fails:
                raise ValueError(at)
            return at * 10

        def holds() -> None:
            """Whenever there is a place, nothing that may begin waits."""
            if len(running) < cap:
                for at, item in enumerate(items):
                    full = running.count(item.key) >= per_key.get(item.key, cap)
                    assert at in begun or full

        task = asyncio.create_task(
            fan_out(
                range(len(items)),
                one,
                max_concurrent=cap,
                key=lambda at: items[at].key,
                per_key=per_key,
                on_outcome=told.append,
            )
        )
        loop = asyncio.get_running_loop()
        for second in range(100):
            loop.call_at(loop.time() + second + 0.5, lambda: task.done() or holds())
        if cancel_at is not None:
            loop.call_at(loop.time() + cancel_at + 0.25, task.cancel)
        await asyncio.wait([task])
        assert sorted(outcome.index for outcome in told) == [*range(len(items))]
        assert not running
        for outcome in told:
            item = items[outcome.index]
            assert (outcome.status != "not_run") is (outcome.index in begun)
            if outcome.status == "ok":
                assert (outcome.value, item.fails) == (outcome.index * 10, False)
            elif outcome.status == "error":
                assert isinstance(outcome.error, ValueError)
                assert item.fails
        if task.cancelled():
            assert cancel_at is not None
        else:
            assert task.result() == sorted(told, key=lambda outcome: outcome.index)
            assert {outcome.status for outcome in told} <= {"ok", "error"}

    simulate(main)


def test_row_77_a_key_at_its_cap_takes_no_global_place() -> None:
    async def main(world: SimulatedWorld) -> None:
        ended: list[str] = []

        async def one(name: str) -> None:
            await world.sleep(10.0 if name[0] == "x" else 1.0)
            ended.append(name)

        await fan_out(
            ["x1", "x2", "x3", "y1", "y2"],
            one,
            max_concurrent=2,
            key=lambda name: name[0],
            per_key={"x": 1},
        )
        assert ended == ["y1", "y2", "x1", "x2", "x3"]

    played(main)


def test_row_78_results_come_in_input_order_and_one_failure_does_not_abort() -> None:
    async def main(world: SimulatedWorld) -> None:
        async def one(number: int) -> int:
            await world.sleep(10.0 - number)
            if number == 2:
                raise KeyError(number)
            return number * number

        outcomes = await fan_out(range(5), one)
        assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3, 4]
        assert [outcome.value for outcome in outcomes] == [0, 1, None, 9, 16]
        assert [outcome.status for outcome in outcomes] == ["ok", "ok", "error", "ok", "ok"]
        assert isinstance(outcomes[2].error, KeyError)

    played(main)


def test_row_78_what_the_function_raises_before_it_waits_is_its_items_error_too() -> None:
    def one(number: int) -> Awaitable[int]:
        raise ZeroDivisionError(number)

    async def main(world: SimulatedWorld) -> None:
        outcomes = await fan_out(range(3), one)
        assert [str(outcome.error) for outcome in outcomes] == ["0", "1", "2"]

    played(main)


@pytest.mark.parametrize("by", ["task", "scope"])
def test_row_78_a_cancel_stops_what_runs_and_tells_of_what_never_began(by: str) -> None:
    async def main(world: SimulatedWorld) -> None:
        told: list[Outcome[int]] = []
        cleaned: list[int] = []

        async def one(number: int) -> int:
            try:
                await world.sleep(2.0 * number)
            finally:
                await asyncio.sleep(0.1)
                cleaned.append(number)
            return number

        async def all_of_them() -> None:
            await fan_out(range(8), one, max_concurrent=3, on_outcome=told.append)

        if by == "task":
            task = asyncio.create_task(all_of_them())
            await world.sleep(3.0)
            task.cancel()
            await asyncio.sleep(0.05)
            task.cancel()  # a second one reaches their clean-up too
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with anyio.move_on_after(3.0) as scope:
                await all_of_them()
            assert scope.cancelled_caught
        assert [outcome.status for outcome in sorted(told, key=lambda each: each.index)] == [
            *("ok", "ok", "cancelled", "cancelled", "cancelled", "not_run", "not_run", "not_run")
        ]
        if by == "scope":
            assert sorted(cleaned) == [0, 1, 2, 3, 4]

    played(main)


def test_row_78_an_item_that_cancels_itself_disturbs_no_other() -> None:
    async def one(number: int) -> int:
        if number == 1:
            raise asyncio.CancelledError
        return number

    async def main(world: SimulatedWorld) -> None:
        outcomes = await fan_out(range(3), one)
        assert [outcome.status for outcome in outcomes] == ["ok", "cancelled", "ok"]

    played(main)


def test_row_78_what_is_no_exception_ends_the_batch() -> None:
    class Fatal(BaseException):
        pass

    told: list[Outcome[None]] = []

    async def main(world: SimulatedWorld) -> None:
        async def one(number: int) -> None:
            await world.sleep(number)
            raise Fatal(number)

        with pytest.raises(Fatal, match="0"):
            await fan_out(range(4), one, max_concurrent=2, on_outcome=told.append)

    played(main)
    assert [(outcome.index, outcome.status) for outcome in told] == [
        *((0, "cancelled"), (1, "cancelled"), (2, "not_run"), (3, "not_run"))
    ]


def test_a_listener_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def listener(outcome: Outcome[int]) -> None:
        raise ValueError("no more paper")

    async def one(number: int) -> int:
        return number

    async def main(world: SimulatedWorld) -> None:
        outcomes = await fan_out(range(3), one, on_outcome=listener)
        assert [outcome.value for outcome in outcomes] == [0, 1, 2]

    with caplog.at_level(logging.ERROR):
        played(main)
    assert caplog.text.count("no more paper") >= 3


def test_inside_of_a_lane_and_of_itself_its_caps_hold() -> None:
    async def main(world: SimulatedWorld) -> None:
        lane, running = Lane("runs", 1, world=world), 0

        async def inner(number: int) -> int:
            nonlocal running
            running += 1
            assert running <= 4
            async with lane.slot():  # part of the job that holds it
                await world.sleep(1.0)
            running -= 1
            return number

        async def outer(number: int) -> int:
            return sum(
                each.value or 0 for each in await fan_out([number] * 5, inner, max_concurrent=2)
            )

        async with lane.slot():
            outcomes = await fan_out(range(4), outer, max_concurrent=2)
        assert [outcome.value for outcome in outcomes] == [0, 5, 10, 15]

    played(main)


async def nothing(item: int) -> None:
    raise AssertionError("begun")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_concurrent": 0}, "'max_concurrent' has to be at least 1"),
        ({"key": str, "per_key": {"x": 0}}, "'x' has to be at least 1"),
        ({"per_key": {"x": 1}}, "per_key needs key"),
    ],
    ids=["cap", "cap-of-a-key", "no-key"],
)
def test_wrong_caps_are_refused_before_anything_begins(
    options: dict[str, object], says: str
) -> None:
    async def main(world: SimulatedWorld) -> None:
        with pytest.raises(ConfigError, match=says):
            await fan_out([1], nothing, **options)  # pyright: ignore[reportArgumentType]

    played(main)


def test_no_items_no_outcomes() -> None:
    async def main(world: SimulatedWorld) -> None:
        assert await fan_out([], nothing) == []

    played(main)


@pytest.mark.parametrize("fn", [len, 3, None], ids=["plain", "number", "none"])
def test_what_is_no_async_function_is_refused_at_once(fn: Any) -> None:
    told: list[Outcome[Any]] = []

    async def main(world: SimulatedWorld) -> None:
        await fan_out(["a", "b", "c"], fn, max_concurrent=1, on_outcome=told.append)

    with pytest.raises(ConfigError, match=r"(?s)fan_out: .*async function") as raised:
        simulate(main)
    assert "async def" in raised.value.hint
    assert [each.status for each in told] == (["error", "not_run", "not_run"] if fn is len else [])


def test_what_an_item_costs_does_not_grow_with_the_keys_that_wait() -> None:
    def taken(items: int) -> float:
        with calls() as made:
            asyncio.run(fan_out(range(items), nothing, key=str, per_key={"1": 1}))  # type: ignore[arg-type]
        return made[0] / items

    assert taken(1_000) < 2 * taken(100)
