"""Rules over commands: patterns of words, and what of a command line they cover.

To allow takes certainty: the line is understood, and each of its commands is covered. To forbid
takes a suspicion: any word of the line, however it is quoted or wrapped, may begin the command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from posixpath import basename
from typing import Final, TypeVar

from lorimer.core.errors import ConfigError
from lorimer.core.record import record
from lorimer.tools.shell.parse import Command, Parsed, parse, scan
from lorimer.tools.shell.programs import ELSEWHERE, ENVIRONMENT, moved, opens, unwrapped

T = TypeVar("T")

MAX_REMEMBERED: Final = 128
"""Command lines."""
MAX_REMEMBERED_CHARS: Final = 1000
"""Of one."""

_MAX_BETWEEN: Final = 64
"""Words that are looked at for the next one of a pattern."""
_BUNDLE: Final = re.compile(r"-[A-Za-z]{1,3}")
_REST: Final = "**"
_ONE: Final = "*"


@record
class CommandRule:
    """A pattern over the words of one command: literal words, `*` for exactly one word, and at the
    end `**` for any number of words."""

    words: tuple[str, ...]
    rest: bool = False

    @classmethod
    def parse(cls, text: str) -> CommandRule:
        """From `git log **`, `npm run test`, `python *`. Quotes are the shell's. Raises ConfigError
        for an empty pattern, a `**` that is not at the end, or what is not plain words."""
        rest = False
        head = text.strip()
        if head.split()[-1:] == [_REST]:
            head, rest = head[: -len(_REST)].rstrip(), True
        marked = head.replace(_ONE, "'*'")
        read = parse(marked)
        only = read.simple
        if only is None or not only.argv or (rest and not head):
            why = read.complex or "it has to be the words of one command"
            raise ConfigError(
                f"{text!r} is not a pattern for commands: {why}",
                hint="Write words, `*` for one word, and `**` at the end for any more.",
            )
        if any(_REST in word for word in only.argv):
            raise ConfigError(f"{text!r} is not a pattern for commands: ** stands at the end only")
        return cls(only.argv, rest)

    def __str__(self) -> str:
        return " ".join([*self.words, *([_REST] if self.rest else [])])

    def fits(self, argv: Sequence[str]) -> bool:
        """The words fit, whatever they do."""
        size = len(self.words)
        if len(argv) < size or (len(argv) > size and not self.rest):
            return False
        return all(map(_one_fits, self.words, argv))

    def covers(self, command: Command) -> str:
        """ "" when this command may run by this rule, else why not."""
        if any(name not in ENVIRONMENT for name, _ in command.assignments):
            names = ", ".join([name for name, _ in command.assignments if name not in ENVIRONMENT])
            return f"it sets {names}"
        if not command.argv:
            return "it is no command"
        if self.fits(command.argv):
            why = self._opens(command.argv)
            if not why:
                return ""
            # said word for word, a wrapper may still be covered by what is inside it
        inner = unwrapped(command.argv)
        if inner is None:
            return "what it would run cannot be said"
        if inner == command.argv or not self.fits(inner):
            return self._opens(command.argv) if self.fits(command.argv) else "no rule fits"
        return self._opens(inner)

    def _opens(self, argv: Sequence[str]) -> str:
        literal = 0
        for word in self.words:
            if _ONE in word:
                break
            literal += 1
        if literal == len(self.words) and not self.rest:
            return ""  # all of it was said
        return opens(argv, literal)

    def forbids(self, text: str, parsed: Parsed) -> bool:
        """This line contains, or could contain, such a command."""
        lines = [command.argv for command in parsed.commands]
        return any(
            self._named(words, at) for words in (*lines, *scan(text)) for at in range(len(words))
        )

    def _named(self, argv: Sequence[str], at: int) -> bool:
        """As `fits` from the word `at` on, also by another path to the program, with options
        between the words and bundled otherwise (`git -C x push`, `rm -f -r`), and with more words
        behind it."""
        first = self.words[0]
        if not (_one_fits(first, argv[at]) or _one_fits(first, basename(argv[at]))):
            return False
        at += 1
        for word in self.words[1:]:
            found = _after(word, argv, at)
            if found is None:
                return False
            at = found
        return True


def _one_fits(pattern: str, word: str) -> bool:
    return pattern == _ONE or (fnmatchcase(word, pattern) if _ONE in pattern else word == pattern)


def _after(pattern: str, argv: Sequence[str], at: int) -> int | None:
    """Where what follows is to be looked for, if `pattern` may be the next word from `at` on;
    options may stand before it, each with a value."""
    letters: set[str] = set()
    value = False
    for here in range(at, min(len(argv), at + _MAX_BETWEEN)):
        word = argv[here]
        if _one_fits(pattern, word):
            return here + 1
        option = word.startswith("-")
        if not option and not value:
            return None
        if option and _BUNDLE.fullmatch(pattern) and not word.startswith("--"):
            letters.update(word)
            if letters.issuperset(pattern):
                return at  # the others of them may serve the next pattern
        value = option and "=" not in word
    return None


class Memory(dict[str, T]):
    """What was found out about the last command lines: agents repeat themselves. Holds so much and
    no more; a long line is not remembered."""

    def __setitem__(self, text: str, found: T) -> None:
        if len(text) > MAX_REMEMBERED_CHARS:
            return
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        super().__setitem__(text, found)


class CommandRules:
    """Several patterns, found by the program that they name: their number costs nothing."""

    def __init__(self, rules: Sequence[CommandRule]) -> None:
        self._named: dict[str, list[CommandRule]] = {}
        self._open: list[CommandRule] = []
        self._covered: Memory[tuple[CommandRule, ...] | str] = Memory()
        self._forbidden: Memory[list[CommandRule]] = Memory()
        for rule in rules:
            head = rule.words[0]
            (self._open if _ONE in head else self._named.setdefault(head, [])).append(rule)

    def uncovered(self, text: str, parsed: Parsed) -> str:
        """Why these rules do not allow this line; "": each of its commands is covered."""
        found = self._found(text, parsed)
        return found if isinstance(found, str) else ""

    def covering(self, text: str, parsed: Parsed) -> tuple[CommandRule, ...]:
        """The rules that allow this line, one for each of its commands; (): they do not."""
        found = self._found(text, parsed)
        return () if isinstance(found, str) else found

    def _found(self, text: str, parsed: Parsed) -> tuple[CommandRule, ...] | str:
        known = self._covered.get(text)
        if known is None:
            known = self._covered[text] = self._find(parsed)
        return known

    def _find(self, parsed: Parsed) -> tuple[CommandRule, ...] | str:
        if parsed.complex:
            return parsed.complex
        found: list[CommandRule] = []
        elsewhere = False
        for command in parsed.commands:
            rule = self._covering(command)
            if isinstance(rule, str):
                return rule
            inner = unwrapped(command.argv) or command.argv
            if elsewhere and (why := moved(inner)):
                return f"{' '.join(command.argv)[:100]}: {why}"
            elsewhere = elsewhere or not ELSEWHERE.isdisjoint(command.argv)
            found.append(rule)
        return tuple(found) or "it is no command"

    def _covering(self, command: Command) -> CommandRule | str:
        """The first rule that covers it, or why none does."""
        named = ""
        heads = dict.fromkeys(word[0] for word in (command.argv, unwrapped(command.argv)) if word)
        rules = [rule for head in heads for rule in self._named.get(head, ())]
        for rule in [*rules, *self._open]:
            why = rule.covers(command)
            if not why:
                return rule
            if why != "no rule fits":
                named = named or why
        shown = " ".join(command.argv)[:100]
        return f"{shown}: {named}" if named else f"no rule fits {shown!r}"

    def forbidding(self, text: str, parsed: Parsed) -> list[CommandRule]:
        """The rules by which this line contains, or could contain, what they forbid."""
        known = self._forbidden.get(text)
        if known is None:
            known = self._forbidden[text] = self._forbids(text, parsed)
        return known

    def _forbids(self, text: str, parsed: Parsed) -> list[CommandRule]:
        words = {word for reading in scan(text) for word in reading}
        for command in parsed.commands:
            words.update(command.argv)
        rules = list(self._open)
        for word in words:
            rules += self._named.get(word, ())
            if "/" in word:
                rules += self._named.get(basename(word), ())
        return [rule for rule in dict.fromkeys(rules) if rule.forbids(text, parsed)]
