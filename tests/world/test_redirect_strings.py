"""What programs read differently is where a redirect slips through: of 240 such strings, each is
refused, or goes where a browser and the standard library read that it goes."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest

from lorimer.core.errors import ToolExecutionError
from lorimer.world.guarded import fetch

BASE = "http://a.org/start"
EVIL = ("evil.org", "127.0.0.1", "[::1]", "2130706433")
SHAPES = [
    "//{e}", "///{e}", "////{e}", "/////{e}", "/\\{e}", "\\/{e}", "\\\\{e}", "\\\\\\\\{e}",
    "/\\/{e}",
    "//\\{e}", "/\\\\{e}", "//{e}/%2f..", "//{e}%2f..", "//{e}%00", "//{e}%0d%0a", "/%09/{e}",
    "/\t/{e}", "\t//{e}", " //{e}", "//{e} ", "/%5c{e}", "/%2f%2f{e}", "/.{e}", "/..//{e}",
    "./\\{e}",
    "http:{e}", "http:/{e}", "http://{e}", "http:///{e}", "http:\\{e}", "http:\\\\{e}", "HTTP://{e}",
    "hTtP:{e}", "https:{e}", "https:/{e}", "https:\\\\{e}", "http:\t//{e}", "ht\ntp://{e}",
    "http://a.org@{e}", "//a.org@{e}", "http://a.org:80@{e}", "http://a.org%40{e}",
    "http://a.org%23@{e}", "http://a.org#@{e}", "http://a.org?@{e}", "http://a.org\\@{e}",
    "http://a.org/@{e}", "http://a.org;@{e}", "http://a.org&@{e}", "http://{e}#a.org",
    "http://{e}?a.org", "http://{e}/a.org", "http://{e}\\a.org", "http://{e}%5ca.org",
    "http://{e};a.org", "http://{e}\u3002a.org", "http://{e}\uff0fa.org", "http://a.org\u2215{e}",
    "//{e}:80#@a.org/", "?next=//{e}",
]  # fmt: skip
STRINGS = [shape.replace("{e}", evil) for shape in SHAPES for evil in EVIL]


def as_a_browser(base: str, target: str) -> str | None:
    """The host that the URL Standard reads from a redirect to `target`; None: a failure. Only
    what matters for the strings here: http is a special scheme, in which `\\` is `/`."""
    target = re.sub("[\t\n\r]", "", target.strip("".join(map(chr, range(0x21)))))
    scheme, mark, rest = target.partition(":")
    if not mark or not re.fullmatch("[a-zA-Z][a-zA-Z0-9+.-]*", scheme):
        scheme, rest = "http", target
        if not re.match(r"[/\\]{2}", rest):
            return urlsplit(base).hostname
    elif scheme.lower() not in ("http", "https"):
        return None
    elif scheme.lower() == "http" and not re.match(r"[/\\]{2}", rest):
        return urlsplit(base).hostname  # of the same scheme as the base: relative to it
    authority = re.split(r"[/\\?#]", rest.lstrip("/\\"), maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    found = re.match(r"\[[^\]]*\]|[^:]*", host)
    return found[0].strip("[]").lower() if found else None


def test_there_are_enough_of_them() -> None:
    assert len(set(STRINGS)) == len(STRINGS) == 240


@pytest.mark.parametrize("target", STRINGS, ids=ascii)
def test_a_redirect_goes_where_every_program_reads_that_it_goes(target: str) -> None:
    asked: list[httpx2.URL] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url)
        if len(asked) == 1:
            return httpx2.Response(302, headers=[(b"location", target.encode())])
        return httpx2.Response(200, content=b"there")

    async def main() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
            await fetch(client, BASE)

    try:
        asyncio.run(main())
    except ToolExecutionError:
        assert len(asked) == 1, "it went somewhere before it was refused"
        return
    _, there = asked
    assert there.host == as_a_browser(BASE, target), there
    assert there.host == urlsplit(urljoin(BASE, target)).hostname, there
    assert there.host == httpx2.URL(str(there)).host
