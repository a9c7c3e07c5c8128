"""Cases: each error becomes one code, with the provider's message, and no request is repeated."""

from __future__ import annotations

from dataclasses import replace
from email.utils import formatdate
from traceback import format_exception
from typing import Final

import httpx2

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.messages import Message, ToolResultBlock, ToolUse, user_message
from lorimer.core.model import Model
from lorimer.testing.fake_turn import Turn
from lorimer.testing.faults import ContextOverflow, Refuse, Status
from lorimer.testing.providers.case import STREAMED, case, gathered
from lorimer.testing.providers.transport import Played, Reply
from lorimer.testing.providers.trial import CODE, KEY, TURN, Heard, Trial, hear
from lorimer.testing.simulation import SimulatedWorld

STATUSES: Final = (
    (400, CODE.EXEC_API_BAD_REQUEST),
    (401, CODE.EXEC_API_AUTH_INVALID_KEY),
    (402, CODE.EXEC_API_TERMINAL),
    (403, CODE.EXEC_API_AUTH_INVALID_KEY),
    (404, CODE.EXEC_API_BAD_REQUEST),
    (405, CODE.EXEC_API_BAD_REQUEST),
    (408, CODE.EXEC_API_TIMEOUT),
    (409, CODE.EXEC_API_SERVER_ERROR),
    (413, CODE.EXEC_API_TOKEN_LIMIT),
    (418, CODE.EXEC_API_BAD_REQUEST),
    (422, CODE.EXEC_API_BAD_REQUEST),
    (425, CODE.EXEC_API_SERVER_ERROR),
    (429, CODE.EXEC_API_RATE_LIMITED),
    *[(status, CODE.EXEC_API_SERVER_ERROR) for status in (500, 502, 503, 504, 520, 529)],
)
RETRIED: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 529})


def _asked_once(heard: Heard) -> None:
    assert len(heard.asked) == 1, "it was repeated: repeating is for others to decide"


@case("status", *[(form, status) for form in STREAMED for status, _ in STATUSES])
def a_status_is_a_code(t: Trial, form: str, status: int) -> None:
    """Each status has its code, which says whether to retry; there is one request."""
    body = Reply.of({"error": {"message": f"no {status}", "type": "some"}}, status)
    (heard,) = t.play(body, request=t.thoughtful(form))
    code = dict(STATUSES)[status]
    assert (heard.failure.status, heard.failure.code) == (status, code)
    assert code.is_recoverable is (status in RETRIED)
    assert f"no {status}" in str(heard.failure)
    assert heard.items == []


@case("status", *[(form, status) for form in STREAMED for status in (401, 403, 429, 500, 503, 529)])
def in_the_vendors_own_words(t: Trial, form: str, status: int) -> None:
    """The same in the format in which the vendor writes its errors, over a socket."""
    fault = Status(status, "It is said so.")
    heard = t.ask(replace(TURN, faults=(fault,)), t.thoughtful(form))
    assert heard.failure.code is dict(STATUSES)[status]
    assert "It is said so." in str(heard.failure)
    _asked_once(heard)


@case("status", *STREAMED)
def the_prompt_is_too_long(t: Trial, form: str) -> None:
    """However the vendor words it, it is `exec.api.token_limit`: compaction can help."""
    heard = t.ask(replace(TURN, faults=(ContextOverflow(),)), t.thoughtful(form))
    assert heard.failure.code is CODE.EXEC_API_TOKEN_LIMIT
    _asked_once(heard)


@case("status", *STREAMED)
def no_money(t: Trial, form: str) -> None:
    """An exhausted quota is not a rate limit: waiting does not help."""
    quota = Status(429, "Your credit balance is too low", code="insufficient_quota",
                   kind="billing_error")  # fmt: skip
    heard = t.ask(replace(TURN, faults=(quota,)), t.thoughtful(form))
    assert heard.failure.code is CODE.EXEC_API_TERMINAL


BODIES: Final = (b"", b"<html>Bad gateway</html>", b"[1, 2]", b'{"error": 7}', b'"gone"', b"\xff",
                 b"null", b'{"error": {"message": {"a": 1}}}', b"x" * 100_000)  # fmt: skip


@case("status", *[(number,) for number in range(len(BODIES))])
def odd_bodies(t: Trial, number: int) -> None:
    """Whatever the body of an error, the status counts; the message is one short line."""
    (heard,) = t.play(Reply([BODIES[number]], 502, {}))
    assert (heard.failure.status, heard.failure.code) == (502, CODE.EXEC_API_SERVER_ERROR)
    assert len(str(heard.failure)) < 1000
    assert "\n" not in str(heard.failure)
    assert "<html" not in str(heard.failure)


