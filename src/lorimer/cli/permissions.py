"""`lorimer permissions`: what rules say of a call, without running it."""

from __future__ import annotations

from pathlib import Path

import click

from lorimer.cli.fail import Fault, OneOf, suggest
from lorimer.tools.policy.modes import Mode

_workspace = click.option(
    "--workspace",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder whose rules hold. Default: this one.",
)


@click.group()
def permissions() -> None:
    """Explain, check and trust the rules that say what tools may do."""


@permissions.command()
@click.argument("call")
@click.option(
    "--permission-mode", "mode", type=OneOf([mode.value for mode in Mode]), default="default"
)
@click.option("--allow", metavar="RULE", multiple=True, help="As of `lorimer run`.")
@click.option("--tainted", is_flag=True, help="As after a page of the web has been read.")
@click.option("--json", "as_json", is_flag=True, help="The whole decision as one JSON object.")
@_workspace
def explain(
    call: str,
    mode: str,
    allow: tuple[str, ...],
    tainted: bool,
    as_json: bool,
    workspace: Path | None,
) -> None:
    """Say what becomes of CALL, e.g. 'Bash(git push)' or 'Write(src/a.py)', and by which rule.

    Nothing is run. Exit code 0, whatever the decision.
    """
    from lorimer.cli.policy_files import shipped, standing
    from lorimer.core.hooks import HookEvent
    from lorimer.core.jsonable import dumps
    from lorimer.tools.builtin import CATALOGUE
    from lorimer.tools.permissions import Policy
    from lorimer.tools.policy.engine import told
    from lorimer.tools.policy.rules import Rule
    from lorimer.tools.registry import ToolRegistry

    asked = Rule.parse(call)
    tool = shipped(asked.tool)
    if tool is None:
        near = suggest(asked.tool, CATALOGUE) or "."
        raise Fault(f"there is no shipped tool {asked.tool!r}{near} Known: {', '.join(CATALOGUE)}")
    if asked.input is None:
        raise Fault(f"{call!r} says no call", hint=f"Write {asked.tool}({tool.subject}).")
    folder = (workspace or Path.cwd()).resolve()
    found = standing(folder)
    registry = ToolRegistry()
    registry.register(tool, granted=False)
    entry = registry.entries()[0]
    rules = [*found.rules, *[Rule.parse(text) for text in allow]]
    policy = Policy(rules, Mode.named(mode), folder, [folder])
    decision = policy.decide(entry, {tool.subject: asked.input[""]}, tainted=tainted)
    asked_too = [
        hook.name
        for hook in found.hooks
        if hook.event is HookEvent.PRE_TOOL_USE and hook.is_about(asked.tool)
    ]
    if as_json:
        visible = policy.visible(entry)
        click.echo(dumps({**decision.to_json(), "visible": visible, "hooks": list(asked_too)}))
        return
    click.echo(f"{decision.action.name.lower()}: {decision.by}")
    effects = ", ".join(sorted([kind.value for kind in decision.kinds]))
    click.echo(f"  code       {decision.code}\n  mode       {mode}\n  effects    {effects}")
    for resource in decision.resources:
        click.echo(f"  touches    {told(resource)}")
    for rule in decision.rules:
        click.echo(f"  rule       {rule.title}")
    for name in asked_too:
        click.echo(f"  hooks      {name}, which is asked and may tighten this")
    if not policy.visible(entry):
        click.echo("  The model is not even shown this tool.")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


@permissions.command()
@_workspace
def test(workspace: Path | None) -> None:
    """Read every file of rules that holds here, and try its examples.

    Exit code 2 for a rule that cannot be, or an example that it does not keep.
    """
    from lorimer.cli.policy_files import standing

    found = standing((workspace or Path.cwd()).resolve())
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    hooks = f", {len(found.hooks)} hooks" if found.hooks else ""
    click.echo(f"{len(found.rules)} rules{hooks}; every example is kept")


@permissions.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_workspace
def trust(workspace: Path | None, yes: bool) -> None:
    """Let this project's .lorimer/permissions.toml allow what it says, and run its hooks.

    A change of the file, or of .lorimer/hooks, ends that. What it denies and asks for holds without
    trust. Hooks run with your rights: read .lorimer/hooks first.
    """
    from lorimer.cli import policy_files

    path = (workspace or Path.cwd()).resolve() / policy_files.PROJECT
    if not yes:
        from lorimer.cli.text import visible

        try:
            click.echo(visible(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise Fault(f"{path} cannot be read: {error}") from None
        if not click.confirm(f"Trust {path} as shown?", default=False):
            raise Fault("nothing was trusted")
    policy_files.trust(path)
    click.echo(f"trusted {path} as it is now")
