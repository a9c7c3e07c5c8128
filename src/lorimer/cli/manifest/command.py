"""`lorimer manifest`: write, check and explain the files that describe agents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorimer.cli import fail
from lorimer.cli.click_types import Group
from lorimer.cli.manifest.diff import diff
from lorimer.cli.manifest.explain import explain
from lorimer.cli.manifest.stages import stages
from lorimer.cli.options import json_option
from lorimer.cli.text import on_line, print_json

if TYPE_CHECKING:
    from lorimer.core.jsonable import JSON
    from lorimer.core.manifest import EnvironmentManifest

_output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new .yaml, .toml or .json file; without it, YAML on stdout.",
)
_force_option = click.option("--force", is_flag=True, help="Replace an existing file.")


@click.group(cls=Group)
def manifest() -> None:
    """Write, check and explain manifests: files that describe agents."""


manifest.add_command(diff)
manifest.add_command(explain)
manifest.add_command(stages)


@manifest.command()
@click.option(
    "--preset",
    metavar="NAME",
    default="agent",
    show_default=True,
    help="minimal, chat, agent, evaluator or coding.",
)
@click.option("-m", "--model", metavar="SPEC", help="e.g. claude-sonnet-4-6, openai:gpt-5.2.")
@click.option("--provider", metavar="NAME", help="The provider, if not implied by the model.")
@click.option("--system", metavar="TEXT", help="The system prompt.")
@click.option(
    "--tools",
    metavar="NAMES",
    help="Shipped tools or groups, separated by commas; '*' for all. Default: the preset's.",
)
@_output_option
@_force_option
def new(
    preset: str,
    model: str | None,
    provider: str | None,
    system: str | None,
    tools: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Write a new manifest to start from."""
    from lorimer.cli import agent, host
    from lorimer.core.documents import dump

    made = agent.preset(preset)
    agent.choose(made, model, provider, host.read(None))
    if system is not None:
        agent.instruct(made, system)
    if tools is not None:
        agent.equip(made, tools)
    kind = ".yaml" if output is None else output.suffix.lower()
    full = _in_full(made)
    text = dump(_without_null(full) if kind == ".toml" else full, kind)
    _put(text, output, force=force)
    if "tool" in made.stages and not made.tools.built_in:
        click.echo("no tools: add names to tools.built_in, e.g. [readonly]", err=True)
    if output is not None:
        click.echo(f"wrote {output}; check it with: lorimer manifest validate {output}", err=True)


def _in_full(made: EnvironmentManifest) -> dict[str, JSON]:
    """The manifest as data, including defaults that people often change."""
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


def _without_null(full: dict[str, JSON]) -> dict[str, JSON]:
    """The data without nulls in its sections, since TOML has none: each null there is the
    default."""
    return {
        name: {key: value for key, value in part.items() if value is not None}
        if isinstance(part, Mapping)
        else part
        for name, part in full.items()
    }


def _write(path: Path, text: str) -> None:
    begun = not os.path.exists(path)
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        if begun:
            with suppress(OSError):
                path.unlink()  # half a manifest, or none
        raise fail.Fault(
            f"cannot write {path}: {error.strerror or error}", hint="Name another place with -o."
        ) from None


@manifest.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@json_option("One JSON object for each file.")
def validate(files: tuple[Path, ...], as_json: bool) -> int:
    """Check FILES: print every error with its path, reason and code, one per line; exit code 2."""
    from lorimer.assembly import check_manifest
    from lorimer.core.errors import ConfigError
    from lorimer.core.manifest import read_document

    bad = False
    for path in files:
        hint, code = "", ConfigError.default_code
        try:
            if not path.exists():
                raise ConfigError(
                    "there is no such file", hint=f"Write one: lorimer manifest new -o {path}"
                )
            problems = check_manifest(read_document(path))
        except ConfigError as error:
            problems, hint, code = [str(error)], error.hint, error.code
        bad = bad or bool(problems)
        if as_json:
            told: dict[str, JSON] = {"file": str(path), "ok": not problems}
            if problems:
                told |= {"code": code.value, "problems": list(problems), "hint": hint}
            print_json(told)
            continue
        for problem in problems:
            named = problem if problem.startswith(str(path)) else f"{path}: {problem}"
            fail.report(named, code=code.value, hint=hint)
        if not problems:
            click.echo(f"{on_line(str(path))}: {click.style('ok', fg='green')}")
    return fail.USAGE if bad else fail.OK


@manifest.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_output_option
@_force_option
def import_(file: Path, output: Path | None, force: bool) -> None:
    """Convert a manifest of geny-executor, versions 2.0 and 3.0.

    Values without an equivalent here, or with another meaning, are reported on stderr, one per
    line. API keys are neither imported nor shown.

    \b
    Example:
      lorimer manifest import envs/my_env.json -o my_env.yaml
    """
    from lorimer.core.documents import dump
    from lorimer.environment.foreign import carried

    found = carried(file)
    text = dump(found.manifest.to_dict(), ".yaml" if output is None else output.suffix.lower())
    fail.tell_notes([str(note) for note in found.notes])
    _put(text, output, force=force)


def _put(text: str, output: Path | None, *, force: bool) -> None:
    if output is None:
        click.echo(text, nl=False)
    elif output.exists() and not force:
        raise fail.Fault(f"{output} already exists", hint="Give another name, or --force.")
    else:
        _write(output, text)


@manifest.command()
def schema() -> None:
    """Print the JSON Schema of manifests, for editors and other programs."""
    from lorimer.environment.schema import schema as described

    print_json(described(), indent=2)
