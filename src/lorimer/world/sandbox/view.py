"""What a sandboxed process sees of the disk: which folders are writable, readable, or absent.

The longest path that contains a file decides about it; for equal paths the most open access
applies, so that a workspace may lie in a folder that is hidden.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Final

from lorimer.core.world import Sandbox, SandboxMode
from lorimer.world.hosts import listed

PRIVATE: Final = (Path("/tmp"), Path("/run"))  # noqa: S108 - the folder of all, not a file in it
"""Contain files and sockets of other programs: a sandboxed process has its own instead."""

OF_PROJECT: Final = ".lorimer"
"""The folder of a workspace for the project's rules, hooks and settings."""

_OF_A_HOME: Final = (
    *(".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".oci", ".netrc", ".pgpass"),
    *(".git-credentials", ".npmrc", ".pypirc", ".cargo/credentials", ".cargo/credentials.toml"),
    *(".config/gcloud", ".config/gh", ".config/git/credentials", ".config/op", ".config/rclone"),
    *(".config/containers/auth.json", ".password-store", ".local/share/keyrings", ".mozilla"),
    *(".config/google-chrome", ".config/chromium", ".claude", ".claude.json", ".codex", ".gemini"),
    *(".anthropic", ".terraform.d", ".vault-token", ".bash_history", ".zsh_history"),
    *(".cache/huggingface/token", ".cache/huggingface/stored_tokens", ".huggingface/token"),
    *(".config/github-copilot", ".local/share/opencode/auth.json", ".gem/credentials"),
    *(".config/hub", ".config/doctl", ".config/stripe", ".fly", ".wrangler", ".config/.wrangler"),
    *(".local/share/com.vercel.cli/auth.json", ".config/netlify", ".databrickscfg", ".snowflake"),
    *(".s3cfg", ".boto", ".my.cnf", ".mc/config.json", ".config/sops", ".config/age"),
    *(".composer/auth.json", ".config/composer/auth.json", ".subversion/auth"),
    *(".config/Bitwarden CLI", ".config/BraveSoftware", ".config/microsoft-edge", ".thunderbird"),
    *(".local/share/fish/fish_history", ".python_history", ".node_repl_history"),
    *(".psql_history", ".mysql_history", ".sqlite_history", ".rediscli_history"),
    *(".config/lorimer", ".local/share/lorimer", "Library/Keychains"),
    *("Library/Application Support/lorimer",),
)


class Access(IntEnum):
    """From the most restrictive access to the most open."""

    PRIVATE = 0
    """Replaced by an empty folder of its own."""
    HIDDEN = 1
    READ = 2
    WRITE = 3


@dataclass(frozen=True, slots=True)
class View:
    """Access by path, parents first. All other paths are readable."""

    words: Sequence[tuple[Path, Access]]

    def of(self, access: Access) -> list[Path]:
        """The paths with this access."""
        return [path for path, word in self.words if word is access]


def sandbox_for(
    mode: SandboxMode,
    *,
    writable: Sequence[Path],
    network: bool | Iterable[str],
    hidden: Sequence[Path] = (),
) -> Sandbox | None:
    """What programs started by tools may access, according to the host's setting: `auto` the best
    level that works, `require` nothing below L2, `off` no sandbox. Protected paths are hidden.
    `network` is a list of hosts, or True for all public ones. Raises ConfigError for an invalid
    entry."""
    hosts = listed(network)
    if mode == "off":
        return None
    _make_hideable(own_folders(os.environ), writable)
    return Sandbox(
        at_least="L2" if mode == "require" else "L0",
        hosts=hosts,
        writable=tuple(writable),
        hidden=(*protected_paths(os.environ), *hidden),
    )


def own_folders(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Lorimer's settings and store of the user, at their standard locations, with and without
    HOME."""
    homes = _homes(environment)
    found: list[Path] = []
    for variable, usual in (("XDG_CONFIG_HOME", ".config"), ("XDG_DATA_HOME", ".local/share")):
        given = environment.get(variable, "")
        if os.path.isabs(given):
            found.append(Path(given, "lorimer"))
        else:
            found += [Path(home, usual, "lorimer") for home in homes]
    return tuple(found)


def _homes(environment: Mapping[str, str]) -> list[str]:
    """The home directory that HOME names, and the account's own: programs such as ssh look there
    whatever HOME says, as in a service or after `sudo`. None for a user without an account."""
    named = environment.get("HOME")
    found = [] if named is None else [named or "/"]  # as `os.path.expanduser` takes it
    return list(dict.fromkeys([*found, *_of_account(os.getuid())]))


@cache  # may ask a directory service
def _of_account(user: int) -> list[str]:
    try:
        return [pwd.getpwuid(user).pw_dir]
    except KeyError:
        return []


def _make_hideable(folders: Iterable[Path], writable: Iterable[Path]) -> None:
    """Create missing ones that a program in the sandbox could create: only existing folders can be
    hidden, and what a program writes into one would count as the user's own settings."""
    open_to_all = [Path(os.path.realpath(path)) for path in writable]
    for folder in folders:
        real = Path(os.path.realpath(folder))
        if any(map(real.is_relative_to, open_to_all)):
            with suppress(OSError):  # then a program cannot create it either
                real.mkdir(0o700, parents=True, exist_ok=True)


def protected_paths(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """The usual locations of keys, logins and Lorimer's own store and settings of the user."""
    found = [path for home in _homes(environment) for path in _of_home(home)]
    found += own_folders(environment)
    store = environment.get("LORIMER_STORE")
    if store:
        found += with_siblings(Path(os.path.expanduser(store)))
    return tuple(found)


@cache
def _of_home(home: str) -> tuple[Path, ...]:
    return tuple([Path(home, name) for name in _OF_A_HOME])


def with_siblings(store: Path) -> list[Path]:
    """The file of a store, and those that SQLite keeps next to it."""
    return [store, *(store.with_name(store.name + end) for end in ("-wal", "-shm", "-journal"))]


def kept(sandbox: Sandbox) -> list[Path]:
    """Folders in writable ones that stay read-only: a project's rules, and its hooks, which run
    outside of the sandbox and must not change between the check and the start."""
    found = [Path(os.path.realpath(path / OF_PROJECT)) for path in sandbox.writable]
    return [path for path in found if path.is_dir()]


def view_of(sandbox: Sandbox, cwd: Path, environment: Mapping[str, str]) -> View:
    """What a process started in `cwd` sees. Programs on its PATH stay visible. Starting in a folder
    does not open it if it is hidden, nor if it lies elsewhere and is reached by a link in the
    workspace: the link may come from a program, and the process be another one that is about to
    start."""
    words: dict[Path, Access] = {}

    def say(path: Path, access: Access) -> None:
        real = Path(os.path.realpath(path))
        words[real] = max(access, words.get(real, access))

    for path in PRIVATE:
        say(path, Access.PRIVATE)
    for path in sandbox.hidden:
        if os.path.lexists(path):
            say(path, Access.HIDDEN)
    private = [Path(os.path.realpath(path)) for path in PRIVATE]
    for path in _programs(environment):
        real = Path(os.path.realpath(path))
        within = real not in private and any(map(real.is_relative_to, private))
        if within and os.path.exists(real):  # which is False, not an error, where it may not look
            say(real, Access.READ)
    for path in kept(sandbox):
        if path not in words:
            say(path, Access.READ)
    writable = [Path(os.path.realpath(path)) for path in sandbox.writable]
    closed = [path for path, access in words.items() if access is Access.HIDDEN]
    begins, named = Path(os.path.realpath(cwd)), Path(os.path.abspath(cwd))
    apart = [*writable, *closed]  # beneath a writable one it is just as writable
    led = any(map(named.is_relative_to, [*writable, *sandbox.writable]))
    if not led and not any(map(begins.is_relative_to, apart)):
        say(cwd, Access.READ)
    for path in writable:
        say(path, Access.WRITE)
    return View(sorted(words.items(), key=lambda item: len(item[0].parts)))


def _programs(environment: Mapping[str, str]) -> list[Path]:
    search = environment.get("PATH", "").split(os.pathsep)
    found = [Path(name) for name in search if os.path.isabs(name)]
    own = Path(__file__).parents[2]  # including Lorimer's own programs, such as Grep's
    return [own, Path(sys.prefix), Path(sys.base_prefix), *found]
