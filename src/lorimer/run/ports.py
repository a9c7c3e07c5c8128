"""What a host may plug into an executor. Each port is described in the file of its shipped
default."""

from __future__ import annotations

from lorimer.core.record import record
from lorimer.run.critic import Critic


@record
class Ports:
    """Each may be absent: then what it is for is off."""

    critic: Critic | None = None
    """Looks after long runs of agents that want it."""
