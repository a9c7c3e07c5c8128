"""Pictures as each model of a chain takes them: the true kind, small enough, not too many."""

from __future__ import annotations

import asyncio
import base64
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.history import History
from lorimer.core.media import image_type, pixels
from lorimer.core.messages import (
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ToolResultBlock,
    ToolUse,
)
from lorimer.core.model import Capabilities, ImageLimits
from lorimer.core.request import Request
from lorimer.models import Models
from lorimer.models.fitting import Fitted
from lorimer.models.images import ANTHROPIC, GOOGLE, OPENAI, Pictures, limits_of, pictured
from lorimer.run import Executor, Invocation, RunnableAgent
from lorimer.testing import ScriptedModel, SimulatedWorld, simulate
from lorimer.tools import ToolResult
from tests.run.support import executor_of, model_of, use
from tests.tools.support import Act, Bench

Image = pytest.importorskip("PIL.Image", reason="pictures are made smaller with Pillow")

AGENT = RunnableAgent("eye")


class Limited(ScriptedModel):
    image_limits: ImageLimits | None = None


def limited(limits: ImageLimits | None, replies: Any = ("Seen.",), **options: Any) -> Limited:
    model = Limited(replies, **options)
    model.image_limits = limits
    return model


def drawn(width: int, height: int, kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    """A picture that does not compress to nothing."""
    noise = Image.effect_noise((width, height), 90).convert(mode)
    out = BytesIO()
    noise.save(out, kind, **options)
    return out.getvalue()


def block(data: bytes, media_type: str = "image/png") -> ImageBlock:
    return ImageBlock(media_type, base64.b64encode(data).decode())


def opened(picture: ImageBlock | TextBlock) -> Any:
    assert isinstance(picture, ImageBlock)
    made = Image.open(BytesIO(base64.b64decode(picture.data)))
    assert image_type(base64.b64decode(picture.data)) == picture.media_type
    return made


def shown(request: Request) -> list[Any]:
    """What of a request is not text of the user's: pictures, and the notes in their place."""
    found: list[Any] = []
    for message in request.messages:
        for part in message.content:
            parts = part.content if isinstance(part, ToolResultBlock) else [part]
            found += [
                each
                for each in parts
                if isinstance(each, ImageBlock)
                or (isinstance(each, TextBlock) and each.text.startswith("[an image"))
            ]
    return found


def fit(
    blocks: Sequence[ImageBlock], limits: ImageLimits | None
) -> tuple[list[Any], Request, Request]:
    """What a model with these limits is shown, and the request before and after."""

    async def main() -> tuple[Request, Request]:
        bench = await Bench.make()
        history = History([Message("user", (TextBlock("Look."), each)) for each in blocks])
        request = Request("m", history)
        return request, (await Pictures().fit(request, limits, bench.context))[0]

    request, fitting = asyncio.run(main())
    return shown(fitting), request, fitting


def test_row_90_a_large_picture_is_made_smaller_for_each_target_and_the_request_stays() -> None:
    large = block(drawn(300, 200))
    down = APIError("down", code=ExecutorErrorCode.EXEC_API_SERVER_ERROR)
    small = limited(ImageLimits(side=100), [down] * 5)
    wide = limited(ImageLimits(side=1_000))
    models = Models(providers={"small": small, "wide": wide})

    async def main(world: SimulatedWorld) -> None:
        async with Executor(models=models, tier="small:m,wide:m", world=world) as executor:
            result = await executor.run(AGENT, "What is it?", Invocation(images=(large,)))
        assert result.status == "ok", result.exception
        assert opened(shown(small.requests[0])[0]).size == (100, 67)
        assert shown(wide.requests[0]) == [large]
        assert [part for part in result.messages[0].content if part.type == "image"] == [large]

    simulate(main)


def test_row_90_of_too_many_pictures_the_newest_stay_and_notes_stand_for_the_rest() -> None:
    pictures = [block(drawn(n, 1)) for n in range(1, 11)]
    seen, request, fitting = fit(pictures, ImageLimits(count=3))
    assert seen[7:] == pictures[7:]
    assert [each.text for each in seen[:7]] == [
        "[an image was here: there are too many, so only the newest are shown]"
    ] * 7
    assert shown(request) == pictures
    assert fitting.messages is not request.messages


def test_row_90_what_a_provider_has_cached_does_not_change_with_each_picture() -> None:
    limits = ImageLimits(count=16)
    pictures = [block(drawn(n, 1)) for n in range(1, 31)]
    left_out = [
        sum(isinstance(each, TextBlock) for each in fit(pictures[:count], limits)[0])
        for count in range(1, 31)
    ]
    assert left_out[:16] == [0] * 16
    assert left_out[16:] == [2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14]


def test_a_picture_that_fits_goes_as_it_is_and_is_never_made_larger() -> None:
    small = block(drawn(50, 30))
    for limits in (None, ImageLimits(), ImageLimits(side=50, chars=len(small.data), count=1)):
        seen, request, fitting = fit([small], limits)
        assert fitting is request
        assert seen == [small]


def test_a_wrong_type_is_put_right_also_where_no_limits_are_known() -> None:
    (seen,), *_ = fit([block(drawn(9, 9, "JPEG"), "image/png")], None)
    assert seen.media_type == "image/jpeg"
    assert opened(seen).size == (9, 9)


def test_a_kind_that_a_model_does_not_take_becomes_another() -> None:
    (seen,), *_ = fit([block(drawn(40, 30, "GIF", "P"), "image/gif")], GOOGLE)
    assert (seen.media_type, opened(seen).size) == ("image/png", (40, 30))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("chars", [20_000, 2_000])
def test_bytes_go_down_a_ladder_until_they_fit(kind: str, chars: int) -> None:
    large = block(drawn(200, 150, kind))
    (seen,), *_ = fit([large], ImageLimits(chars=chars))
    assert len(seen.data) <= chars < len(large.data)
    assert max(opened(seen).size) <= 200


def test_what_shows_through_stays_so_as_png_and_stands_on_white_as_jpeg() -> None:
    clear = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    out = BytesIO()
    clear.save(out, "PNG")
    (seen,), *_ = fit([block(out.getvalue())], ImageLimits(side=100))
    assert opened(seen).mode == "RGBA"
    noisy = block(drawn(99, 99, "PNG", "RGBA"))
    (seen,), *_ = fit([noisy], ImageLimits(chars=9_000))
    assert seen.media_type == "image/jpeg"


def test_a_picture_that_lies_on_its_side_is_put_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (seen,), *_ = fit(
        [block(drawn(300, 200, "JPEG", exif=exif), "image/jpeg")], ImageLimits(side=90)
    )
    assert opened(seen).size == (60, 90)


def test_with_many_pictures_the_smaller_limit_holds() -> None:
    limits = ImageLimits(side=100, many=2, many_side=50)
    pictures = [block(drawn(80, n)) for n in (10, 20, 30)]
    assert [opened(each).size[0] for each in fit(pictures[:2], limits)[0]] == [80, 80]
    assert [opened(each).size[0] for each in fit(pictures, limits)[0]] == [50, 50, 50]


def test_of_what_is_too_much_together_the_newest_stay() -> None:
    pictures = [block(drawn(30, n)) for n in (20, 21, 22)]
    room = len(pictures[1].data) + len(pictures[2].data)
    seen, *_ = fit(pictures, ImageLimits(total_chars=room))
    assert seen[1:] == pictures[1:]
    assert "with those that came later it would be too much" in seen[0].text


def png(width: int, height: int) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + pack(">II", width, height) + b"\x08\2\0\0\0" + bytes(99)
    )


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (png(60_000, 60_000), "its 60,000 x 60,000 pixels are too many to be read"),
        (png(9_000, 9), "it cannot be read"),
        (b"\xff\xd8\xff\xc0\0\x11\x08" + pack(">HH", 9, 9_000) + bytes(99), "it cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "it cannot be read"),
    ],
    ids=["bomb", "cut", "jpeg", "postscript"],
)
def test_what_cannot_be_made_to_fit_becomes_a_note(data: bytes, told: str) -> None:
    (seen,), *_ = fit([block(data, "")], replace(ANTHROPIC, many=0))
    assert seen.text.startswith("[an image was here: ")
    assert seen.text.endswith(f", and {told}]")


