"""`lorimer doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import click

from lorimer.cli import fail
from lorimer.cli.options import json_option, store_option
from lorimer.cli.text import on_line, print_json

if TYPE_CHECKING:
    from lorimer.core.world import Level

State: TypeAlias = Literal["ok", "note", "bad"]

BASE: Final = (
    *("pydantic", "anyio", "httpx2", "h11", "apsw"),
    *("click", "rich", "pyyaml", "fastjsonschema"),
)
EXTRAS: Final = {
    "anthropic": ("anthropic", "genai-prices"),
    "openai": ("openai", "genai-prices"),
    "google": ("google-genai", "genai-prices"),
    "images": ("pillow",),
    "graph": ("networkx",),
}

_MARKS: Final = {
    "ok": ("✓", "green"),
    "note": ("·", "yellow"),
    "bad": ("✗", "red"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    state: State
    """`bad`: needed and broken. `note`: missing, and not needed by everybody."""
    what: str
    found: str
    remedy: str = ""
    held: Mapping[str, Mapping[str, bool]] = field(default_factory=dict[str, Mapping[str, bool]])
    """Of a sandbox: what a program tried, and by level whether it was kept from it."""


@click.command()
@json_option("One JSON object for each check.")
@store_option
def doctor(as_json: bool, store: str | None) -> int:
    """Check what works here, and how to fix what does not. Keys are named, never shown.

    The exit code is 0 unless something that is needed is broken.
    """
    from lorimer.cli.printing import print_lines

    bad = 0
    for finding in _findings(store):
        bad += finding.state == "bad"
        if as_json:
            print_json(asdict(finding))
            continue
        mark, colour = _MARKS[finding.state]
        print_lines([[(f" {mark} {finding.what:<12} ", colour), (on_line(finding.found), "")]])
        if finding.remedy:
            print_lines([[(f"{'→':>15} ", "cyan"), (on_line(finding.remedy), "")]])
        print_lines([[(f"{'':16}{row}", "")] for row in _table(finding.held)])
    if bad and not as_json:
        click.echo(f"\n{bad} of these {'has' if bad == 1 else 'have'} to be fixed first.")
    return fail.FAILED if bad else fail.OK


def _findings(store: str | None) -> Iterator[Finding]:
    yield _python()
    yield _packages("packages", BASE, "bad", "pip install --force-reinstall lorimer")
    for extra, names in EXTRAS.items():
        yield _packages(extra, names, "note", f"pip install 'lorimer[{extra}]'")
    yield _sqlite()
    yield _store(store)
    yield from _keys()
    yield _host_file()
    yield _tools()
    yield from _sandbox()
    yield _terminal()


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever forced it in wants to know
        return Finding("bad", "python", found, "Python 3.11 or newer is needed.")
    return Finding("ok", "python", found)


def _packages(what: str, names: tuple[str, ...], missing: State, remedy: str) -> Finding:
    told: list[str] = []
    lost: list[str] = []
    for name in names:
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lost.append(name)
    if lost:
        return Finding(missing, what, f"missing: {', '.join(lost)}", remedy)
    return Finding("ok", what, ", ".join(told))


def _sqlite() -> Finding:
    try:
        import apsw
    except ImportError as error:
        return Finding("bad", "sqlite", f"cannot be loaded: {error}", "pip install apsw")
    return Finding("ok", "sqlite", apsw.sqlite_lib_version())


def _store(given: str | None) -> Finding:
    import asyncio

    from lorimer.cli.store import opened, store_path
    from lorimer.core.errors import JournalError
    from lorimer.world import RealWorld

    path = store_path(given)

    async def look() -> int:
        async with opened(path, RealWorld()) as journal:
            return len(await journal.runs(limit=1000))

    if not os.path.exists(path):
        place = path.absolute().parent
        while not os.path.exists(place):
            place = place.parent
        if not place.is_dir():
            return Finding(
                "bad", "store", f"{place} is not a folder", "Name another place: --store."
            )
        if os.access(place, os.W_OK):
            return Finding("ok", "store", f"{path} (created by the first run)")
        return Finding("bad", "store", f"{place} is not writable", "Name another place: --store.")
    try:
        number = asyncio.run(look())
    except JournalError as error:
        return Finding("bad", "store", str(error), error.hint or "Name another file: --store.")
    if not os.access(path, os.W_OK):
        return Finding("bad", "store", f"{path} is not writable", "Name another file: --store.")
    return Finding("ok", "store", f"{path}: {number}{'+' if number == 1000 else ''} runs")


def _keys() -> Iterator[Finding]:
    from lorimer.models.compatible import PROFILES
    from lorimer.models.credentials import (
        OPENAI_API,
        OPENAI_APIS,
        VARIABLES,
        key_variable,
        redact_url,
    )

    any_key = False
    for provider, (_, url) in VARIABLES.items():
        key = key_variable(provider, os.environ)
        is_set = bool(os.environ.get(key, "").strip())
        any_key = any_key or is_set
        address = os.environ.get(url, "")
        where = f", {url}={redact_url(address)}" if address else ""
        api = os.environ.get(OPENAI_API, "").strip() if provider == "openai" else ""
        where += f", {OPENAI_API}={api}" if api else ""
        if provider in PROFILES and not (is_set or address):
            continue  # without a server of their own, nobody misses its key
        if is_set:
            yield Finding("ok", "key", f"{key} is set ({provider}){where}")
        else:
            yield Finding("note", "key", f"{key} is not set ({provider}){where}")
        if api not in ("", *OPENAI_APIS):
            remedy = f"Set {OPENAI_API} to {' or '.join(OPENAI_APIS)}, or unset it."
            yield Finding("note", "key", f"OpenAI has no wire {api!r}", remedy)
    if not any_key:
        remedy = "export ANTHROPIC_API_KEY=..., or without any: lorimer demo"
        yield Finding("note", "key", "no key at all", remedy)


def _host_file() -> Finding:
    from lorimer.cli import host
    from lorimer.core.errors import ConfigError

    try:
        known = host.read(None)
    except (ConfigError, fail.Fault) as error:
        return Finding("bad", "models", str(error), "lorimer models ls")
    if known.path is None:
        return Finding("ok", "models", "no host file, and none is needed")
    return Finding("ok", "models", f"host file {known.path}")


def _tools() -> Finding:
    if shutil.which("bash"):
        return Finding("ok", "bash", shutil.which("bash") or "")
    return Finding("note", "bash", "not found", "The tool Bash needs it; install bash.")


def _sandbox() -> Iterator[Finding]:
    """Test each level by running a program in it that tries to escape."""
    import asyncio

    if sys.platform != "linux":
        yield Finding(
            "note", "sandbox", "L0: only limits, a clean environment, and killing the process tree"
        )
        return
    from lorimer.world.sandbox.levels import ORDER, Levels
    from lorimer.world.sandbox.probes import EXPECTED, PROBES, probe

    async def look() -> tuple[dict[Level, str], dict[Level, dict[str, bool]]]:
        why = await Levels().why_not()
        there: list[Level] = [level for level in ORDER if not why[level]]
        return why, dict(zip(there, await asyncio.gather(*map(probe, there)), strict=True))

    try:
        why, held = asyncio.run(look())
    except OSError as error:
        yield Finding("bad", "sandbox", str(error), "Until it is fixed: --sandbox off")
        return
    best = next(iter(held))
    missed = [name for name in PROBES if name in EXPECTED[best] and not held[best][name]]
    state: State = "bad" if missed else "ok" if best == "L2" else "note"
    told = f"{best} in force: {sum(held[best].values())} of {len(PROBES)} probes held"
    remedy = ""
    if best != "L2":
        told += f"; L2 does not work: {why['L2']}"
        remedy = "Install bubblewrap (apt-get install bubblewrap), and run this again."
    tried = {tries: {level: held[level][name] for level in held} for name, tries in PROBES.items()}
    yield Finding(state, "sandbox", told, remedy, tried)


def _table(held: Mapping[str, Mapping[str, bool]]) -> Iterator[str]:
    for at, (tries, levels) in enumerate(held.items()):
        if not at:
            yield f"{'held when a command ...':<44}" + "  ".join(levels)
        yield f"{tries:<44}" + "   ".join(["✓" if kept else "✗" for kept in levels.values()])


def _terminal() -> Finding:
    if not sys.stderr.isatty():
        return Finding("note", "terminal", "none: progress is plain lines, nothing is asked")
    columns = shutil.get_terminal_size().columns
    encoding = sys.stdout.encoding
    told = f"{os.environ.get('TERM', '?')}, {columns} columns, {encoding}"
    if encoding.lower().replace("-", "") != "utf8":
        return Finding("note", "terminal", told, "Set LANG to a UTF-8 locale to see all symbols.")
    return Finding("ok", "terminal", told)
