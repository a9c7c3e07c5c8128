"""Cases: time, cancellation, connections, and concurrent calls."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from lorimer.core.errors import APIError
from lorimer.core.limits import Limits
from lorimer.core.messages import user_message
from lorimer.core.model import Model
from lorimer.core.request import Delta, Response, TextDelta
from lorimer.core.world import World
from lorimer.testing.fake_turn import SeenRequest, Turn
from lorimer.testing.faults import Hang
from lorimer.testing.providers.case import STREAMED, case, gathered
from lorimer.testing.providers.transport import Played, Reply
from lorimer.testing.providers.trial import (
    CODE,
    STREAM,
    TURN,
    LLMServer,
    Trial,
    closed,
    hear,
    says,
    timed,
    whole,
)
from lorimer.testing.simulation import SimulatedWorld

LIMITS: Final = Limits(connect_timeout_s=10, idle_timeout_s=100, model_timeout_s=1000)
PATIENT: Final = Limits(connect_timeout_s=10, idle_timeout_s=1000, model_timeout_s=4000)
PATIENCE_S: Final = 5.0


async def _hung_up(server: LLMServer) -> None:
    """Wait until the server has no connection left."""
    async with asyncio.timeout(PATIENCE_S):
        while server.open_connections:
            await asyncio.to_thread(lambda: None)


@case("leaving", 1, 2, 5)
def leaving_early_closes(t: Trial, items: int) -> None:
    """Closing the iterator ends the connection, at any point."""
    reply = t.recorded()

    async def go(model: Model, world: SimulatedWorld, played: Played) -> None:
        stream = model.stream(t.thoughtful(), world=world)
        for _ in range(items):
            await anext(stream)
        await closed(stream)
        assert played.closed == 1

    t.simulated(reply, go)


@case("leaving")
def leaving_ends_the_connection(t: Trial) -> None:
    """The same over a socket: the provider sees the disconnect, and stops."""

    async def go(model: Model, world: World, server: LLMServer) -> None:
        stream = model.stream(t.thoughtful(), world=world)
        async for item in stream:
            if isinstance(item, TextDelta):
                break
        await closed(stream)
        await _hung_up(server)

    t.over_wire([replace(TURN, text=("One ", "two ", "three"), faults=(Hang(after=-4),))], go)


@case("leaving", *[(form, after) for form in STREAMED for after in (None, 3)])
def cancelling_ends_the_connection(t: Trial, form: str, after: int | None) -> None:
    """A cancelled call ends immediately, and its connection with it; nothing swallows the
    cancellation."""

    async def go(model: Model, world: World, server: LLMServer) -> None:
        task = asyncio.ensure_future(hear(model.stream(t.thoughtful(form), world=world)))
        async with asyncio.timeout(PATIENCE_S):
            while not server.requests:
                await asyncio.to_thread(lambda: None)
        await world.sleep(0.02)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=PATIENCE_S)
        assert done
        assert task.cancelled()
        await _hung_up(server)

    fault = Hang() if form != STREAM else Hang(after=after)
    t.over_wire([replace(TURN, faults=(fault,))], go)


@case("leaving")
def what_is_not_begun_asks_nothing(t: Trial) -> None:
    """A stream from which no item is taken sends no request."""

    async def go(model: Model, world: World, server: LLMServer) -> None:
        await closed(model.stream(t.thoughtful(), world=world))
        assert list(server.requests) == []

    t.over_wire([TURN], go)


@case("connections", *STREAMED)
def one_connection_serves_many_calls(t: Trial, form: str) -> None:
    """Consecutive calls share a connection."""

    async def go(model: Model, world: World, server: LLMServer) -> None:
        for _ in range(5):
            says((await hear(model.stream(t.thoughtful(form), world=world))).answer, TURN)
            assert server.open_connections == 1

    t.over_wire([TURN] * 5, go)


@case("connections", *STREAMED)
def many_calls_at_once(t: Trial, form: str) -> None:
    """A model is shared: each of twenty concurrent calls gets its own answer."""

    def echo(request: SeenRequest) -> Turn:
        number = str(request.body).partition("number <")[2].partition(">")[0]
        return Turn(("This is ", f"<{number}>"))

    async def go(model: Model, world: World, server: LLMServer) -> None:
        calls = [
            hear(model.stream(t.request(form, f"number <{number}>"), world=world))
            for number in range(20)
        ]
        texts = [heard.answer.text for heard in await asyncio.gather(*calls)]
        assert texts == [f"This is <{number}>" for number in range(20)]

    t.over_wire(echo, go)


@case("connections")
def a_new_loop_a_new_connection(t: Trial) -> None:
    """A program that calls `asyncio.run` repeatedly can keep its model."""
    model, replies = t.model(), [t.recorded()]

    async def go(world: SimulatedWorld) -> None:
        says((await hear(model.stream(t.thoughtful(), world=world))).answer, TURN)

    for _ in range(2):
        t.simulated(replies[0], lambda _, world, __: go(world))


def _slow(reply: Reply, pieces: int, pause_s: float) -> Reply:
    body = whole(reply)
    size = len(body) // pieces + 1
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return replace(reply, chunks=[part for chunk in chunks for part in (pause_s, chunk)])


async def _until_it_fails(model: Model, t: Trial, world: SimulatedWorld) -> tuple[APIError, float]:
    stream = timed(model.stream(t.thoughtful(), world=world), LIMITS)
    began = world.monotonic()
    failure = (await hear(stream)).failure
    return failure, world.monotonic() - began


@case("clocks")
def hours_pass_in_no_time(t: Trial) -> None:
    """Twenty slow streams at once, in virtual time: no thread, no clock of its own."""
    reply = _slow(t.recorded(), 100, 7.0)

    async def go(model: Model, world: SimulatedWorld, _: Played) -> None:
        async def one() -> None:
            stream: list[Delta | Response] = [
                item async for item in timed(model.stream(t.thoughtful(), world=world), PATIENT)
            ]
            assert isinstance(stream[-1], Response)
            says(stream[-1], TURN)

        await asyncio.gather(*[one() for _ in range(20)])
        assert 600 < world.monotonic() < 800

    t.simulated(reply, go)


@case("clocks")
def silence_after_the_headers(t: Trial) -> None:
    """A provider that answers and then is silent runs into the idle timeout, not another."""

    async def go(model: Model, world: SimulatedWorld, _: Played) -> None:
        failure, took = await _until_it_fails(model, t, world)
        assert failure.code is CODE.EXEC_API_TIMEOUT
        assert "(idle)" in str(failure)
        assert 250 <= took <= 251

    t.simulated(Reply([100_000.0]), go)


@case("clocks")
def pings_are_no_content(t: Trial) -> None:
    """Endless comments and pings do not keep a dead answer alive."""

    async def go(model: Model, world: SimulatedWorld, _: Played) -> None:
        failure, took = await _until_it_fails(model, t, world)
        assert "(idle)" in str(failure)
        assert 250 <= took <= 251

    t.simulated(Reply([b": ping\n\n", 1.0] * 2000), go)


@case("clocks")
def drop_by_drop(t: Trial) -> None:
    """A provider that never stops dripping runs into the total timeout."""
    reply = _slow(t.recorded(), 50, 90.0)

    async def go(model: Model, world: SimulatedWorld, played: Played) -> None:
        failure, took = await _until_it_fails(model, t, world)
        assert failure.code is CODE.EXEC_API_TIMEOUT
        assert 250 <= took <= 1001
        assert played.closed == 1

    t.simulated(reply, go)


@case("clocks")
def a_time_out_closes(t: Trial) -> None:
    """A timeout closes the connection."""
    body = whole(t.recorded())

    async def go(model: Model, world: SimulatedWorld, played: Played) -> None:
        await _until_it_fails(model, t, world)
        assert played.closed == 1

    t.simulated(Reply([body[: len(body) // 2], 100_000.0]), go)


@case("model")
def it_has_a_name(t: Trial) -> None:
    """`provider` and `name` are plain words, and the name is the one requested."""
    model = t.model()
    assert model.provider
    assert model.name
    (seen,) = t.ask(Turn("Hi."), t.request()).asked
    assert seen.model == model.name


@case("model")
def it_asks_for_the_model_of_the_request(t: Trial) -> None:
    """The request names the model; a Model may be called for another of its provider."""
    asked = t.request(messages=[user_message("hi")])
    asked.model = "another-model"
    (seen,) = t.ask(Turn("Hi."), asked).asked
    assert seen.model == "another-model"


@case("model")
def it_keeps_nothing(t: Trial) -> None:
    """A model has no state of a call: earlier failures do not matter."""
    reply = t.recorded()
    body = whole(reply)
    half = replace(reply, chunks=[body[: len(body) // 2]])
    failed, error, good = t.play(half, Reply.of({}, 500), reply)
    assert failed.failure
    assert error.failure
    says(good.answer, TURN)


CASES: Final = gathered(globals())
