"""Reading documents written by people: JSON, YAML, TOML. Strict and bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, cast

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON, refuse_constant
from lorimer.core.toml import to_toml

MAX_BYTES: Final = 4_000_000
"""Largest document that is accepted."""

MAX_YAML_BYTES: Final = 1_000_000
"""Largest YAML document that is accepted: YAML takes a hundred times as long as JSON."""

MAX_DEPTH: Final = 64
"""Most levels of nested objects and lists."""

_MAX_BITS: Final = 4096
"""Most digits of an integer."""
_MAX_DIGITS: Final = 2000
_LONG_NUMBER: Final = "a number in it is too long"

_PART: Final = r"""(?:(?<![\w-])[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY: Final = re.compile(rf"(?:{_PART}\.[ \t]*){{{MAX_DEPTH}}}")
"""A TOML key with more parts, `a.b.c`, than levels are allowed."""

_LINE_ENDS: Final = ("\x85", "\u2028", "\u2029")
"""Line separators that only YAML knows."""

SUFFIXES: Final = (".json", ".yaml", ".yml", ".toml")


def parse(text: str, kind: str, where: str) -> Mapping[str, JSON]:
    """The mapping in a document. `kind` is one of `SUFFIXES`; `where` names the document in errors.
    Raises ConfigError with line and reason. Duplicate keys, YAML tags and aliases are rejected."""
    if len(text) > (limit := MAX_YAML_BYTES if kind in (".yaml", ".yml") else MAX_BYTES):
        raise ConfigError(
            f"{where}: larger than {limit:,} bytes",
            hint=f"As JSON it may have {MAX_BYTES:,}." if limit < MAX_BYTES else "",
        )
    if kind not in _NAMES:
        raise ConfigError(f"{where}: unknown kind of document {kind!r}; use {', '.join(SUFFIXES)}")
    try:
        match kind:
            case ".json":
                value = json.loads(text, object_pairs_hook=_unique, parse_constant=refuse_constant)
            case ".toml":
                import tomllib

                if _LONG_KEY.search(text) is not None:  # it takes quadratic memory
                    raise RecursionError
                value = tomllib.loads(text)
            case _:
                value = _yaml(text)
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{where}: not valid {_NAMES[kind]}: {error}", cause=error) from None
    if value is None:
        raise ConfigError(f"{where}: there is nothing in it")
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: must hold fields with values, not one {_said(value)}")
    if deeper(cast("JSON", value), MAX_DEPTH):
        raise ConfigError(f"{where}: nested too deeply, more than {MAX_DEPTH} levels")
    if _has_long_number(cast("JSON", value)):
        raise ConfigError(f"{where}: {_LONG_NUMBER}")
    return cast("Mapping[str, JSON]", value)


def _has_long_number(value: JSON) -> bool:
    """A hexadecimal number that Python can read but then refuses to write."""
    if isinstance(value, Mapping):
        return any(map(_has_long_number, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_long_number, value))
    return isinstance(value, int) and value.bit_length() > _MAX_BITS


def deeper(value: JSON, levels: int) -> bool:
    """Whether objects and lists are nested more than so many levels deep."""
    here = [value]
    for _ in range(levels):
        here = [
            inner
            for each in here
            if isinstance(each, Mapping | list | tuple)
            for inner in (each.values() if isinstance(each, Mapping) else each)
        ]
    return any(isinstance(each, Mapping | list | tuple) for each in here)


_NAMES: Final = {".json": "JSON", ".yaml": "YAML", ".yml": "YAML", ".toml": "TOML"}


def _said(value: object) -> str:
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "value"


def dump(data: Mapping[str, JSON], kind: str) -> str:
    """A document that `parse` reads back. Raises ConfigError for another kind, and for null in
    TOML, which cannot express it."""
    if kind in (".yaml", ".yml"):
        import yaml

        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        if any(mark in text for mark in _LINE_ENDS):  # it would write them unescaped
            text = yaml.safe_dump(data, sort_keys=False)
        return text
    if kind == ".json":
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if kind == ".toml":
        return to_toml(data)
    raise ConfigError(f"cannot write a document of kind {kind!r}; use .json, .yaml or .toml")


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _yaml(text: str) -> object:
    import yaml

    class Strict(yaml.SafeLoader):
        """Rejects aliases (which can blow up) and duplicate keys."""

        def __init__(self, stream: str) -> None:
            super().__init__(stream)
            self.seen: set[int] = set()

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            node = super().compose_node(parent, index)
            if id(node) in self.seen:
                raise ValueError("aliases are not allowed")
            self.seen.add(id(node))
            if node is not None and node.tag.endswith(":int") and len(node.value) > _MAX_DIGITS:
                raise ValueError(_LONG_NUMBER)  # reading a base-60 number takes quadratic time
            if isinstance(node, yaml.MappingNode):
                _unique([(str(key.value), None) for key, _ in node.value])
            return node

    try:
        return cast("object", yaml.load(text, Strict))  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark, what = error.problem_mark, error.problem or error.context or "it cannot be read"
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ValueError(at + " ".join(what.split())) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
