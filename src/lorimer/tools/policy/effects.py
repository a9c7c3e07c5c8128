"""What one call would touch: its effects, and the paths, hosts and commands among its arguments,
each in the canonical form that rules are matched against."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from os.path import normpath
from pathlib import Path
from stat import S_ISLNK
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from lorimer.core.jsonable import JSON, clean
from lorimer.core.record import record
from lorimer.tools.shell.parse import MAX_CHARS, Parsed, parse
from lorimer.tools.shell.programs import ELSEWHERE, SHELLS
from lorimer.tools.shell.scan import opened
from lorimer.world.sandbox.view import protected_paths
from lorimer.world.spellings import spellings

if TYPE_CHECKING:
    from lorimer.tools.base import ToolInput
    from lorimer.tools.registry import Entry


class Kind(StrEnum):
    """An effect and its target. The value is the text shown to people."""

    READ = "read"
    READ_OUTSIDE = "read outside"
    SECRET = "secret"
    WRITE = "write"
    WRITE_OUTSIDE = "write outside"
    EXEC = "exec"
    NET = "net"
    SEND = "send"
    POLICY = "policy"
    PROTECTED = "protected path"


_PLAIN: Final[Mapping[str, Kind]] = MappingProxyType(
    {kind.value: kind for kind in Kind if " " not in kind.value}
)

EFFECT_OF: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        **{kind: name for name, kind in _PLAIN.items()},
        Kind.READ_OUTSIDE: "read",
        Kind.WRITE_OUTSIDE: "write",
        Kind.PROTECTED: "policy",
    }
)
"""The declared effect that each kind belongs to."""

PROTECTED: Final = frozenset(
    ".git .hg .svn .lorimer .claude .mcp.json .vscode .idea .husky .ssh .gnupg .bashrc "
    ".bash_profile .bash_login .bash_logout .profile .zshrc .zshenv .zprofile .zlogin .zlogout "
    ".cshrc .tcshrc .kshrc .login .xprofile .xsession .vimrc .exrc .emacs .emacs.d .cursor .codex "
    ".gemini .devcontainer .gitconfig .gitmodules .netrc .envrc .pre-commit-config.yaml .zed "
    ".windsurf .kiro .opencode .gdbinit .lldbinit .pdbrc .inputrc .tmux.conf .screenrc".split()
)
"""Names of files and folders that affect what runs, or what is allowed, later."""

_START_UP: Final = tuple(
    [f".config/{name}" for name in ("fish", "autostart", "systemd", "git", "nvim", "environment.d")]
)
"""The same below a home, in addition to `protected_paths`: Lorimer's own settings and
its store, keys and logins."""


_MAX_FOLDERS: Final = 16
"""Folders in which a line that is not understood might be, up to which each change of the folder is
tried from all of them; after that, from the first and the last."""
_MAX_OPENED: Final = 5_000
"""Files that such a line might open; with more, or in more than 250 folders, it might open any."""
_HOME: Final = re.compile(r"(?:~|\$HOME|\$\{HOME\})(?=/|$)")
_HERE: Final = re.compile(r"(?:~\+|\$PWD|\$\{PWD\})(?:/+|$)")


@record
class Place:
    """Where paths are: absolute folders, without a slash at their end."""

    workspace: str = ""
    """The base of relative paths, with links resolved. "": none, so no path is inside."""
    roots: tuple[str, ...] = ()
    """The folders of the workspace: everything below them is inside."""
    home: str = ""
    links: tuple[tuple[str, str], ...] = ()
    """Aliases of these folders, and their real paths."""
    own: tuple[str, ...] = ()
    """The user's protected files and folders, in lower case, with a trailing slash."""
    above: frozenset[str] = frozenset()
    """The folders that contain those: creating something there may create one of them."""

    @classmethod
    def of(cls, working_dir: Path | None, roots: Iterable[Path] = ()) -> Place:
        """The place of a toolset."""
        given = [*([working_dir] if working_dir is not None else []), *roots]
        folders = {os.path.abspath(folder): os.path.realpath(folder) for folder in given}
        start = os.path.realpath(working_dir) if working_dir is not None else ""
        links = tuple([(name, real) for name, real in folders.items() if name != real])
        home = os.path.expanduser("~")
        named = (os.environ.get(name, "") for name in _SAID)
        own, above = _of_user(home, *named)
        return cls(start, tuple(set(folders.values())), home, links, own, above)

    def canonical(self, path: str) -> str:
        """An absolute path with aliases of folders replaced by their real paths."""
        for name, real in self.links:
            if path == name or path.startswith(f"{name}/"):
                return real + path[len(name) :]
        return path

    def beneath(self, path: str) -> bool:
        """Whether this canonical path is one of the roots or below one."""
        for root in self.roots:
            if path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
                return True
        return False


_SAID: Final = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "LORIMER_STORE")


