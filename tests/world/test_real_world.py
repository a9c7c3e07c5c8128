"""Clock, ids, dice and HTTP clients of the real world."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.core.world import World
from lorimer.world import RealWorld


def test_it_is_a_world() -> None:
    world: World = RealWorld()
    assert abs(world.time() - time.time()) < 5
    assert world.monotonic() <= world.monotonic()
    with world.outside("anything"):
        pass


def test_sleep_takes_real_time() -> None:
    world = RealWorld()
    began = world.monotonic()
    asyncio.run(world.sleep(0.05))
    assert 0.045 <= world.monotonic() - began < 1


def test_ids_are_short_words_and_never_the_same() -> None:
    world = RealWorld()
    ids = [world.new_id("run") for _ in range(2000)]
    assert all(re.fullmatch(r"run_[a-z2-7]{20}", one) for one in ids)
    assert len(set(ids)) == 2000
    assert {letter for one in ids for letter in one[4:]} == set("abcdefghijklmnopqrstuvwxyz234567")


def test_dice_repeat_with_a_seed_and_only_then() -> None:
    world = RealWorld()
    assert world.dice(7).random() == world.dice(7).random()
    assert world.dice("seven").random() == RealWorld().dice("seven").random()
    assert world.dice().random() != world.dice().random()


def test_clients_have_no_time_outs_and_follow_nothing() -> None:
    world = RealWorld()

    async def main() -> None:
        async with world.http() as client:
            assert client.timeout == httpx2.Timeout(None)
            assert not client.follow_redirects
            assert not client.trust_env

    asyncio.run(main())


def test_clients_share_what_is_dear_to_make_until_others_are_to_be_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = 0
    make = httpx2.create_ssl_context

    def counted() -> object:
        nonlocal made
        made += 1
        return make()

    monkeypatch.setattr(httpx2, "create_ssl_context", counted)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    for folder in ("one", "other"):  # whatever was trusted before this test
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / folder))

        async def main(world: RealWorld) -> None:
            async with world.http(), world.http(), world.guarded_http():
                pass

        made = 0
        for _ in range(2):
            asyncio.run(main(RealWorld()))
        assert made == 1


async def with_loopback_server(use: Callable[[str], Awaitable[None]]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        await use(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


def test_proxies_of_the_environment_are_obeyed_only_if_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")

    async def ask(url: str) -> None:
        async with RealWorld().http() as direct:
            assert (await direct.get(url)).text == "hi"
        async with RealWorld(proxies_from_environment=True).http() as through_nobody:
            with pytest.raises(httpx2.ConnectError):
                await through_nobody.get(url)

    asyncio.run(with_loopback_server(ask))


@pytest.mark.parametrize(
    "proxy", ["http://user:canary-q7@host:port/", "ftp://user:canary-q7@a.org"]
)
def test_a_proxy_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigError, match="proxy of the environment") as told:
        RealWorld(proxies_from_environment=True).http()
    assert told.value.code is ExecutorErrorCode.EXEC_API_NO_CLIENT
    assert "canary" not in str(told.value)
