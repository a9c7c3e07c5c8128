"""Whether a rule with an open end (`git log **`) covers a command, given what its program can do
with the words that the rule leaves open. The tables of programs are in `program_tables.py`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from posixpath import basename
from typing import Final

from lorimer.tools.shell.program_tables import (
    GIT_SUBCOMMANDS,
    LOADS_LOCAL_CODE,
    OPEN_AFTER,
    RISKY_OPTIONS,
    RISKY_SUBCOMMANDS,
    RUNNERS,
    TARS,
    WRITES_SECOND_OPERAND,
)

ELSEWHERE: Final = frozenset({"cd", "pushd", "popd"})
"""Commands after which relative paths mean something else."""

SHELLS: Final = frozenset(
    "sh bash dash ash zsh ksh mksh yash fish csh tcsh rbash busybox toybox eval env trap alias "
    "su sg runuser script watch flock".split()
)
"""Commands that may parse a word of theirs as a command line of its own."""

ENVIRONMENT: Final = frozenset(
    "LANG LC_ALL LC_COLLATE LC_CTYPE LC_MESSAGES LC_NUMERIC LC_TIME TZ NO_COLOR FORCE_COLOR "
    "CLICOLOR COLUMNS LINES TERM CI".split()
)
"""Variables that may be set for a command without changing what it runs."""

_REMOTE: Final = re.compile(
    r"origin|upstream|(?:https?|ssh|git)://.*|[A-Za-z0-9_.-]+@[A-Za-z0-9][A-Za-z0-9_.-]*:.*",
    re.DOTALL,
)
"""A push target that is surely another machine, or was set up by a person. Any other word may be a
folder, whose hooks the push would run."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@+,-]*", re.ASCII)
_WRAPPERS: Final = frozenset("timeout nohup setsid command builtin nice env".split())
"""Programs that `_without_wrapper` removes."""
_MAX_WRAPPERS: Final = 8
"""Wrappers in wrappers; each takes time as the line is long."""
_DURATION: Final = re.compile(r"[0-9]+(\.[0-9]+)?[smhd]?", re.ASCII)
_NICENESS: Final = re.compile(r"-?[0-9]+")
_VERSIONED: Final = re.compile(r"(.*[A-Za-z+])-?[0-9]+(?:\.[0-9]+)*(?:t|-dbg)?", re.ASCII)
_TARGET: Final = re.compile(r"(?:\w+-)*linux-(?:gnu|musl)\w*-", re.ASCII)
"""The prefix of a cross compiler's name: `x86_64-linux-gnu-gcc`."""
_OWN_OPTIONS_END_AT_DASHES: Final = frozenset({"npm", "pnpm", "cargo"})
"""Programs that pass what follows `--` to the recipe that the rule names."""


def unwrapped(argv: Sequence[str]) -> tuple[str, ...] | None:
    """The command inside all wrappers: `timeout 5 ...`, `nice ...`, `nohup ...`, `env A=b ...` and
    the like. None if it is uncertain: only the simplest forms of wrappers are understood."""
    if argv and argv[0] not in _WRAPPERS:  # most commands
        return tuple(argv)
    words: Sequence[str] = argv
    for _ in range(_MAX_WRAPPERS if words else 0):
        inner = _without_wrapper(words)
        if inner is None:
            return None
        if len(inner) == len(words):
            return tuple(words) if not words[0].startswith("-") else None
        words = inner
    return None


def _without_wrapper(words: Sequence[str]) -> Sequence[str] | None:
    """The command inside the first wrapper; `words` if they do not start with one; None if it is
    uncertain. A wrapper is known by its bare name: a path may lead to any program of that name."""
    match words[0]:
        case "timeout" if len(words) > 2 and _DURATION.fullmatch(words[1]):
            return words[2:]
        case "nice" if len(words) > 3 and words[1] == "-n" and _NICENESS.fullmatch(words[2]):
            return words[3:]
        case "nohup" | "setsid" | "command" | "builtin" | "nice" if len(words) > 1:
            return None if words[1].startswith("-") else words[1:]
        case "env" if len(words) > 1:
            return _without_env(words)
        case _:
            return words


def _without_env(words: Sequence[str]) -> Sequence[str] | None:
    for at, word in enumerate(words[1:], 1):
        if word.startswith("-"):
            return None
        name, assigns, _ = word.partition("=")
        if not assigns:
            return words[at:]
        if name not in ENVIRONMENT:
            return None
    return None


def opens(argv: Sequence[str], literal: int) -> str:
    """Why a rule of `literal` literal words and an open end does not cover this command; "": it
    does."""
    name = known_as(argv[0])
    if name in RUNNERS and literal < len(argv) and (why := _of_runner(name, argv, literal)):
        return why
    subcommand = _risky_subcommand(name, argv) if literal < 3 else ""
    if subcommand:
        return f"{name} {subcommand} can run other programs or write files"
    if name == "git" and (why := _of_git(argv, literal)):
        return why
    if why := _of_options(name, argv, literal):
        return why
    if name in WRITES_SECOND_OPERAND and len(_operands(argv[1:])) > 1:
        return f"{name} writes its second file"
    return ""


