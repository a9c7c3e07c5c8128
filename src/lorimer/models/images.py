"""Pictures in a form that the model accepts: of a supported type, small enough, not too many.
Models that take no pictures at all: `fitting.py`; making a picture smaller: `shrinking.py`.

A request is never changed: the adapted one is for one attempt at one target, so the next model of a
chain gets the original again.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import anyio.to_thread

from lorimer.core.context import RunContext
from lorimer.core.excerpt import Trailed
from lorimer.core.history import History
from lorimer.core.media import image_type, pixels
from lorimer.core.messages import Block, ImageBlock, Message, TextBlock, ToolResultBlock
from lorimer.core.model import ImageLimits, LimitsImages, Model
from lorimer.core.redaction import logger
from lorimer.core.request import Request

_WEB: Final = frozenset({"image/png", "image/jpeg", "image/webp"})

ANTHROPIC: Final = ImageLimits(
    _WEB | {"image/gif"}, 5_242_880, 8_000, 100, 24_000_000, many=20, many_side=2_000
)
"""Anthropic's page on vision (platform.claude.com/docs/en/build-with-claude/vision): 8000 pixels a
side, 2000 with more than 20 pictures, 100 pictures (models with a larger window accept more), 32 MB
per request, a quarter of which is reserved for everything else. Per picture 5 MiB of base64, the
limit that the API's own error names (Bedrock and Vertex; at Anthropic itself it was raised to
10)."""

OPENAI: Final = ImageLimits(_WEB | {"image/gif"}, 26_000_000, 0, 500, 66_000_000)
"""OpenAI's guide "Images and vision": 500 pictures and 50 MB of them per request, and 20 MB each as
it said earlier; here in characters of base64. The size in pixels is not limited."""

GOOGLE: Final = ImageLimits(_WEB | {"image/heic", "image/heif"}, 9_300_000, 0, 900, 15_000_000)
"""Google's pages on image understanding: no GIF; 7 MB each when sent within the request, 900 of
them (Gemini 3 at Vertex; others 3,000); 20 MB per request, a quarter of it reserved for the
rest."""

HEADER: Final = 262_144
"""Bytes of a picture that are searched for its size: in a JPEG other data may come first."""
STEPS: Final = 8
"""When there are too many pictures, the oldest are left out in steps of this fraction of the limit,
so that a prompt cached by the provider does not change with every new picture."""

_Key: TypeAlias = tuple[str, str, int, ImageLimits]

_log = logger("lorimer.models")


def limits_of(model: Model) -> ImageLimits | None:
    """The known limits on the pictures that a model accepts."""
    return model.image_limits if isinstance(model, LimitsImages) else None


def pictured(messages: Sequence[Message]) -> Sequence[int]:
    """Indexes of the messages with pictures. Immediate if the conversation tracks them."""
    if isinstance(messages, (History, Trailed)):
        return messages.pictured
    return [place for place, message in enumerate(messages) if _pictures(message)]


class Pictures:
    """The pictures of one run, adapted to its models: each is examined and made smaller once. Owned
    by the run (`core/owned.py`), so they are dropped at its end."""

    def __init__(self) -> None:
        self._made: dict[_Key, ImageBlock | str] = {}
        """By data, declared type, pixels a side and the other limits; a text says why there is
        none."""
        self._warned = False

    async def end(self) -> None:
        """Drop them."""
        self._made.clear()

    async def fit(
        self, request: Request, limits: ImageLimits | None, run: RunContext
    ) -> tuple[Request, bool]:
        """The request with pictures that fit, or the same object if all of them do; and whether one
        was replaced by a note. If there are too many, the newest are kept."""
        messages = request.messages
        places = pictured(messages)
        count = sum([len(_pictures(messages[place])) for place in places])
        if not count:
            return request, False
        limits = limits or ImageLimits()
        side = limits.many_side if limits.many and count > limits.many else limits.side
        left_out = _too_many(count, limits.count)
        room = limits.total_chars
        changed: dict[int, Message] = {}
        noted = False
        for place in reversed(places):
            blocks: dict[int, ImageBlock | TextBlock] = {}
            for block in reversed(_pictures(messages[place])):
                count -= 1
                made: ImageBlock | str = block
                if count < left_out:
                    made = "there are too many, so only the newest are shown"
                elif block.data:
                    made = await self._made_of(block, limits, side, run)
                if limits.total_chars and isinstance(made, ImageBlock):
                    room -= len(made.data)
                    if room < 0:
                        made = "with those that came later it would be too much"
                if isinstance(made, str):
                    noted = True
                    blocks[id(block)] = TextBlock(f"[an image was here: {made}]")
                elif made is not block:
                    blocks[id(block)] = made
            if blocks:
                changed[place] = _with(messages[place], blocks)
        if not changed:
            return request, False
        fitting = [changed.get(place, message) for place, message in enumerate(messages)]
        return replace(request, messages=fitting), noted

    async def _made_of(
        self, block: ImageBlock, limits: ImageLimits, side: int, run: RunContext
    ) -> ImageBlock | str:
        key = (block.data, block.media_type, side, limits)
        known = self._made.get(key)
        if known is None:
            known = self._made[key] = await self._make(block, limits, side, run)
        return known

    async def _make(
        self, block: ImageBlock, limits: ImageLimits, side: int, run: RunContext
    ) -> ImageBlock | str:
        """The picture unchanged except for its true type, or made smaller; else the reason why
        not."""
        kind, size = looked_at(block)
        kind = kind or block.media_type
        wrong = ""
        if limits.kinds and kind not in limits.kinds:
            wrong = f"this model does not take {kind or 'its kind'}"
        elif limits.chars and len(block.data) > limits.chars:
            wrong = f"its {len(block.data) * 3 // 4:,} bytes are more than this model takes"
        elif side and size is not None and max(size) > side:
            wrong = f"its {size[0]:,} x {size[1]:,} pixels are more than this model takes"
        if not wrong:
            return block if kind == block.media_type else ImageBlock(kind, block.data)
        try:
            from lorimer.models.shrinking import Unreadable, shrunk  # imports Pillow
        except ImportError:
            if not self._warned:
                self._warned = True
                _log.warning(
                    "a picture was left out of a request (%s): with Pillow it would be made to "
                    "fit; pip install 'lorimer[images]'",
                    wrong,
                )
            return f"{wrong}, and without Pillow it cannot be made to fit"
        with run.world.outside("picture"):
            try:
                made = await anyio.to_thread.run_sync(
                    shrunk, block.data, side, limits.chars, abandon_on_cancel=True
                )
            except Unreadable as error:
                return f"{wrong}, and {error}"
        return ImageBlock(*made)


def looked_at(block: ImageBlock) -> tuple[str, tuple[int, int] | None]:
    """The true type of a picture, "" if unknown, and its size in pixels if its header gives it."""
    try:
        head = base64.b64decode(block.data[: HEADER // 3 * 4])
    except ValueError:
        return "", None
    return image_type(head), pixels(head)


def _too_many(count: int, most: int) -> int:
    """How many of the oldest to leave out."""
    if not most or count <= most:
        return 0
    step = max(1, most // STEPS)
    return min(count - 1, -((most - count) // step) * step)


def _pictures(message: Message) -> list[ImageBlock]:
    """In order, including those in results."""
    found: list[ImageBlock] = []
    for block in message.content:
        if isinstance(block, ImageBlock):
            found.append(block)
        elif isinstance(block, ToolResultBlock) and not isinstance(block.content, str):
            found += [part for part in block.content if isinstance(part, ImageBlock)]
    return found


def _with(message: Message, blocks: dict[int, ImageBlock | TextBlock]) -> Message:
    """The message with some of its pictures replaced, by their `id()`."""
    content: list[Block] = []
    for block in message.content:
        if isinstance(block, ToolResultBlock) and not isinstance(block.content, str):
            parts = tuple([blocks.get(id(part), part) for part in block.content])
            content.append(replace(block, content=parts))
        else:
            content.append(blocks.get(id(block), block))
    return Message(message.role, tuple(content))
