"""Which addresses are public: where a model, a page or a redirect may make us connect.

Only the address of the connection counts, never the spelling of a name. Sources: the IANA
special-purpose registries (RFC 6890), RFC 4291, 5214 (ISATAP), 6052 (NAT64), 3056 (6to4), 4380
(Teredo), and the cloud vendors' documentation for their metadata services.
"""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_METADATA: Final = frozenset(
    map(ip_address, ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"))
)
"""Services that give credentials to any client inside a cloud, some of them at public addresses."""

_CLOSED: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",  # unspecified, loopback, and the deprecated form of IPv4 addresses
        "64:ff9b:1::/48",  # local NAT64
        "100::/64",  # discard
        "100:0:0:1::/64",
        "2001::/32",  # Teredo: embeds two IPv4 addresses, and nothing public is there
        "2001:1::/32",
        "2001:2::/48",  # benchmarks
        "2001:3::/32",
        "2001:4:112::/48",
        "2001:10::/28",  # ORCHID
        "2001:20::/28",
        "2001:30::/28",
        "2001:db8::/32",
        "2620:4f:8000::/48",
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
_GLOBAL: Final = IPv6Network("2000::/3")


def is_metadata(address: Address) -> bool:
    """Whether it is the metadata service of a cloud, in any notation."""
    return any(form in _METADATA for form in _forms(address))


def refusal(address: Address) -> str:
    """Why connections to it are forbidden; "": it is public."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "it is bound to one network interface"
    if is_metadata(address):
        return "it is a cloud's metadata service"
    forms = _forms(address)
    if any(form in network for form in forms for network in _CLOSED):
        return "it is not a public address"
    if isinstance(address, IPv6Address) and forms == [address] and address not in _GLOBAL:
        return "it is not a public address"
    return ""


def _forms(address: Address) -> list[Address]:
    """The address, and the IPv4 address embedded in it."""
    if isinstance(address, IPv4Address):
        return [address]
    value = int(address)
    low = IPv4Address(value & 0xFFFFFFFF)
    if any(address in net for net in (_MAPPED, _TRANSLATED, _NAT64)):
        return [low] if address not in _NAT64 else [address, low]
    if address in _COMPATIBLE:
        return [address, low]
    if address in _SIX_TO_FOUR:
        return [address, IPv4Address((value >> 80) & 0xFFFFFFFF)]
    if (value >> 32) & 0xFFFFFFFF in _ISATAP:
        return [address, low]
    return [address]
