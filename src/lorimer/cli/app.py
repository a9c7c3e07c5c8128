"""The group `lorimer`: its commands, and how failures are reported.

A command's module is imported when it is used, so that `--help` is fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final, NoReturn, cast

import click

from lorimer.cli.error_context import ErrorContext
from lorimer.cli.text import coloured, visible
from lorimer.core.errors import LorimerError
from lorimer.core.redaction import Redactor, of_environment

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "run": ("lorimer.cli.run:run", "Give an agent a task and watch it work."),
    "chat": ("lorimer.cli.chat.command:chat", "Chat with an agent in the terminal."),
    "sessions": ("lorimer.cli.sessions:sessions", "List and delete conversations."),
    "runs": ("lorimer.cli.runs.command:runs", "List, read, check and resume runs."),
    "audit": ("lorimer.cli.audit:audit", "Read and verify the audit of a host's runs."),
    "permissions": (
        "lorimer.cli.permissions:permissions",
        "Explain, check and trust the rules for tools.",
    ),
    "models": ("lorimer.cli.models:models", "List and check the available models."),
    "steps": (
        "lorimer.cli.steps.command:steps",
        "Run the stale cells of a script or notebook again.",
    ),
    "manifest": ("lorimer.cli.manifest.command:manifest", "Write, check and explain manifests."),
    "doctor": ("lorimer.cli.doctor:doctor", "Check what works here, and how to fix the rest."),
    "demo": ("lorimer.cli.demo.command:demo", "Watch an agent work, be killed, and resume."),
}
"""Name to `module:command` and what it does."""


class Lazy(click.Group):
    """A group whose commands are imported when used, and whose failures are printed on one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        return cast("click.Command", vars(import_module(module))[name])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from lorimer.cli.fail import EXIT_CODES

        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])

    def main(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: object,
    ) -> NoReturn:
        """Run a command line and exit with a documented code. Tracebacks only with --debug."""
        words, debug = _without_debug(sys.argv[1:] if args is None else args)
        extra["obj"] = known = ErrorContext()
        extra.setdefault("color", coloured())
        try:
            done = super().main(
                words,
                prog_name or "lorimer",
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
            sys.stdout.flush()
        except Exception as error:  # noqa: BLE001 - told, in one line or whole
            redactor = of_environment(known.secrets)
            if debug and not isinstance(error, click.exceptions.Exit):
                click.echo(_traceback(error, redactor), err=True, nl=False)
            if redactor is not None and isinstance(error, LorimerError):
                redactor.error(error)
            sys.exit(_told(error, known.store))
        except KeyboardInterrupt:
            from lorimer.cli.fail import INTERRUPTED

            sys.exit(INTERRUPTED)
        sys.exit(done if isinstance(done, int) else 0)


def _without_debug(args: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, and whether it was given: it may be anywhere before a
    `--`."""
    end = args.index("--") if "--" in args else len(args)
    words = [word for at, word in enumerate(args) if at >= end or word != "--debug"]
    return words, len(words) < len(args)


def _traceback(error: Exception, redactor: Redactor | None) -> str:
    import traceback

    text = "".join(traceback.format_exception(error))
    return visible(text if redactor is None else redactor.text(text))


def _told(error: Exception, store: str) -> int:
    """Report an error; returns the exit code. `store`: ` --store PATH`, if one was named."""
    from lorimer.cli import fail

    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return fail.USAGE
        case click.ClickException():
            return fail.report_usage(error, store)
        case click.Abort():
            return fail.INTERRUPTED
        case LorimerError():
            return fail.report_error(error, store)
        case BrokenPipeError():
            # the reader of our output is gone: there is nobody to report to, and nothing to flush
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return fail.FAILED
        case OSError():
            try:
                sys.stdout.flush()
            except OSError as lost:
                return fail.stdout_lost(lost)
            if not error.filename and _is_of_echo(error):
                return fail.stdout_lost(error)
            if not error.filename and not _has_folder():
                fail.report("the current folder no longer exists", hint="Go to another one.")
                return fail.USAGE
            fail.report(_os_error(error))
            return fail.FAILED
        case _:
            fail.report(
                f"unexpected: {type(error).__name__}: {error}",
                hint="Run it again with --debug to see where, and please report it.",
            )
            return fail.FAILED


_WRITERS: Final = ("click.utils", "rich.console")


def _is_of_echo(error: OSError) -> bool:
    """Whether writing our output raised it. With PYTHONUNBUFFERED, nothing is left whose flushing
    would fail again."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") in _WRITERS


def _has_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"lorimer {version('lorimer')}")
        except PackageNotFoundError:
            click.echo("lorimer (run from its source, not installed)")
        context.exit()


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version.",
)
@click.option(
    "--debug", is_flag=True, expose_value=False, help="Show a traceback when something fails."
)
def lorimer() -> None:
    """Lorimer executes LLM agents: explicitly, within bounds, durably.

    \b
    Start here:
      lorimer demo                       see it work, no key needed
      lorimer run "what is in here?"     run an agent in this folder
      lorimer chat                       talk with one
      lorimer runs ls                    what has been run
    """
