"""Context for the error that a command may end with: secrets to remove from it (see
`core/redaction.py`), and the store that commands in its hint have to name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import click


@dataclass(slots=True)
class ErrorContext:
    """The `obj` of a command's click context."""

    secrets: dict[str, str] = field(default_factory=dict[str, str])
    """Value to the name shown instead."""
    store: str = ""
    """` --store PATH`, if the user gave one."""


def remember_secrets(secrets: Mapping[str, str]) -> None:
    """Remove these secrets (value to name) from the error."""
    known = _known()
    if known is not None:
        known.secrets.update(secrets)


def remember_store(words: str) -> None:
    """Set the store: ` --store PATH`, or ""."""
    known = _known()
    if known is not None:
        known.store = words


def named_store() -> str:
    """` --store PATH` of the running command; "": the default store."""
    known = _known()
    return "" if known is None else known.store


def _known() -> ErrorContext | None:
    context = click.get_current_context(silent=True)
    return None if context is None else context.find_object(ErrorContext)
