"""`lorimer manifest diff`: the differences between two agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lorimer.cli.fail import FAILED, OK
from lorimer.cli.options import json_option

if TYPE_CHECKING:
    from lorimer.core.jsonable import JSON


@click.command()
@click.argument("before")
@click.argument("after")
@json_option("One JSON object, with both values of each difference.")
def diff(before: str, after: str, as_json: bool) -> int:
    """Show how two agents differ. BEFORE and AFTER are files, or names of presets.

    Their meaning is compared, not their text: a default that is spelled out is no difference. Exit
    codes: 0 the same, 1 different, 2 one of them cannot be read.

    \b
    Example:
      lorimer manifest diff agent agent.yaml
    """
    from lorimer.cli import agent
    from lorimer.cli.text import print_json, visible
    from lorimer.core.redaction import of_environment
    from lorimer.environment.diff import diff as compare

    one, two = agent.described(before), agent.described(after)
    found = compare(one, two)
    redactor = of_environment()
    if as_json:
        changes: list[JSON] = [change.to_json() for change in found]
        told: JSON = {"same": not found, "before": one.digest, "after": two.digest}
        told = {**told, "changes": changes}
        print_json(told if redactor is None else redactor.json(told))
    else:
        for change in found:
            text = visible(str(change))
            click.echo(text if redactor is None else redactor.text(text))
        if not found:
            same = "They are the same." if one.digest == two.digest else _WRITTEN
            click.echo(same)
    return FAILED if found else OK


_WRITTEN = "They mean the same, but are written differently."
