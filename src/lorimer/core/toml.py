"""Writing TOML, as far as manifests need it; the standard library can only read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeGuard

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, JSON]) -> str:
    """A document that `tomllib` reads back the same. TOML has no null: ConfigError with the
    path."""
    return "\n".join(_table(data, ())) + "\n"


def _table(data: Mapping[str, JSON], path: tuple[str, ...]) -> Iterator[str]:
    """The lines of a table: plain values first, because whatever follows a header belongs to it."""
    for name, value in data.items():
        if not _is_table(value) and not _is_tables(value):
            yield f"{_key(name)} = {_value(value, (*path, name))}"
    for name, value in data.items():
        below = (*path, name)
        header = ".".join(map(_key, below))
        if _is_table(value):
            yield from ("", f"[{header}]", *_table(value, below))
        elif _is_tables(value):
            for item in value:
                yield from ("", f"[[{header}]]", *_table(item, below))


def _is_table(value: JSON) -> TypeGuard[Mapping[str, JSON]]:
    return isinstance(value, Mapping)


def _is_tables(value: JSON) -> TypeGuard[list[Mapping[str, JSON]]]:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_table, value))


def _value(value: JSON, path: tuple[str, ...]) -> str:
    match value:
        case None:
            raise ConfigError(
                f"{'.'.join(path)}: is null, and TOML has no null",
                hint="Write it as .yaml or .json.",
            )
        case str():
            return _text(value)
        case Mapping():
            pairs = [f"{_key(k)} = {_value(v, (*path, k))}" for k, v in value.items()]
            return f"{{{', '.join(pairs)}}}"
        case list() | tuple():
            return f"[{', '.join([_value(item, path) for item in value])}]"
        case _:
            return json.dumps(value, allow_nan=False)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    # the escapes of JSON are valid in TOML, except for one character
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
