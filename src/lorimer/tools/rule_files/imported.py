"""Rules of another program on their way into ours: what is kept of them, and notes on the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lorimer.core.errors import ConfigError
from lorimer.tools.policy.modes import Action
from lorimer.tools.policy.rules import Rule
from lorimer.tools.rule_files.foreign_specs import Meaning
from lorimer.tools.rule_files.reading import Lookup, check

ACTIONS: Final = (("deny", Action.DENY), ("ask", Action.ASK), ("allow", Action.ALLOW))
"""The lists of rules in a document, in order."""


@dataclass(slots=True)
class Imported:
    """The rules of a document as ours, and what differs."""

    rules: dict[Rule, None] = field(default_factory=dict)
    """In order, each once."""
    notes: list[str] = field(default_factory=list)
    """For the user: rules that are left out, and rules with another meaning here."""
    mode: str = ""

    def to_toml(self, where: str) -> str:
        """The text of a rule file; `where` is named in its first line."""
        lines = [f"# From {_quoted(where)}"]
        if self.mode:
            lines.append(f'mode = "{self.mode}"')
        for name, action in ACTIONS:
            plain = [str(r) for r in self.rules if r.action is action and not r.reason]
            if plain:
                lines += [f"{name} = [", *[f"    {_quoted(text)}," for text in plain], "]"]
        for rule in self.rules:
            if rule.reason:
                name = rule.action.name.lower()
                lines += ["", "[[rule]]", f"{name} = {_quoted(str(rule))}"]
                lines.append(f"reason = {_quoted(rule.reason)}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class ForeignRule:
    """One rule of another program, while it is imported."""

    name: str
    """What notes call it: `deny Bash(rm:*)`."""
    action: Action
    found: Imported
    """Where its rules and notes go."""
    lookup: Lookup
    reason: str = ""

    def note(self, text: str) -> None:
        """Tell the user something about this rule."""
        self.found.notes.append(f"{self.name}: {text}")

    def keep(self, text: str) -> bool:
        """Add a rule of ours; False if `text` is none."""
        rule = self._rule(text)
        if rule is None:
            return False
        self.found.rules[rule] = None
        return True

    def add(self, tools: Iterable[str], meaning: Meaning) -> None:
        """Add the rules with this meaning for each of `tools`. A tool after the first that does not
        exist here is skipped."""
        note = meaning.note
        wider: list[str] = []
        for at, tool in enumerate(tools):
            if at and self.lookup(tool) is None:
                continue
            texts = self._texts(tool, meaning)
            if texts is not None:
                for text in texts:
                    self.keep(text)
            elif self.action is Action.ALLOW:
                note = "not imported: no rule here means the same"
            elif self.keep(tool):
                wider.append(tool)
            else:
                note = "not imported: no tool can have this name here"
        if wider:
            note = f"stricter here: every call of {' and '.join(wider)}"
        if note:
            self.note(note)

    def _texts(self, tool: str, meaning: Meaning) -> list[str] | None:
        """The rules of ours for one tool; None if there are none with this meaning."""
        about_all = meaning.specs == (None,)
        known = self.lookup(tool) is not None
        if not meaning.exact or not (known or about_all):
            return None
        argument = "path=" if known and tool in ("Grep", "Glob") else ""
        texts = [tool if spec is None else f"{tool}({argument}{spec})" for spec in meaning.specs]
        rules = [rule for rule in map(self._rule, texts) if rule is not None]
        try:
            check(rules, self.lookup, "")
        except ConfigError:
            return None
        return texts if len(rules) == len(texts) else None

    def _rule(self, text: str) -> Rule | None:
        try:
            return Rule.parse(text, pattern=True, action=self.action, reason=self.reason)
        except ConfigError:
            return None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