@lru_cache(maxsize=8)  # looks where some forty links lead
def _of_user(
    home: str, config: str, data: str, store: str
) -> tuple[tuple[str, ...], frozenset[str]]:
    """`Place.own` and `Place.above`, from the environment."""
    said = dict(zip(_SAID, (config, data, store), strict=True))
    found = [*protected_paths({"HOME": home, **said}), *[Path(home, name) for name in _START_UP]]
    paths = {Path(form) for path in found for form in (path, os.path.realpath(path))}
    own = [f"{path}/".lower() for path in paths]
    above = {f"{folder}/".lower() for path in paths for folder in path.parents}
    return tuple(own), frozenset(above)


@record
class PathUse:
    """A path among the arguments, or one that a shell opens."""

    argument: str
    text: str
    """As given in the call."""
    forms: tuple[str, ...]
    """Absolute: as spelled, and with links followed. Empty: unknown."""
    climbs: bool
    """It contains `..`, so its meaning depends on links."""

    @property
    def elsewhere(self) -> str:
        """Where it leads, if that differs from its spelling; else ""."""
        return self.forms[-1] if len(self.forms) > 1 else ""


@record
class HostUse:
    """A host that would be contacted; "" if the URL cannot be parsed."""

    argument: str
    host: str
    port: int | None


@record
class CommandUse:
    """A command line for a shell."""

    argument: str
    text: str
    parsed: Parsed


Resource: TypeAlias = PathUse | HostUse | CommandUse


@record
class Call:
    """One call as the engine sees it."""

    entry: Entry
    input: ToolInput
    kinds: frozenset[Kind]
    resources: tuple[Resource, ...] = ()
    folder: str = ""
    """The folder in which its commands start, relative to the workspace."""


def call_of(
    entry: Entry, input: ToolInput, place: Place, read: Callable[[str], Parsed] = parse
) -> Call:
    """Convert a call's arguments to the form that rules are matched against. Resolves links, and
    changes nothing. `read` parses command lines: `parse`, or a cached version of it."""
    tool = entry.tool
    paths: list[PathUse] = []
    for name in tool.paths:
        paths += [path_use(name, text, place) for text in _texts(input.get(name)) if text]
    resources: list[Resource] = [*paths]
    for name in tool.urls:
        resources += [host_use(name, text) for text in _texts(input.get(name))]
    for name in tool.commands:
        for text in _texts(input.get(name)):
            text = clean(text)
            resources.append(CommandUse(name, text, read(text)))
    kinds = entry.kinds
    if tool.paths:
        kinds = kinds_of(entry.effects, paths, place)
        if tool.commands or tool.confined:
            kinds -= {Kind.POLICY}
    return Call(entry, input, kinds, tuple(resources))


def kinds_without_paths(effects: Iterable[str], *, commands: bool) -> frozenset[Kind]:
    """The effects of a call that names no path. A call that starts programs could do anything, but
    it counts as `exec`: it needs no permission to change permissions."""
    kinds = kinds_of(effects, (), Place())
    return kinds - {Kind.POLICY} if commands else kinds


def kinds_of(effects: Iterable[str], paths: Sequence[PathUse], place: Place) -> frozenset[Kind]:
    """The effects of a call, distinguished by target. A write without a path may go anywhere."""
    kinds: set[Kind] = set()
    inside = True
    for path in paths:
        inside = inside and _inside(path, place)
    for effect in effects:
        if effect == "read":
            kinds.add(Kind.READ if inside else Kind.READ_OUTSIDE)
        elif effect == "write":
            kinds.add(Kind.WRITE if inside and paths else Kind.WRITE_OUTSIDE)
            for path in paths:
                if _protected(path, place):
                    kinds.add(Kind.PROTECTED)
        else:
            kinds.add(_PLAIN[effect])
    return frozenset(kinds)


def path_use(argument: str, text: str, place: Place, *, moved: bool = False) -> PathUse:
    """`moved`: an earlier command changes the folder that it is relative to."""
    absolute = text.startswith("/")
    climbs = ".." in text and ".." in text.split("/")
    if "\0" in text or (not absolute and (moved or not place.workspace)):
        return PathUse(argument, text, (), climbs)
    asked = text if absolute else f"{place.workspace}/{text}"
    spelled = normpath(asked)
    if spelled.startswith("//"):
        spelled = spelled[1:]
    spelled = place.canonical(spelled)
    real = os.path.realpath(asked) if climbs else _real(spelled, place)
    return PathUse(argument, text, (spelled,) if real == spelled else (spelled, real), climbs)


def _real(path: str, place: Place) -> str:
    """Where a normalised path leads. In the workspace, only the part below it is resolved."""
    root = f"{place.workspace}/"
    if not place.workspace or not path.startswith(root):
        return os.path.realpath(path)
    at = len(root)
    while True:
        at = path.find("/", at)
        upto = path if at < 0 else path[:at]
        try:
            if S_ISLNK(os.lstat(upto).st_mode):
                return os.path.realpath(path)
        except OSError:
            return path  # nothing is there, so nothing leads away
        if at < 0:
            return path
        at += 1


