"""A provider on a loopback port: the real wires of Anthropic, OpenAI and Google, played
from a script.

    with FakeLLMServer([Turn(text="hello")]) as server:
        client = Anthropic(api_key="any", base_url=server.url)

Its answers are `Turn`s (`fake_turn`), possibly with `Fault`s (`faults`). It is as strict as the
vendors about requests.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from json import loads
from threading import Condition, Thread
from types import TracebackType
from typing import Final, TypeAlias

from lorimer.core.jsonable import JSON, dumps, refuse_constant
from lorimer.testing.fake_anthropic import AnthropicWire
from lorimer.testing.fake_gemini import GeminiWire
from lorimer.testing.fake_http import MAX_HEAD, Answer, Connection, Received
from lorimer.testing.fake_openai import OpenAIWire
from lorimer.testing.fake_responses import ResponsesWire
from lorimer.testing.fake_responses_rules import SEALED
from lorimer.testing.fake_turn import (
    FakeUsage,
    Refused,
    SeenRequest,
    ToolCall,
    Turn,
    Wire,
    WireForm,
)
from lorimer.testing.faults import (
    ContextOverflow,
    Hang,
    Refuse,
    Status,
    deliver,
    encode,
    with_faults,
)

__all__ = [
    "FakeLLMServer",
    "FakeUsage",
    "Script",
    "SeenRequest",
    "ToolCall",
    "Turn",
    "recorded_body",
]

Script: TypeAlias = Sequence[Turn] | Callable[[SeenRequest], Turn]
"""Turns in order; or a function from a request to its answer, called in the server's thread."""

_JOIN_S: Final = 5.0


