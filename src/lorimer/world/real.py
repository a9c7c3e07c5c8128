"""The real world: the only place where Lorimer accesses the operating system."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from os import environ, urandom
from pathlib import Path
from random import Random
from time import monotonic as monotonic_clock
from time import time as wall_clock
from typing import TYPE_CHECKING, Final

from lorimer.core.errors import ConfigError, ExecutorErrorCode
from lorimer.core.world import Finished, Isolation, ProcessLimits, Reach, Sandbox, Sink

if TYPE_CHECKING:
    import socket
    import ssl

    import httpx2

    from lorimer.world.sandbox.levels import Levels

ID_BYTES: Final = 20
# 256 is a multiple of 32, so every letter is equally likely.
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz234567" * 8


def spell_id(prefix: str, raw: bytes) -> str:
    """`prefix`, `_` and one base32 character (a-z, 2-7) for each byte of `raw`."""
    return f"{prefix}_{raw.translate(_LETTERS).decode()}"


class RealWorld:
    """`World` with the system's own clock, entropy, network and processes.

    `proxies_from_environment` makes HTTP clients use HTTP_PROXY and related variables, and
    `.netrc`. It is off by default: a proxy resolves names itself, so no check of ours on the
    address would be effective, and `.netrc` adds credentials unasked. SSL_CERT_FILE and
    SSL_CERT_DIR are always used: they only determine whom to trust.
    """

    __slots__ = ("_levels", "_proxies")

    def __init__(self, *, proxies_from_environment: bool = False) -> None:
        self._proxies = proxies_from_environment
        self._levels: Levels | None = None

    # The clocks are read at every stage of every run: the system's own functions, without wrappers.
    time = staticmethod(wall_clock)
    monotonic = staticmethod(monotonic_clock)

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less yields to other tasks once."""
        await asyncio.sleep(seconds)

    def new_id(self, prefix: str) -> str:
        """`prefix`, `_` and 20 characters of a-z and 2-7: 100 bits, unguessable."""
        return spell_id(prefix, urandom(ID_BYTES))

    def dice(self, seed: int | str | None = None) -> Random:
        """Pseudo-random numbers from `seed`, or from fresh entropy. Never for secrets."""
        return Random(secrets.randbits(128) if seed is None else seed)

    def http(self) -> httpx2.AsyncClient:
        """A new client without timeouts and redirects; the caller closes it.

        All clients of a process share one TLS context, created with the first: it takes tens of
        milliseconds, a client without it a twentieth of one. Raises ConfigError
        `exec.api.no_client` for a proxy of the environment that cannot be used.
        """
        import httpx2  # a tenth of the start-up time: only when needed

        tls = trust()
        try:
            return httpx2.AsyncClient(
                verify=tls,
                timeout=None,
                trust_env=self._proxies,
                follow_redirects=False,
                limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
            )
        except (ImportError, ValueError, httpx2.InvalidURL) as error:
            why = "SOCKS needs a package" if isinstance(error, ImportError) else error
            raise ConfigError(
                f"the proxy of the environment cannot be used: {why}",
                code=ExecutorErrorCode.EXEC_API_NO_CLIENT,
                hint="Look at HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; for socks5:// run "
                "pip install 'httpx2[socks]'.",
            ) from error

    def guarded_http(self, reach: Reach = Reach()) -> httpx2.AsyncClient:
        """A client that connects only to checked addresses, and ignores proxies."""
        from lorimer.world.guarded import guarded_client  # as above

        return guarded_client(reach, trust())

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes | AsyncIterator[bytes] | socket.socket = b"",
        limits: ProcessLimits = ProcessLimits(),
        sink: Sink | None = None,
    ) -> Finished:
        """Run a program to its end; see `lorimer.world.spawn.run_process`."""
        from lorimer.world.spawn import run_process  # as above

        isolation = await self.isolation(limits.sandbox) if limits.sandbox is not None else None
        return await run_process(
            argv, cwd=cwd, env=env, stdin=stdin, limits=limits, isolation=isolation, sink=sink
        )

    async def isolation(self, sandbox: Sandbox) -> Isolation:
        """The level of isolation that is possible here. Tests it the first time, which takes some
        hundredths of a second. Raises `exec.sandbox.missing`."""
        from lorimer.world.sandbox.levels import Levels  # as above

        if self._levels is None:
            self._levels = Levels()
        return await self._levels.choose(sandbox)

    def outside(self, what: str) -> AbstractContextManager[None]:
        """Does nothing: real time passes for everybody."""
        return nullcontext()


def trust() -> ssl.SSLContext:
    """The certificates that the worlds of this process trust, as of the first use; read again only
    if SSL_CERT_FILE or SSL_CERT_DIR change."""
    return _trusting(environ.get("SSL_CERT_FILE", ""), environ.get("SSL_CERT_DIR", ""))


@lru_cache(maxsize=1)
def _trusting(file: str, folder: str) -> ssl.SSLContext:
    import httpx2  # as above

    return httpx2.create_ssl_context()
