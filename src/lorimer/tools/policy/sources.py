"""What each source may say: which sources of rules may only tighten. One row of `SOURCES` each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from lorimer.core.record import record


class Source(Enum):
    """The origin of a rule or a mode. The value is the text shown to people."""

    MANAGED = "managed"
    USER = "user"
    CALLER = "caller"
    """The command line's flags, and the program that creates a pipeline."""
    SESSION = "session"
    PROJECT = "project"
    MANIFEST = "manifest"
    HOOK = "hook"


@record
class Says:
    """What one source may say. All of them may deny and ask."""

    allow: str = "never"
    """`always`; `exact`: one literal call; `trusted`: once a person has trusted the file's current
    contents; `never`."""
    mode: bool = False
    final: bool = False
    """Its ask rules apply even in the mode `bypass`."""


SOURCES: Final[Mapping[Source, Says]] = MappingProxyType(
    {
        Source.MANAGED: Says("always", mode=True, final=True),
        Source.USER: Says("always", mode=True),
        Source.CALLER: Says("always", mode=True),
        Source.SESSION: Says("exact"),
        Source.PROJECT: Says("trusted"),
        Source.MANIFEST: Says(),
        Source.HOOK: Says(),
    }
)
