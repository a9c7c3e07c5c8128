"""The output lines of the `claude` program as the canonical answer.

They contain Anthropic's own events (`stream_event`), which `AnthropicAnswer` reads, and whole
messages (`assistant`), for an answer that was not streamed. The last line, `result`, decides the
outcome: a failed call can still say `subtype: success`; only `is_error` counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from lorimer.core.errors import APIError, ExecutorErrorCode
from lorimer.core.jsonable import JSON, dumps
from lorimer.core.request import NO_USAGE, Delta, Response, TextDelta, ThinkingDelta, Usage
from lorimer.models.credentials import ProviderCredentials
from lorimer.models.errors import incomplete, status_error
from lorimer.models.wires.anthropic_answer import AnthropicAnswer
from lorimer.models.wires.shared import count, mapping, string
from lorimer.models.wires.sse import parse_json

MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes."""

_Code: Final = ExecutorErrorCode
_AUTH: Final = _Code.EXEC_CLI_AUTH_FAILED
_REFUSED: Final = (_Code.EXEC_API_AUTH_INVALID_KEY, _Code.EXEC_API_AUTH_EXPIRED)
_LOGIN: Final = re.compile(r"not logged in|/login|invalid api key|authentication|oauth", re.I)
_NETWORK: Final = re.compile(
    r"ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|connection error|network|certificate", re.I
)
_TIMEOUT: Final = re.compile(r"timed? ?out", re.I)
_PERMISSION: Final = re.compile(r"permission|not allowed|EACCES|denied", re.I)


class Lines:
    """Splits bytes, in pieces of any size, into lines. Raises ValueError for a line longer than
    MAX_LINE."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines completed by this chunk."""
        self._held += chunk
        if b"\n" not in chunk:
            if len(self._held) > MAX_LINE:
                raise ValueError(f"a line is longer than {MAX_LINE:,} bytes")
            return []
        *whole, rest = bytes(self._held).split(b"\n")
        self._held = bytearray(rest)
        return whole

    def rest(self) -> bytes:
        """The incomplete last line."""
        return bytes(self._held)


