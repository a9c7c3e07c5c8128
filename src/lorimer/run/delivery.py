"""Where the answers of runs go: a chat, a mailbox, a file; by default nowhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol, TextIO

from lorimer.core.arguments import check_texts, is_a, wrong
from lorimer.core.errors import LorimerError
from lorimer.core.record import record
from lorimer.core.redaction import logger

_log = logger("lorimer.run")


@record
class Target:
    """Where the answer of one run goes, in the host's own terms."""

    kind: str
    """Such as `channel`, `mail`."""
    id: str
    """"": nowhere."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a field that is not text."""
        check_texts("Target", kind=self.kind, id=self.id)


@record
class Artifact:
    """A file that accompanies an answer."""

    name: str
    mime: str
    data: bytes

    def __post_init__(self) -> None:
        """Raises ConfigError for a field of another type."""
        check_texts("Artifact", name=self.name, mime=self.mime)
        if not is_a(self.data, bytes):
            raise wrong("Artifact.data", self.data, "bytes", 'Artifact("a.txt", "text/plain", b"")')


def artifacts_of(what: str, given: object, warnings: list[str]) -> list[Artifact]:
    """Files from code of the host; anything else is reported and left out."""
    if given is None:
        return []
    found: list[object] = list(given) if isinstance(given, Sequence) else [given]  # pyright: ignore[reportUnknownArgumentType]
    files = [each for each in found if isinstance(each, Artifact)]
    if len(files) < len(found):
        warnings.append(f"{what} gave {given!r}, which are not all Artifacts")
    return files


class Delivery(Protocol):
    """Posts answers and errors. May be called by many runs at once, and twice for one run that was
    interrupted in between, so posting should be idempotent where that matters."""

    async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
        """Post an answer with its files, if any. Returns the id of what was posted, "" if there are
        no ids. Its exceptions are logged; the run's result does not change."""
        ...

    async def deliver_error(self, target: Target, error: LorimerError) -> None:
        """Report that there is no answer, and why."""
        ...


class Discard:
    """Posts nothing."""

    async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
        """Nothing."""
        return ""

    async def deliver_error(self, target: Target, error: LorimerError) -> None:
        """Nothing."""


class Stdout:
    """Writes answers to stdout and errors to stderr, each with a final newline; for files their
    name, type and size. For programs at a terminal: a slow reader, such as a full pipe, blocks the
    event loop."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out
        self._err = err

    async def deliver(self, target: Target, output: str, artifacts: Sequence[Artifact]) -> str:
        """Write the answer."""
        lines = [output, *[f"[{a.name}, {a.mime}, {len(a.data):,} bytes]" for a in artifacts]]
        _write(self._out or sys.stdout, "\n".join(lines))
        return ""

    async def deliver_error(self, target: Target, error: LorimerError) -> None:
        """Write the message, the code and the hint."""
        hint = f" {error.hint}" if error.hint else ""
        _write(self._err or sys.stderr, f"{error.message} [{error.code.value}]{hint}")


async def post(
    delivery: Delivery | None,
    target: Target | None,
    output: str,
    error: LorimerError | None,
    artifacts: Sequence[Artifact] = (),
) -> str | None:
    """Deliver the outcome of a run: the error if there is one, else the output. Only this function
    makes that choice.

    Returns the id of what was posted; None if nothing was, because there is no port or no target,
    or because posting failed, which is logged and does not raise. There is no time limit: that is
    up to the caller.
    """
    if delivery is None or target is None or not target.id:
        return None
    try:
        if error is not None:
            await delivery.deliver_error(target, error)
            return ""
        posted = await delivery.deliver(target, output, artifacts)
        return posted if is_a(posted, str) else ""  # it has no ids, and returns nothing
    except Exception:  # noqa: BLE001 - code of the host, after the run: its result is what it is
        _log.warning("a delivery to %s %r failed", target.kind, target.id, exc_info=True)
        return None


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()
