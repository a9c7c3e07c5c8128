"""The files of rules and hooks that apply in addition to a command's options: the operator's, the
user's, and the workspace's, which allows and runs nothing until a person trusts its current
text."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lorimer.cli.fail import Fault
from lorimer.cli.places import config_directory, data_directory
from lorimer.cli.text import visible
from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON, fields_of
from lorimer.tools.policy.modes import Mode
from lorimer.tools.policy.sources import Source
from lorimer.tools.rule_files.reading import Said, check, read

if TYPE_CHECKING:
    from lorimer.tools.base import Tool
    from lorimer.tools.hooks import CommandHook
    from lorimer.tools.policy.rules import Rule

MANAGED: Final = Path("/etc/lorimer/permissions.toml")
PROJECT: Final = Path(".lorimer") / "permissions.toml"
_AS_ROOT: Final = "LORIMER_BYPASS_AS_ROOT"
_MAX_BYTES: Final = 1_000_000
_LOOSER: Final = (
    *(Mode.PLAN, Mode.DONT_ASK, Mode.DEFAULT),
    *(Mode.ACCEPT_EDITS, Mode.SANDBOXED, Mode.BYPASS),
)
"""The strictest first."""


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """The combined contents of the files."""

    rules: tuple[Rule, ...]
    mode: Mode | None
    forbids_bypass: bool
    hooks: tuple[CommandHook, ...]
    """The workspace's first, the operator's last, so that no call is changed after the
    operator's."""
    notes: tuple[str, ...]
    """For the user: what is not in force, and why."""


def user_file() -> Path:
    """`permissions.toml` in the user's settings directory."""
    return config_directory() / "permissions.toml"


def read_policy_files(workspace: Path) -> PolicyFiles:
    """The rules of all files for runs in a workspace. Raises ConfigError for an unreadable file:
    rules are never skipped."""
    managed = _said(MANAGED, Source.MANAGED)
    user = _said(user_file(), Source.USER)
    path = workspace / PROJECT
    text = text_of(path)
    project, trusted = Said(), True
    if text is not None:
        project = _read(text, path, Source.PROJECT, trusted=True)
        trusted = _trusted().get(str(path.resolve())) == _digest(text, project)
        if not trusted:
            project = _read(text, path, Source.PROJECT, trusted=False)
    rules = (*managed.rules, *user.rules, *project.rules)
    hooks = (*(project.hooks if trusted else ()), *user.hooks, *managed.hooks)
    return PolicyFiles(
        rules,
        user.mode or managed.mode,
        managed.forbids_bypass,
        tuple([hook.not_from(workspace) for hook in hooks]),
        (*_mistake_notes(rules), *(() if trusted else _left_out(path, project))),
    )


def _mistake_notes(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Notes on rules for a tool that is not shipped, but has a name similar to a shipped one. It
    may be a tool of a manifest or a server; more likely it is misspelled, and the rule has no
    effect."""
    from lorimer.tools.builtin import CATALOGUE
    from lorimer.tools.policy.names import meant

    found = [(rule, meant(rule.tool, CATALOGUE)) for rule in rules]
    return tuple(
        f"{visible(rule.title)}: there is no shipped tool of this name{near}"
        for rule, near in found
        if near
    )


def _left_out(path: Path, project: Said) -> tuple[str, ...]:
    """A note on what a project's file would do if it were trusted."""
    allowed = [str(rule) for rule in project.untrusted]
    programs = [hook.name for hook in project.hooks]
    parts = [
        f"would {verb} {', '.join(found[:3])}{' and more' if len(found) > 3 else ''}"
        for verb, found in (("allow", allowed), ("run the hooks", programs))
        if found
    ]
    if not parts:
        return ()
    return (
        f"{path} {' and '.join(parts)}, but its current text is not trusted: "
        "lorimer permissions trust",
    )


def mode_of(
    given: str | None, found: PolicyFiles, *, attended: bool, at_most: str | None = None
) -> Mode:
    """The mode of a run: `given` on the command line, else by the files, else `default` if somebody
    can be asked, and `dontAsk` if not. Unless it is given, it is no looser than `at_most`, one of
    `plan`, `dontAsk` and `default`. Raises Fault for a bypass that is forbidden here."""
    if given is None:
        mode = found.mode or (Mode.DEFAULT if attended else Mode.DONT_ASK)
        return mode if at_most is None else min(mode, Mode.named(at_most), key=_LOOSER.index)
    mode = Mode.named(given)
    if mode is Mode.BYPASS and found.forbids_bypass:
        raise Fault(f"--permission-mode bypass is forbidden by {MANAGED}")
    if mode is Mode.BYPASS and os.geteuid() == 0 and os.environ.get(_AS_ROOT) != "1":
        raise Fault(
            "--permission-mode bypass as root: nothing at all would confine commands",
            hint=f"Run as another user; or, in a container made for it, set {_AS_ROOT}=1.",
        )
    return mode


def shipped(name: str) -> Tool | None:
    """The shipped tool of that name; None: there is none."""
    from lorimer.tools.builtin import CATALOGUE, builtin_tools

    return builtin_tools([name])[0] if name in CATALOGUE else None


def project_text(path: Path) -> str:
    """The text of a project's file. Raises Fault if there is none."""
    text = text_of(path)
    if text is None:
        raise Fault(f"there is no file {path}", hint=f"Put the project's rules into {PROJECT}.")
    return text


def trust(path: Path, text: str) -> None:
    """Trust a project's file with this text, which a person has seen, and the programs next to it
    that its hooks run, as they are now. Raises ConfigError for invalid rules."""
    said = _read(text, path, Source.PROJECT, trusted=True)
    known = {**_trusted(), str(path.resolve()): _digest(text, said)}
    target = _trust_file()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = target.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(known, file, indent=1)
    partial.replace(target)


def _trust_file() -> Path:
    return data_directory() / "trusted.json"


def _trusted() -> dict[str, JSON]:
    text = text_of(_trust_file())
    if text is None:
        return {}
    try:
        found: JSON = json.loads(text)
    except (ValueError, RecursionError):
        return {}  # nothing is trusted
    return dict(fields_of(found))


def _digest(text: str, said: Said) -> str:
    """The digest of a file, and of the programs next to it that its hooks run."""
    pins = [f"\n{hook.pin}" for hook in said.hooks[:1]]
    return hashlib.sha256("".join([text, *pins]).encode()).hexdigest()


def _said(path: Path, source: Source) -> Said:
    text = text_of(path)
    return Said() if text is None else _read(text, path, source, trusted=True)


def _read(text: str, path: Path, source: Source, *, trusted: bool) -> Said:
    said = read(text, str(path), source, shipped, trusted=trusted)
    check((*said.rules, *said.untrusted), shipped, str(path))
    return said


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def text_of(path: Path) -> str | None:
    """The text of a file; None: there is none. Raises ConfigError if it cannot be read, or is not a
    regular file: reading a named pipe, which a project may contain, would never end."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path} is not a file", hint="Remove it.")
            raw = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_BYTES:,} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
