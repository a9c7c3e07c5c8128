"""The way out of a sandbox: a proxy that lets listed hosts through, and is the only way at L2."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lorimer.core.errors import ConfigError
from lorimer.core.world import Finished, Level
from lorimer.world.hosts import listed, reach_of
from lorimer.world.proxy import MAX_REFUSED, Proxy
from tests.world.levels import needs, run_at

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are for Linux")


# --- lists of hosts


def test_what_a_list_may_say() -> None:
    assert listed(False) == listed(()) == ()
    assert listed(True) == ("*",)
    assert listed(["PyPI.org, *.pythonhosted.org", "pypi.org", "localhost:8000", "[::1]:9"]) == (
        "pypi.org", "*.pythonhosted.org", "localhost:8000", "[::1]:9",
    )  # fmt: skip
    assert listed("10.0.0.1:5432,*.co.uk") == ("10.0.0.1:5432", "*.co.uk")
    assert listed("pypi.org.,*.a.org.:81,bücher.example,[2606:4700:0:0::1111]:8000") == (
        *("pypi.org", "*.a.org:81", "xn--bcher-kva.example", "[2606:4700::1111]:8000"),
    )


@pytest.mark.parametrize(
    "entry",
    ["", "a,,b", "https://a.org", "a.org/x", "*.org", "a.*.org", "*a.org", "user@a.org", "a org",
     "a.org:0", "a.org:65536", "a.org:x", "**", "*.1.2.3.4", "0x7f.1", "127.1", "*:443", "::1",
     "a.org\0.b.org", "[::1", "*.[::1]"],
)  # fmt: skip
def test_what_it_may_not(entry: str) -> None:
    with pytest.raises(ConfigError, match="network: "):
        listed([entry])


def test_an_entry_with_a_port_is_an_origin_of_the_hosts_own() -> None:
    entries = ("a.org", "*.b.org", "c.org:5432")
    for host, port in (("a.org", 443), ("x.b.org", 80), ("x.y.b.org", 8080)):
        reach = reach_of(entries, host, port)
        assert reach is not None and not reach.private and port in reach.ports
    own = reach_of(entries, "c.org", 5432)
    assert own is not None and own.private == {"c.org"} and own.ports == {5432}
    for host, port in (("b.org", 443), ("xa.org", 443), ("c.org", 443), ("a.org.evil.org", 80)):
        assert reach_of(entries, host, port) is None


# --- the proxy by itself, with names of our own


class Names:
    """A resolver: each name has its answers, one after the other; the last stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        known = self._answers.get(host)
        if not known:
            raise OSError("no such name")
        return known.pop(0) if len(known) > 1 else known[0]


