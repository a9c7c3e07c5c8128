"""The specs of other programs' rules (the part between the parentheses) as ours: commands, paths,
hosts."""

from __future__ import annotations

import re
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.core.record import record
from lorimer.tools.policy.modes import Action
from lorimer.tools.shell.parse import Command
from lorimer.tools.shell.rules import CommandRule

_ODD_IN_PATHS: Final = re.compile(r"[\[\]{}!\\]|\.\.")

_NO_NAMES: Final = frozenset({"", ".", "~"})


@record
class Meaning:
    """A spec of another program, as `specs` of ours."""

    spec: str | None
    """None: every call."""
    note: str = ""
    """How ours differs."""
    exact: bool = True
    """Ours means the same or is stricter. False: there is no equivalent."""
    more: tuple[str, ...] = ()
    """Further specs that are needed to mean the same."""

    @property
    def specs(self) -> tuple[str | None, ...]:
        """All specs of ours, at least one."""
        return (self.spec, *self.more)


NONE: Final = Meaning("", "", False)
"""There is no equivalent."""


def command_meaning(spec: str, action: Action) -> Meaning:
    """The spec of Claude Code's `Bash(...)`: literal, `prefix:*`, or with `*` for any
    characters."""
    if spec.endswith(":*"):
        return _prefix(spec[:-2], action)
    if "*" not in spec:
        return _pattern(spec, action)
    head, _, rest = spec.partition("*")
    if not rest and head.endswith(" "):
        return _prefix(head, action)
    if action is Action.ALLOW:
        if not rest:
            narrower = _prefix(head, action)
            note = narrower.note or "narrower here: whole words only"
            return Meaning(narrower.spec, note, narrower.exact)
        found = _pattern(spec, action)
        return Meaning(found.spec, "narrower here: each * is one word", found.exact)
    if not rest:
        return _pattern(f"{spec} **", action)
    words = head.split()
    if head and not head.endswith(" "):
        words = words[:-1]
    if not words:
        return _pattern(f"{spec} **", action) if spec.startswith("* ") else NONE
    wider = _prefix(" ".join(words), action)
    return Meaning(wider.spec, f"stricter here: {wider.spec}", wider.exact)


def _prefix(head: str, action: Action) -> Meaning:
    if not head:
        return Meaning(None)
    return _pattern(f"{head.strip()} **", action) if head.strip() else NONE


def _pattern(text: str, action: Action) -> Meaning:
    try:
        rule = CommandRule.parse(text)
    except ConfigError:
        return NONE
    note = ""
    if action is Action.ALLOW:
        words = tuple([word.replace("*", "x") for word in rule.words])
        note = rule.covers(Command((*words, "x") if rule.rest else words))
        note = f"narrower here: {note}" if note else ""
    return Meaning(str(text), note)


def path_meaning(spec: str, action: Action) -> Meaning:
    """A pattern as in .gitignore: a single name matches at any depth, and a folder includes all
    that it contains. In deny and ask rules every pattern matches at any depth: `src/**` is about
    any folder `src`."""
    note = ""
    relative = spec.removeprefix("./")
    named = re.sub(r"^(//|~/|\./|/)", "", spec).rstrip("/").split("/")
    if _ODD_IN_PATHS.search(spec) or not _NO_NAMES.isdisjoint([name.strip() for name in named]):
        return NONE
    if spec.startswith(("//", "~/")):
        path = spec
    elif spec.startswith("/"):
        path, note = (
            f".{spec}",
            "relative to the workspace here, to the settings file's place there",
        )
    elif spec.startswith("**/"):
        path = spec
    elif action is Action.ALLOW and "/" in spec.rstrip("/"):
        path = f"./{relative}"
    else:
        path = f"**/{relative}"
    if action is Action.ALLOW and path.startswith("**/"):
        path = f"./{path}"
    if not path.endswith("/**"):
        path = f"{path.rstrip('/')}/**"
    return Meaning(path, note)


def loose_path_meaning(spec: str, action: Action) -> Meaning:
    """A pattern over the whole path, whose `*` matches slashes too."""
    if not spec.strip() or _ODD_IN_PATHS.search(spec):
        return NONE
    if spec.startswith("/"):
        path = f"//{spec.lstrip('/')}"
    elif spec.startswith(("~/", "**/")):
        path = spec
    else:
        path = f"{'./' if action is Action.ALLOW else '**/'}{spec.removeprefix('./')}"
    if action is not Action.ALLOW:
        path = path.replace("?", "*")  # there it matches a slash, too
    head, star, _ = path.partition("*") if not path.startswith("**/") else _after_anywhere(path)
    if not star:
        return Meaning(path)
    if action is Action.ALLOW:
        return Meaning(path, "narrower here: * matches no slash")
    folder = head.rpartition("/")[0]
    wide = f"{folder}/**" if folder.strip("/") else "**/*"
    return Meaning(wide, f"stricter here: {wide}")


def _after_anywhere(path: str) -> tuple[str, str, str]:
    head, star, rest = path.removeprefix("**/").partition("*")
    return f"**/{head}", star, rest


def host_meaning(spec: str, action: Action) -> Meaning:
    """The spec `domain:host`."""
    kind, _, host = spec.partition(":")
    host = host.strip().lower()
    if kind.strip() != "domain" or not host:
        return NONE
    if action is Action.ALLOW or host.startswith("*"):
        return Meaning(host)
    return Meaning(host, "", True, (f"*.{host}",))