class FakeLLMServer:
    """A provider at 127.0.0.1, on a port that the system chooses, in a daemon thread of its own.

    A context manager, sync or async; `start` and `close` do the same. Accepts any key, or only
    `api_key` (as `Authorization: Bearer`, `x-api-key` or `x-goog-api-key`). `reasoning_field` is
    the field for thinking in chat completions: `reasoning`, or `reasoning_content` as on older
    servers. Requests that are rejected (400, 401, 404) use no turn; an exhausted script answers
    500.
    """

    def __init__(
        self, script: Script, *, api_key: str | None = None, reasoning_field: str = "reasoning"
    ) -> None:
        self.requests: list[SeenRequest] = []
        """Every request to a path of a wire, including rejected ones, in order."""
        self._script = script
        self._played = 0
        self._api_key = api_key
        self._forms: Mapping[Wire, WireForm] = _forms(reasoning_field)
        self._clients: set[Connection] = set()
        self._changed = Condition()
        self._failures: list[Exception] = []
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The base URL for Anthropic's SDK and Google's, without a trailing slash."""
        if not self._port:
            raise RuntimeError("the fake server has not been started")
        return f"http://127.0.0.1:{self._port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's SDK."""
        return f"{self.url}/v1"

    @property
    def turns_played(self) -> int:
        """The number of turns used so far."""
        return self._played

    @property
    def open_connections(self) -> int:
        """Connections that neither side has closed, including idle ones of a pool."""
        return len(self._clients)

    def wait_until(
        self, condition: Callable[[FakeLLMServer], bool], timeout_s: float = 5.0
    ) -> None:
        """Block until `condition(self)` holds, checked whenever a request or a connection comes or
        a connection goes. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout_s):
                raise TimeoutError(f"the fake server did not get there within {timeout_s} s")

    def start(self) -> FakeLLMServer:
        """Listen; returns once the port is open. May be called only once."""
        if self._thread is not None:
            raise RuntimeError("a fake server is started once")
        port: Future[int] = Future()
        self._thread = Thread(
            target=lambda: asyncio.run(self._serve(port)), name="fake-llm-server", daemon=True
        )
        self._thread.start()
        self._port = port.result()
        return self

    def close(self) -> None:
        """Abort all connections, end the thread, then raise the first exception of the script's
        function (or of the server itself), if any."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        if self._thread.is_alive():
            with suppress(RuntimeError):  # its loop is closed: the thread is about to end
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():
                raise RuntimeError("the fake server hangs: does its script's function block?")
        if self._failures:
            raise self._failures.pop(0)

    def __enter__(self) -> FakeLLMServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._failures.clear()  # the exception of the body is more informative
        self.close()

    async def __aenter__(self) -> FakeLLMServer:
        return self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    # ------------------------------------------------------------ in the server's thread

    async def _serve(self, port: Future[int]) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(
                self._converse, "127.0.0.1", 0, limit=MAX_HEAD, backlog=1024
            )
        except OSError as error:
            port.set_exception(error)
            return
        port.set_result(server.sockets[0].getsockname()[1])
        await self._stopping.wait()
        server.close()
        for client in tuple(self._clients):
            client.reset()  # ends whatever its task is waiting for
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)
        await server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Connection(reader, writer)
        with self._changed:
            self._clients.add(client)
            self._changed.notify_all()
        try:
            if self._stopping_now() or self._refuses_now():
                client.reset()
                return
            while await self._exchange(client):
                pass
            await client.close()
        except ConnectionError:
            pass  # clients may disconnect
        except Exception as error:  # noqa: BLE001 - close() raises it in the caller's thread
            self._failures.append(error)
            client.reset()
        finally:
            with self._changed:
                self._clients.discard(client)
                self._changed.notify_all()

    async def _exchange(self, client: Connection) -> bool:
        """Handle one request. Returns whether there may be another."""
        try:
            received = await client.receive()
        except Refused as refused:
            form = self._forms["openai"]
            await client.play(_error(form, refused, len(self.requests)), keep_alive=False)
            return False
        if received is None:
            return False
        answer = self._answer(received)
        if answer is None:
            client.reset()
            return False
        # a body in response to HEAD is not part of the response: the connection ends with it
        again = received.keep_alive and received.method != "HEAD"
        return await client.play(answer, keep_alive=again)

    def _answer(self, received: Received) -> Answer | None:
        """The response; None: disconnect."""
        number = len(self.requests) + 1
        path = received.target.partition("?")[0]
        form = self._form(path, received.headers)
        try:
            if not re.fullmatch(form.path, path):
                raise Refused(404, f"Unknown URL: {received.method} {path}", code="unknown_url")
            method = "GET" if path.endswith("/models") else "POST"
            if received.method != method:
                raise Refused(405, f"Method {received.method} is not allowed.")
            body = _parse(received.body if method == "POST" else b"{}")
            request = SeenRequest(number, form.wire, received.target, received.headers, body)
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
            if self._api_key is not None and request.api_key != self._api_key:
                raise form.wrong_key()
            form.check(request)
            aside = form.aside(request) if isinstance(form, GeminiWire) else None
            if aside is not None:
                return _json(200, aside, form, number)
            return _turned(form, self._next_turn(request), request)
        except Refused as refused:
            return _error(form, refused, number)
        except Exception as error:  # noqa: BLE001 - close() raises it in the caller's thread
            self._failures.append(error)
            return _error(form, Refused(500, f"The script failed: {error!r}"), number)

    def _form(self, path: str, headers: Mapping[str, str]) -> WireForm:
        """The wire of a path; for an unknown path, that of the client's vendor."""
        vendor: Wire = "anthropic" if "anthropic-version" in headers else "openai"
        if "x-goog-api-key" in headers:
            vendor = "google"
        known = (form for form in self._forms.values() if re.fullmatch(form.path, path))
        return next(known, self._forms[vendor])

    def _next_turn(self, request: SeenRequest) -> Turn:
        if callable(self._script):
            turn = self._script(request)
        elif self._played < len(self._script):
            turn = self._script[self._played]
        else:
            raise Refused(
                500,
                f"The script of this fake server is exhausted: it has {len(self._script)} turns"
                f" and all were played; this is request {request.number}.",
            )
        self._played += 1
        return turn

    def _stopping_now(self) -> bool:
        """Whether the server is stopping: a connection may be accepted at that moment."""
        return self._stopping is None or self._stopping.is_set()

    def _refuses_now(self) -> bool:
        """Whether to refuse a new connection; if so, that turn is used."""
        if callable(self._script) or self._played >= len(self._script):
            return False
        refuses = any(isinstance(fault, Refuse) for fault in self._script[self._played].faults)
        self._played += refuses
        return refuses


