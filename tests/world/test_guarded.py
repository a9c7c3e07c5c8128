"""Requests to places that a model, a page or a redirect chose: only public ones are reached, and
what was checked is what is connected to."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import httpcore2
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorimer.core.errors import ToolExecutionError
from lorimer.core.world import Reach
from lorimer.testing import SimulatedWorld, simulate
from lorimer.world import RealWorld
from lorimer.world.addresses import is_metadata, refusal
from lorimer.world.guarded import Fetched, fetch, guarded_client, parse_url

BLOCKED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 100.100.100.200 127.0.0.1
127.1.2.3 127.255.255.255 168.63.129.16 169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1
172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1
192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1
239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::2 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:192.168.1.1 ::ffff:0.0.0.0
::ffff:0:127.0.0.1 ::ffff:0:10.1.1.1 ::127.0.0.1 ::10.0.0.1 ::8.8.8.8
64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b::192.168.0.1
64:ff9b:1::1 64:ff9b:1::8.8.8.8 100::1 100:0:0:1::1
2001::1 2001:0:53aa:64c::1 2001:0:808:808:0:0:80ff:fffe 2001:1::1 2001:2::1 2001:3::1 2001:4:112::1
2001:10::1 2001:20::1 2001:30::1 2001:db8::1 2002:7f00:1:: 2002:a00:1:: 2002:a9fe:a9fe::
2002:c0a8:101::1 2620:4f:8000::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fd12:3456::1 fe80::1
fe80::1%lo fec0::1 ff02::1 ff0e::1 4000::1 2600:1::5efe:10.0.0.1 2600:1::200:5efe:127.0.0.1
2600:1::5efe:169.254.169.254 8000::8.8.8.8 1::1
""".split()

PUBLIC = """
8.8.8.8 1.1.1.1 93.184.215.14 172.32.0.1 2606:4700:4700::1111 2001:4860:4860::8888
64:ff9b::8.8.8.8 2002:808:808::1
""".split()


def test_there_are_enough_of_them() -> None:
    assert len(set(BLOCKED)) >= 81
    assert len(set(PUBLIC)) == 8
    assert len(set(ODD_URLS)) >= 137