@settings(max_examples=60)
@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\1\1\1\1WEBPVP8 "]),
    st.binary(max_size=80),
)
def test_no_bytes_do_harm(mark: bytes, rest: bytes) -> None:
    (seen,), *_ = fit([block(mark + rest, "image/tiff")], ImageLimits(frozenset({"image/x"})))
    assert isinstance(seen, ImageBlock | TextBlock)


@settings(max_examples=30)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(
        [
            ("PNG", "RGB", {}),
            ("JPEG", "L", {}),
            ("JPEG", "RGB", {"progressive": True, "comment": b"x" * 5_000}),
            ("GIF", "P", {}),
            ("WEBP", "RGB", {}),
            ("WEBP", "RGB", {"lossless": True}),
            ("WEBP", "RGBA", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
        ]
    ),
)
def test_headers_are_read_as_pillow_reads_them(
    width: int, height: int, form: tuple[str, str, dict[str, Any]]
) -> None:
    kind, mode, options = form
    data = drawn(width, height, kind, mode, **options)
    assert pixels(data) == Image.open(BytesIO(data)).size == (width, height)
    assert all(pixels(data[:cut]) in (None, (width, height)) for cut in range(0, 60, 3))


def test_without_pillow_what_fits_works_and_a_note_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    small = block(drawn(50, 30))
    pictures = [small, block(drawn(200, 300)), block(drawn(300, 200))]
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "lorimer.models.shrinking", raising=False)
    seen, *_ = fit(pictures, ImageLimits(side=100))
    assert seen[0] == small
    assert seen[1].text == (
        "[an image was here: its 200 x 300 pixels are more than this model takes, and without "
        "Pillow it cannot be made to fit]"
    )
    assert len(caplog.records) == 1
    assert "pip install 'lorimer[images]'" in caplog.text


