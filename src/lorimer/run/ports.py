"""What a host may plug into an executor. Each port is described in the file of its shipped
default."""

from __future__ import annotations

from lorimer.core.record import record


@record
class Ports:
    """Each may be absent: then what it is for is off."""
