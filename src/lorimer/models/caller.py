"""What all model calls of one pipeline have in common: made by stage 6, used by `attempts.py`."""

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
    """Decides whether to retry a failed attempt. Strategies of stage 6."""

    def delay_s(self, error: APIError, attempt: int, dice: Random) -> float | None:
        """Seconds to wait before attempt number `attempt` + 1 at the same target (the first is 1);
        None: give up."""
        ...


class DeltaListener(Protocol):
    """Receives the pieces of answers, instead of the run's listeners."""

    def piece(self, item: TextDelta | ThinkingDelta | ToolInputDelta) -> int:
        """Returns how many characters of the piece were shown to somebody."""
        ...

    def restart(self) -> None:
        """What was shown is void: the answer starts over."""
        ...


def not_whole(name: str, nano: object) -> TypeError:
    """The error for a calculated price that cannot be booked."""
    return TypeError(
        f"the price of {name!r} is {nano!r}: it must be an int of nano-dollars, 0 or more, or None"
    )


def own_price(usage: Usage, name: str, model: Model) -> int | None:
    """What the model itself says that its usage costs."""
    return model.price(usage, model=name)


class Caller:
    """Immutable except for what it caches. See `attempts.call`."""

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
        """The models to ask, in order."""
        self.first = targets[0]
        self.retry = retry
        self.price = price
        """Price of some usage of the model that answered, in nano-dollars; None: unknown."""
        self.settings = settings
        """Everything constant about its requests: part of their fingerprints."""
        self.health = health
        self.after_release: AfterRelease = after_release
        self.on_refusal: OnRefusal = on_refusal
        self.sinks = sinks
        """None: attempts are not reported."""
        self.counts = counts
        """Learns from the providers' counts."""
        self.aside = aside
        """Prefix of the keys of its attempts if it is not the model call of an iteration; they are
        then effects of the kind `core.facts.ASIDE`. "": it is that call."""
        self.early = early
        """Starts tool calls of a reply that is still being written; None: calls wait for its
        end."""
        self.hearer = hearer
        """None: the run's listeners."""
        self._asked: tuple[tuple[ToolSpec, ...], str, str] | None = None
        self._rest = b""
        """The part of the last fingerprint that does not depend on the conversation: for these
        tools, this system prompt and this model. Usually it serves for the next one too."""
        self.chain = len(targets) > 1
        self.timed = self.chain or sinks is not None
        """Whether the start time of an attempt is needed."""

    def fingerprint(self, request: Request, digest: bytes | None = None) -> bytes:
        """The request as bytes that differ when anything in it differs; facts store their hash. The
        history is represented by its running digest, so that the cost does not depend on its
        length. `digest`: use this one in place of the history's."""
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
