"""Fields of what hosts write, checked when it is made."""

from __future__ import annotations

from lorimer.core.arguments import is_a, wrong


def check_texts(of: str, **fields: object) -> None:
    """Each is text. Raises ConfigError; `of` is what they are fields of."""
    for name, given in fields.items():
        if not is_a(given, str):
            raise wrong(f"{of}.{name}", given, "text", f'{name}="..."')
