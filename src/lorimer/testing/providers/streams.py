"""Cases: streams that are cut, broken, odd or reported as failed, byte by byte."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Final

import httpx2

from lorimer.core.request import Response
from lorimer.testing.fake_turn import Turn
from lorimer.testing.faults import BrokenEvent, Cut, ErrorEvent, ExtraEvent, Framing, Pieces, Status
from lorimer.testing.providers.case import STREAMED, case, gathered
from lorimer.testing.providers.transport import Reply
from lorimer.testing.providers.trial import CODE, TURN, Heard, Trial, begins, same, says, whole

LOST: Final = httpx2.RemoteProtocolError("peer closed connection without sending complete message")
STEP: Final = 7
"""Cutting at every byte would take a minute: a case cuts at every seventh, each at different
ones."""


@case("cuts", *[(ending, first) for ending in ("clean", "reset") for first in range(STEP)])
def cut_anywhere(t: Trial, ending: str, first: int) -> None:
    """A stream that is cut is a retryable error, or, if nothing was missing, the whole answer: at
    every byte. What was released is a prefix of it."""
    reply = t.recorded()
    body = whole(reply)
    (heard,) = t.play(reply)
    places = range(first, len(body), STEP)
    tail = [] if ending == "clean" else [LOST]
    replies = [replace(reply, chunks=[body[:at], *tail]) for at in places]
    for cut in t.play(*replies):
        _no_false_answer(cut, heard.answer)


def _no_false_answer(heard: Heard, answer: Response) -> None:
    begins(heard)
    if heard.error is None:
        assert same(heard.answer, answer), "a part was taken for the whole"
        return
    assert heard.failure.code is CODE.EXEC_API_STREAM_INCOMPLETE
    assert heard.failure.code.is_recoverable


@case("cuts", "clean", "reset")
def one_piece_cut_anywhere(t: Trial, ending: str) -> None:
    """A non-streamed answer that is cut is an error, at every fifth byte and near its end."""
    asked = t.thoughtful("in one piece")
    reply = t.recorded(TURN, asked)
    body = whole(reply).rstrip()
    tail = [] if ending == "clean" else [LOST]
    places = [*range(0, len(body), 5), *range(len(body) - 20, len(body))]
    replies = [replace(reply, chunks=[body[:at], *tail]) for at in places]
    for cut in t.play(*replies, request=asked):
        assert cut.failure.code is CODE.EXEC_API_STREAM_INCOMPLETE


@case("cuts", *[(how, at) for how in ("fin", "rst", "clean") for at in (0, 1, 300, -200, -30)])
def a_connection_that_is_cut(t: Trial, how: str, at: int) -> None:
    """The same over a socket, closed or reset abruptly, or by a proxy in good order."""
    heard = t.ask(replace(TURN, faults=(Cut(at, how),)))  # pyright: ignore[reportArgumentType]
    begins(heard)
    allowed = {CODE.EXEC_API_STREAM_INCOMPLETE}
    assert heard.failure.code in (allowed | {CODE.EXEC_API_NETWORK} if at in (0, 1) else allowed)


@case("cuts")
def a_body_without_a_byte(t: Trial) -> None:
    """Status 200 with an empty body is not an answer."""
    for reply in (Reply(), Reply([b"\n\n"]), Reply([b": hello\n\n"])):
        (heard,) = t.play(reply)
        assert heard.failure.code is CODE.EXEC_API_STREAM_INCOMPLETE


@case("cuts")
def what_a_failed_attempt_used(t: Trial) -> None:
    """The usage of a failed attempt is what was counted so far, never more than there was."""
    reply = t.recorded()
    body = whole(reply)
    (full,) = t.play(reply)
    cuts = [body[: len(body) * part // 8] for part in range(8)]
    for cut in t.play(*[replace(reply, chunks=[piece, LOST]) for piece in cuts]):
        used = cut.failure.usage
        assert used is None or used.total <= full.answer.usage.total
        if used is not None and cut.usages:
            assert used == cut.usages[-1].usage


# ------------------------------------------------------------------ framing

FRAMINGS: Final = (
    Framing("\r\n"),
    Framing("\r"),
    Framing(comments=True),
    Framing(split_data=True),
    Framing(space=False),
    Framing(bom=True),
    Framing("\r\n", comments=True, split_data=True, space=False, bom=True),
)


@case("framing", *[(number,) for number in range(len(FRAMINGS))])
def legal_oddities(t: Trial, number: int) -> None:
    """Line ends, comments, fields without space, data over several lines, a byte order mark: the
    standard of event streams allows them, and they change nothing."""
    reply = t.recorded(replace(TURN, faults=(FRAMINGS[number],)))
    body = whole(reply)
    for size in (len(body), 1, 7):
        chunks = [body[at : at + size] for at in range(0, len(body), size)]
        (heard,) = t.play(replace(reply, chunks=chunks))
        says(heard.answer, TURN)
        begins(heard)


@case("framing")
def any_chunks(t: Trial) -> None:
    """However the bytes are split into chunks, deltas and answer are the same."""
    reply, dice = t.recorded(), Random(7)
    body = whole(reply)
    (once,) = t.play(reply)
    replies: list[Reply] = []
    for _ in range(50):
        cuts = sorted(dice.sample(range(1, len(body)), dice.randrange(1, 40)))
        edges = [0, *cuts, len(body)]
        replies.append(replace(reply, chunks=[body[a:b] for a, b in pairwise(edges)]))
    for heard in t.play(*replies):
        assert same(heard.answer, once.answer)
        assert heard.items[:-1] == once.items[:-1]


@case("framing")
def byte_by_byte_over_a_socket(t: Trial) -> None:
    """Each byte is a packet of its own."""
    says(t.ask(replace(TURN, faults=(Pieces(size=1),))).answer, TURN)


@case("framing")
def an_endless_line(t: Trial) -> None:
    """An endless line is given up before it fills the memory."""
    (heard,) = t.play(Reply([b"data: ", *[b"x" * (1 << 20)] * 40]))
    assert heard.failure.code is CODE.EXEC_API_STREAM_INCOMPLETE


@case("framing")
def letters_that_are_none(t: Trial) -> None:
    """Bytes that are not UTF-8 become replacement characters, or the stream an error; what was
    released can be written anywhere."""
    reply = t.recorded(Turn("abcdefgh" * 4), t.request())
    body = whole(reply).replace(b"abcd", b"\xff\xc3\xed\xa0")
    (heard,) = t.play(replace(reply, chunks=[body]), request=t.request())
    heard.text.encode()
    if heard.error is None:
        assert heard.text.count("\ufffd") >= 4
        heard.answer.text.encode()


# ------------------------------------------------------------------ events


@case("events", 0, 1, 3, 6)
def events_of_a_kind_nobody_knows(t: Trial, after: int) -> None:
    """Unknown kinds of events are skipped."""
    says(t.ask(replace(TURN, faults=(ExtraEvent(after),))).answer, TURN)


@case("events", *STREAMED)
def fields_nobody_knows(t: Trial, form: str) -> None:
    """New fields in known places are skipped."""
    asked = t.thoughtful(form)
    reply = t.recorded(TURN, asked)
    body = whole(reply)
    if form == STREAMED[0]:
        body = body.replace(b"data: {", b'data: {"zq_future":{"a":[1,null]},')
    else:
        body = json.dumps({"zq_future": {"a": [1, None]}, **json.loads(body)}).encode()
    (heard,) = t.play(replace(reply, chunks=[body]), request=asked)
    says(heard.answer, TURN)


MALFORMED: Final = (None, "null", "[]", '"x"', "7", "{", "", "{}{}", '{"a":NaN}', '{"a":1e999}',
                    "{'a':1}", '{"a":"\x01"}', "[" * 9999)  # fmt: skip
"""Replaces an event's JSON; None: its own first half."""


