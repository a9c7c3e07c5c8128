"""Settings of the host that may change at runtime: caps of lanes, tiers, budgets."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf, isfinite
from typing import Final, Protocol, TypeVar

from lorimer.core.limits import Limits
from lorimer.core.redaction import logger
from lorimer.run.lanes.lane import Lane

T = TypeVar("T")

_OUTSIDE: Final = re.compile("[^A-Z0-9]")
_FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
_MAX_TOLD: Final = 1_000

_log = logger("lorimer.run")


class Config(Protocol):
    """Looks up text values by key. Keys are lower case with dots: `lanes.web.max_concurrent`."""

    def get(self, key: str) -> str | None:
        """The current value; None: not set, so the default applies. Must not block."""
        ...


class EnvironmentConfig:
    """Environment variables: with the prefix `LORIMER_`, `lanes.web.cap` is LORIMER_LANES_WEB_CAP.
    Looked up on each read; an empty one counts as unset.

    Its `get` can also serve as a `source` for `models.tiers.Tiers`, with `lambda tier:
    config.get(f"model.tier.{tier}")`.
    """

    def __init__(
        self, prefix: str = "LORIMER_", environment: Mapping[str, str] | None = None
    ) -> None:
        self._prefix = prefix
        self._environment = os.environ if environment is None else environment

    def get(self, key: str) -> str | None:
        """See the class. Characters that cannot occur in a variable's name become `_`."""
        name = self._prefix + _OUTSIDE.sub("_", key.upper())
        return self._environment.get(name, "").strip() or None


class Settings:
    """Reads typed values, each with a default; never raises. A value that is malformed or out of
    range is logged once, and the default applies; so it does without a Config, or if that fails."""

    def __init__(self, config: Config | None = None) -> None:
        self._config = config
        self._told: set[str] = set()

    @property
    def configured(self) -> bool:
        """Whether there is a Config: values may then differ from the defaults."""
        return self._config is not None

    def text(self, key: str, default: str) -> str:
        """The value unchanged."""
        return self._read(key, default, str, "a text")

    def integer(self, key: str, default: int, *, least: int = 0) -> int:
        """An integer of at least `least`."""

        def read(text: str) -> int:
            value = int(text)
            if value < least:
                raise ValueError
            return value

        return self._read(key, default, read, f"a whole number from {least} on")

    def number(self, key: str, default: float, *, least: float = 0.0, most: float = inf) -> float:
        """A finite number between `least` and `most`."""

        def read(text: str) -> float:
            value = float(text)
            if not isfinite(value) or not least <= value <= most:
                raise ValueError
            return value

        top = "on" if most == inf else f"to {most:g}"
        return self._read(key, default, read, f"a number from {least:g} {top}")

    def flag(self, key: str, default: bool) -> bool:
        """1, true, yes, on; 0, false, no, off."""

        def read(text: str) -> bool:
            if text.lower() not in _FLAGS:
                raise ValueError
            return _FLAGS[text.lower()]

        return self._read(key, default, read, "true or false")

    def _read(self, key: str, default: T, read: Callable[[str], T], wanted: str) -> T:
        if self._config is None:
            return default
        try:
            text = self._config.get(key)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the host's own source
            self._tell(key, default, "cannot be read", failed=True)
            return default
        if text is None:
            return default
        try:
            return read(text)
        except Exception:  # noqa: BLE001 - whatever the host gave, which need not be text
            self._tell(key, default, f"is not {wanted}", failed=False)
            return default

    def _tell(self, key: str, default: object, why: str, *, failed: bool) -> None:
        # the value is not logged: it may be a secret put in the wrong place
        if key not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(key)
            _log.warning("setting %s %s; %r is used", key, why, default, exc_info=failed)


def limits_now(settings: Settings, limits: Limits) -> Limits:
    """The limits of an executor's runs that start now: `run.max_turns`, `run.timeout_s` and
    `run.max_cost_usd`, where the host's settings have them. The same object if none are set."""
    if not settings.configured:
        return limits
    own = inf if limits.max_cost_usd is None else limits.max_cost_usd
    most = settings.number("run.max_cost_usd", own)
    found = replace(
        limits,
        max_turns=settings.integer("run.max_turns", limits.max_turns, least=1),
        timeout_s=settings.number("run.timeout_s", limits.timeout_s, least=0.001),
        max_cost_usd=None if most == inf else most,
    )
    return limits if found == limits else found


class LaneCap:
    """Applies the setting `lanes.<name>.max_concurrent` to a lane; once it is no longer set,
    restores the previous cap."""

    __slots__ = ("_lane", "_own", "_settings")

    def __init__(self, settings: Settings, lane: Lane) -> None:
        self._settings = settings
        self._lane = lane
        self._own: int | None = None
        """The lane's own cap; None: that is the current one."""

    def apply(self) -> None:
        """Apply the current setting."""
        lane = self._lane
        own = lane.max_concurrent if self._own is None else self._own
        cap = self._settings.integer(f"lanes.{lane.name}.max_concurrent", own, least=1)
        self._own = own if cap != own else None
        if cap != lane.max_concurrent:
            lane.set_max_concurrent(cap)
