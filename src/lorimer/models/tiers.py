"""Tiers, aliases and chains: from user input to the specs that are tried in order.

    fast, anthropic:claude-sonnet-4-6      a chain: elements between commas
    fast                                   a tier: a role that the host assigns, and may reassign
    sonnet                                 an alias: a shorter name for a spec or a chain

The names are the host's data: nothing is built in. The meaning of a single spec: `spec.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import inf
from types import MappingProxyType
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.models.spec import EFFORTS, chain

TTL_S: Final = 30.0
MAX_TARGETS: Final = 32
"""Maximum length of a chain when fully expanded."""

_EXPANSIONS: Final = 256
"""Number of expansions that are cached."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class AliasCycle(ConfigError):
    """An alias leads back to itself. `cycle` lists the names along the way, with the first one
    repeated at the end."""

    def __init__(self, cycle: tuple[str, ...]) -> None:
        super().__init__(
            f"the alias {cycle[0]!r} leads back to itself: {' -> '.join(cycle)}",
            hint="Let one of them name a model, e.g. anthropic:claude-sonnet-4-6.",
        )
        self.cycle = cycle


class Tiers:
    """What the names of tiers and aliases stand for.

    defaults: tier → a spec or a chain, for tiers unknown to `source`.
    aliases: alias → a spec or a chain, which may contain aliases and tiers.
    source: returns the current value of a tier, None if it has none; cached for `ttl_s` seconds.
    clock: monotonic seconds; default: the machine's.

    Raises ConfigError naming every fault: a bad name, a name that is both tier and alias, an empty
    value, a tier that names a tier, and AliasCycle. A live value is checked when it is used.
    """

    def __init__(
        self,
        defaults: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
        *,
        source: Callable[[str], str | None] | None = None,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.defaults: Mapping[str, str] = MappingProxyType(dict(defaults or {}))
        self.aliases: Mapping[str, str] = MappingProxyType(dict(aliases or {}))
        self._source: Callable[[str], str | None] | None = None
        self._ttl_s = ttl_s
        self._clock = clock
        self._kept: dict[str, tuple[str | None, float]] = {}
        """What the source returned, and until when it is valid."""
        self._expansions: dict[str, tuple[list[str], float]] = {}
        self._check()
        self._source = source

    def reload(self) -> None:
        """Drop what the source returned: it is called again at the next use."""
        self._kept.clear()
        self._expansions.clear()

    @property
    def live(self) -> bool:
        """Whether the meaning of a name can change."""
        return self._source is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Tiers and aliases, sorted; without tiers that only the source knows."""
        return tuple(sorted({*self.defaults, *self.aliases}))

    def value(self, tier: str) -> str | None:
        """What a tier currently stands for, as written; None: there is no such tier."""
        live = self._live(tier)
        return self.defaults.get(tier) if live is None else live

    def expand(self, spec: str) -> list[str]:
        """The specs that `spec` stands for, in order, without duplicates.

        An element that names an alias or a tier is replaced in place; a final `:low`, `:medium` or
        `:high` applies to its specs that give no effort themselves. Elements that name a model are
        left as they are: a name with a provider is never an alias. Raises ConfigError: nothing
        between two commas, a tier that names a tier, more than 32 specs; AliasCycle.
        """
        known = self._expansions.get(spec)
        if known is not None and (not self.live or self._now() < known[1]):
            return list(known[0])
        found = list(dict.fromkeys(self._expanded(spec, (), tier="")))
        if len(found) > MAX_TARGETS:
            raise ConfigError(f"{spec!r} stands for {len(found)} models; at most {MAX_TARGETS}")
        if len(self._expansions) >= _EXPANSIONS:
            self._expansions.clear()
        self._expansions[spec] = (found, self._until())
        return list(found)

    def _expanded(self, text: str, path: tuple[str, ...], *, tier: str) -> list[str]:
        if len(path) > MAX_TARGETS:
            raise ConfigError(f"{path[0]!r} leads on and on: {' -> '.join(path[:4])} -> ...")
        out: list[str] = []
        for element in _elements(text, path):
            name, effort = _split(element)
            value = self.aliases.get(name)
            if value is not None:
                if name in path:
                    raise AliasCycle((*path[path.index(name) :], name))
                inner = self._expanded(value, (*path, name), tier=tier)
            elif _NAME.fullmatch(name) and (value := self.value(name)) is not None:
                if tier:
                    raise ConfigError(
                        f"the tier {tier!r} names the tier {name!r}: a tier stands for models",
                        hint="Write the models themselves, or let both name the same alias.",
                    )
                inner = self._expanded(value, (*path, name), tier=name)
            else:
                out.append(element)
                continue
            out.extend(inner if not effort else [_with(spec, effort) for spec in inner])
            if len(out) > 64 * MAX_TARGETS:  # nested aliases can blow up
                raise ConfigError(f"{text!r} stands for too many models; at most {MAX_TARGETS}")
        return out

    def _live(self, tier: str) -> str | None:
        if self._source is None:
            return None
        now = self._now()
        kept = self._kept.get(tier)
        if kept is None or now >= kept[1]:
            kept = self._kept[tier] = (self._source(tier), now + self._ttl_s)
        return kept[0]

    def _until(self) -> float:
        """When the first value from the source expires."""
        if not self.live:
            return inf
        now = self._now()
        self._kept = {name: kept for name, kept in self._kept.items() if now < kept[1]}
        return min([kept[1] for kept in self._kept.values()], default=inf)

    def _now(self) -> float:
        if self._clock is None:
            from lorimer.world import RealWorld

            self._clock = RealWorld().monotonic
        return self._clock()

    def _check(self) -> None:
        """Raises for faults of the names and values themselves, without the source."""
        problems: list[str] = []
        cycles: list[AliasCycle] = []
        for kind, table in (("tiers", self.defaults), ("aliases", self.aliases)):
            for name, value in table.items():
                where = f"{kind}.{name}"
                if not _NAME.fullmatch(name):
                    why = "a name has letters, digits, '.', '_' and '-', at most 64"
                    problems.append(f"{where}: {why}")
                elif name.lower() in EFFORTS:
                    problems.append(f"{where}: {name!r} says how hard to think")
                elif kind == "aliases" and name in self.defaults:
                    problems.append(f"{where}: {name!r} is a tier too")
                else:
                    try:
                        self._expanded(value, (name,), tier=name if kind == "tiers" else "")
                    except AliasCycle as cycle:
                        cycles.append(cycle)
                        problems.append(f"{where}: {cycle}")
                    except ConfigError as error:
                        problems.append(f"{where}: {error}")
        if cycles and len(cycles) == len(problems):
            raise cycles[0]
        if problems:
            raise ConfigError("; ".join(problems), problems=tuple(problems))


def _elements(text: str, path: tuple[str, ...]) -> list[str]:
    if text.strip():
        return chain(text)
    where = f"{path[-1]!r}" if path else "the spec"
    raise ConfigError(f"{where} names no model", hint="Write e.g. anthropic:claude-sonnet-4-6.")


def _split(element: str) -> tuple[str, str]:
    """A name and its effort, if there is one."""
    name, colon, effort = element.rpartition(":")
    return (name, effort.lower()) if colon and effort.lower() in EFFORTS else (element, "")


def _with(spec: str, effort: str) -> str:
    return spec if _split(spec)[1] else f"{spec}:{effort}"