@asynccontextmanager
async def inside(
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ninside",
) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """A web server on loopback, and what it was sent, a piece a connection."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65_536))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


@asynccontextmanager
async def proxy(
    hosts: Sequence[str], names: Names, password: str = ""
) -> AsyncGenerator[tuple[Proxy, Callable[[bytes], asyncio.Future[bytes]]]]:
    door = socket.create_server(("127.0.0.1", 0))
    served = Proxy(hosts, password=password, resolve=names)
    task = asyncio.ensure_future(served.serve(door))

    async def ask(sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*door.getsockname())
        try:
            writer.write(sent)
            writer.write_eof()
            return await reader.read(-1) if b"CONNECT" not in sent else await _some(reader)
        finally:
            writer.close()

    try:
        yield served, lambda sent: asyncio.ensure_future(ask(sent))
    finally:
        task.cancel()
        await asyncio.wait([task])
        door.close()
    assert task.cancelled()


async def _some(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read(65_536)


def get(url: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {url} HTTP/1.1", "Host: a.org", *headers, "", ""]).encode()


def tunnel(authority: str) -> bytes:
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()


def test_listed_hosts_are_reached_and_others_are_not() -> None:
    async def main() -> None:
        async with inside() as (port, heard):
            names = Names(db_internal=[["127.0.0.1"]], a_org=[["127.0.0.1"]])
            async with proxy([f"db.internal:{port}", "a.org"], names) as (served, ask):
                answer = await ask(get(f"http://db.internal:{port}/x?y", "Cookie: c"))
                assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"inside")
                assert heard.pop().startswith(b"GET /x?y HTTP/1.1\r\nhost: db.internal:%d" % port)
                answer = await ask(tunnel(f"db.internal:{port}"))
                assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"
                for sent in (
                    tunnel("evil.org:443"),
                    tunnel(f"127.0.0.1:{port}"),
                    tunnel("db.internal:443"),
                    tunnel("a.org:80"),  # listed, but its address is private
                    tunnel("a.org:22"),
                    get("http://169.254.169.254/latest"),
                    tunnel("db.internal@evil.org:443"),
                    tunnel("db.internal\\.evil.org:443"),
                ):
                    assert (await ask(sent)).startswith(b"HTTP/1.1 403"), sent
                assert any("a.org:80" in told and "not a public" in told for told in served.refused)
                assert any(told.startswith("a.org:22: it would have to") for told in served.refused)
            assert "evil.org" not in names.asked

    asyncio.run(main())


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    async def main() -> None:
        async with inside() as (port, heard):
            # the second answer would lead inside; it is never asked for
            names = Names(a_org=[["203.0.113.1", "127.0.0.1"], ["127.0.0.1"]])
            async with proxy(["*"], names) as (_, ask):
                assert (await ask(tunnel("a.org:8080"))).startswith(b"HTTP/1.1 403")
            assert names.asked == ["a.org"]
            names = Names(a_org=[["127.0.0.1"], ["127.0.0.2"]])
            async with proxy([f"a.org:{port}"], names) as (_, ask):
                assert b"inside" in await ask(get(f"http://a.org:{port}/"))
            assert (names.asked, len(heard)) == (["a.org"], 1)
            names = Names(a_org=[["169.254.169.254"]])
            async with proxy([f"a.org:{port}"], names) as (served, ask):
                assert (await ask(tunnel(f"a.org:{port}"))).startswith(b"HTTP/1.1 403")
                assert "metadata" in served.refused[0]

    asyncio.run(main())


def test_the_request_names_the_host_not_its_headers() -> None:
    async def main() -> None:
        async with inside() as (port, heard):
            names = Names(a_org=[["127.0.0.1"]])
            async with proxy([f"a.org:{port}"], names) as (_, ask):
                await ask(get(f"http://a.org:{port}/", "Host: evil.org", "Proxy-Authorization: x"))
                await ask(
                    get(f"http://a.org:{port}/", "Host: evil.org").replace(b"a.org\r", b"b\r")
                )
                # a second request on the connection goes nowhere
                twice = get(f"http://a.org:{port}/1") + get("http://evil.org/2")
                assert (await ask(twice)).count(b"HTTP/1.1") == 1
                # nor does one that only some servers see: those that count bytes
                hidden = b"0\r\n\r\n" + get("http://evil.org/3")
                headers = ("Transfer-Encoding: chunked", "Content-Length: 3")
                answer = await ask(get(f"http://a.org:{port}/", *headers) + hidden)
                assert answer.startswith(b"HTTP/1.1 400"), answer
            for sent in heard:
                assert b"evil" not in sent and b"authorization" not in sent.lower(), sent
                assert b"connection: close" in sent.lower()

    asyncio.run(main())


def test_nonsense_is_answered_and_nothing_breaks() -> None:
    async def main() -> None:
        async with inside() as (port, _):
            names = Names(a_org=[["127.0.0.1"]])
            async with proxy([f"a.org:{port}"], names) as (served, ask):
                for sent in (
                    b"\0\0\0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"x" * 100_000,
                    b"GET http://a.org/ HTTP/1.1\r\n h: v\r\n\r\n", get("ftp://a.org/"),
                    get("http:"), tunnel(f"a.org:{port}/x"), tunnel(f"a.org?:{port}"),
                    get("https://a.org/"), tunnel("a.org"), tunnel(""), tunnel("[::1"), tunnel(":"),
                ):  # fmt: skip
                    answer = await ask(sent)
                    assert answer == b"" or answer.startswith(b"HTTP/1.1 40"), (sent[:40], answer)
                for number in range(2 * MAX_REFUSED):
                    await ask(tunnel(f"n{number}.org:443"))
                assert len(served.refused) <= MAX_REFUSED
                assert b"inside" in await ask(get(f"http://a.org:{port}/"))
            async with proxy([f"gone.org:{port}"], names) as (_, ask):
                assert (await ask(tunnel(f"gone.org:{port}"))).startswith(b"HTTP/1.1 502")

    asyncio.run(main())


TARGETS = [
    b"http://", b"https://", b"a.org", b"[::1]", b"127.0.0.1", b":", b"/", b":80", b":80", b"@",
    b"http://a.org:80", b"http://a.org:80/?", b"http://a.org:80", b"a.org:80", b"a.org:80", b"?",
    b":99999999999999999999", b"#", b"%00", b"\\", b"\t", b"\xff\xfe", b"x" * 300, b"\0", b"*",
    b"\xe2\x84\xaa.org", b"..", b"a.org.", b"xn--", b"HTTP://", b";", b"&", b"http://a.org",
]  # fmt: skip
HEADERS = [
    b"Host: a.org", b"Host:", b"Content-Length: 5", b"Content-Length: -1", b"Connection: upgrade",
    b"Transfer-Encoding: chunked", b"Expect: 100-continue", b" folded", b"no colon", b"\0: \0",
    b"Proxy-Authorization: Basic \xff", b"TE: trailers", b"Host: a.org", b"Host: a.org",
]  # fmt: skip
BODIES = [
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"x\r\n",
    b"GET http://evil.org/ HTTP/1.1\r\n\r\n",
]


def test_no_bytes_end_the_proxy() -> None:
    dice = random.Random(7)

    async def main() -> None:
        async with inside() as (port, _):
            names = Names(a_org=[["127.0.0.1"]])
            async with proxy([f"a.org:{port}", "*"], names) as (_, ask):
                for _ in range(500):
                    target = b"".join(dice.choices(TARGETS, k=dice.randrange(1, 5)))
                    head = dice.choice([b"GET ", b"CONNECT ", b"POST "]) + target
                    headers = dice.choices(HEADERS, k=dice.randrange(1, 4))
                    sent = b"\r\n".join([head + b" HTTP/1.1", *headers, b"", dice.choice(BODIES)])
                    answer = await ask(sent.replace(b":80", b":%d" % port))
                    told.add(answer[9:12])
                    assert answer == b"" or answer.startswith(b"HTTP/1.1 "), (sent, answer)
                assert b"inside" in await ask(get(f"http://a.org:{port}/"))

    told: set[bytes] = set()
    asyncio.run(main())
    assert told >= {b"", b"200", b"400", b"403"}


def test_with_a_password_only_who_has_it_is_served() -> None:
    async def main() -> None:
        async with inside() as (port, heard):
            names = Names(a_org=[["127.0.0.1"]])
            async with proxy([f"a.org:{port}"], names, "open") as (_, ask):
                right, wrong = "bG9yaW1lcjpvcGVu", "bG9yaW1lcjpzaHV0"
                for headers in (
                    [],
                    [f"Proxy-Authorization: Basic {wrong}"],
                    ["Proxy-Authorization: é"],
                ):
                    answer = await ask(get(f"http://a.org:{port}/", *headers))
                    assert answer.startswith((b"HTTP/1.1 407", b"HTTP/1.1 400")) or not answer
                assert heard == []
                with_it = get(f"http://a.org:{port}/", f"Proxy-Authorization: Basic {right}")
                assert b"inside" in await ask(with_it)

    asyncio.run(main())


# --- real programs in real sandboxes

TRY = """
import os, socket, sys, urllib.request
def say(name, work):
    try:
        print(name, work())
    except Exception as error:
        print(name, "no", getattr(error, "code", type(error).__name__))
