"""Hooks in a rule file: the tables `[[hook]]`, each a program. `policy/sources.py` says which files
may name one: a source that may allow a call without asking may also run a program.

A program is started in the folder `hooks` next to its file. Project files that a project's hooks
run have to be in there, and must not have changed since they were trusted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from lorimer.core.errors import ConfigError, nearest
from lorimer.core.jsonable import JSON
from lorimer.tools.hooks.command import CommandHook
from lorimer.tools.hooks.hook import DEFAULT_S
from lorimer.tools.hooks.pinned import MAX_BYTES, MAX_FILES, digest_of
from lorimer.tools.policy.sources import SOURCES, Source

_FIELDS: Final = ("event", "run", "tools", "name", "timeout_s")
_ALMOST: Final = 0.8
"""The similarity to a shipped tool's name from which a name counts as misspelled."""


def hooks_in(
    tables: JSON, where: str, source: Source, known: Sequence[str]
) -> tuple[CommandHook, ...]:
    """The hooks of the file `where`; `known` are the names of shipped tools. Raises ConfigError for
    anything that is not understood, and if the source may not name programs."""
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        raise ConfigError(f"{where}: hook has to be a list of tables, [[hook]]")
    if not tables:
        return ()
    if SOURCES[source].allow not in ("always", "trusted"):
        raise ConfigError(f"{where}: a {source.value} names no programs to run")
    beside = Path(where).parent
    folder = beside / "hooks"
    pin = ""
    if source is Source.PROJECT:
        pin = digest_of(folder)
        if not pin:
            most = f"at most {MAX_FILES} files of {MAX_BYTES:,} bytes together, and no links"
            why = f"in which may be {most}" if folder.is_dir() else "which is not there"
            raise ConfigError(
                f"{where}: what its hooks run has to lie in {folder}, {why}",
                hint="Programs of the project are trusted together with the file that names them.",
            )
    elif not folder.is_dir():
        folder = beside
    return tuple(
        [
            _hook(table, f"{where}: hook {at}", folder, pin, known)
            for at, table in enumerate(tables, 1)
        ]
    )


def _hook(table: JSON, where: str, folder: Path, pin: str, known: Sequence[str]) -> CommandHook:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} has to be a table")
    for field in table:
        if field not in _FIELDS:
            raise ConfigError(f"{where}: there is no field {field!r}{nearest(field, _FIELDS)}")
    for field in ("event", "run"):
        if field not in table:
            raise ConfigError(f"{where}: the field {field} is missing")
    argv, tools = (
        checked_texts(table["run"], f"{where}: run"),
        checked_texts(table.get("tools", []), f"{where}: tools"),
    )
    for tool in tools:
        _is_no_slip(tool, f"{where}: tools", known)
    name, timeout_s = table.get("name", ""), table.get("timeout_s", DEFAULT_S)
    if not isinstance(name, str):
        raise ConfigError(f"{where}: name has to be text")
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool):
        raise ConfigError(f"{where}: timeout_s has to be a number of seconds")
    if pin:
        _must_be_pinned(argv, folder, where)
    argv[:1] = [os.path.expanduser(part) if part[:2] == "~/" else part for part in argv[:1]]
    try:
        return CommandHook(
            str(table["event"]),
            argv,
            folder,
            name=name,
            tools=tools,
            timeout_s=timeout_s,
            pin=pin,
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}", hint=error.hint) from None


def _must_be_pinned(argv: Sequence[str], folder: Path, where: str) -> None:
    """Raises ConfigError for a command that names a file of the project outside `folder`."""
    workspace = folder.parent.parent.resolve()
    for part in argv:
        path = (folder / part).resolve()
        # also a missing one: an agent may write it later
        if path.is_relative_to(workspace) and not path.is_relative_to(folder.resolve()):
            raise ConfigError(f"{where}: {part} is of the project and lies outside {folder}")


def checked_texts(value: JSON, where: str) -> list[str]:
    """The value of a field that is a list of texts. Raises ConfigError."""
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return [str(item) for item in value]
    raise ConfigError(f"{where} has to be a list of texts")


def _is_no_slip(tool: str, where: str, known: Sequence[str]) -> None:
    """A hook for a misspelled tool would never be asked."""
    if tool in known or tool.endswith("*"):
        return
    spelled = {name.casefold(): name for name in known}
    almost = get_close_matches(tool.casefold(), spelled, n=1, cutoff=_ALMOST)
    if almost:
        raise ConfigError(
            f"{where}: there is no shipped tool {tool!r}; did you mean {spelled[almost[0]]!r}?"
        )
