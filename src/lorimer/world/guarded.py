"""HTTP to destinations that are not under our control: chosen by a model, a page, a redirect.

A name is looked up once, all its addresses must be public, and the connection goes to the address
that was checked, with the original name for Host and TLS. Redirects are followed explicitly, each
one checked again. URLs configured by the host (a provider's base URL) are not accessed through this
module.
"""

from __future__ import annotations

import asyncio
import re
import socket
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias, cast

import httpcore2
import httpx2

from lorimer.core.errors import ExecutorErrorCode, ToolExecutionError
from lorimer.core.world import Reach
from lorimer.world.addresses import Address, is_metadata, refusal

MAX_REDIRECTS: Final = 5
MAX_BYTES: Final = 5 * 1024 * 1024
MAX_URL: Final = 2048
CONNECT_S: Final = 10.0
"""Seconds for a connection to one address; then the next address of the name is tried."""

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_BAD: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\"<>^`{|}]")
_SMALL: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ACCEPT: Final = {"accept-encoding": "gzip, deflate"}
_FOR_ANYONE: Final = ("accept", "accept-encoding", "accept-language", "user-agent")
"""Headers that are also sent to another origin; any other may contain a key, whatever its name."""

_IN_A_ROW: Final = 100
"""Pieces of a body that are read before other tasks run: a body of many tiny ones blocks nobody."""

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""All addresses of a name, as text. Raises OSError."""


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """The system's resolver."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def refused(why: str, url: str) -> ToolExecutionError:
    """The error for a destination that is not allowed."""
    shown = url if len(url) <= 200 else url[:200] + "..."
    return ToolExecutionError(
        f"{shown!r} may not be fetched: {why}", code=ExecutorErrorCode.EXEC_TOOL_ACCESS_DENIED
    )


def parse_url(text: str, reach: Reach = Reach(), shown: str = "") -> httpx2.URL:
    """Parse a URL so that no other parser can see a different host in it.

    Raises ToolExecutionError `exec.tool.access_denied` for anything except plain http(s) to a name
    or an address, without user or password, on a port of `reach`. `shown`: what errors show instead
    of the URL, if that may contain a key.
    """
    shown = shown or text
    if len(text) > MAX_URL:
        raise refused(f"it is longer than {MAX_URL} characters", shown)
    if _BAD.search(text):
        raise refused("it contains characters that a URL must not have", shown)
    scheme, mark, rest = text.partition("://")
    if mark != "://" or scheme.lower() not in ("http", "https"):
        raise refused("only http and https are fetched", shown)
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise refused("it names a user", shown)
    if "%" in authority:
        raise refused("its host is written with %", shown)
    try:
        url = httpx2.URL(text)
        host, port = url.host, url.port
    except (httpx2.InvalidURL, ValueError, UnicodeError) as error:
        raise refused(f"it is not a URL ({error})", shown) from None
    ascii_host = url.raw_host.decode("ascii").lower()
    if not _is_host(ascii_host):
        raise refused("its host is neither a name nor an address", shown)
    spelled = authority.rpartition(":")[0] if re.search(r":[0-9]*$", authority) else authority
    # ASCII only: some non-ASCII letters become ASCII when lowercased
    if spelled.translate(_SMALL) not in (host, ascii_host, f"[{ascii_host}]"):
        raise refused("its host is read differently by different programs", shown)
    number = (443 if url.scheme == "https" else 80) if port is None else port
    if number not in reach.ports:
        raise refused(f"port {number} is not one that is fetched from", shown)
    if reach.hosts is not None and not named_in(ascii_host, reach.hosts):
        raise refused("its host is not one of those allowed", shown)
    return url


def named_in(host: str, names: Iterable[str]) -> bool:
    """Whether `host` is one of `names`, or a subdomain covered by a `*.name` in them."""
    host = host.rstrip(".").lower()
    return any(
        host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in names
    )


