"""`lorimer permissions`: what the rules decide about a call, without running it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorimer.cli.click_types import Group
from lorimer.cli.fail import Fault, OneOf, suggest, tell_notes
from lorimer.cli.options import json_option
from lorimer.cli.text import count, on_line, print_json, seen, without_gaps
from lorimer.tools.policy.modes import Mode

if TYPE_CHECKING:
    from lorimer.tools.policy.engine import Decision

_workspace = click.option(
    "--workspace",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder whose rules apply. Default: the current one.",
)


@click.group(cls=Group)
def permissions() -> None:
    """Explain, check and trust the rules for what tools may do."""


@permissions.command()
@click.argument("call")
@click.option(
    "--permission-mode",
    "mode",
    type=OneOf([mode.value for mode in Mode]),
    help="Default: as the rule files say, else default.",
)
@click.option("--allow", metavar="RULE", multiple=True, help="As of `lorimer run`.")
@click.option("--tainted", is_flag=True, help="Decide as after reading a web page.")
@json_option("The whole decision as one JSON object.")
@_workspace
def explain(
    call: str,
    mode: str | None,
    allow: tuple[str, ...],
    tainted: bool,
    as_json: bool,
    workspace: Path | None,
) -> None:
    """Show how CALL is decided and by which rule: 'Bash(git push)', 'Write(src/a.py)'.

    Nothing is run. Exit code 0, whatever the decision.
    """
    from lorimer.cli.policy_files import read_policy_files, shipped
    from lorimer.core.hooks import HookEvent
    from lorimer.core.jsonable import JSON
    from lorimer.tools.builtin import CATALOGUE
    from lorimer.tools.permissions import Policy
    from lorimer.tools.policy.rules import Rule
    from lorimer.tools.registry import ToolRegistry
    from lorimer.world import RealWorld

    asked = Rule.parse(call)
    tool = shipped(asked.tool)
    if tool is None:
        near = suggest(asked.tool, CATALOGUE) or "."
        raise Fault(f"there is no shipped tool {asked.tool!r}{near} Known: {', '.join(CATALOGUE)}")
    if asked.input is None and tool.subject:
        raise Fault(
            f"{call!r} names a tool, not a call",
            hint=f"Write {asked.tool}({tool.subject}).",
        )
    folder = (workspace or Path.cwd()).resolve()
    found = read_policy_files(folder)
    tell_notes(found.notes)
    registry = ToolRegistry()
    registry.register(tool, granted=False)
    entry = registry.entries()[0]
    rules = [*found.rules, *[Rule.parse(text) for text in allow]]
    held = Mode.named(mode) if mode is not None else found.mode or Mode.DEFAULT
    policy = Policy(rules, held, folder, [folder])
    subject = (asked.input or {}).get("", "")
    given: dict[str, JSON] = {tool.subject: subject} if tool.subject else {}
    decision = policy.decide(entry, given, tainted=tainted, now=RealWorld().time())
    why_hidden = policy.hidden(entry)
    asked_too = [
        hook.name
        for hook in found.hooks
        if hook.event is HookEvent.PRE_TOOL_USE and hook.is_about(asked.tool)
    ]
    if as_json:
        shown = {"visible": not why_hidden, "hidden_by": why_hidden, "hooks": list(asked_too)}
        print_json({**decision.to_json(), **shown})
    else:
        _tell(decision, held, asked_too, why_hidden)


def _tell(decision: Decision, mode: Mode, hooks: Iterable[str], why_hidden: str) -> None:
    from lorimer.tools.policy.engine import told

    effects = ", ".join(sorted([kind.value for kind in decision.kinds]))
    lines = [
        f"{decision.action.name.lower()}: {decision.by}",
        f"  code       {decision.code}",
        f"  mode       {mode.value}",
        f"  effects    {effects}",
        *[f"  touches    {told(resource)}" for resource in decision.resources],
        *[f"  rule       {rule.title}" for rule in decision.rules],
        *[f"  hooks      {name}, which is asked and may tighten this" for name in hooks],
    ]
    if why_hidden:
        lines.append(f"  hidden     The model is not even shown this tool: {why_hidden}")
    for line in lines:  # they may contain text from a project or a model
        click.echo(on_line(line))


@permissions.command()
@_workspace
def test(workspace: Path | None) -> None:
    """Read every rule file that applies here, and test its examples.

    Exit code 2 for an invalid rule, or one that contradicts an example.
    """
    from lorimer.cli.policy_files import read_policy_files

    found = read_policy_files((workspace or Path.cwd()).resolve())
    tell_notes(found.notes)
    hooks = f", {count(len(found.hooks), 'hook')}" if found.hooks else ""
    click.echo(f"{count(len(found.rules), 'rule')}{hooks}; every example holds")


@permissions.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_workspace
def trust(workspace: Path | None, yes: bool) -> None:
    """Trust this project's .lorimer/permissions.toml: apply its allow rules, and run its hooks.

    A change of the file, or of .lorimer/hooks, ends that. Its deny and ask rules apply without
    trust. Hooks run with your rights: read .lorimer/hooks first."""
    from lorimer.cli import policy_files

    path = (workspace or Path.cwd()).resolve() / policy_files.PROJECT
    text = policy_files.project_text(path)
    if not yes:
        from lorimer.cli.approve import further_up

        shown = without_gaps(seen(text))
        click.echo(f"{shown}\n{further_up(shown)}", nl=False)
        if sys.stdin is None:
            raise Fault("nobody can be asked whether to trust it", hint="Answer in advance: --yes")
        if not click.confirm(f"Trust {path} as shown?", default=False):
            raise Fault("nothing was trusted")
    policy_files.trust(path, text)
    click.echo(f"trusted {path} as it is now")


@permissions.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(file: Path) -> None:
    """Convert another program's rules in FILE: Claude Code's settings.json, geny's YAML.

    Nothing is installed: review the output, and save it where you want it to apply. Notes on rules
    that mean something else here, or could not be imported, go to stderr. Nothing becomes looser.

    \b
    Example:
      lorimer permissions import .claude/settings.json > .lorimer/permissions.toml
    """
    from lorimer.cli import policy_files
    from lorimer.core.documents import parse
    from lorimer.tools.policy.sources import Source
    from lorimer.tools.rule_files.foreign import import_rules
    from lorimer.tools.rule_files.reading import read

    text = policy_files.text_of(file) or ""
    data = parse(text, file.suffix.lower(), str(file))
    found = import_rules(data, str(file), policy_files.shipped)
    ours = found.to_toml(str(file))
    read(ours, str(file), Source.USER, policy_files.shipped)
    tell_notes(found.notes)
    click.echo(ours, nl=False)