class ClaudeCodeAnswer:
    """Assembles one answer, line by line."""

    def __init__(self, provider: str, credentials: ProviderCredentials) -> None:
        self._provider = provider
        self._credentials = credentials
        self._streamed = AnthropicAnswer(provider, credentials)
        self._whole: list[Mapping[str, JSON]] = []
        """Messages that came in one piece; an answer can consist of several, one per block."""
        self._released = False
        """Parts of it may have been shown already."""
        self._result: Mapping[str, JSON] | None = None
        self._usage = NO_USAGE

    @property
    def usage(self) -> Usage:
        """As far as reported."""
        return self._usage if self._usage is not NO_USAGE else self._streamed.usage

    def read(self, text: bytes) -> Sequence[Delta]:
        """The deltas in a line. Lines that are not JSON, and unknown kinds, are skipped. Raises
        APIError for an error inside, and KeyError, TypeError or ValueError for a line that makes no
        sense."""
        try:
            data = parse_json(text.decode("utf-8", "replace"))
        except ValueError:
            return ()
        if not isinstance(data, Mapping):
            return ()
        match data.get("type"):
            case "stream_event":
                return self._event(mapping(data["event"]))
            case "assistant":
                self._whole.append(mapping(data["message"]))
            case "result":
                self._end(data)
            case _:
                pass
        return ()

    def _event(self, event: Mapping[str, JSON]) -> Sequence[Delta]:
        if event.get("type") == "message_start" and self._streamed.usage is not NO_USAGE:
            if self._released:
                raise incomplete(self._provider, "it began anew in the middle", usage=self.usage)
            self._streamed = AnthropicAnswer(self._provider, self._credentials)
            self._whole.clear()
        deltas = self._streamed.read([("", dumps(event))])
        if not self._released:
            self._released = any(isinstance(each, TextDelta | ThinkingDelta) for each in deltas)
        return deltas

    def _end(self, data: Mapping[str, JSON]) -> None:
        self._result = data
        usage = data.get("usage")
        if isinstance(usage, Mapping):
            self._usage = Usage(
                count(usage.get("input_tokens")),
                count(usage.get("output_tokens")),
                count(usage.get("cache_creation_input_tokens")),
                count(usage.get("cache_read_input_tokens")),
            )

    @property
    def ended(self) -> bool:
        """Whether its last line has come."""
        return self._result is not None

    def finish(self, *, now: float) -> Response:
        """The answer, once `ended`. Raises APIError for a result that is an error, and
        `exec.api.stream_incomplete` if the result differs from what was streamed. `now`: seconds
        since the epoch."""
        assert self._result is not None
        if self._result.get("is_error") is True or self._result.get("subtype") != "success":
            raise self._failure(self._result, now)
        answer = self._streamed
        if not answer.done:
            if self._released:
                raise incomplete(self._provider, "its stream broke off", usage=self.usage)
            answer = AnthropicAnswer(self._provider, self._credentials)
            answer.whole(self._gathered())
        response = answer.finish()
        if self._usage is not NO_USAGE:
            response.usage = self._usage
        cost = self._result.get("total_cost_usd")
        if isinstance(cost, int | float):
            response.extra = {**response.extra, "total_cost_usd": cost}
        return response

    def _gathered(self) -> JSON:
        """The last message that came in one piece, with all its blocks."""
        if not self._whole:
            raise ValueError("there is a result, and no answer")
        last = self._whole[-1]
        same = [each for each in self._whole if each.get("id") == last.get("id")]
        blocks = [block for each in same for block in _blocks(each)]
        return {"stop_reason": "end_turn", **_without_null(last), "content": blocks}

    def _failure(self, result: Mapping[str, JSON], now: float) -> APIError:
        message = _said(result)
        status = result.get("api_error_status")
        if isinstance(status, int) and not isinstance(status, bool) and 400 <= status < 600:
            error = status_error(
                self._provider, status, {}, message.encode("utf-8", "replace"), now=now,
                credentials=self._credentials,
            )  # fmt: skip
            error.usage = self.usage if self.usage is not NO_USAGE else None
            if error.code not in _REFUSED:
                return error
            return failure(self._provider, message, self._credentials, usage=self.usage, code=_AUTH)
        return failure(self._provider, message, self._credentials, usage=self.usage)


def failure(
    provider: str,
    message: str,
    credentials: ProviderCredentials,
    *,
    usage: Usage = NO_USAGE,
    code: ExecutorErrorCode | None = None,
) -> APIError:
    """The error for what the program reported about its failure; `code` applies where the text does
    not show the cause."""
    shown = credentials.redact(" ".join(message.split()))[:600] or "it gave no reason"
    hint = ""
    if code is _AUTH or _LOGIN.search(message):
        code = _AUTH
        hint = "Log in once: run `claude` and type /login; or set ANTHROPIC_API_KEY."
    elif _TIMEOUT.search(message):
        code = _Code.EXEC_CLI_TIMEOUT
    elif _NETWORK.search(message):
        code = _Code.EXEC_API_NETWORK
    elif _PERMISSION.search(message):
        code = _Code.EXEC_CLI_PERMISSION_DENIED
    return APIError(
        f"{provider} failed: {shown}",
        code=code or _Code.EXEC_CLI_PROTOCOL_ERROR,
        hint=hint,
        usage=usage if usage is not NO_USAGE else None,
    )


def _said(result: Mapping[str, JSON]) -> str:
    errors = result.get("errors")
    parts: list[JSON] = [result.get("result"), *(errors if isinstance(errors, list) else ())]
    said = [part for part in parts if isinstance(part, str) and part.strip()]
    return "; ".join(said) or str(result.get("subtype") or "")


def _blocks(message: Mapping[str, JSON]) -> Sequence[JSON]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": string(content)}]
    return content if isinstance(content, list) else ()


def _without_null(message: Mapping[str, JSON]) -> dict[str, JSON]:
    return {name: value for name, value in message.items() if value is not None}