def recorded_body(turn: Turn, wire: Wire, *, model: str = "fake-model", number: int = 1) -> bytes:
    """The complete streamed body of a turn, with the faults that change events or their text: what
    a server sends if request `number` asks for `model` (including what is only sent on request:
    `include_usage` on OpenAI's chat wire, sealed and summarized thoughts on its other one). Its
    length does not depend on the number, so that `Cut(at)` can be tried at each position."""
    body: dict[str, JSON] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "store": False,
        "include": [SEALED],
        "reasoning": {"summary": "auto"},
    }
    request = SeenRequest(number, wire, "", {}, body)
    return b"".join(_streamed(_forms()[wire], turn, request))


def _forms(reasoning_field: str = "reasoning") -> Mapping[Wire, WireForm]:
    return {
        "anthropic": AnthropicWire(),
        "openai": OpenAIWire(reasoning_field),
        "responses": ResponsesWire(),
        "google": GeminiWire(),
    }


def _streamed(form: WireForm, turn: Turn, request: SeenRequest) -> list[bytes]:
    events = with_faults(form.events(turn, request), turn.faults, form.error_event)
    return encode(events, turn.faults)


def _turned(form: WireForm, turn: Turn, request: SeenRequest) -> Answer | None:
    """The turn as a response; None: disconnect."""
    silence: float | None = 0.0
    failure: Status | None = None
    for fault in turn.faults:
        match fault:
            case Refuse():
                return None
            case Hang(after=None, seconds=seconds):
                silence = seconds
            case Status():
                failure = fault
            case ContextOverflow():
                raise form.overflow(fault)
            case _:
                pass
    headers = {form.request_id_header: _request_id(request.number)}
    status, stream, kind = 200, request.stream, "application/json"
    if failure is not None:
        status, stream = failure.status, False
        message = failure.message or f"The fake server was told to answer {status}."
        refused = Refused(status, message, kind=failure.kind, code=failure.code)
        error = dumps(form.error(refused, _request_id(request.number))).encode()
        parts = [error if failure.body is None else failure.body]
        headers |= {name.lower(): value for name, value in failure.headers.items()}
    elif stream:
        kind = "text/event-stream; charset=utf-8"
        parts = _streamed(form, turn, request)
    else:
        parts = [dumps(form.message(turn, request)).encode()]
    return Answer(
        status,
        {"content-type": kind, **headers},
        deliver(parts, turn.faults),
        chunked=stream,
        ping=form.ping,
        silence_s=silence,
    )


def _error(form: WireForm, refused: Refused, number: int) -> Answer:
    return _json(refused.status, form.error(refused, _request_id(number)), form, number)


def _json(status: int, body: JSON, form: WireForm, number: int) -> Answer:
    headers = {"content-type": "application/json", form.request_id_header: _request_id(number)}
    return Answer(status, headers, deliver([dumps(body).encode()], ()), chunked=False)


def _request_id(number: int) -> str:
    return f"req_fake{number:016d}"


def _parse(raw: bytes) -> Mapping[str, JSON]:
    try:
        body: JSON = loads(raw, parse_constant=refuse_constant)
    except ValueError as error:
        raise Refused(400, f"The request body is not valid JSON: {error}") from None
    if not isinstance(body, Mapping):
        raise Refused(400, "The request body has to be a JSON object.")
    return body
