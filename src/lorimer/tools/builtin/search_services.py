"""Services that search the web, for `WebSearch`: Brave, Tavily, and one's own SearXNG server.

Their addresses come from the host, so they are reached as configured. Redirects are not followed,
so a key is sent nowhere else. What they find is untrusted content."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import httpx2
from pydantic_core import from_json

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError, reason_of
from lorimer.core.jsonable import JSON, fields_of, objects_of
from lorimer.core.record import record
from lorimer.core.world import World

MAX_BYTES: Final = 2 * 1024 * 1024
"""Most bytes of an answer."""

_SAFE: Final[Mapping[str, str]] = {"off": "0", "moderate": "1", "strict": "2"}
_Params: TypeAlias = dict[str, str]


@record
class SearchQuery:
    """A search."""

    text: str
    count: int = 8
    """How many results are wanted, 1 to 20."""
    region: str = ""
    """A country, two letters."""
    safesearch: str = "moderate"
    """`off`, `moderate` or `strict`."""
    allowed: tuple[str, ...] = ()
    """Only these domains and their subdomains; (): all."""
    blocked: tuple[str, ...] = ()

    def with_sites(self) -> str:
        """The text with the domains in the syntax of most services. It narrows the search;
        `WebSearch` filters the results in any case."""
        sites = " OR ".join([f"site:{domain}" for domain in self.allowed])
        parts = [self.text, f"({sites})" if " OR " in sites else sites]
        return " ".join([*filter(None, parts), *[f"-site:{domain}" for domain in self.blocked]])


@record
class SearchResult:
    """One found page."""

    title: str
    url: str
    text: str = ""
    """An excerpt about the query; may contain HTML."""


class SearchService(Protocol):
    """A search service, for `WebSearch(...)`. It may be used by many calls at once."""

    @property
    def name(self) -> str:
        """The name shown in results."""
        ...

    async def search(self, query: SearchQuery, world: World) -> Sequence[SearchResult]:
        """The found pages, best first. Raises ToolExecutionError, with what to do about it. The
        caller limits the time."""
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
        return _results(fields_of(data.get("web")).get("results"), "description")


@dataclass(frozen=True, slots=True)
class Tavily:
    """Tavily's search API."""

    key: str = field(repr=False)
    base_url: str = "https://api.tavily.com"
    name: str = "tavily"

    async def search(self, query: SearchQuery, world: World) -> Sequence[SearchResult]:
        """See SearchService. Tavily supports neither regions nor levels of safe search."""
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
    """A SearXNG server. Its settings have to allow `format=json`."""

    base_url: str
    name: str = "searxng"

    async def search(self, query: SearchQuery, world: World) -> Sequence[SearchResult]:
        """See SearchService. SearXNG supports no regions."""
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
    """The service that environment variables configure: the one called `name`, else the first of
    Brave, Tavily and SearXNG. Raises ToolExecutionError naming the variables to set."""
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
        why = reason_of(error)
        raise _lost(f"{name} cannot be reached: {why}", error) from error
    if status != 200:
        raise _lost(f"{name} does not answer: {_why(status, variable)}")
    try:
        data: JSON = from_json(b"".join(parts), allow_inf_nan=False)
    except ValueError:
        data = None
    if not isinstance(data, Mapping):
        raise _lost(f"the answer of {name} cannot be read: it is not a JSON object")
    return data


def _lost(why: str, cause: Exception | None = None) -> ToolExecutionError:
    return ToolExecutionError(why, code=ExecutorErrorCode.EXEC_TOOL_TRANSPORT, cause=cause)


def _why(status: int, variable: str) -> str:
    if variable == "SEARXNG_URL" and status == 403:
        return "status 403: its settings.yml has to allow `json` among search.formats"
    if status in (401, 403, 422):
        return f"status {status}: check the value of {variable}"
    if status in (402, 429, 432, 433):
        return f"status {status}: it was asked too often, or the plan is used up"
    if 300 <= status < 400:
        return f"status {status}: it redirects, which is not followed"
    return f"status {status}"


def _results(found: JSON, text: str) -> list[SearchResult]:
    """The valid results; others are left out."""
    return [
        SearchResult(_text(row, "title"), _text(row, "url"), _text(row, text))
        for row in objects_of(found)
        if _text(row, "url")
    ]


def _text(row: Mapping[str, JSON], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""
