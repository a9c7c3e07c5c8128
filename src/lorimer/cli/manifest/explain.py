"""`lorimer manifest explain`: what an agent does, stage by stage, and where each value comes
from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click

from lorimer.cli.click_types import Dollars, Whole
from lorimer.cli.fail import tell_notes
from lorimer.cli.host import models_option
from lorimer.cli.limit_options import LimitOptions
from lorimer.cli.manifest.stages import add_stage, add_strategy, table_of_stages
from lorimer.cli.options import Span, json_option
from lorimer.cli.text import count, one_line, print_json, visible

if TYPE_CHECKING:
    from rich.table import Table

    from lorimer.core.jsonable import JSON
    from lorimer.core.manifest import EnvironmentManifest, StageEntry
    from lorimer.core.stage import Slot, Strategy
    from lorimer.models.hostfile import Host

_CHOSEN: Final = " *"
"""The mark of a strategy that is not the default."""


@click.command()
@click.argument("file_or_preset")
@click.option("-m", "--model", metavar="SPEC", help="As of `lorimer run`.")
@click.option("--max-turns", type=Whole(min=1), metavar="N", help="As of `lorimer run`.")
@click.option("--max-cost-usd", type=Dollars(), metavar="USD", help="As of `lorimer run`.")
@click.option("--timeout", type=Span(), metavar="TIME", help="As of `lorimer run`.")
@click.option(
    "--workspace",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder whose settings apply. Default: the current one.",
)
@json_option("One JSON object, with every value and its source.")
@models_option
def explain(
    file_or_preset: str,
    model: str | None,
    max_turns: int | None,
    max_cost_usd: float | None,
    timeout: float | None,
    workspace: Path | None,
    as_json: bool,
    models: str | None,
) -> None:
    """Show what an agent does, stage by stage, and where each value comes from: a default, the
    preset, settings of the user or the project, the environment, the manifest, the command line.

    FILE_OR_PRESET is a manifest's file, or the name of a preset.
    """
    from lorimer.cli import agent, host, settings
    from lorimer.cli.printing import paged, print_table
    from lorimer.core.redaction import of_environment
    from lorimer.presets import PRESETS, preset_names

    effective = settings.effective_settings(workspace)
    path = Path(file_or_preset)
    of_package = file_or_preset not in PRESETS and not path.exists()
    if file_or_preset in PRESETS or (of_package and file_or_preset in preset_names()):
        found = settings.preset(file_or_preset, effective)
    else:
        agent.described(file_or_preset)  # raises the error that says what is wrong
        found = settings.load(path, effective)
    described, origins = found.manifest, dict(found.origins)
    known = host.read(models)
    agent.choose(described, model, None, known)
    described.limits = LimitOptions(max_turns, max_cost_usd, timeout).applied(described.limits)
    words = {
        "model.model": model,
        "limits.max_turns": max_turns,
        "limits.max_cost_usd": max_cost_usd,
        "limits.timeout_s": timeout,
    }
    origins |= {path: "command line" for path, given in words.items() if given is not None}
    tell_notes(effective.notes)
    redactor = of_environment()
    if as_json:
        _print_json(described, origins)
        return
    with paged():
        for name, text in _facts(described, known):
            shown = text if redactor is None else redactor.text(text)
            click.echo(f"  {click.style(f'{name:<8}', dim=True)} {visible(shown)}")
        click.echo()
        print_table(_origins(described, origins))
        click.echo()
        table, chosen = _table(described)
        print_table(table)
        if chosen:
            told = "\n* chosen by this manifest; the others are defaults"
            click.echo(click.style(told, dim=True))


def _values(described: EnvironmentManifest) -> Mapping[str, JSON]:
    """Path to value, without secrets."""
    from lorimer.core.redaction import of_environment
    from lorimer.environment.values import values
    from lorimer.stages.catalogue import catalogue

    found, redactor = values(described, catalogue()), of_environment()
    return found if redactor is None else redactor.json(found)


def _print_json(described: EnvironmentManifest, origins: Mapping[str, str]) -> None:
    rows: list[JSON] = [
        {"path": path, "value": value, "from": origins.get(path, "default")}
        for path, value in _values(described).items()
    ]
    print_json({"hash": described.digest, "values": rows})


def _origins(described: EnvironmentManifest, origins: Mapping[str, str]) -> Table:
    """The values of the agent as a whole that are not defaults, and where they come from."""
    from rich.table import Table
    from rich.text import Text

    from lorimer.core.jsonable import dumps

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("value", "", "from"):
        table.add_column(name, no_wrap=True)
    for path, value in _values(described).items():
        origin = origins.get(path)
        if origin is not None and path.startswith(("model.", "limits.", "tools.", "permissions.")):
            told = value if isinstance(value, str) else dumps(value)
            shown = Text(visible(one_line(told, 60)))
            table.add_row(Text(path, style="dim"), shown, Text(visible(origin), style="cyan"))
    return table


def _facts(described: EnvironmentManifest, known: Host) -> list[tuple[str, str]]:
    """Lines about the agent as a whole."""
    model = described.model
    asked = [f"at most {model.max_tokens:,} tokens an answer"]
    if model.thinking_enabled:
        asked.append(f"thinks for at most {model.thinking_budget_tokens:,} tokens")
    if model.temperature is not None:
        asked.append(f"temperature {model.temperature:g}")
    limits = described.limits
    tools = [*described.tools.built_in]
    tools += [f"{tool.name} ({tool.kind}, its own)" for tool in described.tools.ad_hoc]
    ceiling = "none" if limits.max_cost_usd is None else f"${limits.max_cost_usd:g}"
    facts = [
        ("agent", described.metadata.name),
        ("model", f"{_model(described, known)}; {', '.join(asked)}"),
        ("tools", ", ".join(tools) or "only those that a program registers"),
        (
            "limits",
            f"{count(limits.max_turns, 'turn')}, {limits.timeout_s:g} s, "
            f"{count(limits.max_tool_calls, 'tool call')}, "
            f"{limits.tool_timeout_s:g} s a tool call, "
            f"cost: {ceiling}",
        ),
        ("hash", described.digest),
    ]
    if described.tools.deferred:
        late = f"{', '.join(described.tools.deferred)}, once ToolSearch has found them"
        facts.insert(3, ("deferred", late))
    if described.metadata.description:
        facts.insert(1, ("about", described.metadata.description))
    return facts


def _model(described: EnvironmentManifest, known: Host) -> str:
    """The agent's model as far as it is known here: only its host knows a tier or an alias."""
    from lorimer.assembly import spec_of
    from lorimer.core.variables import names_in

    text = spec_of(described)
    if any(names_in(text)):
        return f"{text}, with variables from whoever runs it"
    models = known.models()
    found = models.expand(text)
    named: list[str] = []
    for one in found:
        spec = models.parse(one)
        effort = f", effort {spec.effort}" if spec.effort else ""
        named.append(f"{spec.model} of {spec.provider}{effort}")
    told = ", else ".join(named)
    if found != [text]:
        where = known.path or "this machine"
        return f"{text}, which is by {where}: {told}"
    if models.parse(text).is_guess(text):
        return f"{told}, or a tier or alias of the host that runs it; here {text!r} is none"
    return told