def test_a_run_looks_at_each_picture_once_beside_the_loop_and_says_what_it_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lorimer.models import shrinking

    calls: list[int] = []
    real = shrinking.shrunk

    def counted(data: str, side: int, chars: int) -> tuple[str, str]:
        calls.append(threading.get_ident())
        return real(data, side, chars)

    monkeypatch.setattr(shrinking, "shrunk", counted)
    large, bad = block(drawn(300, 200)), block(png(9_000, 9))
    model = limited(ImageLimits(side=100), [use(), use(id="b"), "Seen."])
    told: list[Any] = []

    async def main() -> None:
        tool = Act(lambda *_: ToolResult([TextBlock("See:"), bad]), name="work")
        async with executor_of(model, tools=[tool]) as executor:
            agent = RunnableAgent("eye", tools=("work",))
            result = await executor.run(agent, "Look.", Invocation(images=(large,)))
        assert result.status == "ok", result.exception
        told.extend(fact for fact in result.run.events if fact.type == "model.reply")

    asyncio.run(main())
    assert len(calls) == 2
    assert threading.get_ident() not in calls
    first, *_, last = shown(model.requests[2])
    assert opened(first).size == (100, 67)
    assert last.text.endswith("it cannot be read]")
    dropped = [fact.data.get("extra", {}).get("dropped") for fact in told]
    assert dropped == [None, ["images"], ["images"]]


def test_the_conversation_keeps_count_of_where_its_pictures_are() -> None:
    picture, document = block(drawn(2, 2)), DocumentBlock(url="https://a.example/b.pdf")
    messages = [
        Message("user", (TextBlock("a"), picture, picture)),
        Message("assistant", (ToolUse("1", "t", {}),)),
        Message("user", (ToolResultBlock("1", (TextBlock("x"), picture)),)),
        Message("assistant", (TextBlock("b"),)),
        Message("user", (document,)),
        Message("user", (picture,)),
    ]
    history = History(messages)
    assert list(pictured(history)) == list(pictured(messages)) == [0, 2, 5]
    history.truncate(2)
    assert pictured(history) == [0]
    history.append(messages[5])
    assert pictured(history) == [0, 2]


def test_who_is_made_to_take_no_pictures_has_no_limits_of_them() -> None:
    assert limits_of(model_of([])) is None
    blind = Capabilities(images=False)
    assert limits_of(Fitted(limited(OPENAI), blind)) is None
    assert limits_of(Fitted(limited(OPENAI), Capabilities(tools=False))) is OPENAI


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"\xff\xd8\xff\xff\xc0\x00\x11\x08\x00\x05\x00\x07", (7, 5)),  # filled
        (b"\xff\xd8\xff\x01\xff\xd0\xff\xc2\x00\x11\x08\x00\x05\x00\x07", (7, 5)),
        (b"\xff\xd8\xff\xc4\x00\x04ab\xff\xc0\x00\x11\x08\x00\x05\x00\x07", (7, 5)),
        (b"\xff\xd8\xff\xe0\x00\x04abcdefghijk", None),  # where a segment should begin, none does
        (b"\xff\xd8\xff\xe0\x7f\xff" + b"a" * 20, None),
        (b"RIFF\x00\x00\x00\x00WEBPVP8?" + b"\0" * 20, None),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(10) + b"\x07\x40\x05\x40", (7, 5)),
        (b"RIFF\x00\x00\x00\x00WEBPVP8L" + bytes(5) + b"\x06\x00\x01\x00" + bytes(5), (7, 5)),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X" + bytes(8) + b"\x06\0\0\x04\0\0", (7, 5)),
        (b"RIFF\x00\x00\x00\x00WEBPVP8X", None),
    ],
)
def test_pictures_that_are_odd_or_damaged_have_a_size_or_none(
    data: bytes, size: tuple[int, int] | None
) -> None:
    assert pixels(data) == size
