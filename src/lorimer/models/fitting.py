"""Leaves out of requests what a model does not support, and names it: for wires that cannot know,
whether the host declared it (`configure_capabilities`) or it is assumed.

Wires themselves leave out what their vendor is known to reject (`models/wires/`). This module
handles the rest: servers with a vendor's API whose models support less. Limits on the size and
number of pictures: `images.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Final

from lorimer.core.errors import APIError, ConfigError, ExecutorErrorCode, nearest
from lorimer.core.jsonable import JSON, dumps, texts_of
from lorimer.core.messages import (
    Block,
    DocumentBlock,
    ImageBlock,
    Message,
    TextBlock,
    ToolResultBlock,
    ToolUse,
)
from lorimer.core.model import (
    Capabilities,
    CountsTokens,
    ImageLimits,
    KnowsWindow,
    LimitsImages,
    ListsModels,
    Model,
)
from lorimer.core.request import NO_MARKS, Delta, Request, Response, Usage
from lorimer.core.world import World

_NAMES: Final = tuple(field.name for field in fields(Capabilities))
_SAMPLING: Final = ("temperature", "top_p", "top_k", "seed")
NO_IMAGE: Final = "[an image was here; this model reads text only]"
NO_DOCUMENT: Final = "[a document was here; this model reads text only]"


def changes(given: Mapping[str, bool]) -> dict[str, bool]:
    """Names and values of capabilities as given to `configure_capabilities`: with or without
    `supports_` before the name. Raises ConfigError naming the nearest for an unknown one."""
    out: dict[str, bool] = {}
    for key, value in given.items():
        name = key.removeprefix("supports_")
        name = {"vision": "images", "structured_output": "output_schema"}.get(name, name)
        if name not in _NAMES:
            raise ConfigError(f"there is no capability {key!r}{nearest(name, _NAMES)}")
        if not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"the capability {key!r} is true or false, not {value!r}")
        out[name] = value
    return out


def fit(request: Request, able: Capabilities) -> tuple[Request, list[str]]:
    """The request reduced to what a model with the capabilities `able` accepts, and the names of
    the fields (of `Request`; or `images`, `documents`) that were left out.

    Without tools, calls and results in the conversation become prose that describes them; an output
    schema becomes instructions in the system prompt.
    """
    dropped: list[str] = []
    out = request
    if not able.tools and request.tools:
        out = replace(out, tools=(), tool_choice="auto")
        dropped.append("tools")
    elif not able.tool_choice and request.tool_choice != "auto":
        out = replace(out, tool_choice="auto")
        dropped.append("tool_choice")
    if not able.thinking and request.thinking_tokens is not None:
        out = replace(out, thinking_tokens=None)
        dropped.append("thinking_tokens")
    if not able.thinking and request.effort:
        out = replace(out, effort="")
        dropped.append("effort")
    if not able.output_schema and request.output is not None:
        from lorimer.models.wires.strict import told_in_words  # only needed if there is one

        out = told_in_words(out)
        dropped.append("output")
    if not able.stop_sequences and request.stop_sequences:
        out = replace(out, stop_sequences=())
        dropped.append("stop_sequences")
    if not able.cache_marks and request.cache is not NO_MARKS:
        out = replace(out, cache=NO_MARKS)  # only saves money: not worth mentioning
    for name, can in zip(
        _SAMPLING, (able.temperature, able.top_p, able.top_k, able.seed), strict=True
    ):
        if not can and request.__getattribute__(name) is not None:
            out = replace(out, **{name: None})
            dropped.append(name)
    if not (able.tools and able.images and able.documents):
        out = replace(out, messages=_readable(request.messages, able, dropped))
    return out, dropped


def _readable(
    messages: Sequence[Message], able: Capabilities, dropped: list[str]
) -> Sequence[Message]:
    names: dict[str, str] = {}
    out: list[Message] = []
    for message in messages:
        blocks: list[Block] = []
        for block in message.content:
            if isinstance(block, ToolUse):
                names[block.id] = block.name
            blocks.extend(_written(block, able, names, dropped))
        whole = len(blocks) == len(message.content)
        same = whole and all(a is b for a, b in zip(blocks, message.content, strict=True))
        out.append(message if same else Message(message.role, tuple(blocks)))
    return out


def _written(
    block: Block, able: Capabilities, names: dict[str, str], dropped: list[str]
) -> list[Block]:
    """A block in a form that the model can read."""
    match block:
        case ToolUse() if not able.tools:
            return [TextBlock(f"[I called {block.name} with {block.raw or dumps(block.input)}]")]
        case ToolResultBlock() if not able.tools:
            name = names.get(block.tool_use_id, "a tool")
            state = "failed" if block.is_error else "answered"
            content = (
                (TextBlock(block.content),) if isinstance(block.content, str) else block.content
            )
            told: list[Block] = [TextBlock(f"[{name} {state}:]")]
            for part in content:
                told.extend(_written(part, able, names, dropped))
            return told
        case ToolResultBlock() if not able.images and not isinstance(block.content, str):
            parts = tuple([_seen(part, dropped) for part in block.content])
            return [block if parts == block.content else replace(block, content=parts)]
        case ImageBlock() if not able.images:
            return [_seen(block, dropped)]
        case DocumentBlock() if not able.documents:
            _name("documents", dropped)
            return [
                TextBlock(f"{NO_DOCUMENT[:-1]}: {block.title}]" if block.title else NO_DOCUMENT)
            ]
        case _:
            return [block]


def _seen(part: TextBlock | ImageBlock, dropped: list[str]) -> TextBlock:
    if isinstance(part, TextBlock):
        return part
    _name("images", dropped)
    return TextBlock(NO_IMAGE)


def _name(what: str, dropped: list[str]) -> None:
    if what not in dropped:
        dropped.append(what)


def naming(dropped: Sequence[str], extra: Mapping[str, JSON]) -> dict[str, JSON]:
    """The `extra` of a response, with the names of what was left out of its request."""
    return {**extra, "dropped": list(dict.fromkeys([*dropped, *texts_of(extra.get("dropped"))]))}


class Fitted:
    """A model whose requests contain only what it supports: `core.model.Model`, `Capable` and the
    other optional ports. Of those that the model itself lacks, `count_tokens` and `list_models`
    raise APIError `exec.api.bad_request`."""

    def __init__(self, inner: Model, capabilities: Capabilities) -> None:
        self.inner = inner
        self.capabilities = capabilities
        self.provider = inner.provider
        self.name = inner.name

    @property
    def context_window(self) -> int | None:
        """That of the model."""
        return self.inner.context_window if isinstance(self.inner, KnowsWindow) else None

    @property
    def image_limits(self) -> ImageLimits | None:
        """That of the model, if it accepts pictures at all."""
        if not self.capabilities.images or not isinstance(self.inner, LimitsImages):
            return None
        return self.inner.image_limits

    def price(self, usage: Usage, *, model: str = "") -> int | None:
        """That of the model."""
        return self.inner.price(usage, model=model)

    def stream(self, request: Request, *, world: World) -> AsyncIterator[Delta | Response]:
        """The model's answer to the reduced request; what was left out is in `extra["dropped"]`."""
        fitting, dropped = fit(request, self.capabilities)
        answer = self.inner.stream(fitting, world=world)
        return _naming(answer, dropped) if dropped else answer

    async def count_tokens(self, request: Request, *, world: World) -> int:
        """The count for the reduced request."""
        if not isinstance(self.inner, CountsTokens):
            raise self._cannot("count tokens")
        return await self.inner.count_tokens(fit(request, self.capabilities)[0], world=world)

    async def list_models(self, *, world: World) -> list[str]:
        """As reported by the model's provider."""
        if not isinstance(self.inner, ListsModels):
            raise self._cannot("list models")
        return await self.inner.list_models(world=world)

    def _cannot(self, what: str) -> APIError:
        return APIError(
            f"{self.provider} is not asked to {what}.", code=ExecutorErrorCode.EXEC_API_BAD_REQUEST
        )


async def _naming(
    answer: AsyncIterator[Delta | Response], dropped: list[str]
) -> AsyncGenerator[Delta | Response, None]:
    try:
        async for item in answer:
            if isinstance(item, Response):
                item.extra = naming(dropped, item.extra)
            yield item
    finally:
        if isinstance(answer, AsyncGenerator):
            await answer.aclose()
