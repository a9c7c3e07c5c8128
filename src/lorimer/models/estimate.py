"""Offline estimate of the tokens of a prompt: by kinds of text, corrected by the providers' counts.

The rates below are rules of thumb for byte-pair tokenizers. What a target's provider counted for
the prompts that it answered shows how far they are off for it, and how much that varies.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from lorimer.core.history import DOCUMENT_TOKENS, IMAGE_TOKENS, History
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolUse,
)
from lorimer.core.request import Request, Response

CHARS_PER_TOKEN: Final = 4
"""Used where only the length of a text is known."""
UNKNOWN: Final = 0.5
"""The relative error for a target without any counts yet."""
MAX_TARGETS: Final = 256
"""Targets that a Calibration tracks; beyond that, the one first seen is dropped."""
MAX_LEARNT: Final = 262_144
"""Bytes of a conversation; longer ones are not learnt from."""
SHORT: Final = 4_096
"""Bytes of a conversation that is examined again and again: reading a long one takes longer than
all other work of a call."""

_FIRST: Final = 16
_WEIGHT: Final = 1 / 16
_LEAST: Final = 0.03
_RATIOS: Final = (1 / 8, 8.0)
_ASCII: Final = (
    # base64, hashes, ids: tokenizers have few fitting pairs
    (r"[A-Za-z0-9+/=_-]{40,}", 0.75),
    (r"[0-9]+", 0.5),
    (r"[^\w\s]", 0.5),
)
_KINDS: Final = (
    *_ASCII[:2],
    # Chinese, Japanese, Korean, and full-width characters
    (
        "[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]",
        1.1,
    ),
    (r"[^\x00-\x7f]", 0.6),
    _ASCII[2],
)
"""Kinds with their tokens per character, in the order in which they are taken out of a text."""
_REST: Final = 0.22
"""Words and the spaces between them."""
_MESSAGE: Final = 4
"""Tokens of overhead per message."""


def estimate(request: Request) -> float:
    """Tokens of the prompt, including tools and system. Reads all of it."""
    texts = [request.system, *[dumps(tool.to_json()) for tool in request.tools]]
    if request.output is not None:
        texts.append(dumps(request.output.schema))
    tokens = _MESSAGE * (len(request.tools) + len(request.messages))
    for message in request.messages:
        for block in message.content:
            tokens += _read(block, texts)
    # joined: scanning one long text takes a tenth of the time of many short ones
    return tokens + _text("\n".join(texts)) - (len(texts) - 1) * _REST


def _read(block: Block, texts: list[str]) -> float:
    """Add the texts of a block to `texts`; returns the tokens of everything else in it."""
    match block:
        case TextBlock() | ThinkingBlock():
            texts.append(block.text)
            return 0
        case ToolUse():
            texts += block.name, block.raw or _json(block.input)
            return _MESSAGE
        case ImageBlock():
            return IMAGE_TOKENS
        case DocumentBlock():
            return DOCUMENT_TOKENS + len(block.data) / 40
        case _ if isinstance(block.content, str):
            texts.append(block.content)
            return _MESSAGE
        case _:
            return sum([_read(part, texts) for part in block.content]) + _MESSAGE


def _json(value: JSON) -> str:
    try:
        return dumps(value)
    except (TypeError, ValueError):  # a NaN from somewhere: the call itself will report it
        return str(value)


@cache
def _compiled(kind: str) -> re.Pattern[str]:
    """Compiled on first use: it takes longer than importing the rest."""
    return re.compile(kind)


def _text(text: str) -> float:
    tokens = 0.0
    for kind, share in _ASCII if text.isascii() else _KINDS:
        rest = _compiled(kind).sub("", text)
        tokens += (len(text) - len(rest)) * share
        text = rest
    return tokens + len(text) * _REST


class _Known:
    __slots__ = ("mean", "seen", "spread")

    def __init__(self) -> None:
        self.seen = 0
        self.mean = 1.0
        self.spread = UNKNOWN


class Calibration:
    """How far `estimate` is off for each target: a running mean of the ratio of counted to
    estimated tokens, and of its variation. Bounded; shared by all runs that use one `Models`."""

    def __init__(self) -> None:
        self._targets: dict[str, _Known] = {}

    def of(self, place: str) -> tuple[float, float]:
        """The factor by which to multiply an estimate for a target (`Target.place`), and the
        relative error of the result."""
        known = self._targets.get(place)
        if known is None or not known.seen:
            return 1.0, UNKNOWN
        return known.mean, max(_LEAST, 3 * known.spread)

    def learn(self, place: str, request: Request, response: Response) -> None:
        """Learn from a provider's count. Examines a target's first 16 answers, and then, in short
        conversations, fewer and fewer: the 32nd, the 64th, ..."""
        known = self._targets.get(place)
        if known is None:
            if len(self._targets) >= MAX_TARGETS:
                del self._targets[next(iter(self._targets))]
            known = self._targets[place] = _Known()
        known.seen = seen = known.seen + 1
        if seen & (seen - 1) and seen > _FIRST:
            return
        messages, usage = request.messages, response.usage
        counted = usage.prompt_tokens
        most = MAX_LEARNT if seen <= _FIRST else SHORT
        if isinstance(messages, History) and messages.size > most:
            return
        if counted and not response.extra.get("usage_estimated"):
            ratio = counted / max(1.0, estimate(request))
            self._take(known, min(max(ratio, _RATIOS[0]), _RATIOS[1]))

    @staticmethod
    def _take(known: _Known, ratio: float) -> None:
        share = max(_WEIGHT, 1 / known.seen)
        off = abs(ratio - known.mean) / known.mean if known.seen > 1 else UNKNOWN / 3
        known.mean += (ratio - known.mean) * share
        known.spread += (off - known.spread) * share
