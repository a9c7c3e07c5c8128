"""Rules of one action about one tool, found by what they name: 500 cost little more than 10."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lorimer.tools.policy.effects import Call, CommandUse, Place
from lorimer.tools.policy.rules import (
    Bound,
    Rule,
    loosely,
    paths_of,
    relative,
    text_of_argument,
)
from lorimer.tools.policy.sources import SOURCES
from lorimer.tools.registry import Entry
from lorimer.tools.shell.rules import CommandRule, CommandRules
from lorimer.world.spellings import spellings


class Side:
    """What it answers is what asking each rule would: an index only says which to ask."""

    def __init__(self, bound: Sequence[Bound], entry: Entry, place: Place) -> None:
        self.empty = not bound
        # where one is told of several, it is the one that binds most
        bound = sorted(bound, key=lambda each: not SOURCES[each.rule.source].final)
        self.bare = tuple([each.rule for each in bound if each.rule.input is None])
        self.named = len(self.bare) < len(bound)
        """Whether a rule names what it is about, not the whole tool."""
        self._entry = entry
        self._place = place
        self._commands: dict[CommandRule, Rule] = {}
        self._literals: dict[str, dict[str, list[Bound]]] = {}
        self._others: list[Bound] = []
        paths: dict[str, list[Bound]] = {}
        for each in bound:
            if each.command is not None:
                self._commands.setdefault(each.command, each.rule)
            elif each.path is not None:
                paths.setdefault(each.path[0], []).append(each)
            elif each.literal is not None:
                argument, text = each.literal
                self._literals.setdefault(argument, {}).setdefault(text, []).append(each)
            elif each.rule.input is not None:
                self._others.append(each)
        self._paths = [_Paths(argument, group) for argument, group in paths.items()]
        self._patterns = CommandRules(list(self._commands))

    def possible(self, call: Call) -> tuple[Rule, ...]:
        """Rules that may be about this call: of each sort the first."""
        if self.empty:
            return ()
        found = list(self.bare[:1])
        for argument, literals in self._literals.items():
            for text in self._spellings(call, argument):
                fitting = [each for each in literals.get(text, ()) if each.fits(call, False)]
                found.extend([each.rule for each in fitting])
        for group in self._paths:
            found.extend(group.possible(call))
        found.extend([each.rule for each in self._others if each.fits(call, False)])
        if self._commands:
            for use in call.resources:
                if isinstance(use, CommandUse):
                    patterns = self._patterns.forbidding(use.text, use.parsed)
                    found.extend([self._commands[pattern] for pattern in patterns])
        if len(found) > 1:
            found.sort(key=lambda rule: not SOURCES[rule.source].final)
        return tuple(dict.fromkeys(found))

    def certain(self, call: Call) -> tuple[Rule, ...]:
        """Rules that cover this call: one word for word, else any one, else the patterns over
        commands that cover its parts together."""
        literal: Rule | None = None
        for argument, literals in self._literals.items():
            if argument in call.input:
                text = text_of_argument(self._entry, argument, call.input[argument], self._place)
                for each in literals.get(text, ()):
                    if each.fits(call, True):
                        if each.rule.exact:
                            return (each.rule,)
                        literal = each.rule
        if literal is not None:
            return (literal,)
        if self.bare:
            return self.bare[:1]
        for group in self._paths:
            if covering := group.certain(call):
                return (covering,)
        for each in self._others:
            if each.fits(call, True):
                return (each.rule,)
        uses = [use for use in call.resources if isinstance(use, CommandUse)]
        if not uses or not self._commands:
            return ()
        found: dict[Rule, None] = {}
        for use in uses:
            patterns = self._patterns.covering(use.text, use.parsed)
            if not patterns:
                return ()
            found.update(dict.fromkeys([self._commands[pattern] for pattern in patterns]))
        return tuple(found)

    def uncovered(self, use: CommandUse) -> str:
        """Why the patterns do not allow a command line."""
        return self._patterns.uncovered(use.text, use.parsed)

    def _spellings(self, call: Call, argument: str) -> set[str]:
        """What an argument may be called."""
        if argument not in call.input:
            return set()
        found = {text_of_argument(self._entry, argument, call.input[argument], self._place)}
        for use in paths_of(call, argument):
            found.update([relative(form, self._place) for form in use.forms])
        return found


class _Paths:
    """Patterns over the paths in one argument, as one regular expression."""

    def __init__(self, argument: str, group: Sequence[Bound]) -> None:
        self._argument = argument
        self._group = group
        text = "|".join([f"({each.path[1]})" for each in group if each.path is not None])
        self._strict, self._loose = re.compile(text), loosely(text)

    def possible(self, call: Call) -> list[Rule]:
        found: list[Rule] = []
        for use in paths_of(call, self._argument):
            if not use.forms:
                return [self._group[0].rule]
            for each in [each for form in use.forms for each in spellings(form)]:
                hit = self._loose.fullmatch(each)
                if hit is not None and hit.lastindex is not None:
                    found.append(self._group[hit.lastindex - 1].rule)
        return found

    def certain(self, call: Call) -> Rule | None:
        uses = paths_of(call, self._argument)
        if len(uses) == 1 and len(uses[0].forms) == 1:
            hit = None if uses[0].climbs else self._strict.fullmatch(uses[0].forms[0])
            return self._group[hit.lastindex - 1].rule if hit and hit.lastindex else None
        # with several paths, or one that leads elsewhere, one rule has to cover all
        for use in uses:
            if not use.forms or self._strict.fullmatch(use.forms[0]) is None:
                return None
        return next((each.rule for each in self._group if each.fits(call, True)), None)