@pytest.mark.parametrize("text", BLOCKED)
def test_addresses_that_are_not_public(text: str) -> None:
    assert refusal(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_addresses_that_are(text: str) -> None:
    assert refusal(ip_address(text)) == ""


@given(st.ip_addresses(v=4))
def test_no_way_of_writing_an_address_makes_it_public(address: Any) -> None:
    for form in ("::ffff:{}", "::ffff:0:{}", "64:ff9b::{}", "2600::5efe:{}", "2600::200:5efe:{}"):
        other = ip_address(form.format(address))
        assert not refusal(address) or refusal(other), form
        assert is_metadata(other) or not is_metadata(address)
    high = int(address)
    mapped = ip_address(f"2002:{high >> 16:x}:{high & 0xFFFF:x}::1")
    assert not refusal(address) or refusal(mapped)
    # what the standard library calls private is never public here
    assert refusal(address) or address.is_global


# --- URLs ----------------------------------------------------------------------------------------

_NUMBERS = """
2130706433 017700000001 0x7f000001 0x7F000001 0177.0.0.1 0x7f.0.0.1 127.1 127.0.1 127.0.0.01 0
0x0 00000000 3232235521 0xc0a80001 0300.0250.0.1 10.1 1 256.0.0.1 1.2.3.4.5 127.0.0.1.0 08.8.8.8
0x7f.1 127.0x1 0x.1 1.2.3.0x 999 4294967296 0xffffffff 037777777777 2852039166 0xa9fea9fe
0251.0376.0251.0376 169.254.43518 127.0.0.256 1.1.1 a.0x7f a.127 x.1 x.0x1.
""".split()
_SCHEMES = """
file:///etc/passwd ftp://a.org/ gopher://a.org/ dict://a.org:11211/ ldap://a.org/ jar:http://a.org/
data:text/plain,a javascript:alert(1) ws://a.org/ wss://a.org/ unix:///var/run/docker.sock
http+unix://%2Fvar%2Frun/ about:blank view-source:http://a.org/ netdoc:///etc/passwd sftp://a.org/
tftp://a.org/ telnet://a.org/ ssh://a.org/ smb://a.org/ httpx://a.org/ HTTPS:a.org http:a.org
http:/a.org //a.org/ /etc/passwd a.org a.org/x ://a.org http//a.org http:\\\\a.org blob:http://a.org/x
""".split()
_PORTS = "22 25 0 1 21 23 53 110 143 389 445 2375 3306 5432 6379 9200 27017 65535 65536".split()
_WRITTEN = [
    "http://a.org\\@127.0.0.1/", "http://127.0.0.1\\@a.org/", "http://a.org\\.b.org/",
    "http://user@a.org/", "http://user:pass@a.org/", "http://@a.org/", "http://:@a.org/",
    "http://a.org:80@127.0.0.1/", "http://a.org@127.0.0.1:80/", "http://a.org%40127.0.0.1/",
    "http://a.org%2f@127.0.0.1/", "http://a.org%00.b.org/", "http://a.org\0.b.org/", "http://a.org\0",
    "http://a.org\t/", "http://a\t.org/", "http://a.org\n/", "http://a.org\r\nHost: b/", " http://a.org/",
    "http://a.org/ ", "http://a.org/\x7f", "http://a.org/\x01", "http://a.org /", "http:// a.org/",
    "http://a.org/\u00a0", "http://a\u00a0.org/", "http://[::1", "http://::1/", "http://[::1]x/",
    "http://[::1]:x/", "http://[127.0.0.1]/", "http://[::1%25lo]/", "http://[fe80::1%lo]/",
    "http://[v1.a]/", "http://[]/", "http://[::ffff:127.0.0.1.]/", "http://[:::1]/", "http://a]/",
    "http:///a", "http://", "http:///", "http://?a", "http://#a", "http://:80/", "http://./", "http://../",
    "http://.a.org/", "http://a..org/", "http://a.org../", "http://-a.org/", "http://a-.org/",
    "http://a_$.org/", "http://a!.org/", "http://a*.org/", "http://*.org/", "http://a,b.org/",
    "http://a;b.org/", "http://a&b.org/", "http://a=b.org/", "http://a+b.org/", "http://a%20b.org/",
    "http://%61.org/", "http://127.0.0.1%2f/", "http://%31%32%37.0.0.1/", "http://１２７.0.0.1/",
    "http://127。0。0。1/", "http://ⓛocalhost/", "http://a.org:80:80/", "http://a.org:+80/", "http://a.org:-1/",
    "http://a.org:8o/", "http://a.org:８０/", "http://a.org: 80/", "http://a.org:80 /", "http://<a>.org/",
    'http://"a".org/', "http://a`b.org/", "http://a{b}.org/", "http://a|b.org/", "http://a^b.org/",
    "http://" + "a" * 64 + ".org/", "http://" + "a." * 127 + "org/", "http://a.org/" + "x" * 2048,
    "http://exa\u00admple.org/", "http://a\u200b.org/", "http://a\u202e.org/", "http://a\u3002org/",
    "http://\u017f.org/",
    "http://\u212a.org/", "http://faß.de:22/", "http://xn--.org:22/",
]  # fmt: skip
ODD_URLS = [
    *[f"http://{host}/" for host in _NUMBERS],
    *_SCHEMES,
    *[f"http://a.org:{port}/" for port in _PORTS],
    *_WRITTEN,
]


@pytest.mark.parametrize("url", ODD_URLS)
def test_odd_urls_are_refused_before_anything_is_looked_up(url: str) -> None:
    with pytest.raises(ToolExecutionError, match="may not be fetched") as refused:
        parse_url(url)
    assert refused.value.code.value == "exec.tool.access_denied"


@pytest.mark.parametrize(
    "url",
    [
        "http://a.org",
        "https://a.org/b?c=d#e",
        "HTTPS://A.org:8443/",
        "http://a.org./",
        "http://8.8.8.8/",
        "http://[2606:4700:4700::1111]:8080/",
        "http://bücher.example.org/",
        "http://xn--bcher-kva.example.org/",
        "http://a_b.org/",
        "http://a.org/%2e%2e/b@c:d",
        "http://1a.org/",
    ],
)
def test_plain_urls_are_not(url: str) -> None:
    assert parse_url(url).host


@given(st.text(max_size=40))
def test_no_text_gets_another_answer_than_yes_or_no(text: str) -> None:
    for url in (text, f"http://{text}", f"http://a.org{text}"):
        try:
            parsed = parse_url(url)
        except ToolExecutionError:
            continue
        assert parsed.scheme in ("http", "https")
        authority = url.partition("://")[2]
        assert authority.lower().startswith((parsed.host, f"[{parsed.host}]")) or "xn--" in (
            parsed.raw_host.decode()
        )


def test_only_hosts_that_are_allowed() -> None:
    reach = Reach(hosts=frozenset({"a.org", "*.b.org"}))
    for url in ("http://a.org/", "http://A.org./", "http://x.b.org/", "http://x.y.b.org/"):
        assert parse_url(url, reach)
    for url in ("http://x.a.org/", "http://b.org/", "http://xb.org/", "http://a.org.c/"):
        with pytest.raises(ToolExecutionError, match="not one of those allowed"):
            parse_url(url, reach)


def test_a_url_without_a_port_is_at_its_schemes() -> None:
    for scheme, port in (("http", 80), ("https", 443)):
        for other in (80, 443):
            reach = Reach(ports=frozenset({other}))
            if other == port:
                assert parse_url(f"{scheme}://a.org/", reach)
            else:
                with pytest.raises(ToolExecutionError, match=f"port {port} is not one"):
                    parse_url(f"{scheme}://a.org/", reach)


# --- connections ---------------------------------------------------------------------------------


class Names:
    """A resolver that answers from a list, and counts; the last answer stays."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Server:
    """A web server on loopback: what is inside, and must not be reached unasked."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str], bytes] = lambda path: page(b"hello")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            path = first.split(" ")[1]
            self.requests.append((path, headers))
            writer.write(self.answer(path))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def page(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def moved(to: str, status: str = "302 Found") -> bytes:
    return page(b"", f"Location: {to}", status=status)


@asynccontextmanager
async def inside() -> AsyncGenerator[Server]:
    server = Server()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


def get(
    url: str,
    names: Names,
    answer: Callable[[str], bytes] | None = None,
    *,
    private: Sequence[str] = (),
    **how: Any,
) -> tuple[Fetched | Exception, Server]:
    """Fetch `url`, in which PORT stands for the server's; what came of it, and the server."""

    async def main() -> tuple[Fetched | Exception, Server]:
        async with inside() as server:
            if answer is not None:
                server.answer = lambda path: answer(path).replace(b"PORT", b"%d" % server.port)
            reach = Reach(private=frozenset(private), ports=frozenset({server.port, 80, 443}))
            async with guarded_client(reach, True, names) as client:
                try:
                    found = await fetch(
                        client, url.replace("PORT", str(server.port)), reach=reach, **how
                    )
                except (ToolExecutionError, httpx2.HTTPError, httpcore2.ConnectError) as error:
                    return error, server
                return found, server

    return run(main())


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"])
def test_an_inner_address_in_the_url_is_not_connected_to(host: str) -> None:
    names = Names(["8.8.8.8"])
    error, server = get(f"http://{host}:PORT/", names)
    assert isinstance(error, ToolExecutionError)
    assert names.asked == []
    assert server.requests == []


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.1"], ["::1"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["fe80::1%lo"]],
)
def test_a_name_with_any_inner_address_is_not_connected_to(answer: list[str]) -> None:
    names = Names(answer)
    error, server = get("http://a.org:PORT/", names)
    assert isinstance(error, ToolExecutionError)
    assert "not a public address" in str(error) or "interface" in str(error)
    assert server.requests == []
    assert names.asked == ["a.org"]


def test_an_answer_that_changes_is_asked_for_once() -> None:
    # the first answer is what is checked and connected to; the second would lead inside
    names = Names(["127.0.0.1"], ["8.8.8.8"])
    found, server = get("http://a.org:PORT/x", names, private=["a.org"])
    assert isinstance(found, Fetched)
    assert names.asked == ["a.org"]
    assert server.requests[0][1]["host"] == f"a.org:{server.port}"
    names = Names(["8.8.8.8", "10.0.0.1"], ["127.0.0.1"])
    error, server = get("http://a.org:PORT/", names)
    assert isinstance(error, ToolExecutionError)
    assert (names.asked, server.requests) == (["a.org"], [])


def test_every_request_looks_the_name_up_anew_and_checks_what_it_gets() -> None:
    async def main() -> None:
        async with inside() as server:
            names = Names(["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"])
            reach = Reach(private=frozenset({"a.org"}), ports=frozenset({server.port}))
            url = f"http://a.org:{server.port}/"
            async with guarded_client(reach, True, names) as client:
                await fetch(client, url, reach=reach)
                with pytest.raises((ToolExecutionError, httpx2.HTTPError)):
                    await fetch(client, url, reach=reach)  # nobody listens there
                with pytest.raises(ToolExecutionError, match="metadata"):
                    await fetch(client, url, reach=reach)
            assert len(names.asked) == 3
            assert len(server.requests) == 1

    run(main())


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"),
        *("::ffff:169.254.169.254", "::ffff:0:169.254.169.254", "::169.254.169.254"),
        *("64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1"),
        *("2600::5efe:169.254.169.254", "2600::200:5efe:169.254.169.254"),
    ],
)
def test_metadata_stays_closed_where_private_addresses_are_open(address: str) -> None:
    error, _ = get("http://a.org:PORT/", Names([address]), private=["a.org"])
    assert isinstance(error, ToolExecutionError)
    assert "metadata" in str(error)


