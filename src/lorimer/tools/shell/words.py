"""How a permitted command line is started: without a shell if it is one simple command, so exactly
the permitted words run."""

from __future__ import annotations

from typing import Final

from lorimer.core.jsonable import clean
from lorimer.tools.shell.parse import parse

_BUILTINS: Final = frozenset(
    """. : [ alias bg bind break builtin caller cd command compgen complete compopt continue declare
    dirs disown echo enable eval exec exit export false fc fg getopts hash help history jobs kill
    let local logout mapfile popd printf pushd pwd read readarray readonly return set shift shopt
    source suspend test times trap true type typeset ulimit umask unalias unset wait""".split()
)
"""Commands that bash implements itself: there is no such program, or it behaves differently."""

_BASH: Final = ("bash", "--noprofile", "--norc", "-c")


def start_of(command: str) -> tuple[str, ...]:
    """The argument vector that runs a command line."""
    command = clean(command)
    simple = parse(command).simple
    if simple is None:
        return (*_BASH, command)
    if simple.argv[0] in _BUILTINS:
        return by_bash(simple.argv)
    return simple.argv


def by_bash(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The argument vector by which bash runs exactly these words, without expanding any."""
    return (*_BASH, '"$@"', "bash", *argv)