@case("status", 301, 302, 307, 308)
def redirects_are_not_followed(t: Trial, status: int) -> None:
    """The key goes only where it was meant to go."""
    (heard,) = t.play(Reply((), status, {"location": "http://elsewhere.test/"}))
    assert not heard.failure.code.is_recoverable


WAITS: Final[tuple[tuple[dict[str, str], float | None], ...]] = (
    ({"retry-after": "30"}, 30),
    ({"Retry-After": "0"}, 0),
    ({"retry-after": "1.5"}, 1.5),
    ({"retry-after-ms": "250"}, 0.25),
    ({"retry-after-ms": "1500.5", "retry-after": "9"}, 1.5005),
    ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
    ({"retry-after": "date"}, 90),
    ({"retry-after": "date-90"}, None),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "999999"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "later, please"}, None),
    ({"retry-after": ""}, None),
    ({}, None),
)


@case("retry-after", *[(number,) for number in range(len(WAITS))])
def how_long_to_wait(t: Trial, number: int) -> None:
    """Seconds, milliseconds or a date, and nothing absurd: a provider's requested delay is
    reported."""
    headers, wait = WAITS[number]

    async def go(model: Model, world: SimulatedWorld, played: Played) -> APIError:
        dates = {"date": formatdate(world.time() + 90, usegmt=True),
                 "date-90": formatdate(world.time() - 90, usegmt=True)}  # fmt: skip
        sent = {name: dates.get(value, value) for name, value in headers.items()}
        played.replies[:] = [Reply([b"{}"], 429, {"content-type": "application/json", **sent})]
        return (await hear(model.stream(t.thoughtful(), world=world))).failure

    failure = t.simulated(Reply(), go)
    assert failure.code is CODE.EXEC_API_RATE_LIMITED
    told = failure.retry_after_s
    assert (told is None) if wait is None else (told is not None and abs(told - wait) <= 1)


CAUSES: Final[tuple[Exception, ...]] = (
    httpx2.ConnectError("Connection refused"),
    httpx2.ConnectError("[Errno -2] Name or service not known"),
    httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"),
    httpx2.ReadError("reset by peer"),
    httpx2.RemoteProtocolError("Server disconnected without sending a response."),
    httpx2.ConnectTimeout("slow"),
    httpx2.WriteError(""),
    OSError(113, "No route to host"),
)


@case("network", *[(number,) for number in range(len(CAUSES))])
def no_connection(t: Trial, number: int) -> None:
    """Refused, unknown name, TLS, reset: `exec.api.network`, with its cause, once."""
    (heard,) = t.play(CAUSES[number])
    assert heard.failure.code is CODE.EXEC_API_NETWORK
    assert heard.failure.code.is_recoverable
    assert heard.failure.__cause__ is CAUSES[number]


@case("network", *STREAMED)
def reset_before_a_byte(t: Trial, form: str) -> None:
    """The same over a socket."""
    heard = t.ask(Turn(faults=(Refuse(),)), t.thoughtful(form))
    assert heard.failure.code is CODE.EXEC_API_NETWORK


@case("secrets", 400, 401, 500)
def the_key_is_in_no_message(t: Trial, status: int) -> None:
    """Providers quote keys; errors must not."""
    message = f"Incorrect API key provided: {KEY}. Header: Bearer {KEY}"
    (heard,) = t.play(Reply.of({"error": {"message": message}}, status))
    assert KEY not in str(heard.failure)
    assert KEY not in repr(heard.failure)
    assert KEY not in "".join(format_exception(heard.failure))


@case("secrets")
def the_key_is_in_no_broken_answer(t: Trial) -> None:
    """Nor must they if an answer makes no sense."""
    (heard,) = t.play(Reply([f'data: {{"error":{{"message":"key {KEY}"}}}}\n\n'.encode()]))
    assert KEY not in str(heard.failure)


@case("secrets")
def the_key_is_sent(t: Trial) -> None:
    """The provider gets its key, as its own kind of credential."""
    (seen,) = t.ask(Turn("Hi."), t.request()).asked
    assert seen.api_key == KEY
    assert KEY not in seen.path


@case("requests")
def what_cannot_be_written(t: Trial) -> None:
    """A value that JSON cannot represent is rejected before anything is sent."""
    said = Message("assistant", (ToolUse("c", "ls", {"x": float("nan")}),))
    result = Message("user", (ToolResultBlock("c", "a"),))
    heard = t.ask(TURN, t.thoughtful(messages=[user_message("hi"), said, result]))
    assert heard.failure.code is ExecutorErrorCode.EXEC_API_BAD_REQUEST
    assert heard.asked == ()


CASES: Final = gathered(globals())
