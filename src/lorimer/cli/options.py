"""Options that several commands share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, cast, get_args

import click

from lorimer.cli.click_types import Whole
from lorimer.cli.drive import FORMATS, Output
from lorimer.cli.error_context import remember_store
from lorimer.cli.fail import OneOf
from lorimer.cli.host import models_option
from lorimer.core.world import SandboxMode
from lorimer.tools.policy.modes import Mode

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

F = TypeVar("F", bound=Callable[..., object])
P = ParamSpec("P")
T = TypeVar("T")
Command = Callable[..., int]
"""The function of a command; returns the exit code."""

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|)")
_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Terms:
    """The options of a run that are not part of the manifest."""

    workspace: Path | None
    allow: tuple[str, ...]
    base_url: str | None
    api_key_env: str | None
    store: str | None
    output: Output = field(default_factory=Output)
    ask_later: bool = False
    """A call that needs a person suspends the run until it is answered."""
    permission_mode: str | None = None
    """What happens to calls that no rule covers; None: what the rule files say."""
    models: str | None = None
    """The host file, if one was named."""
    sandbox: SandboxMode | None = None
    """How programs are confined; None: `auto`, or as strictly as when the run started."""
    network: tuple[str, ...] = ()
    """The hosts that commands may reach."""
    env: tuple[str, ...] = ()
    """The environment variables that the manifest may refer to."""
    notes: tuple[str, ...] = ()
    """Notes shown to the user before anything runs."""
    at_most: str | None = None
    """The mode that a resumed run started with, if no other is given; never a looser one."""


class Span(click.ParamType[float]):
    """Seconds, or `90s`, `5m`, `2h`, `30d`."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = _SPAN.fullmatch(str(value).strip())
        seconds = float(found[1]) * _SECONDS[found[2]] if found is not None else 0.0
        if seconds <= 0:
            self.fail(
                f"{value!r} is not a time: write seconds, or e.g. 90s, 5m, 2h, 30d", param, ctx
            )
        return seconds


def _named(_: click.Context, __: click.Parameter, store: str | None) -> str | None:
    remember_store(f" --store {quote(store)}" if store else "")
    return store


store_option = click.option(
    "--store",
    metavar="PATH",
    callback=_named,
    help="The SQLite file that stores runs. Default: $LORIMER_STORE, else one in the user's"
    " data directory.",
)


limit_option = click.option(
    "-n",
    "--limit",
    type=Whole(min=1),
    metavar="N",
    default=20,
    show_default=True,
    help="Most entries to list.",
)


def json_option(told: str) -> Callable[[F], F]:
    """The option `--json`, for a command that prints data; it gets `as_json`. `told`: its help.
    `--output-format json` means the same, as it does for `lorimer run`."""

    def decorate(command: F) -> F:
        @wraps(command)
        def gathered(*, as_json: bool, output_format: str, **others: object) -> object:
            return command(as_json=as_json or output_format == "json", **others)

        hidden = click.option(
            "--output-format", type=OneOf(("text", "json")), default="text", hidden=True
        )
        shown = click.option("--json", "as_json", is_flag=True, help=told)
        return cast("F", shown(hidden(gathered)))

    return decorate


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A decorator that adds all of these options; help shows them in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def asynchronous(command: Callable[P, Coroutine[None, None, T]]) -> Callable[P, T]:
    """A decorator for commands that are coroutines: each runs in an event loop of its own."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return asyncio.run(command(*args, **kwargs))

    return run


def gathered(name: str, kind: type[DataclassInstance]) -> Callable[[Command], Command]:
    """A decorator that hands the command the values of its options as one argument `name`: the
    dataclass `kind`, whose fields are called like the options."""
    make: Callable[..., object] = kind
    names = [each.name for each in fields(kind)]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: object) -> int:
            own = {each: given.pop(each) for each in names if each in given}
            return command(**{name: make(**own)}, **given)

        return run

    return decorate


_TERMS: Final = (
    click.option(
        "--workspace",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="The folder that tools work in and cannot leave. Default: the current one.",
    ),
    click.option(
        "--allow",
        metavar="RULE",
        multiple=True,
        help="Let calls run without asking: Tool or Tool(subject), taken literally, e.g."
        " --allow 'Bash(python analyse.py)'. May be given several times.",
    ),
    click.option(
        "--permission-mode",
        type=OneOf([mode.value for mode in Mode]),
        help="How calls are decided that no rule covers. Default: default on a terminal,"
        " dontAsk where nobody can be asked.",
    ),
    click.option(
        "--sandbox",
        type=OneOf(get_args(SandboxMode)),
        help="Sandbox commands at the best level that works here (auto, the default), only"
        " at level 2 with bubblewrap (require), or not (off). See: lorimer doctor.",
    ),
    click.option(
        "--network",
        metavar="HOSTS",
        multiple=True,
        help="Hosts that commands may reach, separated by commas: pypi.org,"
        " *.pythonhosted.org, localhost:8000; '*' for all public ones. Default: none.",
    ),
    click.option(
        "--env",
        metavar="NAMES",
        multiple=True,
        help="Environment variables that the manifest may use as ${NAME}, separated by"
        " commas. Default: none.",
    ),
    click.option("--base-url", metavar="URL", help="Instead of the provider's address."),
    click.option(
        "--api-key-env",
        metavar="NAME",
        help="The variable with the key for --base-url; without it, no key is sent.",
    ),
    models_option,
    store_option,
)
_OUTCOME: Final = (
    click.option(
        "--ask-later",
        is_flag=True,
        help="Do not ask now: a call that needs a person suspends the run until"
        " `lorimer runs answer`.",
    ),
    click.option(
        "--output-format",
        "format",
        type=OneOf(FORMATS),
        default="text",
        show_default=True,
        help="Print the answer, one JSON object, or each fact as it happens, one per line.",
    ),
    click.option(
        "--include-partial-messages",
        "deltas",
        is_flag=True,
        help="With stream-json: also pieces of text as they arrive.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="No progress; only errors."),
)


def terms_options(command: Command) -> Command:
    """Options of every command that runs something; the command gets them as `terms`."""
    return with_options(*_TERMS)(gathered("terms", Terms)(command))


def execution_options(command: Command) -> Command:
    """Options of every command that runs something to its end: those of `terms_options`, and the
    format of the outcome."""
    inner = gathered("terms", Terms)(command)
    return with_options(*_TERMS, *_OUTCOME)(gathered("output", Output)(inner))
