"""The hosts that sandboxed programs may reach, as a host lists them.

    *                       any public address
    pypi.org                this name, at public addresses
    *.pythonhosted.org      every subdomain
    db.internal:5432        this origin of the host's own, at any address

An entry without a port covers the usual ports of web servers (`PORTS`). One with a port is an
origin that the host configured: it may have any address, even a private one, except that of a
metadata service.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from lorimer.core.errors import ConfigError, ToolExecutionError
from lorimer.core.world import Reach

ANY: Final = "*"

_LISTED: Final = re.compile(r"(\*\.)?(?P<host>\[[^\[\]]+\]|[^\[\]:/?#@]+)(:(?P<port>[0-9]{1,5}))?")


def listed(network: bool | Iterable[str]) -> tuple[str, ...]:
    """The entries of a list of hosts, validated; True: `*`. An entry may contain several, separated
    by commas. Raises ConfigError."""
    if isinstance(network, bool):
        return (ANY,) if network else ()
    texts = [network] if isinstance(network, str) else list(network)
    found: list[str] = []
    for text in texts:
        for entry in text.split(","):
            name = entry.strip().lower()
            if not name:
                raise ConfigError(f"network: an entry of {text!r} is empty", hint=_HINT)
            found.append(name if name == ANY else _entry(name))
            if not found[-1]:
                raise ConfigError(f"network: {entry.strip()!r} is not a host", hint=_HINT)
    return tuple(dict.fromkeys(found))


_HINT: Final = "Write pypi.org, *.pythonhosted.org, localhost:8000, or * for all public hosts."


def _entry(text: str) -> str:
    """The entry with its host as it is compared: ASCII, without a final dot, and IPv6 addresses in
    their shortest form. "": it is not a host."""
    from lorimer.world.guarded import parse_url  # imports httpx2: a tenth of the start-up time

    parts = _LISTED.fullmatch(text)
    if parts is None:
        return ""
    port = int(parts["port"] or 80)
    wild, name = parts[1] or "", parts["host"]
    try:
        url = parse_url(f"http://{name}:{port}/", Reach(ports=frozenset({port})))
    except ToolExecutionError:
        return ""
    # a whole top-level domain, or a part of an address, is a mistake
    if not 0 < port < 65536 or (wild and ("." not in name.rstrip(".") or _numeric(url.host))):
        return ""
    host = url.raw_host.decode("ascii").rstrip(".")
    host = f"[{ip_address(host)}]" if ":" in host else host
    return f"{wild}{host}{parts[3] or ''}"


def _numeric(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdigit()


def reach_of(entries: Iterable[str], host: str, port: int) -> Reach | None:
    """How a program may connect to `host` (lower case, an IPv6 address without brackets); None: no
    entry covers it."""
    from lorimer.world.guarded import named_in

    found: Reach | None = None
    for entry in entries:
        parts = _LISTED.fullmatch(entry)
        if entry == ANY:
            found = found or Reach()
            continue
        if parts is None:
            continue
        name = (parts[1] or "") + parts["host"].strip("[]")
        if not named_in(host, (name,)):
            continue
        if parts["port"] is None:
            found = found or Reach()
        elif int(parts["port"]) == port:
            return Reach(private=frozenset({name}), ports=frozenset({port}))
    return found
