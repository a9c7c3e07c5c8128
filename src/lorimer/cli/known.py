"""The secrets that a command has come to know, for the last place that could show them: the error
that it ends with. What counts as a secret, and the rest of it: `core/redaction.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import click


@dataclass(slots=True)
class Known:
    """Of one call of the command line: the `obj` of its context."""

    secrets: dict[str, str] = field(default_factory=dict[str, str])
    """Value to the name that is shown in its place."""


def know(secrets: Mapping[str, str]) -> None:
    """These are secrets."""
    context = click.get_current_context(silent=True)
    known = None if context is None else context.find_object(Known)
    if known is not None:
        known.secrets.update(secrets)