def _of_runner(name: str, argv: Sequence[str], literal: int) -> str:
    """Why the open words of a runner are not covered; "": they are."""
    not_enough = OPEN_AFTER.get(name)
    if not_enough is None or literal <= not_enough:
        return f"the arguments of {name} can make it run anything"
    rest = argv[literal:]
    if name in ("make", "just") and any("=" in word or word.startswith("-") for word in rest):
        return f"options and assignments can make {name} run anything"
    if name == "just" and any(_PLAIN.fullmatch(word) is None for word in rest):
        return f"{name} puts its arguments into shell commands"
    return ""


def _of_git(argv: Sequence[str], literal: int) -> str:
    """Why an open rule for git does not cover the subcommand, or where it pushes; "": it does."""
    at = next((at for at, word in enumerate(argv) if at and not word.startswith("-")), len(argv))
    subcommand = argv[at] if at < len(argv) else ""
    if subcommand and literal < 2 and subcommand not in GIT_SUBCOMMANDS:
        return f"git {subcommand} may be an alias or another program"
    words = argv[at + 1 :]
    operands, spelled_out = _operands(words), argv[at + 1 : literal]
    targets: Sequence[str] = ()  # of this push, or of later ones
    if subcommand == "push" or (
        subcommand in ("fetch", "pull") and any(word.startswith("--set-u") for word in words)
    ):
        targets = operands[:1]
    elif subcommand == "remote" and operands[:1] in (["add"], ["set-url"]):
        targets = operands[2:]
    by_option = subcommand == "push" and any(word.startswith("--rep") for word in words)
    if by_option or any(
        word not in spelled_out and _REMOTE.fullmatch(word) is None for word in targets
    ):
        return "git push can go to a folder, and runs the hooks there"
    return ""


def _of_options(name: str, argv: Sequence[str], literal: int) -> str:
    """Why an open rule does not cover the options of this command; "": it does."""
    risky = RISKY_OPTIONS.get(name, ())
    for at, word in enumerate(argv[literal:], literal):
        if word == "--" and name in _OWN_OPTIONS_END_AT_DASHES:
            break
        if word == "--" and name == "gh":
            return "gh passes what follows -- to git, whose options can run other programs"
        if name == "git" and word == "-p" and literal > 1:
            continue  # a patch; before the subcommand it would be a pager
        if name in TARS and ":" in word:
            return f"{name} takes a name with a : to be on another machine"
        option = _risky_option(_spelled(name, word, at), risky)
        if option:
            return f"{name} {option} can run other programs or write files"
    return ""


def _spelled(name: str, word: str, at: int) -> str:
    """An option in the spelling of the table."""
    if name in TARS and at == 1 and not word.startswith("-"):
        return f"-{word}"  # `tar xf`: its letters need no dash
    return word[1:] if name == "go" and word.startswith("--") else word


def _operands(words: Sequence[str]) -> list[str]:
    """The words that may be operands: all but options. Values of options are among them."""
    if "--" in words:
        end = words.index("--")
        return [*_operands(words[:end]), *words[end + 1 :]]
    return [word for word in words if word == "-" or not word.startswith("-")]


def known_as(program: str) -> str:
    """The name of a program in the tables: without its folder, target and version."""
    name = _TARGET.sub("", basename(program))
    versioned = None if name in RUNNERS or name in RISKY_OPTIONS else _VERSIONED.fullmatch(name)
    return name if versioned is None else str(versioned[1])


def moved(argv: Sequence[str]) -> str:
    """Why no rule covers this command after a change of the working directory; "": one may."""
    name = known_as(argv[0])
    if "/" in argv[0] and not argv[0].startswith("/"):
        return f"{argv[0]} is a different program in a different folder"
    if name in RUNNERS or name in RISKY_SUBCOMMANDS or name in LOADS_LOCAL_CODE:
        return f"what {name} runs depends on the folder, which an earlier command changes"
    return ""


def _risky_subcommand(name: str, argv: Sequence[str]) -> str:
    """The risky subcommand that this command could be; "": none."""
    risky = RISKY_SUBCOMMANDS.get(name)
    if risky is None:
        return ""
    after_option = False
    for word in argv[1:]:
        if word in risky:
            return word
        if not word.startswith("-") and not after_option:
            return ""
        after_option = word.startswith("-") and "=" not in word  # the next may be its value
    return ""


def _risky_option(word: str, risky: tuple[str, ...]) -> str:
    """The option of `risky` that this word could be; "": none."""
    if not word.startswith(("-", "@")) or word in ("-", "--"):
        return ""
    return next((option.lstrip("=") for option in risky if _could_be(word, option)), "")


def _could_be(word: str, option: str) -> bool:
    """Whether `word` is an option of the table: spelled out, abbreviated or in a bundle."""
    head = word.partition("=")[0]
    if option.startswith("="):
        return head == option[1:]
    if option.startswith("--"):
        if option.endswith(".") and head.startswith(option):
            return True
        return head.startswith("--") and len(head) > 2 and option.startswith(head)
    if len(option) == 2 and option[0] == "-":  # also in a bundle: `-xvo file`
        return word.startswith("-") and not word.startswith("--") and option[1] in word[1:]
    return word.startswith(option)
