"""What a host may plug into an executor. Each port is described in the file of its shipped
default."""

from __future__ import annotations

from lorimer.core.record import record
from lorimer.run.palette import Palette


@record
class Ports:
    """Each may be absent: then what it is for is off."""

    palette: Palette | None = None
    """Finds the skills and agents that agents may give work to. Shipped: `FixedPalette`. Without it
    they give work to nobody; where it fails, an agent that names some ends with an error."""
