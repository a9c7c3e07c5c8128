"""Every status and every way to say so becomes one code; keys stay out of messages."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate

import httpx2
import pytest

from lorimer.core.errors import ExecutorErrorCode
from lorimer.core.request import NO_USAGE
from lorimer.models import ProviderCredentials
from lorimer.models.errors import event_error, retry_after, status_error
from tests.models.support import (
    PROVIDER,
    WIRES,
    NoWorld,
    Provider,
    Reply,
    Wire,
    ask,
    hear,
    models,
    request,
    spec,
    sse,
)
from tests.quick import quick

Code = ExecutorErrorCode
NOW = 1_700_000_000.0


def expected(status: int) -> Code:
    special = {
        401: Code.EXEC_API_AUTH_INVALID_KEY,
        402: Code.EXEC_API_TERMINAL,
        403: Code.EXEC_API_AUTH_INVALID_KEY,
        408: Code.EXEC_API_TIMEOUT,
        409: Code.EXEC_API_SERVER_ERROR,
        413: Code.EXEC_API_TOKEN_LIMIT,
        425: Code.EXEC_API_SERVER_ERROR,
        429: Code.EXEC_API_RATE_LIMITED,
        499: Code.EXEC_API_SERVER_ERROR,
    }
    usual = Code.EXEC_API_SERVER_ERROR if status >= 500 else Code.EXEC_API_BAD_REQUEST
    return special.get(status, usual)


@pytest.mark.parametrize(
    ("credentials", "says"),
    [
        (ProviderCredentials("none", "http://mine"), "No key was sent: set OPENAI_API_KEY; beside"),
        (ProviderCredentials("sk-1234567890"), "Check OPENAI_API_KEY and what the key may use."),
        (
            ProviderCredentials("none", "http://mine", {"X-Key": "1234567890"}),
            "Check OPENAI_API_KEY and what the key may use.",
        ),
    ],
)
def test_whether_a_key_was_sent_is_told(credentials: ProviderCredentials, says: str) -> None:
    error = status_error("openai", 401, {}, b"{}", now=NOW, credentials=credentials)
    assert error.hint.startswith(says)


@pytest.mark.parametrize("wire", WIRES)
def test_every_status(wire: Wire) -> None:
    statuses = range(400, 600)
    provider = Provider(
        *[Reply.of({"error": {"message": f"no {n}", "type": "some"}}, n) for n in statuses]
    )
    world = NoWorld(provider)

    async def go() -> None:
        resolver = models(world)
        model = resolver.resolve(spec(wire, "m"))
        for status in statuses:
            for_one = await hear(model, request(wire, stream=status % 2 == 0), world)
            error = for_one.error
            assert error is not None
            assert (error.status, error.code) == (status, expected(status))
            assert str(error) == f"{PROVIDER[wire]} answered {status}: no {status}"
            assert for_one.items == []
        await resolver.aclose()

    asyncio.run(go())
    assert len(provider.requests) == 200  # the SDKs retry nothing


BODIES = [
    (500, '{"error":"the prompt is longer than the maximum model length of 8"}',
     Code.EXEC_API_TOKEN_LIMIT),
    (400, '{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}',
     Code.EXEC_API_TOKEN_LIMIT),
    (400, '{"error":{"code":"context_length_exceeded","message":"x"}}', Code.EXEC_API_TOKEN_LIMIT),
    (400, '{"object":"error","message":"This model\'s maximum context length is 8 tokens."}',
     Code.EXEC_API_TOKEN_LIMIT),
    (400, '{"error":{"message":"input length and `max_tokens` exceed context limit"}}',
     Code.EXEC_API_TOKEN_LIMIT),
    (400, '{"error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}',
     Code.EXEC_API_TERMINAL),
    (429, '{"error":{"code":"insufficient_quota","message":"You exceeded your quota"}}',
     Code.EXEC_API_TERMINAL),
    (429, '{"error":{"message":"Request too large: tokens per min"}}', Code.EXEC_API_RATE_LIMITED),
    (401, '{"error":{"message":"OAuth token has expired"}}', Code.EXEC_API_AUTH_EXPIRED),
    (400, '{"error":"plain words"}', Code.EXEC_API_BAD_REQUEST),
    (422, '{"detail":[{"loc":["body"],"msg":"field required"}]}', Code.EXEC_API_BAD_REQUEST),
    (502, "<html>Bad gateway</html>", Code.EXEC_API_SERVER_ERROR),
    (503, "", Code.EXEC_API_SERVER_ERROR),
    (500, "[1, 2]", Code.EXEC_API_SERVER_ERROR),
    (500, '{"error": 7}', Code.EXEC_API_SERVER_ERROR),
    (404, '"gone"', Code.EXEC_API_BAD_REQUEST),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "code"), BODIES)
@pytest.mark.parametrize("wire", WIRES)
def test_bodies_refine_the_status(wire: Wire, status: int, body: str, code: Code) -> None:
    error = ask(wire, Provider(Reply([body.encode()], status, {}))).error
    assert error is not None
    assert (error.status, error.code) == (status, code)
    assert "<html" not in str(error)


def google(code: int, status: str, message: str = "no", *details: object) -> bytes:
    """An error as Google writes it."""
    error = {"code": code, "status": status, "message": message, "details": list(details)}
    return json.dumps({"error": error}).encode()


RPC = "type.googleapis.com/google.rpc."
BAD_KEY = {"@type": f"{RPC}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
QUOTA = "You exceeded your current quota, please check your plan and billing details."


def violation(quota: str) -> dict[str, object]:
    return {"@type": f"{RPC}QuotaFailure", "violations": [{"quotaId": quota}]}


def delay(wait: str) -> dict[str, object]:
    return {"@type": f"{RPC}RetryInfo", "retryDelay": wait}


PER_MINUTE = violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")
PER_DAY = violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier")

GOOGLES = [
    (google(400, "INVALID_ARGUMENT", "API key not valid.", BAD_KEY), 400,
     Code.EXEC_API_AUTH_INVALID_KEY, None),
    (google(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", BAD_KEY), 400,
     Code.EXEC_API_AUTH_EXPIRED, None),
    (google(400, "INVALID_ARGUMENT", "Unknown name"), 400, Code.EXEC_API_BAD_REQUEST, None),
    (google(400, "FAILED_PRECONDITION", "User location is not supported"), 400,
     Code.EXEC_API_TERMINAL, None),
    (google(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of"
     " tokens allowed (8)."), 400, Code.EXEC_API_TOKEN_LIMIT, None),
    (google(403, "PERMISSION_DENIED", "leaked"), 403, Code.EXEC_API_AUTH_INVALID_KEY, None),
    (google(404, "NOT_FOUND", "models/x is not found"), 404, Code.EXEC_API_BAD_REQUEST, None),
    (google(429, "RESOURCE_EXHAUSTED", QUOTA, PER_MINUTE, delay("34.074824224s")), 429,
     Code.EXEC_API_RATE_LIMITED, 34.074824224),
    (google(429, "RESOURCE_EXHAUSTED", QUOTA, PER_MINUTE, delay("0s")), 429,
     Code.EXEC_API_RATE_LIMITED, 0),
    (google(429, "RESOURCE_EXHAUSTED", QUOTA, delay("soon"), delay("3601s"), delay("-1s")), 429,
     Code.EXEC_API_RATE_LIMITED, None),
    (google(429, "RESOURCE_EXHAUSTED", QUOTA, "odd", {"retryDelay": 7}), 429,
     Code.EXEC_API_RATE_LIMITED, None),
    (google(429, "RESOURCE_EXHAUSTED", QUOTA, PER_DAY, PER_MINUTE, delay("13s")), 429,
     Code.EXEC_API_TERMINAL, 13),
    (google(429, "RESOURCE_EXHAUSTED", f"{QUOTA} * Quota exceeded for metric: x, limit: 0, model:"
     " gemini-3.1-pro"), 429, Code.EXEC_API_TERMINAL, None),
    (google(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."), 429,
     Code.EXEC_API_TERMINAL, None),
    (google(499, "CANCELLED"), 499, Code.EXEC_API_SERVER_ERROR, None),
    (google(500, "INTERNAL"), 500, Code.EXEC_API_SERVER_ERROR, None),
    (google(503, "UNAVAILABLE", "The model is overloaded."), 503, Code.EXEC_API_SERVER_ERROR, None),
    (google(504, "DEADLINE_EXCEEDED"), 504, Code.EXEC_API_SERVER_ERROR, None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code", "wait"), GOOGLES)
def test_googles_errors(body: bytes, status: int, code: Code, wait: float | None) -> None:
    """As an object or in an array of one, before the answer or in the middle of it."""
    for form in (body, b"[" + body + b"\n]"):
        provider = Provider(Reply([form], status, {"content-type": "application/json"}))
        error = ask("google", provider).error
        assert error is not None
        assert (error.code, error.status, error.retry_after_s) == (code, status, wait)
        assert len(provider.requests) == 1
        text = form.decode().replace("\n", " ")
        for raw in (f"data: {text}\n\n", f"{text}", f"{text}\n"):
            told = ask("google", Provider(Reply([sse({"candidates": []}), raw.encode()]))).error
            assert told is not None
            if code is not Code.EXEC_API_TOKEN_LIMIT:  # never found out in the middle
                assert (told.code, told.retry_after_s) == (code, wait)


def test_a_header_goes_before_the_delay_in_the_body() -> None:
    body = json.loads(google(429, "RESOURCE_EXHAUSTED", "slow", delay("9s")))
    error = ask("google", Provider(Reply.of(body, 429, retry_after="2"))).error
    assert error is not None
    assert error.retry_after_s == 2


def date(seconds: float) -> str:
    return formatdate(NOW + seconds, usegmt=True)


FORMS: list[tuple[dict[str, str], float | None]] = [
    ({"retry-after": "30"}, 30.0),
    ({"Retry-After": "0"}, 0.0),
    ({"retry-after": "1.5"}, 1.5),
    ({"retry-after-ms": "250"}, 0.25),
    ({"retry-after-ms": "1500.5", "retry-after": "9"}, 1.5005),
    ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
    ({"retry-after": date(90)}, 90.0),
    ({"retry-after": format_datetime(datetime.fromtimestamp(NOW + 90, UTC))}, 90.0),
    ({"retry-after": "Tuesday, 14-Nov-23 22:15:00 GMT"}, 100.0),
    ({"retry-after": date(-90)}, None),
    ({"retry-after": date(90_000)}, None),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "3601"}, None),
    ({"retry-after": "1e3"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "later, please"}, None),
    ({"retry-after": "Mon, 99 Foo 2023 99:99:99 GMT"}, None),
    ({"retry-after": "٣٠"}, None),
    ({"retry-after-ms": "-1"}, None),
    ({"retry-after": "1_0"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "wait"), FORMS)
def test_retry_after(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(headers, NOW) == pytest.approx(wait)


@pytest.mark.parametrize("wire", WIRES)
def test_retry_after_arrives(wire: Wire) -> None:
    error = ask(wire, Provider(Reply.of({}, 429, retry_after=date(12)))).error
    assert error is not None
    assert error.retry_after_s == pytest.approx(12)
    assert error.code.is_recoverable


def test_the_hint_names_the_variable() -> None:
    error = ask("openai", Provider(Reply.of({}, 401))).error
    assert error is not None
    assert "OPENAI_API_KEY" in error.hint


def test_long_messages_are_cut_and_made_one_line() -> None:
    error = status_error(
        "p", 500, {}, b"a\n b " + b"x" * 5000, now=NOW, credentials=ProviderCredentials()
    )
    assert str(error).startswith("p answered 500: a b xxx")
    assert len(str(error)) < 700


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, Code.EXEC_API_SERVER_ERROR),
        ({"type": "rate_limit_error", "message": ""}, Code.EXEC_API_RATE_LIMITED),
        ({"type": "invalid_request_error", "message": "x"}, Code.EXEC_API_BAD_REQUEST),
        ({"type": "timeout_error"}, Code.EXEC_API_TIMEOUT),
        ({"code": 429, "message": "x"}, Code.EXEC_API_RATE_LIMITED),
        ({"code": 502}, Code.EXEC_API_SERVER_ERROR),
        ({"code": "context_length_exceeded"}, Code.EXEC_API_TOKEN_LIMIT),
        ("words", Code.EXEC_API_SERVER_ERROR),
        (None, Code.EXEC_API_SERVER_ERROR),
    ],
)
def test_errors_in_mid_stream(error: object, code: Code) -> None:
    made = event_error("p", error, usage=NO_USAGE, credentials=ProviderCredentials())  # type: ignore[arg-type]
    assert made.code is code


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"error":{"message":{"a":1},"code":7}}', "p answered 500: {'a': 1}"),
        (b'[{"error":{"message":"in an array"}}]', "p answered 500: in an array"),
        (b'{"detail":"gone"}', "p answered 500: gone"),
        (b"plain", "p answered 500: plain"),
        (b"<html>a proxy's page</html>", "p answered 500"),
    ],
)
def test_the_words_of_odd_bodies(body: bytes, told: str) -> None:
    error = status_error("p", 500, {}, body, now=0.0, credentials=ProviderCredentials())
    assert error.message == told


def test_messages_made_to_be_slow_are_not() -> None:
    with quick():
        error = status_error(
            "p", 400, {}, b"exceeds the max " * 200_000, now=0, credentials=ProviderCredentials()
        )
    assert len(str(error)) < 1000


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_rejection_without_end_is_read_in_part(wire: Wire, packed: bool) -> None:
    piece = b"x" * 65_536
    headers = {"content-type": "text/plain"}
    if packed:
        piece = gzip.compress(gzip.compress(b"x" * 10_000_000))
        headers["content-encoding"] = "gzip, gzip"
    given: list[int] = []

    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncGenerator[bytes, None]:
            while True:
                given.append(len(piece))
                assert len(given) < 100
                yield piece

    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(400, headers=headers, stream=Endless())
    )
    world = NoWorld(transport)
    asyncio.run(hear(models(world).resolve(spec(wire)), request(wire), world))  # imports the SDK
    given.clear()
    tracemalloc.start()
    try:
        heard = asyncio.run(hear(models(world).resolve(spec(wire)), request(wire), world))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "answered 400: xxx" in str(heard.error)
    assert len(given) < 10
    assert most < 30_000_000


@pytest.mark.parametrize("wire", WIRES)
def test_a_rejection_that_is_not_packed_as_it_says_is_told_by_its_status(wire: Wire) -> None:
    reply = Reply([b"no gzip"], 400, {"content-encoding": "gzip"})
    assert "answered 400" in str(ask(wire, Provider(reply)).error)


@pytest.mark.parametrize("wire", WIRES)
def test_a_rejection_that_is_cut_off_is_told_by_its_status(wire: Wire) -> None:
    class Cut(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncGenerator[bytes, None]:
            yield b"no such key"
            raise httpx2.RemoteProtocolError("peer closed connection")

    world = NoWorld(httpx2.MockTransport(lambda _: httpx2.Response(401, stream=Cut())))
    heard = asyncio.run(hear(models(world).resolve(spec(wire)), request(wire), world))
    assert "answered 401: no such key" in str(heard.error)
