"""What every model call of one pipeline has in common: made by stage 6, used by `attempts.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from lorimer.core.errors import APIError
from lorimer.core.excerpt import Trailed
from lorimer.core.history import History
from lorimer.core.messages import canonical_message
from lorimer.core.model import Model, Target
from lorimer.core.request import Request, TextDelta, ThinkingDelta, ToolInputDelta, ToolSpec, Usage
from lorimer.core.state import PipelineState
from lorimer.core.tool import EarlyCalls
from lorimer.models.estimate import Calibration
from lorimer.models.failover import AfterRelease, OnRefusal
from lorimer.models.health import Health
from lorimer.models.sinks import Sinks


class RetryPolicy(Protocol):
    """Decides whether a failed attempt is made again. Strategies of stage 6."""

    def delay_s(self, error: APIError, attempt: int, dice: Random) -> float | None:
        """Seconds to wait before attempt number `attempt` + 1 at the same target (the first is
        1); None: give it up."""
        ...


class DeltaListener(Protocol):
    """Gets the pieces of answers, in place of the run's listeners."""

    def piece(self, item: TextDelta | ThinkingDelta | ToolInputDelta) -> int:
        """Returns how many characters of it were shown to somebody."""
        ...

    def restart(self) -> None:
        """What was shown is void: the answer begins anew."""
        ...


class Caller:
    """Immutable but for what it remembers. See `attempts.call`."""

    __slots__ = (
        "_asked",
        "_rest",
        "after_release",
        "aside",
        "chain",
        "counts",
        "early",
        "first",
        "health",
        "hearer",
        "on_refusal",
        "price",
        "retry",
        "settings",
        "sinks",
        "targets",
        "timed",
    )

    def __init__(
        self,
        targets: Sequence[Target],
        retry: RetryPolicy,
        price: Callable[[Usage, str, Model], int | None],
        settings: bytes,
        *,
        health: Health,
        after_release: AfterRelease = "stop",
        on_refusal: OnRefusal = "stop",
        sinks: Sinks | None = None,
        counts: Calibration | None = None,
        aside: str = "",
        hearer: DeltaListener | None = None,
        early: Callable[[PipelineState], EarlyCalls] | None = None,
    ) -> None:
        self.targets = targets
        """Who is asked, in order."""
        self.first = targets[0]
        self.retry = retry
        self.price = price
        """Nano-dollars for some usage of the model that answered; None: unknown."""
        self.settings = settings
        """All that is fixed about its requests: goes into their fingerprints."""
        self.health = health
        self.after_release: AfterRelease = after_release
        self.on_refusal: OnRefusal = on_refusal
        self.sinks = sinks
        """None: nobody is told of attempts."""
        self.counts = counts
        """Learns from what providers have counted."""
        self.aside = aside
        """Begins the keys of its attempts where it is not the model call of an iteration; those
        are then effects of the kind `core.facts.ASIDE`. "": it is."""
        self.early = early
        """Begins calls of a reply that is still being written; None: nobody does."""
        self.hearer = hearer
        """None: the run's listeners."""
        self._asked: tuple[tuple[ToolSpec, ...], str, str] | None = None
        self._rest = b""
        """Of the last fingerprint what says nothing of the conversation: for these tools, this
        system prompt and this model. Mostly the next one's too."""
        self.chain = len(targets) > 1
        self.timed = self.chain or sinks is not None
        """Somebody needs to know when an attempt began."""

    def fingerprint(self, request: Request, digest: bytes | None = None) -> bytes:
        """What is asked, in bytes that differ when anything of it differs; facts keep their hash.
        The history is in it by its running digest, so this costs the same however long it is.
        `digest`: as if the history had this one."""
        messages = request.messages
        if digest is None:
            digest = (
                messages.digest
                if isinstance(messages, (History, Trailed))
                else b"".join([canonical_message(message) for message in messages])
            )
        asked = (request.tools, request.system, request.model)
        if asked != self._asked:
            self._asked = asked
            tools = b"".join([tool.fingerprint for tool in request.tools])
            system = request.system.encode("utf-8", "surrogatepass")
            model = request.model.encode()
            self._rest = b"\0%b\0%b\0%b\0%b" % (tools, system, model, self.settings)
        return digest + self._rest