@pytest.mark.parametrize("answer", [OSError("no such name"), [], ["garbage"]])
def test_a_name_without_an_address_is_told(answer: Any) -> None:
    error, _ = get("http://a.org:PORT/", Names(answer))
    assert isinstance(error, (httpx2.HTTPError, httpcore2.ConnectError))


def test_what_is_public_is_fetched() -> None:
    found, server = get("http://a.org:PORT/x?y", Names(["127.0.0.1"]), private=["a.org"])
    assert isinstance(found, Fetched)
    assert (found.status, found.body, found.cut) == (200, b"hello", False)
    assert server.requests[0][0] == "/x?y"


# --- redirects -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:PORT/in",
        "http://[::1]:PORT/in",
        "http://2130706433:PORT/in",
        "//127.0.0.1:PORT/in",
        "http://b.org:PORT/in",
        "file:///etc/passwd",
        "gopher://a.org/",
        "javascript:alert(1)",
        "http://user@a.org:PORT/in",
        "http://a.org\\@127.0.0.1/in",
        "http://a.org:22/in",
        "//a.org:PORT@127.0.0.1/in",
        "https:127.0.0.1",
        "http:in",
        "/in\\@x",
        "http://169.254.169.254/latest",
    ],
)
@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
def test_a_redirect_is_checked_like_the_first_url(target: str, status: str) -> None:
    class Both(Names):
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            self.asked.append(host)
            return ["127.0.0.1"]

    error, server = get(
        "http://a.org:PORT/", Both([]), lambda path: moved(target, status), private=["a.org"]
    )
    assert isinstance(error, ToolExecutionError)
    assert [path for path, _ in server.requests] == ["/"]