def _is_host(host: str) -> bool:
    if ":" in host:
        return _address(host) is not None
    labels = host.removesuffix(".").split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or len(host) > 253:
        return False
    # Some parsers take a numeric last label for an address, so it has to be treated as one here.
    numeric = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]) is not None
    return not numeric or _address(host) is not None


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that it has looked up and checked itself."""

    def __init__(self, reach: Reach, resolve: Resolver = system_resolver) -> None:
        self._reach = reach
        self._resolve = resolve
        self._inner = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises ToolExecutionError for an address that is not public, ConnectError when nothing
        answers."""
        last: Exception = httpcore2.ConnectError(f"{host} has no address")
        limit = CONNECT_S if timeout is None else min(timeout, CONNECT_S)
        for address in await checked(host, port, self._reach, self._resolve):
            try:
                return await self._inner.connect_tcp(
                    str(address), port, limit, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
        raise last

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Always refused."""
        raise refused("it is a socket of this machine", path)


async def checked(
    host: str, port: int, reach: Reach, resolve: Resolver = system_resolver
) -> list[Address]:
    """The addresses of a name, looked up once, all permitted. Raises ToolExecutionError when one of
    them is not, httpcore2.ConnectError when there are none."""
    literal = _address(host)
    if literal is not None:
        found = [literal]
    else:
        try:
            texts = await resolve(host, port)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} cannot be looked up: {error}") from error
        read = [_address(text) for text in dict.fromkeys(texts)]
        found = [address for address in read if address is not None]
        if len(found) < len(read):
            raise httpcore2.ConnectError(f"{host} has an address that cannot be read")
    for address in found:
        _judge(host, address, reach)
    return found


def _judge(host: str, address: Address, reach: Reach) -> None:
    private = named_in(host, reach.private) and not is_metadata(address)
    why = "" if private else refusal(address)
    if why:
        raise refused(f"{host} is {address}: {why}", host)


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """The transport of httpx2 over a `GuardedBackend`. Ignores proxies: a proxy would resolve names
    itself, and no check here would be effective."""

    def __init__(self, reach: Reach, tls: object, resolve: Resolver = system_resolver) -> None:
        super().__init__(verify=tls, trust_env=False)  # type: ignore[arg-type]
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,  # type: ignore[arg-type]
            max_connections=20,
            max_keepalive_connections=0,  # a reused connection would bypass the check
            network_backend=GuardedBackend(reach, resolve),
        )


def guarded_client(
    reach: Reach, tls: object, resolve: Resolver = system_resolver
) -> httpx2.AsyncClient:
    """A client for `fetch`; see `World.guarded_http`."""
    return _client(GuardedTransport(reach, tls, resolve))


class _Judged(httpx2.AsyncBaseTransport):
    """Forwards only requests that a simulated world allows: all its names are public."""

    def __init__(self, reach: Reach, inner: httpx2.AsyncBaseTransport) -> None:
        self._reach = reach
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        address = _address(host)
        if address is not None:
            _judge(host, address, self._reach)
        return await self._inner.handle_async_request(request)


def simulated_client(reach: Reach, inner: httpx2.AsyncBaseTransport) -> httpx2.AsyncClient:
    """Like `guarded_client`, with `inner` as the internet."""
    return _client(_Judged(reach, inner))


def _client(transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=transport, timeout=None, trust_env=False, follow_redirects=False
    )


@dataclass(frozen=True, slots=True)
class Fetched:
    """A response."""

    url: str
    """The final URL, after redirects."""
    status: int
    headers: Mapping[str, str]
    body: bytes
    """At most the requested number of bytes, decompressed."""
    cut: bool
    """Whether there was more."""


async def fetch(
    client: httpx2.AsyncClient,
    text: str,
    *,
    method: str = "GET",
    content: bytes | None = None,
    reach: Reach = Reach(),
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_BYTES,
    follows: Callable[[str], bool] | None = None,
    shown: str = "",
) -> Fetched:
    """Request a page through `client`, whose transport is guarded. For GET and HEAD, follows up to
    MAX_REDIRECTS redirects, each parsed and checked like the first URL; other methods are sent to
    one destination only. Those of `headers` that may contain a key are sent to the first origin
    only. A redirect to another host or port is followed only if `follows` accepts its URL;
    otherwise the result is the redirect itself, without a body, with its full `location`. `shown`:
    see `parse_url`. Raises ToolExecutionError, and httpx2.HTTPError when nothing answers. Limiting
    its time is up to the caller."""
    url = parse_url(text, reach, shown)
    sent = {name.lower(): value for name, value in (headers or {}).items()}
    for _ in range(MAX_REDIRECTS + 1):
        async with client.stream(
            method, url, headers={**_ACCEPT, **sent}, content=content, follow_redirects=False
        ) as response:
            target = response.headers.get("location")
            redirects = method in ("GET", "HEAD") and response.status_code in _REDIRECTS
            found = {name.lower(): value for name, value in response.headers.items()}
            if not redirects or target is None:
                body, cut = await _body(response, max_bytes)
                return Fetched(str(url), response.status_code, found, body, cut)
        following = parse_url(_joined(url, target), reach)
        if follows is not None and not _same_place(following, url) and not follows(str(following)):
            found["location"] = str(following)
            return Fetched(str(url), response.status_code, found, b"", cut=False)
        if _origin(following) != _origin(url):
            sent = {name: value for name, value in sent.items() if name in _FOR_ANYONE}
        url = following
    raise refused(f"it redirects more than {MAX_REDIRECTS} times", shown or text)


def _joined(base: httpx2.URL, target: str) -> str:
    if _BAD.search(target):
        raise refused("a redirect contains characters that a URL must not have", target)
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", target):
        return target  # absolute: take it as written, not as normalised by a parser
    if target.startswith("//"):
        return f"{base.scheme}:{target}"
    return str(base.join(target))


def _same_place(one: httpx2.URL, other: httpx2.URL) -> bool:
    """The same host on the same port, or with the default ports of http and https."""
    return one.host == other.host and one.port == other.port


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


async def _body(response: httpx2.Response, most: int) -> tuple[bytes, bool]:
    """Decompressed here, piece by piece: a few bytes may expand to many."""
    if response.is_stream_consumed:  # simulated responses arrive complete
        return response.content[:most], len(response.content) > most
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("identity", "gzip", "x-gzip", "deflate", ""):
        raise ToolExecutionError(
            f"the answer is packed as {packed[:40]!r}, which was not asked for"
        )
    unpack = _Unpacker(packed) if packed not in ("identity", "") else None
    body = bytearray()
    pieces = 0
    try:
        async for raw in response.aiter_raw():
            pieces += 1
            if pieces % _IN_A_ROW == 0:
                await asyncio.sleep(0)
            left = most + 1 - len(body)
            body += raw[:left] if unpack is None else unpack.feed(raw, left)
            if len(body) > most or (unpack is not None and unpack.over):
                break  # zlib would only accumulate what follows the end of the compressed data
    except httpx2.HTTPError:
        if unpack is None or not unpack.whole:
            raise
    cut_off = unpack is not None and pieces > 0 and not unpack.whole
    return bytes(body[:most]), cut_off or len(body) > most


class _Unpacker:
    """Decompresses gzip, also in several parts one after the other, and deflate, also as some
    servers send it, without the header of zlib."""

    def __init__(self, packed: str) -> None:
        self._zlib = zlib.decompressobj(wbits=47)
        self._gzip = "zip" in packed
        self._begun = False
        self.over = False
        """What follows is not compressed data."""

    @property
    def whole(self) -> bool:
        """The end of the compressed data has come."""
        return self._zlib.eof

    def feed(self, raw: bytes, most: int) -> bytes:
        """At most `most` bytes more. Raises ToolExecutionError."""
        out = b""
        while raw and len(out) < most and not self.over:
            if self._zlib.eof:  # after one part of gzip there may be another
                self.over = not (self._gzip and raw.startswith(b"\x1f"))
                if self.over:
                    break
                self._zlib = zlib.decompressobj(wbits=31)
            out += self._part(raw, most - len(out))
            raw = self._zlib.unused_data
        return out

    def _part(self, raw: bytes, most: int) -> bytes:
        try:
            out = self._zlib.decompress(raw, most)
        except zlib.error as error:
            if self._gzip or self._begun:
                raise ToolExecutionError(f"the answer cannot be unpacked: {error}") from None
            self._begun = True
            self._zlib = zlib.decompressobj(wbits=-15)
            return self._part(raw, most)
        self._begun = True
        return out