def plain():
    return urllib.request.urlopen(sys.argv[1], timeout=10).read().decode()
def direct():
    host, port = sys.argv[1].split("/")[2].split(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    return "reached"
def other():
    return urllib.request.urlopen("http://evil.example/", timeout=10).read()
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.connect(("127.0.0.1", int(sys.argv[2])))
        end.send(b"x")
    return "sent"
def mptcp():
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    return "made"
def own():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
    return "reached"
for work in (plain, direct, other, udp, mptcp, own):
    say(work.__name__, work)
"""


def attempt(level: Level, cwd: Path) -> tuple[dict[str, str], Finished, list[bytes]]:
    async def main() -> tuple[Finished, list[bytes]]:
        async with inside() as (port, heard):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard_udp:
                heard_udp.bind(("127.0.0.1", 0))
                heard_udp.setblocking(False)
                (cwd / "try.py").write_text(TRY)
                url = f"http://127.0.0.1:{port}/"
                argv = [sys.executable, "-I", "try.py", url, str(heard_udp.getsockname()[1])]
                done = await run_at(level, argv, cwd, hosts=[f"127.0.0.1:{port}"])
                try:
                    heard.append(heard_udp.recv(10))
                except BlockingIOError:
                    pass
                return done, heard

    needs(level)
    before = open_files()
    done, heard = asyncio.run(main())
    assert open_files() <= before
    lines = [line.partition(" ") for line in done.output.decode().splitlines()]
    return {name: rest for name, _, rest in lines}, done, heard


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_at_l2_the_proxy_is_the_only_way_out(tmp_path: Path) -> None:
    found, done, heard = attempt("L2", tmp_path)
    assert found["plain"] == "inside", done.output
    assert found["direct"].startswith("no")
    assert found["other"] == "no 403"
    assert found["own"] == "reached"
    assert len(heard) == 1  # also of what was sent by UDP
    assert [told.partition(":")[0] for told in done.refused] == ["evil.example"]


def test_at_l1_tcp_goes_to_the_proxys_port_only(tmp_path: Path) -> None:
    from lorimer.core.world import Sandbox
    from lorimer.world.sandbox import landlock
    from lorimer.world.sandbox.levels import gaps

    if landlock.abi() < landlock.TCP:
        pytest.skip("this kernel's Landlock does not hold TCP")
    found, done, heard = attempt("L1", tmp_path)
    assert found["plain"] == "inside", done.output
    assert found["direct"].startswith("no")
    assert found["other"] == "no 403"
    assert found["udp"].startswith("no") and found["mptcp"].startswith("no")
    assert len(heard) == 1
    assert any("one port" in gap for gap in gaps("L1", Sandbox(hosts=("a.org",))))


def test_at_l0_the_proxy_is_there_and_the_gap_is_told(tmp_path: Path) -> None:
    from lorimer.core.world import Sandbox
    from lorimer.world.sandbox.levels import gaps

    found, _, _ = attempt("L0", tmp_path)
    assert (found["plain"], found["direct"], found["other"]) == ("inside", "reached", "no 403")
    assert "the list of hosts is not enforced" in gaps("L0", Sandbox(hosts=("a.org",)))


def test_a_relay_inside_changes_nothing(tmp_path: Path) -> None:
    relay = """
import socket, threading
def serve(server):
    while True:
        one, _ = server.accept()
        sent = one.recv(65536)
        other = socket.create_connection(("127.0.0.1", 3128))
        other.send(sent)
        one.sendall(other.recv(65536))
        one.close()
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=[server], daemon=True).start()
with socket.create_connection(server.getsockname()) as client:
    client.send(b"CONNECT evil.example:443 HTTP/1.1\\r\\nHost: a.org:443\\r\\n\\r\\n")
    print(client.recv(100).split()[1].decode())
