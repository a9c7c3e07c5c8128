"""Wires that go wrong, byte by byte and through the vendors' SDKs."""

from __future__ import annotations

import json
import socket
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from lorimer.testing.fake_server import FakeLLMServer, Turn, recorded_body
from lorimer.testing.fake_turn import Wire
from lorimer.testing.faults import (
    BrokenEvent,
    Cut,
    ErrorEvent,
    ExtraEvent,
    Framing,
    Hang,
    Pieces,
    Pings,
    Refuse,
    Status,
)
from tests.sdks import anthropic, openai
from tests.testing.clients import (
    CALLS,
    HELLO,
    WIRES,
    address,
    claude,
    dechunked,
    faulty,
    gpt_chunks,
    plain_client,
    playing,
    post,
    raw_request,
    received,
    wire_request,
)

# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("wire", WIRES)
def test_a_body_is_what_recorded_body_says(wire: Wire) -> None:
    turn = Turn(text="Hello, wörld", thinking="Hm.", tool_calls=CALLS.tool_calls)
    with playing(turn) as server:
        assert received(server, wire) == (recorded_body(turn, wire), None)


@pytest.mark.parametrize("wire", WIRES)
def test_cut_at_every_byte(wire: Wire) -> None:
    turn = Turn(text="ö")
    body = recorded_body(turn, wire)
    turns = [Turn(text="ö", faults=(Cut(at),)) for at in range(len(body))]
    with FakeLLMServer(turns) as server:
        for at in range(len(body)):
            answer = b""
            with socket.create_connection(address(server), 5) as raw:
                raw.sendall(raw_request(wire))
                while piece := raw.recv(65_536):
                    answer += piece
            assert dechunked(answer) == (recorded_body(turn, wire, number=at + 1)[:at], False)


@pytest.mark.parametrize("wire", WIRES)
def test_the_three_ways_to_cut(wire: Wire) -> None:
    cuts = [Cut(at, how) for how in ("fin", "rst", "clean") for at in (100, -1)]
    with playing(*map(faulty, cuts)) as server:
        for number, cut in enumerate(cuts, 1):
            part = recorded_body(HELLO, wire, number=number)[: cut.at]
            got, error = received(server, wire)
            if cut.how == "fin":
                assert got == part
                assert isinstance(error, httpx2.RemoteProtocolError)
            elif cut.how == "rst":
                assert part.startswith(got)  # a reset may overtake what was sent
                assert isinstance(error, httpx2.ReadError)
            else:
                assert (got, error) == (part, None)


def test_a_cut_answer_that_is_not_streamed() -> None:
    with playing(faulty(Cut(5)), faulty(Cut(5, "clean")), faulty(Status(500), Cut(3))) as server:
        with pytest.raises(httpx2.RemoteProtocolError):
            post(server, "openai", stream=False)
        assert len(post(server, "openai", stream=False).content) == 5
        with pytest.raises(httpx2.RemoteProtocolError):
            post(server, "openai")


def test_what_the_sdks_make_of_a_cut_stream() -> None:
    with playing(*[faulty(Cut(900)), faulty(Cut(900, "rst"))] * 2) as server:
        for _ in range(2):
            with pytest.raises(httpx2.TransportError):
                claude(server)
        for _ in range(2):
            with pytest.raises(openai.APIConnectionError):
                gpt_chunks(server)


@pytest.mark.parametrize("wire", WIRES)
def test_an_error_in_mid_stream(wire: Wire) -> None:
    plain = recorded_body(HELLO, wire).split(b"\n\n")
    for after in range(len(plain)):
        events = recorded_body(faulty(ErrorEvent(after, "busy")), wire).split(b"\n\n")
        assert events[:after] == plain[:after]
        assert len(events) == after + 2
        assert b"busy" in events[after]
    turn = faulty(ErrorEvent(4, "busy"))
    with playing(turn, turn) as server:
        with pytest.raises(anthropic.APIStatusError, match="busy") as caught:
            claude(server)
        assert caught.value.type == "overloaded_error"
        with pytest.raises(openai.APIError, match="busy") as caught_too:
            gpt_chunks(server)
        assert caught_too.value.type == "server_error"


def test_broken_and_unknown_events() -> None:
    turns = [faulty(BrokenEvent(3)), faulty(BrokenEvent(3, "{]")), faulty(ExtraEvent(3))]
    with playing(*turns, *turns) as server:
        for _ in range(2):
            with pytest.raises(json.JSONDecodeError):
                claude(server)
        assert claude(server).content[0].to_dict()["text"] == "Hello, wörld"
        for _ in range(2):
            with pytest.raises(json.JSONDecodeError):
                gpt_chunks(server)
        assert sum(not chunk.choices for chunk in gpt_chunks(server)) == 2


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("noise", [False, True])
def test_unusual_framing_says_the_same(newline: Any, noise: bool) -> None:
    framing = Framing(newline, comments=noise, split_data=noise, space=not noise)
    with playing(*[faulty(framing), faulty(framing, Pieces(size=1))] * 2) as server:
        for _ in range(2):
            assert claude(server).content[0].to_dict()["text"] == "Hello, wörld"
        for _ in range(2):
            texts = [c.choices[0].delta.content for c in gpt_chunks(server) if c.choices]
            assert "".join(text or "" for text in texts) == "Hello, wörld"


