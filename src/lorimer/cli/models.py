"""`lorimer models`: which models can be asked here, and whether they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import click

from lorimer.cli import fail, host
from lorimer.cli.click_types import Group
from lorimer.cli.fail import Fault
from lorimer.cli.host import models_option
from lorimer.cli.options import Span, json_option
from lorimer.cli.places import config_directory
from lorimer.cli.text import duration, money, print_json, visible

if TYPE_CHECKING:
    from rich.table import Table

    from lorimer.core.jsonable import JSON
    from lorimer.core.model import Capabilities
    from lorimer.models.hostfile import Host
    from lorimer.models.probe import Probe
    from lorimer.models.provider_info import ModelInfo, ProviderStatus
    from lorimer.models.registry import Models

_NOTHING: Final = "-"


@click.group(cls=Group)
def models() -> None:
    """List and check the available models."""


@models.command()
@models_option
@json_option("One JSON object.")
def ls(models: str | None, as_json: bool) -> None:
    """List tiers, aliases and providers: models, addresses, keys and prices.

    Nothing is sent anywhere. Prices are dollars per million tokens.
    """
    known = host.read(models)
    made = known.models()
    names = [(kind, name, _known(made, name)) for kind, name in _names(known)]
    from lorimer.models.provider_info import provider_status

    providers = [provider_status(made, name) for name in made.available()]
    if as_json:
        print_json(_listed(known, names, providers), indent=2)
        return
    from lorimer.cli.printing import print_table

    if names:
        print_table(_name_table(names))
        click.echo()
    print_table(_provider_table(providers))
    where = known.path or f"none; {config_directory() / 'models.toml'} would be read"
    click.echo(click.style(f"\nhost file: {where}", dim=True))


def _names(known: Host) -> list[tuple[str, str]]:
    tiers = [("tier", name) for name in sorted(known.tiers.defaults)]
    return tiers + [("alias", name) for name in sorted(known.tiers.aliases)]


def _known(made: Models, name: str) -> list[ModelInfo]:
    from lorimer.models.provider_info import model_info

    return [model_info(made, spec) for spec in made.expand(name)]


def _listed(
    known: Host,
    names: Iterable[tuple[str, str, list[ModelInfo]]],
    providers: Iterable[ProviderStatus],
) -> JSON:
    return {
        "host_file": str(known.path) if known.path else None,
        "names": [
            {"name": name, "kind": kind, "models": [_model(one) for one in found]}
            for kind, name, found in names
        ],
        "providers": [
            {
                "name": one.provider,
                "ready": one.ready,
                "key_variable": one.variable or None,
                "base_url": one.base_url or None,
                "missing": one.why or None,
            }
            for one in providers
        ],
    }


def _model(one: ModelInfo) -> JSON:
    from dataclasses import asdict

    return {
        "spec": one.spec,
        "provider": one.status.provider,
        "ready": one.status.ready,
        "missing": one.status.why or None,
        "input_usd_per_million": one.input_price,
        "output_usd_per_million": one.output_price,
        "context_window": one.window,
        "capabilities": asdict(one.capabilities) if one.capabilities is not None else None,
    }


def _name_table(names: Iterable[tuple[str, str, list[ModelInfo]]]) -> Table:
    table = _table("name", "", "model", "ready", "in $", "out $", "window", "cannot")
    for kind, name, found in names:
        for at, one in enumerate(found):
            head = (name, kind) if at == 0 else ("", "")
            able = one.capabilities
            _row(
                table,
                *head,
                one.spec,
                _ready(one.status),
                _dollars(one.input_price),
                _dollars(one.output_price),
                f"{one.window:,}" if one.window else _NOTHING,
                _NOTHING if able is None else ", ".join(_cannot(able)) or "",
            )
    return table


def _cannot(able: Capabilities) -> list[str]:
    from dataclasses import asdict

    return [name.replace("_", " ") for name, can in asdict(able).items() if not can]


def _provider_table(providers: Iterable[ProviderStatus]) -> Table:
    table = _table("provider", "ready", "key", "base URL, or what is missing")
    for one in providers:
        where = _NOTHING if one.provider == "scripted" else one.base_url or "the vendor's"
        told = where if one.ready else one.why
        _row(table, one.provider, _ready(one), one.variable or _NOTHING, told)
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for at, column in enumerate(columns, start=1):  # only the last column may be truncated
        table.add_column(column, overflow="fold", no_wrap=at < len(columns))
    return table


def _row(table: Table, *cells: str) -> None:
    from rich.text import Text

    table.add_row(*[Text(visible(cell)) for cell in cells])


def _ready(one: ProviderStatus) -> str:
    return "yes" if one.ready else "no"


def _dollars(price: float | None) -> str:
    return _NOTHING if price is None else f"{price:.4g}"


@models.command()
@click.argument("specs", nargs=-1)
@models_option
@click.option(
    "--timeout",
    type=Span(),
    default="60s",
    show_default=True,
    metavar="TIME",
    help="Time-out per model: seconds, or 90s, 5m.",
)
@click.option("--allow-unpriced", is_flag=True, help="Also ask models of unknown price.")
@json_option("One JSON list, with an object for each.")
def check(
    specs: tuple[str, ...],
    models: str | None,
    timeout: float,
    allow_unpriced: bool,
    as_json: bool,
) -> int:
    """Send each model a tiny request: SPECS, or by default all models of tiers and aliases.

    Costs at most a cent a model; what could cost more is not asked. Says whether it can be
    reached, who answered, whether tools work, and what to do if not. Exit code 1 if one fails.
    """
    known = host.read(models)
    made = known.models()
    wanted = list(specs) or [name for _, name in _names(known)]
    if not wanted:
        raise Fault(
            "there is nothing to check: no model is named, and no tier and no alias is known here",
            hint="Name one, e.g. lorimer models check anthropic:claude-haiku-4-5",
        )
    targets = list(dict.fromkeys([one for spec in wanted for one in made.expand(spec)]))
    found = asyncio.run(_check(known, targets, timeout, unpriced=allow_unpriced, tell=not as_json))
    if as_json:
        print_json([_probed(one) for one in found], indent=2)
    return fail.OK if all(one.ok for one in found) else fail.FAILED


async def _check(
    known: Host, targets: list[str], timeout: float, *, unpriced: bool, tell: bool
) -> list[Probe]:
    from lorimer.models.probe import probe
    from lorimer.world import RealWorld

    world = RealWorld()
    made = known.models(world=world)
    found: list[Probe] = []
    try:
        for spec in targets:
            one = await probe(made, spec, world, timeout_s=timeout, allow_unpriced=unpriced)
            found.append(one)
            if tell:
                _tell(one)
    finally:
        await made.aclose()
    return found


def _tell(one: Probe) -> None:
    if one.error is None:
        mark = click.style("✓", fg="green")
        cost = ", price unknown" if one.cost_nano is None else f", {money(one.cost_nano)}"
        told = f"{one.model} answered in {duration(one.seconds)}, tools {one.tools}{cost}"
    else:
        mark = click.style("✗", fg="red")
        told = f"{str(one.error).rstrip('.')} ({one.error.code.value})"
        told += f": {one.advice}" if one.advice else ""
    click.echo(f" {mark} {visible(one.spec)}  {' '.join(visible(told).split())}")


def _probed(one: Probe) -> JSON:
    error = one.error
    return {
        "spec": one.spec,
        "ok": one.ok,
        "model": one.model or None,
        "tools": one.tools or None,
        "seconds": round(one.seconds, 3),
        "cost_usd": None if one.cost_nano is None else one.cost_nano / 1e9,
        "code": error.code.value if error is not None else None,
        "error": str(error) if error is not None else None,
        "advice": one.advice or None,
    }
