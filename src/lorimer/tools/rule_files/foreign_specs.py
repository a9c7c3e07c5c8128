"""What stands between the parentheses of others' rules, as ours: commands, paths, hosts."""

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
    """Of a spec: `specs` of ours, None standing for every call."""

    spec: str | None
    note: str = ""
    """How it differs."""
    exact: bool = True
    """It means the same, or less of what is allowed, or more of what is not. False: there is
    nothing like it."""
    more: tuple[str, ...] = ()

    @property
    def specs(self) -> tuple[str | None, ...]:
        """All of them."""
        return (self.spec, *self.more)


NONE: Final = Meaning("", "", False)


def command_meaning(spec: str, action: Action) -> Meaning:
    """Of Claude Code's `Bash(...)`: literal, `prefix:*`, or with `*` for any characters."""
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
    """Of patterns as in .gitignore: a name alone is meant anywhere beneath, and a folder with all
    in it. To deny or ask, anywhere at all: there `src/**` is any folder `src` then."""
    note = ""
    relative = spec.removeprefix("./")
    named = re.sub(r"^(//|~/|\./|/)", "", spec).rstrip("/").split("/")
    if _ODD_IN_PATHS.search(spec) or not _NO_NAMES.isdisjoint([name.strip() for name in named]):
        return NONE
    if spec.startswith(("//", "~/")):
        path = spec
    elif spec.startswith("/"):
        path, note = f".{spec}", "begins at the workspace here, there at the settings' own place"
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
    """Of patterns over whole paths, whose `*` goes over folders too."""
    if not spec.strip() or _ODD_IN_PATHS.search(spec):
        return NONE
    if spec.startswith("/"):
        path = f"//{spec.lstrip('/')}"
    elif spec.startswith(("~/", "**/")):
        path = spec
    else:
        path = f"{'./' if action is Action.ALLOW else '**/'}{spec.removeprefix('./')}"
    if action is not Action.ALLOW:
        path = path.replace("?", "*")  # there it is a slash, too
    head, star, _ = path.partition("*") if not path.startswith("**/") else _after_anywhere(path)
    if not star:
        return Meaning(path)
    if action is Action.ALLOW:
        return Meaning(path, "narrower here: * stays within a name")
    folder = head.rpartition("/")[0]
    wide = f"{folder}/**" if folder.strip("/") else "**/*"
    return Meaning(wide, f"stricter here: {wide}")


def _after_anywhere(path: str) -> tuple[str, str, str]:
    head, star, rest = path.removeprefix("**/").partition("*")
    return f"**/{head}", star, rest


def host_meaning(spec: str, action: Action) -> Meaning:
    """Of `domain:host`."""
    kind, _, host = spec.partition(":")
    host = host.strip().lower()
    if kind.strip() != "domain" or not host:
        return NONE
    if action is Action.ALLOW or host.startswith("*"):
        return Meaning(host)
    return Meaning(host, "", True, (f"*.{host}",))