@case("events", *[(number,) for number in range(len(MALFORMED))])
def an_event_that_makes_no_sense(t: Trial, number: int) -> None:
    """JSON that is cut, is not an object or is invalid makes the stream an error, at any position;
    nothing is guessed."""
    (full,) = t.play(t.recorded())
    replies = [
        t.recorded(replace(TURN, faults=(BrokenEvent(index, MALFORMED[number]),)))
        for index in _positions(t)
    ]
    for heard in t.play(*replies):
        begins(heard)
        if heard.error is None:
            assert same(heard.answer, full.answer)
        else:
            assert heard.failure.code is CODE.EXEC_API_STREAM_INCOMPLETE


def _positions(t: Trial) -> range:
    """A third of the events, including the first and the last."""
    count = whole(t.recorded()).count(b"\n\n")
    return range(0, count, max(1, count // 6))


KINDS: Final = (
    ("overloaded_error", CODE.EXEC_API_SERVER_ERROR),
    ("rate_limit_error", CODE.EXEC_API_RATE_LIMITED),
    ("invalid_request_error", CODE.EXEC_API_BAD_REQUEST),
)


@case("events", *[(kind,) for kind, _ in KINDS])
def an_error_in_mid_stream(t: Trial, kind: str) -> None:
    """An error that the provider reports after status 200 has its code and its message, at every
    position; it is never an answer."""
    count = whole(t.recorded()).count(b"\n\n")
    for after in range(0, count - 1, 3):
        heard = t.ask(replace(TURN, faults=(ErrorEvent(after, "Too much", kind),)))
        begins(heard)
        assert heard.failure.code is dict(KINDS)[kind]
        assert "Too much" in str(heard.failure)


@case("events", *STREAMED)
def an_error_with_status_200(t: Trial, form: str) -> None:
    """An error in place of an answer is an error, whatever the status."""
    heard = t.ask(replace(TURN, faults=(Status(200, "Busy", kind="overloaded_error"),)),
                  t.thoughtful(form))  # fmt: skip
    assert "Busy" in str(heard.failure)


NONSENSE: Final = (
    *(b"", b"null", b"[]", b"{}", b"<html>login</html>", b"\xff\xfe"),
    *(b'{"content":7}', b'{"choices":[]}', b'{"output":7}', b'{"candidates":[]}'),
)


@case("events", *[(form, number) for form in STREAMED for number in range(len(NONSENSE))])
def nonsense_in_place_of_an_answer(t: Trial, form: str, number: int) -> None:
    """A page of HTML or unrelated JSON, with status 200, is a retryable error."""
    for kind in ("text/html", "application/json"):
        reply = Reply([NONSENSE[number]], 200, {"content-type": kind})
        (heard,) = t.play(reply, request=t.thoughtful(form))
        assert heard.failure.code is CODE.EXEC_API_STREAM_INCOMPLETE


@case("events")
def the_same_stream_twice(t: Trial) -> None:
    """A body that starts again is the answer once, or an error; never the answer twice."""
    reply = t.recorded()
    (full,) = t.play(reply)
    (heard,) = t.play(replace(reply, chunks=[whole(reply), whole(reply)]))
    if heard.error is None:
        assert same(heard.answer, full.answer)
        begins(heard)


@case("events")
def one_piece_where_a_stream_was_asked(t: Trial) -> None:
    """A server that cannot stream sends the answer in one piece: that is an answer."""
    reply = t.recorded(TURN, t.thoughtful("in one piece"))
    (heard,) = t.play(reply)
    says(heard.answer, TURN)


CASES: Final = gathered(globals())
