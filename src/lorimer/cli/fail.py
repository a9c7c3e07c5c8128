"""Exit codes, and the one line on stderr that goes with them.

The table of exit codes is here and nowhere else; `lorimer --help` prints it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Final

import click

from lorimer.cli.error_context import named_store
from lorimer.cli.text import coloured, on_line, visible
from lorimer.core.errors import (
    ConfigError,
    ErrorCategory,
    ExecutorErrorCode,
    LorimerError,
    close_to,
)
from lorimer.core.redaction import of_environment

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
LIMIT: Final = 3
STORE: Final = 4
WAITING: Final = 5
INTERRUPTED: Final = 130
TERMINATED: Final = 143

EXIT_CODES: Final[Mapping[int, str]] = {
    OK: "the run succeeded",
    FAILED: "the run ended in an error",
    USAGE: "usage or configuration: no model was called",
    LIMIT: "a limit (turns, time, cost, tool calls), a guard, a hook or a person stopped the run",
    STORE: "the store of runs could not be used, or is in use",
    WAITING: "the run waits for an answer; answer, then resume it",
    INTERRUPTED: "stopped by Ctrl-C; the run ended as cancelled",
    TERMINATED: "stopped by SIGTERM (SIGHUP: 129); the run can be resumed",
}

_OF_A_STORE: Final = re.compile(r"\blorimer (?:runs|sessions) [a-z]+\b(?! --help)")
_ELSEWHERE: Final[Mapping[str, str]] = {
    "--resume": "A run: lorimer runs resume RUN; a chat: lorimer chat --resume ID",
    "--continue": "A run: lorimer runs resume RUN; a chat: lorimer chat --continue",
}
"""Options that people know from similar programs, and what they are here."""
_TOO_MANY: Final = "Got unexpected extra argument"
"""The beginning of click's message for it."""

_BY_CATEGORY: Final[Mapping[ErrorCategory, int]] = {
    ErrorCategory.CONFIG: USAGE,
    ErrorCategory.LIMIT: LIMIT,
    ErrorCategory.STORE: STORE,
}
_BY_CODE: Final[Mapping[ExecutorErrorCode, int]] = {
    ExecutorErrorCode.EXEC_API_NO_CLIENT: USAGE,
    ExecutorErrorCode.EXEC_RUN_CANCELLED: INTERRUPTED,
    ExecutorErrorCode.EXEC_RUN_SHUTDOWN: TERMINATED,
    ExecutorErrorCode.EXEC_RUN_WAITING: WAITING,
}


class Fault(click.UsageError):
    """Something the user has to change, reported in one line and a hint. Exit code 2."""

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def exit_code(error: LorimerError) -> int:
    """The exit code for an error, by its code, else by its category."""
    return _BY_CODE.get(error.code) or _BY_CATEGORY.get(error.category, FAILED)


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or "" if nothing is similar to `word`."""
    close = close_to(word, sorted(set(known)))
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def report(message: str, *, code: str = "", hint: str = "", store: str = "") -> None:
    """Print `error: ...` and perhaps `hint: ...` on stderr, each on one line. Commands in the hint
    get ` --store PATH`, if the user gave one: from `store`, else from the running command."""
    store = store or named_store()
    if "--store" not in hint:
        hint = _OF_A_STORE.sub(lambda found: found[0] + store, hint)
    redactor = of_environment()
    if redactor is not None:
        message, hint = redactor.text(message), redactor.text(hint)
    where = f" ({code})" if code else ""
    text = " ".join(visible(message).split()).rstrip(".")
    _say(f"{click.style('error:', fg='red', bold=True)} {text}{where}")
    if hint:
        _say(f"{click.style('hint:', fg='cyan')} {' '.join(visible(hint).split())}")


def tell_notes(notes: Iterable[str]) -> None:
    """Print each note on stderr, escaped and on one line: it may contain untrusted text."""
    for note in notes:
        click.echo(on_line(f"note: {note}"), err=True)


def _say(line: str) -> None:
    click.echo(line, err=True, color=coloured())  # there may be no click context


def stdout_lost(error: OSError, kept: str = "") -> int:
    """Report that stdout cannot be written, and drop its buffered output, which would fail again at
    the end of the process. Returns the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    report(f"cannot write to standard output: {error.strerror or error}{kept}")
    return FAILED


def report_error(error: LorimerError, store: str = "") -> int:
    """Print a Lorimer error, with several problems of one document one per line. Returns its exit
    code."""
    redactor = of_environment()
    problems = error.problems if isinstance(error, ConfigError) else ()
    if len(problems) > 1:
        head, mark, _ = str(error).partition(": " + problems[0])
        report(head if mark else str(error), code=error.code.value, hint=error.hint, store=store)
        for problem in problems:
            shown = problem if redactor is None else redactor.text(problem)
            click.echo(f"  {' '.join(visible(shown).split())}", err=True)
    else:
        report(str(error), code=error.code.value, hint=error.hint, store=store)
    return exit_code(error)


def report_usage(error: click.ClickException, store: str = "") -> int:
    """Print what click or a command found wrong with the command line."""
    hint, code = "", ""
    match error:
        case Fault():
            text, hint, code = error.message, error.hint, error.code
        case click.NoSuchOption():
            known = _options(error.ctx)
            text = f"there is no option {error.option_name!r}"
            hint = _ELSEWHERE.get(error.option_name, "")
            text += "" if hint else suggest(error.option_name, known)
        case click.NoSuchCommand():
            known = _commands(error.ctx)
            text = f"there is no command {error.command_name!r}"
            text += f"{suggest(error.command_name, known) or '.'} Known: {', '.join(known)}"
        case _:
            text = error.format_message()
            text = text[:1].lower() + text[1:]
    if not hint and isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
        if error.message.startswith(_TOO_MANY):
            takes = any(isinstance(each, click.Argument) for each in error.ctx.command.params)
            why = (
                "Several words that are one text go into quotes" if takes else "It has options only"
            )
            hint = f"{why}. See: {hint}"
    report(text, code=code, hint=hint, store=store)
    return USAGE if isinstance(error, click.UsageError) else error.exit_code


def _commands(context: click.Context | None) -> list[str]:
    if context is None or not isinstance(context.command, click.Group):
        return []
    return context.command.list_commands(context)


def _options(context: click.Context | None) -> list[str]:
    if context is None:
        return []
    return [
        name
        for parameter in context.command.get_params(context)
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-")
    ]


class OneOf(click.Choice[str]):
    """A choice whose error shows the most similar name."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        known = [str(choice) for choice in self.choices]
        return f"there is no {value!r}{suggest(str(value), known) or '.'} Known: {', '.join(known)}"