def test_redirects_are_followed_five_times() -> None:
    def answer(path: str) -> bytes:
        number = int(path[1:])
        return page(b"there") if number == 0 else moved(f"/{number - 1}")

    found, server = get("http://a.org:PORT/5", Names(["127.0.0.1"]), answer, private=["a.org"])
    assert isinstance(found, Fetched)
    assert found.body == b"there"
    assert found.url.endswith("/0")
    error, server = get("http://a.org:PORT/6", Names(["127.0.0.1"]), answer, private=["a.org"])
    assert isinstance(error, ToolExecutionError)
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("method", "answer", "paths"),
    [
        ("HEAD", moved("/in"), ["/", "/in"]),
        ("POST", moved("/in"), ["/"]),
        ("POST", moved("/in", "307 T"), ["/"]),
        ("GET", moved("/in", "200 OK"), ["/"]),
        ("GET", moved("/in", "201 Created"), ["/"]),
        ("GET", page(b"", status="302 Found"), ["/"]),
    ],
)
def test_what_is_no_redirect_is_the_answer(method: str, answer: bytes, paths: list[str]) -> None:
    found, server = get(
        "http://a.org:PORT/",
        Names(["127.0.0.1"]),
        lambda path: answer if path == "/" else page(b""),
        private=["a.org"],
        method=method,
    )
    assert isinstance(found, Fetched)
    assert [path for path, _ in server.requests] == paths


def test_credentials_do_not_follow_to_another_origin() -> None:
    def answer(path: str) -> bytes:
        return {
            "/": moved("/same"),
            "/same": moved("http://b.org:PORT/other"),
            "/other": moved("http://a.org:PORT/back"),
        }.get(path, page(b"end"))

    headers = {
        "Authorization": "Bearer x",
        "Cookie": "a=b",
        "X-API-Key": "k",
        "Accept": "text/html",
    }
    found, server = get(
        "http://a.org:PORT/",
        Names(["127.0.0.1"]),
        answer,
        private=["a.org", "b.org"],
        headers=headers,
    )
    assert isinstance(found, Fetched)
    secret = {"authorization", "cookie", "x-api-key"}
    assert [bool(secret & set(sent)) for _, sent in server.requests] == [True, True, False, False]
    assert all(sent["accept"] == "text/html" for _, sent in server.requests)


