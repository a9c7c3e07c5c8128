"""Checks fields of objects that hosts create."""

from __future__ import annotations

from lorimer.core.arguments import is_a, wrong


def check_texts(of: str, **fields: object) -> None:
    """Check that each is text. Raises ConfigError; `of` is the object that has the fields."""
    for name, given in fields.items():
        if not is_a(given, str):
            raise wrong(f"{of}.{name}", given, "text", f'{name}="..."')
