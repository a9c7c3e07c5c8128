"""Services that search the web, for `WebSearch`: Brave, Tavily, a SearXNG of one's own.

Their addresses are the host's, so they are reached as configured; a redirect is not followed, so a
key goes nowhere else. What they find is words of strangers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import httpx2
from pydantic_core import from_json

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.core.world import World

MAX_BYTES: Final = 2 * 1024 * 1024
"""Of an answer."""

_SAFE: Final[Mapping[str, str]] = {"off": "0", "moderate": "1", "strict": "2"}
_Params: TypeAlias = dict[str, str]


@record
class SearchQuery:
    """What is looked for."""

    text: str
    count: int = 8
    """How many results are wanted, 1 to 20."""
    region: str = ""
    """A country, as two letters."""
    safesearch: str = "moderate"
    """`off`, `moderate` or `strict`."""
    allowed: tuple[str, ...] = ()
    """Only these domains, and what is beneath them; (): all."""
    blocked: tuple[str, ...] = ()

    def with_sites(self) -> str:
        """The text with the domains as most services read them: they only narrow what is found,
        what is told of it `WebSearch` decides."""
        sites = " OR ".join([f"site:{domain}" for domain in self.allowed])
        parts = [self.text, f"({sites})" if " OR " in sites else sites]
        return " ".join([*filter(None, parts), *[f"-site:{domain}" for domain in self.blocked]])


@record
class SearchResult:
    """One page that was found."""

    title: str
    url: str
    text: str = ""
    """What it says about what was looked for; may hold HTML."""


class SearchService(Protocol):
    """Whoever searches. Hand one to `WebSearch(...)`; it may be shared by many calls."""

    @property
    def name(self) -> str:
        """As results show it."""
        ...

    async def search(self, query: SearchQuery, world: World) -> Sequence[SearchResult]:
        """What was found, the best first. Raises ToolExecutionError with what to do about it; its
        time is bounded by the caller."""
        ...


@dataclass(frozen=True, slots=True)
class Brave:
    """Brave's Search API."""

    key: str = field(repr=False)
    base_url: str = "https://api.search.brave.com"
    name: str = "brave"

    async def search(self, query: SearchQuery, world: World) -> Sequence[SearchResult]:
        """See SearchService."""
        params = {
            "q": query.with_sites()[:400],
            "count": str(query.count),
            "safesearch": query.safesearch,
        }
        if query.region:
            params["country"] = query.region.upper()
        data = await _asked(
            world, self, f"{self.base_url}/res/v1/web/search", "BRAVE_API_KEY",
            params=params, headers={"x-subscription-token": self.key},
        )  # fmt: skip
        return _results(_mapping(data.get("web")).get("results"), "description")


@dataclass(frozen=True, slots=True)
class Tavily:
    """Tavily's search API."""

    key: str = field(repr=False)
    base_url: str = "https://api.tavily.com"
    name: str = "tavily"

    async def search(self, query: SearchQuery, world: World) -> Sequence[SearchResult]:
        """See SearchService. It knows no regions, and no degrees of safe search."""
        body: dict[str, JSON] = {
            "query": query.text,
            "max_results": query.count,
            "include_domains": query.allowed,
            "exclude_domains": query.blocked,
        }
        data = await _asked(
            world, self, f"{self.base_url}/search", "TAVILY_API_KEY",
            body=body, headers={"authorization": f"Bearer {self.key}"},
        )  # fmt: skip
        return _results(data.get("results"), "content")


@dataclass(frozen=True, slots=True)
class SearXNG:
    """A SearXNG server, whose settings have to allow `format=json`."""

    base_url: str
    name: str = "searxng"

    async def search(self, query: SearchQuery, world: World) -> Sequence[SearchResult]:
        """See SearchService. It knows no regions."""
        params = {
            "q": query.with_sites(),
            "format": "json",
            "safesearch": _SAFE.get(query.safesearch, "1"),
        }
        data = await _asked(
            world, self, f"{self.base_url.rstrip('/')}/search", "SEARXNG_URL", params=params
        )
        return _results(data.get("results"), "content")


def service_of(environment: Mapping[str, str] | None = None, name: str = "") -> SearchService:
    """The service that variables say how to reach; `name`: this one. Of several Brave,
    else Tavily. Raises ToolExecutionError naming the variables to set."""
    found = os.environ if environment is None else environment
    brave = found.get("BRAVE_API_KEY", "").strip()
    tavily = found.get("TAVILY_API_KEY", "").strip()
    searxng = found.get("SEARXNG_URL", "").strip()
    if brave and name in ("", "brave"):
        return Brave(brave)
    if tavily and name in ("", "tavily"):
        return Tavily(tavily)
    if searxng and name in ("", "searxng"):
        return SearXNG(searxng)
    wanted = {
        "brave": "BRAVE_API_KEY",
        "tavily": "TAVILY_API_KEY",
        "searxng": "SEARXNG_URL",
    }.get(name, "BRAVE_API_KEY, TAVILY_API_KEY or SEARXNG_URL")
    raise ToolExecutionError(
        f"no {name or 'service'} is configured to search the web: whoever runs this has to set"
        f" {wanted}",
        code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED,
    )


# --- the wire ------------------------------------------------------------------------------------


async def _asked(
    world: World,
    service: SearchService,
    url: str,
    variable: str,
    *,
    params: _Params | None = None,
    body: Mapping[str, JSON] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Mapping[str, JSON]:
    name = service.name
    sent = {"accept": "application/json", **(headers or {})}
    method = "GET" if body is None else "POST"
    try:
        async with (
            world.http() as client,
            client.stream(method, url, params=params, json=body, headers=sent) as response,
        ):
            parts, size = list[bytes](), 0
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_BYTES:
                    raise _lost(f"the answer of {name} is larger than {MAX_BYTES:,} bytes")
            status = response.status_code
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _lost(f"{name} cannot be reached: {error}", error) from error
    if status != 200:
        raise _lost(f"{name} does not answer: {_why(status, variable)}")
    try:
        data: JSON = from_json(b"".join(parts), allow_inf_nan=False)
    except ValueError:
        data = None
    if not isinstance(data, Mapping):
        raise _lost(f"the answer of {name} cannot be read: it is no JSON object")
    return data


def _lost(why: str, cause: Exception | None = None) -> ToolExecutionError:
    return ToolExecutionError(why, code=ExecutorErrorCode.EXEC_TOOL_TRANSPORT, cause=cause)


def _why(status: int, variable: str) -> str:
    if variable == "SEARXNG_URL" and status == 403:
        return "status 403: its settings.yml has to allow `json` among search.formats"
    if status in (401, 403, 422):
        return f"status {status}: is what {variable} says right?"
    if status in (402, 429, 432, 433):
        return f"status {status}: it was asked too often, or the plan is used up"
    if 300 <= status < 400:
        return f"status {status}: it redirects, which is not followed"
    return f"status {status}"


def _results(found: JSON, text: str) -> list[SearchResult]:
    """Whatever is one; the rest is left out."""
    rows = found if isinstance(found, list | tuple) else ()
    return [
        SearchResult(_text(row, "title"), _text(row, "url"), _text(row, text))
        for row in _mappings(rows)
        if _text(row, "url")
    ]


def _mappings(rows: Iterable[JSON]) -> list[Mapping[str, JSON]]:
    return [row for row in rows if isinstance(row, Mapping)]


def _mapping(data: JSON) -> Mapping[str, JSON]:
    return data if isinstance(data, Mapping) else {}


def _text(row: Mapping[str, JSON], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""
