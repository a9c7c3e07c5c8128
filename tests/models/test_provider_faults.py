"""Whole runs on every provider while it fails: what becomes of the run, in virtual time.

The kit shows what one call gives; here it is what the run makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lorimer import Pipeline, tool
from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.limits import Limits
from lorimer.core.messages import ToolResultBlock
from lorimer.core.model import Model
from lorimer.core.request import Usage
from lorimer.core.result import PipelineResult
from lorimer.journal import MemoryJournal
from lorimer.models import Models
from lorimer.models.failover import NUDGE
from lorimer.presets import preset_manifest
from lorimer.testing.fake_turn import FakeUsage, ToolCall, Turn
from lorimer.testing.faults import ContextOverflow, ErrorEvent, Fault, Status
from lorimer.testing.providers.transport import Played, Reply
from lorimer.testing.providers.trial import Trial
from lorimer.testing.simulation import SimulatedWorld
from tests.core.support import check_history
from tests.models.subjects import SUBJECTS

CODE = ExecutorErrorCode
pytestmark = pytest.mark.parametrize("provider", SUBJECTS)


@tool(effects=["read"])
async def read(p: str) -> str:
    """Read a file."""
    return f"text of {p}"


def trial(provider: str) -> Trial:
    subject = SUBJECTS[provider]
    return Trial(subject.model, subject.serve, subject.api)


def recorded(t: Trial, *turns: Turn) -> list[Reply | Exception]:
    """What the provider says, turn after turn."""
    return [_failed(t, turn) or t.recorded(turn) for turn in turns]


def _failed(t: Trial, turn: Turn) -> Reply | None:
    faults: Sequence[Fault] = turn.faults
    for fault in faults:
        if isinstance(fault, Status):
            kind = {"content-type": "application/json", **fault.headers}
            return Reply([b'{"error":{"message":"so it is"}}'], fault.status, kind)
    return None


def run(
    t: Trial, replies: Sequence[Reply | Exception], limits: Limits | None = None
) -> tuple[PipelineResult, Played, float]:
    """One run of an agent with one tool; what was asked, and how long it took (virtual)."""

    async def go(
        model: Model, world: SimulatedWorld, played: Played
    ) -> tuple[PipelineResult, Played, float]:
        played.replies = list(replies)
        manifest = preset_manifest("agent", model="tested:" + model.name)
        models = Models(providers={"tested": model}, world=world)
        pipeline = Pipeline(
            manifest, tools=[read], models=models, journal=MemoryJournal(world), world=world
        )
        began = world.monotonic()
        given: dict[str, Any] = {"allow_unpriced": True, "max_cost_usd": None}
        if limits is not None:
            given |= {"max_calls_per_turn": limits.max_calls_per_turn}
        result = await pipeline.run("hi", limits=given, raise_on_error=False)
        took = world.monotonic() - began
        check_history(result.messages)
        replayed = await pipeline.replay(result.run_id)
        assert replayed.divergence is None
        await models.aclose()
        return result, played, took

    return t.simulated(Reply(), go)


def results(result: PipelineResult) -> list[ToolResultBlock]:
    return [
        block
        for message in result.messages
        for block in message.content
        if isinstance(block, ToolResultBlock)
    ]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "2500"}, 2.5),
        ({"retry-after-ms": "250"}, 0.25),
    ],
)
def test_p1_what_the_provider_asks_to_wait_is_waited_exactly(
    provider: str, headers: dict[str, str], wait: float
) -> None:
    t = trial(provider)
    busy = Turn(faults=(Status(429, headers=headers),))
    result, played, took = run(t, recorded(t, busy, Turn("Done.")))
    assert (result.status, result.text, len(played.requests)) == ("ok", "Done.", 2)
    assert took == pytest.approx(wait)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
def test_p2_a_server_that_fails_is_asked_again(provider: str, status: int) -> None:
    t = trial(provider)
    result, played, took = run(t, recorded(t, Turn(faults=(Status(status),)), Turn("Done.")))
    assert (result.status, result.text, len(played.requests)) == ("ok", "Done.", 2)
    assert 0 < took < 60


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_p3_a_refusal_is_not_repeated(provider: str, status: int) -> None:
    t = trial(provider)
    result, played, _ = run(t, recorded(t, Turn(faults=(Status(status),)), Turn("Done.")))
    assert result.status == "error"
    assert len(played.requests) == 1


def test_p4_p5_a_stream_that_breaks_off_is_asked_for_again_and_said_once(provider: str) -> None:
    t = trial(provider)
    whole = t.recorded(Turn("One, two, three."), t.request())
    (body,) = whole.chunks
    assert isinstance(body, bytes)
    for at in range(0, len(body) - 60, 40):
        cut = Reply([body[:at]], 200, whole.headers)
        result, played, _ = run(t, [cut, whole])
        assert (result.text, len(played.requests)) == ("One, two, three.", 2)


ODD = ('{"p": ', "[1]", "true", '{"p": NaN}', '{"p": 7}', '{"q": "a"}', "null")


@pytest.mark.parametrize("text", ODD)
def test_p9_arguments_that_do_not_fit_are_told_to_the_model(provider: str, text: str) -> None:
    t = trial(provider)
    odd = Turn(tool_calls=(ToolCall("c1", "read", raw=text),))
    result, _, _ = run(t, recorded(t, odd, Turn("Done.")))
    (told,) = results(result)
    assert told.is_error
    assert (result.status, result.text) == ("ok", "Done.")


@pytest.mark.parametrize("ids", [("", ""), ("c", "c"), ("c1", "")])
def test_p10_calls_get_ids_of_their_own(provider: str, ids: tuple[str, str]) -> None:
    t = trial(provider)
    calls = tuple([ToolCall(given, "read", {"p": str(n)}) for n, given in enumerate(ids)])
    again = (ToolCall(ids[0], "read", {"p": "2"}),)
    replies = recorded(t, Turn(tool_calls=calls), Turn(tool_calls=again), Turn("Done."))
    result, _, _ = run(t, replies)
    assert [block.content for block in results(result)] == [f"text of {n}" for n in range(3)]
    assert len({block.tool_use_id for block in results(result)}) == 3


@pytest.mark.parametrize("name", ["READ", "rеad", "reed"])
def test_p11_a_tool_nobody_has_is_told_with_the_nearest(provider: str, name: str) -> None:
    t = trial(provider)
    replies = recorded(t, Turn(tool_calls=(ToolCall("c1", name, {"p": "a"}),)), Turn("Done."))
    result, _, _ = run(t, replies)
    (told,) = results(result)
    assert told.is_error
    assert "read" in str(told.content)
    assert result.text == "Done."


def test_p12_of_two_hundred_calls_sixteen_are_made(provider: str) -> None:
    t = trial(provider)
    calls = tuple([ToolCall(f"c{n}", "read", {"p": str(n)}) for n in range(200)])
    result, _, _ = run(t, recorded(t, Turn(tool_calls=calls), Turn("Done.")))
    assert len(results(result)) == 200
    assert sum(not block.is_error for block in results(result)) == 16
    assert result.text == "Done."


def test_p13_a_call_that_was_cut_is_not_run(provider: str) -> None:
    t = trial(provider)
    cut = Turn("I ", tool_calls=(ToolCall("c1", "read", raw='{"p": "/et'),), stop="max_tokens")
    result, _, _ = run(t, recorded(t, cut, Turn("Done.")))
    assert all(block.is_error for block in results(result))


@pytest.mark.parametrize("empty", [Turn(), Turn(thinking="Hm."), Turn(" \n")])
def test_p14_an_empty_answer_is_asked_for_once_more(provider: str, empty: Turn) -> None:
    t = trial(provider)
    result, played, _ = run(t, recorded(t, empty, Turn("Done.")))
    assert (result.text, len(played.requests)) == ("Done.", 2)
    nudged = [NUDGE.encode() in request.content for request in played.requests]
    assert nudged == [False, True]
    assert NUDGE not in str(result.messages)
    result, played, _ = run(t, recorded(t, empty, empty, Turn("Done.")))
    assert (result.code, len(played.requests)) == (CODE.EXEC_API_EMPTY, 2)


def test_p15_usage_that_is_not_told_is_in_the_record_as_an_estimate(provider: str) -> None:
    t = trial(provider)
    result, _, _ = run(t, recorded(t, Turn("word " * 100, usage=None)))
    assert result.usage.input_tokens > 10
    assert result.usage.output_tokens > 50
    (reply,) = [fact for fact in result.events if fact.type == "model.reply"]
    assert "usage_estimated" in str(reply.data)


def test_p15_what_a_dead_attempt_has_said_is_charged_also_where_nobody_counted_it(
    provider: str,
) -> None:
    t = trial(provider)
    turn = Turn("word " * 400, usage=FakeUsage(3000, 900))
    whole = t.recorded(turn, t.request())
    (body,) = whole.chunks
    assert isinstance(body, bytes)
    cut = Reply([body[: len(body) // 2]], 200, whole.headers)
    result, _, _ = run(t, [cut, t.recorded(Turn("Done."))])
    dead, good = [fact.data for fact in result.events if fact.type == "model.reply"]
    assert dead["extra"] == {"usage_estimated": True}
    assert 100 < dead["usage"]["output_tokens"] < 900
    # of the prompt what the provider told at the beginning, if it does
    assert dead["usage"]["input_tokens"] == 3000 or 1 < dead["usage"]["input_tokens"] < 200
    assert result.usage == Usage.from_json(dead["usage"]) + Usage.from_json(good["usage"])


def test_p15_the_prompt_of_an_attempt_that_is_lost_after_its_headers_is_charged(
    provider: str,
) -> None:
    t = trial(provider)
    whole, good = t.recorded(Turn("Hi."), t.request()), t.recorded(Turn("Done."))
    page = Reply([b"<html>Log in</html>"], 200, {"content-type": "text/html"})
    lost = Reply([b": wait\n\n"], 200, whole.headers)
    refused = t.recorded(Turn("Hi.", faults=(ErrorEvent(0),)))
    result, _, _ = run(t, [lost, page, refused, good])
    dead, *unpaid, last = [f.data for f in result.events if f.type == "model.reply"]
    assert len(unpaid) == 2
    assert dead["error"]["code"] == "exec.api.stream_incomplete"
    assert dead["extra"] == {"usage_estimated": True}
    assert 1 < dead["usage"]["input_tokens"] < 200
    assert not dead["usage"].get("output_tokens")
    for failed in unpaid:
        assert "usage" not in failed
        assert "extra" not in failed
    assert result.usage == Usage.from_json(dead["usage"]) + Usage.from_json(last["usage"])


def test_p17_all_down_is_one_error_and_the_conversation_goes_on(provider: str) -> None:
    t = trial(provider)
    busy, good = recorded(t, Turn(faults=(Status(503),)), Turn("Here again."))

    async def go(model: Model, world: SimulatedWorld, played: Played) -> None:
        played.replies = [busy]
        models = Models(providers={"one": model, "two": model}, world=world)
        manifest = preset_manifest("agent", model=f"one:{model.name},two:{model.name}")
        pipeline = Pipeline(manifest, models=models, journal=MemoryJournal(world), world=world)
        limits = {"allow_unpriced": True, "max_cost_usd": None}
        result = await pipeline.run("hi", limits=limits, raise_on_error=False)
        assert (result.status, result.code) == ("error", CODE.EXEC_API_UNAVAILABLE)
        assert "one:" in str(result.exception)
        assert "two:" in str(result.exception)
        played.replies = [good]
        await world.sleep(3600)
        result = await pipeline.run("And now?", limits=limits)
        assert result.text == "Here again."
        await models.aclose()

    t.simulated(Reply(), go)


def test_p3_an_overlong_prompt_is_not_repeated(provider: str) -> None:
    t = trial(provider)
    heard = t.ask(Turn(faults=(ContextOverflow(),)))
    assert heard.failure.code is CODE.EXEC_API_TOKEN_LIMIT
    assert len(heard.asked) == 1
    assert not heard.failure.code.is_recoverable
