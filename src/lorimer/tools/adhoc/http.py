"""A tool that is one HTTP request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import quote

from lorimer.core.adhoc import HttpTool
from lorimer.core.errors import ToolExecutionError, reason_of
from lorimer.core.jsonable import JSON
from lorimer.tools.adhoc.fill import filled, filled_json, schema_of
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.builtin.charset import decoded

MAX_BYTES: Final = 1024 * 1024
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_STEP: Final = re.compile(r"/(\.{1,2})(?=[/?#]|\Z)")
"""A `.` or `..` segment in the path: encoding does not prevent it, and several arguments together
may form one."""


class Http(Tool):
    """Reaches public addresses only, like `WebFetch`. Methods other than GET and HEAD also have the
    effect `send`. Its results are untrusted content."""

    untrusted = True

    def __init__(self, described: HttpTool, variables: Mapping[str, str] | None = None) -> None:
        """`variables`: the values of `${NAME}` in the description."""
        self.name = described.name
        self.description = described.description
        self.input_schema = schema_of(described)
        self.timeout_s = described.timeout_s
        reads = described.method in ("GET", "HEAD")
        self.effects = frozenset({"net"} if reads else {"net", "send"})
        self.idempotent = reads
        self.concurrency_safe = reads
        self._described = described
        self._variables = variables or {}

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """Returns the response body, or the part of it that the manifest names. A status of 400 or
        more is an error result."""
        import httpx2  # a tenth of the start-up time: imported only for requests

        from lorimer.world.guarded import fetch

        described = self._described
        given = self._variables
        url = filled(described.url, input, _quoted, variables=given)
        steps = _STEP.findall(url)
        if len(steps) > len(_STEP.findall(described.url)):
            raise ToolExecutionError(f"{steps[-1]!r} cannot be part of the URL")
        headers = {n: filled(t, input, variables=given) for n, t in described.headers.items()}
        for name, text in headers.items():
            if _CONTROL.search(text) or not text.isascii():
                raise ToolExecutionError(f"the header {name} would not be plain text")
        shown = described.url if described.variables() else url  # a cut URL may hold half a key
        content: bytes | None = None
        if described.body is not None:
            body = filled_json(cast("JSON", described.body), input, given)
            kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
            headers = {"content-type": kind, **{n.lower(): text for n, text in headers.items()}}
            text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
            content = text.encode("utf-8", "replace")
        try:
            async with context.world.guarded_http() as client:
                found = await fetch(
                    client,
                    url,
                    method=described.method,
                    content=content,
                    headers=headers,
                    max_bytes=MAX_BYTES,
                    shown=shown,
                )
        except httpx2.HTTPError as error:
            why = reason_of(error)
            raise ToolExecutionError(f"{shown!r} cannot be reached: {why}") from error
        parameters = found.headers.get("content-type", "").partition(";")[2]
        text = decoded(found.body, parameters, marked=False)
        failed = found.status >= 400
        if described.result and not failed:
            return ToolResult(_part(text, described.result))
        more = ", cut" if found.cut else ""
        return ToolResult(f"[status {found.status}{more}]\n{text}", is_error=failed)


def _quoted(value: str) -> str:
    return quote(value, safe="", errors="replace")


def _part(text: str, path: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ToolExecutionError(f"the answer is no JSON: {error}") from error
    for name in path.split("."):
        if isinstance(value, dict) and name in value:
            value = cast("dict[str, object]", value)[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):  # pyright: ignore[reportUnknownArgumentType]
            value = cast("list[object]", value)[int(name)]
        else:
            raise ToolExecutionError(f"the answer has no {path!r}")
    return value