def test_framing_on_the_wire() -> None:
    first = recorded_body(faulty(Framing(bom=True)), "anthropic")
    assert first == b"\xef\xbb\xbf" + recorded_body(HELLO, "anthropic")
    framing = Framing("\r\n", comments=True, split_data=True, space=False)
    body = recorded_body(faulty(framing, BrokenEvent(1, "{,")), "anthropic")
    start, ping, *_ = body.split(b"\r\n\r\n")
    assert start.startswith(b":noise\r\nevent:message_start\r\n:\r\ndata:{\r\ndata:")
    assert ping == b":noise\r\nevent:ping\r\n:\r\ndata:{,"
    assert recorded_body(faulty(framing), "openai").endswith(b"data:[DONE]\r\n\r\n")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "pieces", [Pieces(), Pieces(size=1), Pieces(size=7), Pieces(at=(3, 10, 99_999))]
)
def test_pieces_are_chunks_of_their_own(wire: Wire, pieces: Pieces) -> None:
    body = recorded_body(HELLO, wire)
    cuts = list(pieces.at[:2]) if pieces.at else list(range(0, len(body), pieces.size or 10**6))
    path, request, headers = wire_request(wire)
    with (
        playing(faulty(pieces)) as server,
        plain_client() as client,
        client.stream("POST", server.url + path, json=request, headers=headers) as response,
    ):
        got = list(response.iter_raw())
    assert b"".join(got) == body
    if pieces.size or pieces.at:
        bounds = sorted({0, *cuts, len(body)})
        assert got == [body[a:b] for a, b in pairwise(bounds)]
    else:
        assert got == [event + b"\n\n" for event in body.split(b"\n\n")[:-1]]


def test_pieces_are_writes_of_their_own() -> None:
    def received() -> int:
        pieces: list[bytes] = []
        with (
            playing(faulty(Pieces(size=1))) as server,
            socket.create_connection(address(server), 5) as raw,
        ):
            raw.sendall(raw_request("openai"))
            while not dechunked(b"".join(pieces))[1]:
                pieces.append(raw.recv(65_536))
        return len(pieces)

    # in one write it would always come in few pieces; a busy machine may join separate ones
    assert any(received() > 3 for _ in range(20))


def test_a_slow_drip() -> None:
    turns = [faulty(Pieces(delay_s=0.005)), faulty(Pieces(size=9, delay_s=60))]
    with playing(*turns) as server:
        assert received(server, "openai") == (recorded_body(HELLO, "openai"), None)
        assert_silent_after(server, "openai", recorded_body(HELLO, "openai")[:9])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("after", [None, 0, 2, -1, 99])
def test_a_hang_ends_when_the_client_leaves(wire: Wire, after: int | None) -> None:
    events = recorded_body(HELLO, wire).split(b"\n\n")[:-1]
    with playing(faulty(Hang(after))) as server:
        if after is None:
            assert_silent_after(server, wire, None)
        else:
            sent = b"".join([event + b"\n\n" for event in events[:after]])
            assert_silent_after(server, wire, sent)


def assert_silent_after(server: FakeLLMServer, wire: Wire, sent: bytes | None) -> None:
    """The first answer stops, but does not end, after these bytes of its body (None: before its
    headers), and the server notices when we leave."""
    with socket.create_connection(address(server), 5) as raw:
        raw.sendall(raw_request(wire))
        server.wait_until(lambda server: len(server.requests) > 0)
        answer = b""
        if sent is not None:
            while b"\r\n\r\n" not in answer or len(dechunked(answer)[0]) < len(sent):
                answer += raw.recv(65_536)
            assert dechunked(answer) == (sent, False)
        raw.settimeout(0.03)
        with pytest.raises(TimeoutError):
            raw.recv(1)
    server.wait_until(lambda server: server.open_connections == 0)


def test_a_hang_can_be_a_pause() -> None:
    with playing(faulty(Hang(seconds=0.02), Hang(2, 0.02), Hang(-1, 0.02))) as server:
        assert received(server, "anthropic") == (recorded_body(HELLO, "anthropic"), None)


@pytest.mark.parametrize("wire", WIRES)
def test_pings_for_ever(wire: Wire) -> None:
    path, request, headers = wire_request(wire)
    ping = b'event: ping\ndata: {"type":"ping"}\n\n' if wire == "anthropic" else b": keep-alive\n\n"
    with playing(faulty(Pings(2, every_s=0.001))) as server, plain_client() as client:
        with client.stream("POST", server.url + path, json=request, headers=headers) as answer:
            pieces = answer.iter_raw()
            got = b""
            while got.count(ping) < 50:
                got += next(pieces)
        server.wait_until(lambda server: server.open_connections == 0)
    start = b"\n\n".join([*recorded_body(HELLO, wire).split(b"\n\n")[:2], b""])
    assert got.removeprefix(start).replace(ping, b"") == b""


def test_refused_connections() -> None:
    with playing(faulty(Refuse()), HELLO, faulty(Refuse()), HELLO) as server:
        with plain_client() as client:
            with pytest.raises(httpx2.TransportError):
                post(server, "openai", client=client)
            assert server.requests == []
            assert post(server, "openai", client=client).status_code == 200
            with pytest.raises(httpx2.TransportError):  # on the connection that was kept
                post(server, "openai", client=client)
            assert post(server, "openai", client=client).status_code == 200
        assert server.turns_played == 4
    with (
        FakeLLMServer(lambda request: faulty(Refuse())) as server,
        pytest.raises(anthropic.APIConnectionError),
    ):
        claude(server)


def test_a_long_text_is_cut_into_few_deltas() -> None:
    text = "x" * 1_000_000
    body = recorded_body(Turn(text=text), "anthropic")
    assert body.count(b"text_delta") == 64
    with playing(Turn(text=text)) as server:
        assert claude(server).content[0].to_dict()["text"] == text