def _table(described: EnvironmentManifest) -> tuple[Table, bool]:
    """The stages with their strategies, and whether any of these is not the default."""
    from lorimer.core.introspect import about
    from lorimer.stages.catalogue import catalogue

    table = table_of_stages()
    shipped, chosen = catalogue(), False
    for entry in sorted(described.stages, key=lambda entry: entry.order):
        stage = shipped.stage(entry.name, entry.implementation)
        name = entry.name if entry.active else f"{entry.name} (off)"
        style = "" if entry.active else "dim"
        add_stage(table, entry.order, name, f"{about(stage)}{_settings(entry.config)}", style)
        for slot_name, slot in stage.slots().items():
            named = slot_name
            for strategy, what in _chosen(entry, slot_name, slot):
                add_strategy(table, named, strategy, what, style)
                named = ""
                chosen = chosen or strategy.endswith(_CHOSEN)
    return table, chosen


def _chosen(entry: StageEntry, name: str, slot: Slot[Strategy]) -> list[tuple[str, str]]:
    """The strategies in a slot or chain, with what each does and how it is configured."""
    from lorimer.stages.catalogue import catalogue

    chosen = entry.strategies.get(name, list(slot.default) if slot.chain else slot.default[0])
    names = chosen if isinstance(chosen, list) else [chosen]
    config = entry.strategy_configs.get(name, {})
    found: list[tuple[str, str]] = []
    for item in names:
        strategy = catalogue().strategy(entry.name, slot, item)
        given = config.get(item, {}) if slot.chain else config
        settings = _settings(cast("dict[str, object]", given))
        default = [item] == list(slot.default) if not slot.chain else item in slot.default
        found.append((item if default else item + _CHOSEN, f"{strategy.description}{settings}"))
    return found or [("none", "")]


def _settings(config: object) -> str:
    """` [max_retries: 5]`, shortened."""
    if not isinstance(config, dict) or not config:
        return ""
    from lorimer.core.redaction import of_environment

    redactor = of_environment()
    given = cast("dict[str, object]", config)
    given = given if redactor is None else redactor.json(given)
    return f" [{', '.join([f'{key}: {one_line(str(value), 40)}' for key, value in given.items()])}]"
