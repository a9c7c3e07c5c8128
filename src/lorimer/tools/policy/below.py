"""What rules say of files that a call finds below its path, which were not looked at when it was
decided."""

from __future__ import annotations

from collections.abc import Callable

from lorimer.tools.base import ToolInput
from lorimer.tools.policy.effects import Call, PathUse
from lorimer.tools.policy.engine import Rules
from lorimer.tools.policy.modes import Mode
from lorimer.tools.policy.sources import SOURCES
from lorimer.tools.registry import Entry


def denied_paths(
    entry: Entry, input: ToolInput, rules: Rules, mode: Mode
) -> Callable[[str], bool] | None:
    """Whether rules that name something deny this call with a path, absolute and without links, in
    place of its own, or ask about it; None: there are no such rules."""
    about = rules.of(entry)
    if not (about.deny.named or about.ask.named):
        return None

    def denied(path: str) -> bool:
        path = rules.place.canonical(path)
        uses = [PathUse(name, path, (path,), climbs=False) for name in entry.tool.paths]
        given = {**input, **dict.fromkeys(entry.tool.paths, path)}
        call = Call(entry, given, entry.kinds, tuple(uses))
        if any(rule.input is not None for rule in about.deny.possible(call)):
            return True
        return any(
            rule.input is not None and (mode is not Mode.BYPASS or SOURCES[rule.source].final)
            for rule in about.ask.possible(call)
        )

    return denied
