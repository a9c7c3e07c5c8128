"""The hash chain of an audit, which reveals tampering.

Each record's hash covers the hash of the record before it, its number and its body (canonical
JSON), and a head counts the records. A record that is changed, removed, swapped or added does not
fit its neighbours; records missing at the end do not fit the head. With a key the hashes are HMACs:
anybody who can write the file but does not have the key cannot forge them. Without one they reveal
damage and careless edits, but not somebody who recomputes all of them. A log that is restored as a
whole to an earlier state is consistent: to detect that, keep a head elsewhere, and verify against
it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from types import NoneType
from typing import Final

from lorimer.core.arguments import is_a, wrong
from lorimer.core.errors import ConfigError, StoreFailed
from lorimer.core.record import record

START: Final = b""
"""Stands for the hash of the record before the first."""
LONGEST_HASH: Final = 255
"""Bytes. Ours have 32; the one in the file may have been changed."""
SHORTEST_KEY: Final = 16
"""Minimum bytes of a key."""


@record
class Row:
    """A stored record."""

    seq: int
    """From 1; never reused."""
    body: bytes
    hash: bytes


@record
class Head:
    """Beginning and end of the records; sealed."""

    count: int = 0
    """How many there have ever been: the number of the last one."""
    hash: bytes = START
    """Hash of the last one."""
    purged: int = 0
    """How many of the first ones were removed."""
    purged_hash: bytes = START
    """Hash of the last one removed."""
    seal: bytes = b""

    def told(self) -> str:
        """A line `count:hash` to keep elsewhere, for `verify`."""
        return f"{self.count}:{self.hash.hex()}"


@record
class Verdict:
    """The findings of `verify`."""

    records: int
    """Number of records that are there and valid, counted from the first."""
    bad: int | None = None
    """The first record that is invalid or missing; 0: not a record, but the file around them; None:
    all is as it was written."""
    what: str = ""

    @property
    def ok(self) -> bool:
        """Whether all is as it was written."""
        return self.bad is None


class Sealer:
    """Computes the hashes. `key`: at least 16 bytes, stored separately from the log; None: there is
    none. Raises ConfigError for a shorter one."""

    def __init__(self, key: bytes | None = None) -> None:
        if not is_a(key, bytes, NoneType):
            raise wrong("key", key, "bytes", 'os.environ["AUDIT_KEY"].encode()')
        if key is not None and len(key) < SHORTEST_KEY:
            raise ConfigError(f"the key of an audit has at least {SHORTEST_KEY} bytes")
        self._key = key

    def row(self, before: bytes, seq: int, body: bytes) -> Row:
        """The record with that number and body, after the one with the hash `before`."""
        return Row(seq, body, self._over(b"row", before, seq, body))

    def head(self, last: Row, before: Head, purged: Row | None = None) -> Head:
        """The head after `last` was added, and records up to `purged` were removed."""
        gone, gone_hash = before.purged, before.purged_hash
        if purged is not None:
            gone, gone_hash = purged.seq, purged.hash
        made = Head(last.seq, last.hash, gone, gone_hash)
        return replace(made, seal=self._seal(made))

    def fits(self, head: Head) -> bool:
        """Whether that head was sealed with this key."""
        if len(head.hash) > LONGEST_HASH:
            return False
        return hmac.compare_digest(self._seal(head), head.seal)

    def _seal(self, head: Head) -> bytes:
        purged = head.purged.to_bytes(8, "big", signed=True) + head.purged_hash
        return self._over(b"head", head.hash, head.count, purged)

    def _over(self, what: bytes, before: bytes, number: int, rest: bytes) -> bytes:
        # each part except the last has a fixed length, or starts with it
        message = b"%b%c%b%b%b" % (
            what,
            len(before),
            before,
            number.to_bytes(8, "big", signed=True),
            rest,
        )
        if self._key is None:
            return sha256(message).digest()
        return hmac.digest(self._key, message, "sha256")


def parse_head(told: str) -> tuple[int, bytes]:
    """Parse a line from `Head.told` into count and hash. Raises ConfigError for any other line."""
    count, _, digest = told.strip().partition(":")
    try:
        return int(count), bytes.fromhex(digest)
    except ValueError:
        raise ConfigError(f"{told!r} is not a head of an audit, which reads count:hash") from None


def verify(rows: Iterable[Row], head: Head | None, sealer: Sealer, known: str = "") -> Verdict:
    """Check that the records are those that were written.

    rows: all of them, ordered by number. head: None for a log that was never written to.
    known: a head that was kept elsewhere; the log has to continue from it. If that record was
    purged since, it cannot be compared.
    """
    at, expected = parse_head(known) if known else (0, START)
    if head is not None and not sealer.fits(head):
        return Verdict(0, 0, "the head was changed, or made with another key")
    lost = head is None
    head = head or Head()
    seq, last = head.purged, head.purged_hash
    try:
        for row in rows:
            if lost:
                return Verdict(0, 0, "the head is missing")
            if what := _fault(row, seq, last, head, sealer):
                bad = row.seq if row.seq <= seq else seq + 1
                return Verdict(seq - head.purged, bad, f"record {bad} {what}")
            if row.seq == at and row.hash != expected:
                return Verdict(seq - head.purged, at, f"record {at} is not the one that was known")
            seq, last = row.seq, row.hash
    except StoreFailed as error:
        return Verdict(seq - head.purged, seq + 1, f"record {seq + 1} cannot be read: {error}")
    fitting = seq - head.purged
    if seq < max(head.count, at):
        return Verdict(fitting, seq + 1, f"record {seq + 1} is missing")
    if last != head.hash:
        return Verdict(fitting, seq, f"record {seq} is not the one that the head counts")
    return Verdict(fitting)


def _fault(row: Row, seq: int, last: bytes, head: Head, sealer: Sealer) -> str:
    """What is wrong with the row after number `seq`, which has the hash `last`; "": nothing."""
    if row.seq <= seq:
        return "was added"
    if row.seq != seq + 1:
        return "is missing"
    if not hmac.compare_digest(sealer.row(last, row.seq, row.body).hash, row.hash):
        return "was changed, or is another"
    return "was added, or the head was put back" if row.seq > head.count else ""
