"""What happens to effects that no rule covers: one table, by effect and mode."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from lorimer.core.errors import ConfigError, nearest
from lorimer.tools.policy.effects import Kind


class Action(IntEnum):
    """What a rule, a mode, or the engine decides about a call; smaller is stricter."""

    DENY = 0
    ASK = 1
    ALLOW = 2


ModeName: TypeAlias = Literal["plan", "default", "acceptEdits", "sandboxed", "dontAsk", "bypass"]
"""The values of `Mode`, as a caller writes them."""


class Mode(StrEnum):
    """How much may happen without a rule."""

    PLAN = "plan"
    """Read-only: tools that may change something are not even shown to the model."""
    DEFAULT = "default"
    ACCEPT_EDITS = "acceptEdits"
    SANDBOXED = "sandboxed"
    """Like acceptEdits; also commands that are confined by a sandbox of level 2 without network."""
    DONT_ASK = "dontAsk"
    """Nobody can be asked: what would be asked is refused."""
    BYPASS = "bypass"

    @classmethod
    def named(cls, name: str) -> Mode:
        """Raises ConfigError, with the most similar name."""
        for mode in cls:
            if mode.value == name:
                return mode
        known = [mode.value for mode in cls]
        raise ConfigError(
            f"there is no permission mode {name!r}{nearest(name, known)}",
            hint=f"The modes are {', '.join(known)}.",
        )


_D, _Q, _A = Action.DENY, Action.ASK, Action.ALLOW

#                        plan default acceptEdits sandboxed dontAsk bypass
_ROWS: Final[Mapping[Kind, tuple[Action, ...]]] = {
    Kind.READ: (_A, _A, _A, _A, _A, _A),
    Kind.READ_OUTSIDE: (_D, _Q, _Q, _Q, _D, _A),
    Kind.SECRET: (_D, _Q, _Q, _Q, _D, _A),
    Kind.WRITE: (_D, _Q, _A, _A, _D, _A),
    Kind.WRITE_OUTSIDE: (_D, _Q, _Q, _Q, _D, _A),
    Kind.EXEC: (_D, _Q, _Q, _Q, _D, _A),
    Kind.NET: (_Q, _Q, _Q, _Q, _D, _A),
    Kind.SEND: (_D, _Q, _Q, _Q, _D, _A),
    Kind.POLICY: (_D, _Q, _Q, _Q, _D, _Q),
    Kind.PROTECTED: (_D, _Q, _Q, _Q, _D, _Q),
}

TABLE: Final[Mapping[Mode, Mapping[Kind, Action]]] = MappingProxyType(
    {
        mode: MappingProxyType({kind: row[at] for kind, row in _ROWS.items()})
        for at, mode in enumerate(Mode)
    }
)
"""`sandboxed` allows `EXEC` only for a call that is isolated: the engine checks that."""


FORBIDDEN: Final[Mapping[Mode, frozenset[Kind]]] = MappingProxyType(
    {
        mode: frozenset([kind for kind in Kind if TABLE[mode][kind] is Action.DENY])
        if mode is Mode.PLAN
        else frozenset()
        for mode in Mode
    }
)
"""What no rule can lift: planning is not doing."""