# --- size, proxies, sockets ----------------------------------------------------------------------


def test_a_body_is_cut_and_bombs_are_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    packed = page(bomb, "Content-Encoding: gzip")
    tracemalloc.start()
    found, _ = get(
        "http://a.org:PORT/",
        Names(["127.0.0.1"]),
        lambda _: packed,
        private=["a.org"],
        max_bytes=1000,
    )
    assert isinstance(found, Fetched)
    assert (len(found.body), found.cut) == (1000, True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000, peak
    whole, _ = get(
        "http://a.org:PORT/",
        Names(["127.0.0.1"]),
        lambda _: page(gzip.compress(b"text"), "Content-Encoding: gzip"),
        private=["a.org"],
    )
    assert isinstance(whole, Fetched)
    assert (whole.body, whole.cut) == (b"text", False)


def test_what_follows_the_end_of_what_was_packed_is_not_read() -> None:
    """zlib would keep it, and it may be endless. Here it never comes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n"
    found, _ = get(
        "http://a.org:PORT/",
        Names(["127.0.0.1"]),
        lambda _: head + gzip.compress(b"text"),
        private=["a.org"],
    )
    assert isinstance(found, Fetched), found
    assert (found.body, found.cut) == (b"text", False)


def bare(data: bytes) -> bytes:
    """Deflate without the header of zlib."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("named", "packed", "body", "cut"),
    [
        ("deflate", zlib.compress(b"text"), b"text", False),
        ("deflate", bare(b"text"), b"text", False),
        ("gzip", gzip.compress(b"te") + gzip.compress(b"xt"), b"text", False),
        ("gzip", gzip.compress(b"text") + b"\0\0", b"text", False),
        ("gzip", gzip.compress(bytes(range(256)))[:100], bytes(range(82)), True),
        ("gzip", b"", b"", False),
    ],
    ids=["zlib", "bare", "in parts", "padded", "cut", "nothing"],
)
def test_how_servers_pack(named: str, packed: bytes, body: bytes, cut: bool) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {named}\r\nConnection: close\r\n\r\n".encode()
    found, _ = get(
        "http://a.org:PORT/", Names(["127.0.0.1"]), lambda _: head + packed, private=["a.org"]
    )
    assert isinstance(found, Fetched), found
    assert (found.body[:82], found.cut) == (body, cut)


@pytest.mark.parametrize("packed", ["br", "zstd", "gzip, gzip", "gzip"])
def test_what_cannot_be_unpacked_is_told(packed: str) -> None:
    answer = page(b"no gzip at all", f"Content-Encoding: {packed}")
    error, _ = get("http://a.org:PORT/", Names(["127.0.0.1"]), lambda _: answer, private=["a.org"])
    assert isinstance(error, ToolExecutionError)


def test_no_proxy_of_the_environment_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    found, _ = get("http://a.org:PORT/", Names(["127.0.0.1"]), private=["a.org"])
    assert isinstance(found, Fetched)


def test_the_real_world_guards_by_itself() -> None:
    async def main() -> None:
        async with inside() as server:
            reach = Reach(ports=frozenset({server.port}))
            async with RealWorld().guarded_http(reach) as client:
                for host in ("127.0.0.1", "localhost"):
                    with pytest.raises(ToolExecutionError, match="not a public address"):
                        await fetch(client, f"http://{host}:{server.port}/", reach=reach)
                with pytest.raises(ToolExecutionError):  # also without `fetch`
                    await client.get(f"http://127.0.0.1:{server.port}/")
            assert server.requests == []

    run(main())


def test_a_simulated_world_judges_addresses_too() -> None:
    async def main(world: SimulatedWorld) -> list[object]:
        out: list[object] = []
        async with world.guarded_http() as client:
            out.append((await fetch(client, "https://a.org/")).body)
            for url in ("http://127.0.0.1/", "http://[::1]/"):
                with pytest.raises(ToolExecutionError):
                    await fetch(client, url)
        return out

    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=b"played"))
    assert simulate(main, transport=transport) == [b"played"]
