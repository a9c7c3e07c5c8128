"""Whole runs on Gemini's wire: over real sockets against the strict fake, cut off and resumed, and
what is asked again after which error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorimer import Pipeline
from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.events import Event
from lorimer.core.messages import Message, TextBlock, ToolResultBlock, ToolUse
from lorimer.core.model import Model
from lorimer.core.request import Request
from lorimer.journal import MemoryJournal
from lorimer.journal.sqlite.store import SQLiteJournal
from lorimer.models import CredentialBundle, Models, ProviderCredentials
from lorimer.models.wires.gemini_request import UNSEALED
from lorimer.presets import preset_manifest
from lorimer.testing import SimulatedWorld, simulate
from lorimer.testing.fake_server import FakeLLMServer, SeenRequest, ToolCall, Turn, recorded_body
from lorimer.world.real import RealWorld
from tests.core.support import Do, check_history
from tests.models.support import Provider, Reply

NEW = "gemini-3.5-flash"
SEALS = ('A+/=="\\', "B+/==", "C==")
SCRIPT = (
    Turn(
        "Looking.",
        thinking="Where?",
        tool_calls=(ToolCall("", "look", {"n": 1}), ToolCall("", "look", {"n": 2})),
        signature=SEALS[0],
    ),
    Turn(tool_calls=(ToolCall("c", "put", {"n": 3}),), signature=SEALS[1]),
    Turn("All done.", signature=SEALS[2]),
    Turn("Welcome."),
)


def tools() -> list[Do]:
    return [
        Do("look", lambda given, _: f"look {given['n']}", safe=True),
        Do("put", lambda given, _: f"put {given['n']}", effects=("write",)),
    ]


def agent(server: FakeLLMServer, *, model: str = f"google:{NEW}", **options: Any) -> Pipeline:
    manifest = preset_manifest("agent", model=model)
    return Pipeline(manifest, tools=tools(), api_key="k", base_url=server.url, **options)


def seals(request: SeenRequest) -> list[str]:
    """The seals in a request, in order."""
    contents: Any = request.body["contents"]
    parts = [part for content in contents for part in content["parts"]]
    return [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]


def test_a_run_with_tools_gives_every_seal_back() -> None:
    """The calls have no ids; the run makes them up, and the server wants them in pairs."""

    async def go() -> None:
        async with agent(server) as pipeline:
            first = await pipeline.run("go")
            assert first.text == "All done."
            assert [step.tool for step in first.steps] == ["look", "look", "put"]
            second = await pipeline.run("thanks")
            assert second.text == "Welcome."
            check_history(second.messages)

    with FakeLLMServer(SCRIPT) as server:
        asyncio.run(go())
        assert [seals(request) for request in server.requests] == [
            list(SEALS[:count]) for count in range(4)
        ]
        last: Any = server.requests[-1].body["contents"]
        assert last[5] == {
            "role": "model",
            "parts": [{"text": "All done."}, {"text": "", "thoughtSignature": SEALS[2]}],
        }
        server.wait_until(lambda seen: seen.open_connections == 0)


def facts_of(server: FakeLLMServer) -> list[Event]:
    async def go() -> list[Event]:
        async with agent(server) as pipeline:
            return (await pipeline.run("go")).events

    return asyncio.run(go())


def test_a_run_cut_after_any_fact_goes_on_with_its_seals(tmp_path: Path) -> None:
    """Each time at a server that never saw the run before: it knows the seals by their look."""
    plain = [
        Turn(turn.text, thinking=turn.thinking, tool_calls=turn.tool_calls) for turn in SCRIPT[:3]
    ]
    with FakeLLMServer(plain) as server:
        facts = facts_of(server)
        whole = [seals(request) for request in server.requests]
    for cut in range(1, len(facts)):
        kept = facts[:cut]
        replies = sum(fact.type == "model.reply" for fact in kept)

        async def go(server: FakeLLMServer, kept: list[Event] = kept) -> None:
            async with SQLiteJournal(tmp_path / f"{len(kept)}.db") as journal:
                stream = "session_x"
                epoch = await journal.claim(stream, "dead", 0.0)
                copies = [Event(f.type, f.data, f.run_id, f.iteration, f.time) for f in kept]
                await journal.append(stream, epoch, copies, sync=True)
                await journal.release(stream, epoch)
                async with agent(server, journal=journal) as pipeline:
                    result = await pipeline.resume(kept[0].run_id)
                    assert result.text == "All done."

        with FakeLLMServer(plain[replies:]) as server:
            asyncio.run(go(server))
            assert len(server.requests) == 3 - replies
            assert [seals(request) for request in server.requests] == whole[replies:]


def test_a_turn_that_another_provider_began_goes_on_at_google() -> None:
    """In the middle of its calls: Google would refuse them without what it documents for that."""
    began = [
        Message("user", (TextBlock("go"),)),
        Message("assistant", (ToolUse("toolu_1", "look", {}), ToolUse("toolu_2", "look", {}))),
        Message("user", (ToolResultBlock("toolu_1", "x"), ToolResultBlock("toolu_2", "y"))),
    ]

    async def go() -> None:
        world = RealWorld()
        bundle = CredentialBundle({"google": ProviderCredentials("k", server.url)}, env={})
        models = Models(bundle, world)
        model: Model = models.resolve(f"google:{NEW}")
        items = [item async for item in model.stream(Request(NEW, began), world=world)]
        assert getattr(items[-1], "text", "") == "Done."
        await models.aclose()

    with FakeLLMServer([Turn("Done.")]) as server:
        asyncio.run(go())
        assert seals(server.requests[0]) == [UNSEALED]


# ---------------------------------------------------------------- asked again, or not


def failing(*replies: Reply) -> tuple[list[float], APIError | str]:
    """When the provider was asked, and how the run ended."""
    answer = Reply([recorded_body(Turn("Done."), "google", model=NEW)])
    provider = Provider(*replies, answer)
    times: list[float] = []

    async def go(world: SimulatedWorld) -> APIError | str:
        handle = provider.handle_async_request

        async def timed(request: Any) -> Any:
            times.append(world.monotonic())
            return await handle(request)

        provider.handle_async_request = timed  # type: ignore[method-assign]
        pipeline = Pipeline(
            preset_manifest("agent", model=f"google:{NEW}"),
            api_key="k",
            journal=MemoryJournal(world),
            world=world,
        )
        try:
            return (await pipeline.run("go")).text
        except APIError as error:
            return error

    ended = simulate(go, transport=provider)
    assert provider.closed == len(provider.requests) == len(times)
    return [later - times[0] for later in times], ended


def error(status: int, kind: str, *details: Mapping[str, object]) -> dict[str, object]:
    return {"error": {"code": status, "status": kind, "message": "no", "details": list(details)}}


WAIT = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"}
DAILY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}


def test_the_delay_in_the_body_is_waited_for() -> None:
    busy = error(429, "RESOURCE_EXHAUSTED", WAIT)
    times, ended = failing(Reply.of(busy, 429))
    assert ended == "Done."
    assert times == [0, pytest.approx(17.5, abs=0.01)]
    times, ended = failing(Reply.of(busy, 429, retry_after="40"))
    assert ended == "Done."
    assert times == [0, pytest.approx(40, abs=0.01)]
    stream = Reply([f"data: {json.dumps(busy)}\n\n".encode()])
    times, ended = failing(stream)
    assert ended == "Done."
    assert times == [0, pytest.approx(17.5, abs=0.01)]


@pytest.mark.parametrize(
    ("replies", "requests", "code"),
    [
        ([Reply.of(error(429, "RESOURCE_EXHAUSTED", DAILY, WAIT), 429)], 1, "exec.api.terminal"),
        ([Reply.of(error(403, "PERMISSION_DENIED"), 403)], 1, "exec.api.auth.invalid_key"),
        ([Reply.of(error(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}), 400)], 1,
         "exec.api.auth.invalid_key"),
        ([Reply.of(error(404, "NOT_FOUND"), 404)], 1, "exec.api.bad_request"),
        ([Reply.of(error(500, "INTERNAL"), 500), Reply.of(error(503, "UNAVAILABLE"), 503)], 3, ""),
        ([Reply.of(error(504, "DEADLINE_EXCEEDED"), 504)], 2, ""),
        ([Reply([recorded_body(Turn(stop="MALFORMED_FUNCTION_CALL"), "google")])], 2, ""),
        ([Reply([recorded_body(Turn(stop="MISSING_THOUGHT_SIGNATURE"), "google")])], 1,
         "exec.api.bad_request"),
        ([Reply([recorded_body(Turn("x"), "google")[:-40]])], 2, ""),
    ],
)  # fmt: skip
def test_how_often_it_is_asked(replies: Sequence[Reply], requests: int, code: str) -> None:
    times, ended = failing(*replies)
    assert len(times) == requests
    if code:
        assert isinstance(ended, APIError)
        assert ended.code == ExecutorErrorCode(code)
    else:
        assert ended == "Done."
