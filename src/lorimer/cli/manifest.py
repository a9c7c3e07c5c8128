"""`lorimer manifest`: write, check and explain the files that describe agents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from lorimer.cli import fail
from lorimer.cli.host import models_option
from lorimer.cli.manifest_diff import diff
from lorimer.cli.text import count, one_line, visible

if TYPE_CHECKING:
    from rich.table import Table

    from lorimer.core.jsonable import JSON
    from lorimer.core.manifest import EnvironmentManifest, StageEntry
    from lorimer.core.stage import AnyStage, Slot, Strategy
    from lorimer.models.hostfile import Host


@click.group()
def manifest() -> None:
    """Write, check and explain manifests: files that describe agents."""


manifest.add_command(diff)


@manifest.command()
@click.option("--preset", metavar="NAME", default="agent", show_default=True)
@click.option("-m", "--model", metavar="SPEC", help="e.g. claude-sonnet-4-6, openai:gpt-5.2.")
@click.option("--provider", metavar="NAME", help="Who answers, if the model's name does not tell.")
@click.option("--system", metavar="TEXT", help="The system prompt.")
@click.option("--tools", metavar="NAMES", help="Shipped tools, by comma, or * for all.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new .yaml or .json file; without it, YAML on stdout.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def new(
    preset: str,
    model: str | None,
    provider: str | None,
    system: str | None,
    tools: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Write a manifest to start from."""
    from lorimer.cli import agent, host
    from lorimer.core.documents import dump

    made = agent.preset(preset)
    agent.choose(made, model, provider, host.read(None))
    if system is not None:
        agent.instruct(made, system)
    if tools is not None:
        agent.equip(made, tools)
    text = dump(_in_full(made), ".yaml" if output is None else output.suffix.lower())
    if output is None:
        click.echo(text, nl=False)
    elif output.exists() and not force:
        raise fail.Fault(f"{output} is there already", hint="Give another name, or --force.")
    else:
        _write(output, text)
    if "tool" in made.stages and not made.tools.built_in:
        click.echo("no tools: add built_in names, e.g. [readonly]", err=True)
    if output is not None:
        click.echo(f"wrote {output}; check it with: lorimer manifest validate {output}", err=True)


def _in_full(made: EnvironmentManifest) -> dict[str, JSON]:
    """As data, with what a person is likely to change even where it is the default."""
    from dataclasses import asdict

    if "system" in made.stages:
        made.stages["system"].config.setdefault("prompt", "")
    short = made.to_dict()
    full: dict[str, JSON] = {
        "version": made.version,
        "metadata": {
            "name": made.metadata.name,
            **made.metadata.model_dump(mode="json", exclude_defaults=True),
        },
        "model": made.model.model_dump(mode="json"),
        "limits": asdict(made.limits),
    }
    if "tool" in made.stages:
        full["tools"] = made.tools.model_dump(mode="json")
    return full | {name: value for name, value in short.items() if name not in full}


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise fail.Fault(
            f"cannot write {path}: {error.strerror or error}", hint="Name another place with -o."
        ) from None


@manifest.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
def validate(files: tuple[Path, ...]) -> int:
    """Check FILES: every error with its path and reason, one a line; exit code 2."""
    from lorimer.assembly import check_manifest
    from lorimer.core.errors import ConfigError
    from lorimer.core.manifest import read_document

    bad = False
    for path in files:
        try:
            if not path.exists():
                raise ConfigError("there is no such file")
            problems = check_manifest(read_document(path))
        except ConfigError as error:
            problems = [str(error)]
        for problem in problems:
            told = problem if problem.startswith(str(path)) else f"{path}: {problem}"
            click.echo(f"{click.style('error:', fg='red', bold=True)} {told}", err=True)
        bad = bad or bool(problems)
        if not problems:
            click.echo(f"{path}: {click.style('ok', fg='green')}")
    return fail.USAGE if bad else fail.OK


@manifest.command()
def schema() -> None:
    """Print the JSON Schema of manifests, for editors and other programs."""
    import json

    from lorimer.core.manifest import EnvironmentManifest

    described = EnvironmentManifest.model_json_schema()
    described["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    click.echo(json.dumps(described, indent=2, ensure_ascii=False))


@manifest.command(no_args_is_help=True)
@click.argument("file_or_preset")
@models_option
def explain(file_or_preset: str, models: str | None) -> None:
    """Tell what an agent does, stage by stage: a file, or the name of a preset."""
    from lorimer.cli import agent
    from lorimer.cli.timeline import print_table

    described = agent.described(file_or_preset)
    from lorimer.cli import host

    for name, text in _facts(described, host.read(models)):
        click.echo(f"  {click.style(f'{name:<8}', dim=True)} {visible(text)}")
    click.echo()
    print_table(_table(described))
    if not file_or_preset.startswith("minimal"):
        click.echo(click.style("\n* chosen by this manifest; the others are defaults", dim=True))


def _facts(described: EnvironmentManifest, known: Host) -> list[tuple[str, str]]:
    """What is true of the agent as a whole."""
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
        ("tools", ", ".join(tools) or "none but those that a program registers"),
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
    """Who answers, as far as it is known here: a tier or an alias is known to its host only."""
    from lorimer.cli.agent import spec_text

    text = spec_text(described)
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


def _table(described: EnvironmentManifest) -> Table:
    from rich.table import Table
    from rich.text import Text

    from lorimer.stages.catalogue import catalogue

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", justify="right", style="dim")
    table.add_column("stage", no_wrap=True)
    table.add_column("slot", no_wrap=True, style="cyan")
    table.add_column("strategy", no_wrap=True)
    table.add_column("what it does")
    shipped = catalogue()
    for entry in sorted(described.stages, key=lambda entry: entry.order):
        stage = shipped.stage(entry.name)
        name = entry.name if entry.active else f"{entry.name} (off)"
        own = _settings(entry.config)
        style = None if entry.active else "dim"
        about = Text(visible(f"{_about(stage)}{own}"))
        table.add_row(str(entry.order), Text(visible(name)), "", "", about, style=style)
        for slot_name, slot in stage.slots().items():
            for strategy, what in _chosen(entry, slot_name, slot):
                table.add_row("", "", slot_name, Text(strategy), Text(visible(what)), style=style)
    return table


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
        found.append((item if default else f"{item} *", f"{strategy.description}{settings}"))
    return found or [("none", "")]


def _about(stage: AnyStage) -> str:
    """The first sentence of what its author says about a stage."""
    text = " ".join((type(stage).__doc__ or "").split())
    return text.partition(". ")[0].rstrip(".") + "." if text else ""


def _settings(config: object) -> str:
    """` [max_retries: 5]`, shortened."""
    if not isinstance(config, dict) or not config:
        return ""
    given = cast("dict[str, object]", config)
    return f" [{', '.join([f'{key}: {one_line(str(value), 40)}' for key, value in given.items()])}]"
