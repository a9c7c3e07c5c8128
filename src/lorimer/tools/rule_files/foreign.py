"""Rules written for other programs, as ours: Claude Code's `settings.json` (`claude_rules.py`) and
geny-executor's files (`geny_rules.py`).

An imported rule means what it meant there, or is stricter. Without an equivalent here, an `allow`
is left out, and a `deny` or `ask` made wider. A note tells of each difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorimer.core.errors import ConfigError
from lorimer.core.jsonable import JSON
from lorimer.tools.rule_files.claude_rules import add_claude_rule, add_claude_settings
from lorimer.tools.rule_files.geny_rules import add_geny_notes, add_geny_rule
from lorimer.tools.rule_files.imported import ACTIONS, Imported
from lorimer.tools.rule_files.reading import Lookup


def import_rules(data: Mapping[str, JSON], where: str, lookup: Lookup) -> Imported:
    """The rules of a parsed document. Rules as text are Claude Code's, rules as tables geny's.
    `where` names the document in errors.

    Raises ConfigError for a document of neither kind, or a list that contains something else.
    """
    permissions = data.get("permissions", data)
    if not isinstance(permissions, Mapping):
        raise ConfigError(f"{where}: permissions has to be a table")
    if "permissions" not in data and not any(name in data for name, _ in ACTIONS):
        raise ConfigError(f"{where} has neither permissions nor a list allow, ask or deny")
    found = Imported()
    from_geny = False
    for name, action in ACTIONS:
        for at, entry in enumerate(_entries(permissions, name, where)):
            place = f"{where}: {name}[{at}]"
            if isinstance(entry, str):
                add_claude_rule(entry, action, place, found, lookup)
            elif isinstance(entry, Mapping):
                from_geny = True
                add_geny_rule(entry, action, place, found, lookup)
            else:
                raise ConfigError(f"{place} is not a rule")
    if from_geny:
        add_geny_notes(permissions, found)
    else:
        add_claude_settings(data, permissions, found)
    return found


def _entries(permissions: Mapping[str, JSON], name: str, where: str) -> Sequence[JSON]:
    entries = permissions.get(name)
    if entries is None:
        return ()
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ConfigError(f"{where}: {name} has to be a list")
    return entries
