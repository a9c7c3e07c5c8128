"""When a rule applies: in which modes, for which agents and callers, and until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final

from lorimer.core.errors import ConfigError, nearest
from lorimer.core.jsonable import JSON
from lorimer.core.record import record
from lorimer.tools.policy.modes import Mode
from lorimer.tools.policy.people import Person

_FIELDS: Final = ("mode", "agent", "caller")


@record
class When:
    """Conditions of a rule; an empty set means any."""

    modes: frozenset[Mode] = frozenset()
    agents: frozenset[str] = frozenset()
    """Names of agents. Manifests choose these themselves, so no allow rule may depend on them."""
    callers: frozenset[str] = frozenset()
    """Names of people, and roles as `@role`."""

    def concerns(self, agent: str, caller: Person | None) -> bool:
        """Whether it may apply to runs of this agent by this caller."""
        if self.agents and agent not in self.agents:
            return False
        return not self.callers or (caller is not None and caller.is_one_of(self.callers))

    def __str__(self) -> str:
        parts = [
            ("in mode", sorted([mode.value for mode in self.modes])),
            ("in agent", sorted(self.agents)),
            ("for", sorted(self.callers)),
        ]
        return " ".join([f"{word} {', '.join(names)}" for word, names in parts if names])


ALWAYS: Final = When()


def when_of(data: JSON, where: str) -> When:
    """From `{mode, agent, caller}`, each a text or a list of texts. Raises ConfigError."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} has to be a table: {{ mode = ..., agent = ..., caller = ... }}")
    said: dict[str, frozenset[str]] = {}
    for name, value in data.items():
        if name not in _FIELDS:
            raise ConfigError(f"{where}: there is no field {name!r}{nearest(name, _FIELDS)}")
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, Sequence) or not texts:
            raise ConfigError(f"{where}: {name} has to be a text or a list of texts")
        if not all(isinstance(text, str) and text for text in texts):
            raise ConfigError(f"{where}: {name} has to be a text or a list of texts")
        said[name] = frozenset([str(text) for text in texts])
    try:
        modes = frozenset([Mode.named(name) for name in said.get("mode", ())])
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}", hint=error.hint) from None
    return When(modes, said.get("agent", frozenset()), said.get("caller", frozenset()))


def moment(value: object, where: str) -> float:
    """Seconds since 1970 of a date (its beginning, in UTC) or a time with a zone, as a TOML value
    or ISO 8601 text. Raises ConfigError."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigError(f"{where}: {value!r} is not a date") from None
        if value.tzinfo is None and value.time() == datetime.min.time():
            value = value.date()
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ConfigError(
            f"{where} has to be a date, or a time with its zone",
            hint="Write 2027-01-31 or 2027-01-31T18:00:00Z.",
        )
    return value.timestamp()


def dated(seconds: float) -> str:
    """As people write it."""
    said = datetime.fromtimestamp(seconds, UTC)
    return said.strftime("%Y-%m-%d" if seconds % 86_400 == 0 else "%Y-%m-%d %H:%M:%SZ")
