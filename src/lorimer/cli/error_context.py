"""Context for the error that a command may end with: secrets to strike out of it (what counts as
one: `core/redaction.py`), and the store that commands in its hint have to name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import click


@dataclass(slots=True)
class ErrorContext:
    """Of one call of the command line: the `obj` of its context."""

    secrets: dict[str, str] = field(default_factory=dict[str, str])
    """Value to the name that is shown in its place."""
    store: str = ""
    """` --store PATH`, where the person gave one."""


def remember_secrets(secrets: Mapping[str, str]) -> None:
    """These are secrets."""
    known = _known()
    if known is not None:
        known.secrets.update(secrets)


def remember_store(words: str) -> None:
    """This is the store."""
    known = _known()
    if known is not None:
        known.store = words


def named_store() -> str:
    """The store of the command that is going on; "": it is the usual one."""
    known = _known()
    return "" if known is None else known.store


def _known() -> ErrorContext | None:
    context = click.get_current_context(silent=True)
    return None if context is None else context.find_object(ErrorContext)