"""
    needs("L2")
    argv = [sys.executable, "-I", "-c", relay]
    done = asyncio.run(run_at("L2", argv, tmp_path, hosts=["a.org:443"]))
    assert done.output == b"403\n"


def test_a_program_that_is_killed_in_mid_transfer_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nbegin")
            await reader.read()
            gone.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            before = asyncio.all_tasks()
            script = f"exec curl -sN http://127.0.0.1:{port}/"
            done = await run_at(
                "L2", ["bash", "-c", script], tmp_path, hosts=[f"127.0.0.1:{port}"], timeout_s=1.5
            )
            assert done.timed_out
            assert asyncio.all_tasks() - before <= {asyncio.current_task(), *_of_servers()}
            await asyncio.wait_for(gone.wait(), 5)

    def _of_servers() -> set[asyncio.Task[object]]:
        return {task for task in asyncio.all_tasks() if "serve" in repr(task.get_coro())}

    needs("L2")
    before = open_files()
    asyncio.run(main())
    assert open_files() <= before


@pytest.mark.parametrize("level", ["L1", "L2"])
def test_curl_finds_the_proxy_and_is_told_why_it_is_refused(level: Level, tmp_path: Path) -> None:
    async def main() -> Finished:
        async with inside() as (port, _):
            script = f"curl -s http://127.0.0.1:{port}/; curl -s http://evil.example/ >&2"
            return await run_at(
                level, ["bash", "-c", script], tmp_path, hosts=[f"127.0.0.1:{port}"]
            )

    needs(level)
    done = asyncio.run(main())
    assert done.output.startswith(b"inside")
    assert b"lorimer: evil.example:80: not one of the hosts allowed" in done.output


@pytest.mark.parametrize("way", ["plain", "tunnel"])
def test_large_bodies_pass_whole_in_both_directions(way: str, tmp_path: Path) -> None:
    sent = os.urandom(1_500_000)
    (tmp_path / "sent").write_bytes(sent)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if b"expect: 100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body)
        await writer.drain()
        writer.close()

    async def main() -> Finished:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            option = "-p" if way == "tunnel" else "-H X-Y:z"
            script = f"curl -s {option} --data-binary @sent -o got http://{place}/"
            return await run_at("L2", ["bash", "-c", script], tmp_path, hosts=[place])

    needs("L2")
    done = asyncio.run(main())
    assert done.returncode == 0, done.output
    assert (tmp_path / "got").read_bytes() == sent


def test_a_program_that_does_not_start_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        for level in ("L2", "L0"):
            with pytest.raises(OSError, match="no-such-program"):
                await run_at(level, ["./no-such-program"], tmp_path, hosts=["a.org"])

    needs("L2")
    before = open_files()
    asyncio.run(main())
    assert open_files() <= before
