"""Seeds for tests that draw."""

from __future__ import annotations

import os
from random import SystemRandom


def chosen() -> int | None:
    """The seed that the environment asks for, to play it again; None: no special one."""
    given = os.environ.get("LORIMER_SEED", "")
    return int(given) if given else None


def fresh() -> int:
    """A seed that was hardly ever played, none of the first million. In CI always the same one: a
    gate says the same of the same code, and who commits does not meet what others' draws find."""
    return 1_000_003 if os.environ.get("CI") else SystemRandom().randrange(1_000_000, 2**40)


def chosen_or_fresh() -> int:
    """The one asked for, else a fresh one."""
    seed = chosen()
    return fresh() if seed is None else seed