def host_use(argument: str, text: str) -> HostUse:
    """As parsed by `lorimer.world.guarded.parse_url`, if it can parse it."""
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return HostUse(argument, "", None)
    if parts.scheme not in ("http", "https") or "\\" in text or not host.isascii():
        return HostUse(argument, "", None)
    return HostUse(argument, host, port or (443 if parts.scheme == "https" else 80))


def redirected(use: CommandUse, place: Place, folder: str = "") -> list[tuple[str, PathUse]]:
    """The files that a command line, started in `folder` of the workspace, reads and writes through
    the shell: `Read` or `Write`, and the path."""
    if folder and place.workspace:
        place = replace(place, workspace=f"{place.workspace}/{folder}")
    found: list[tuple[str, PathUse]] = []
    moved = False
    for command in use.parsed.commands:
        for redirect in command.redirects:
            tool = "Write" if redirect.writes else "Read"
            found.append((tool, path_use("file_path", redirect.path, place, moved=moved)))
        moved = moved or not ELSEWHERE.isdisjoint(command.argv)
    return found


def may_open_more(use: CommandUse) -> bool:
    """Whether `redirected` may not find all: the line is not understood, or starts a shell."""
    if use.parsed.complex:
        return True
    return any(
        not SHELLS.isdisjoint(map(os.path.basename, command.argv))
        for command in use.parsed.commands
    )


def perhaps_redirected(
    use: CommandUse, place: Place, folder: str = ""
) -> list[tuple[str, PathUse]]:
    """Like `redirected`, for a line that is not understood: the files that it might open. Not for
    rules that allow."""
    start = f"{place.workspace}/{folder}" if folder and place.workspace else place.workspace
    any_file = [(tool, PathUse("file_path", "", (), climbs=False)) for tool in ("Read", "Write")]
    if len(use.text) > MAX_CHARS:  # it would take too long
        return any_file
    paths, changes = opened(use.text)
    most = min(_MAX_OPENED // (len(paths) or 1), 250)
    folders = _perhaps_in(changes, place, start, most)
    if len(folders) > most:
        return any_file
    found: list[tuple[str, PathUse]] = []
    for path, writes in paths:
        if path == "/dev/null":
            continue
        for base in folders:
            asked = os.path.join(base, _named(path, place))
            found.append(("Write" if writes else "Read", path_use("file_path", asked, place)))
            if asked == path:  # absolute
                break
    return found


def _perhaps_in(chains: Iterable[Iterable[str]], place: Place, start: str, most: int) -> list[str]:
    """Where a line might be after some of its changes of the folder: each may fail. If there are
    more than `most`, only some."""
    found = {start: None}
    for chain in chains:
        here = [start]
        for entry in chain:
            named = _named(entry, place)
            if named in ("", ".", "-") or "$" in named:  # no other folder, or an unknown one
                continue
            before = here if len(here) <= _MAX_FOLDERS else [start, here[-1]]
            here = list(dict.fromkeys([*here, *[os.path.join(each, named) for each in before]]))
            if len(here) > most:
                return here
        found.update(dict.fromkeys(here))
    return list(found)


def _named(path: str, place: Place) -> str:
    """A path as a shell would have it, relative to the folder that it is in."""
    if path.startswith(("~", "$")):
        path = _HERE.sub("", _HOME.sub(lambda _: place.home, path, count=1), count=1)
    return path


def led(resources: Iterable[Resource], place: Place, folder: str = "") -> list[str]:
    """As text: which paths of a call, or opened for it by a shell, lead elsewhere than spelled.
    `folder` as in `redirected`."""
    paths: list[PathUse] = []
    for use in resources:
        if isinstance(use, PathUse):
            paths.append(use)
        elif isinstance(use, CommandUse):
            paths += [path for _, path in redirected(use, place, folder)]
    return [clean(f"{use.text} leads to {use.elsewhere}") for use in paths if use.elsewhere]


def _inside(path: PathUse, place: Place) -> bool:
    for form in path.forms:
        if not place.beneath(form):
            return False
    return bool(path.forms)


def _protected(path: PathUse, place: Place) -> bool:
    for form in path.forms:
        alike = spellings(form)
        names = alike[-1].split("/")
        if not PROTECTED.isdisjoint(names) and not PROTECTED.isdisjoint(
            names[_depth(form, place) :]
        ):
            return True
        for spelling in alike:
            whole = f"{spelling}/"
            if whole in place.above or whole.startswith(place.own):
                return True
    return False


def _depth(path: str, place: Place) -> int:
    """How many of its names belong to the root that it is below."""
    for root in place.roots:
        if path.startswith(f"{root}/"):
            return root.count("/") + 1
    return 0


def _texts(value: JSON) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [item for item in value if isinstance(item, str)]
    return []
