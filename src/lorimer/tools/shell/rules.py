"""Rules for commands: patterns of words, and which part of a command line they cover.

Allowing requires certainty: the line is understood, and each of its commands is covered. For
denying, a possibility is enough: any word of the line, however quoted or wrapped, may start the
command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase, translate
from itertools import islice
from posixpath import basename
from typing import Final, TypeVar

from lorimer.core.errors import ConfigError
from lorimer.core.record import record
from lorimer.tools.shell.parse import Command, Parsed, parse
from lorimer.tools.shell.programs import ELSEWHERE, ENVIRONMENT, moved, opens, unwrapped
from lorimer.tools.shell.scan import passes_on, scan, scan_apart

T = TypeVar("T")

MAX_REMEMBERED: Final = 128
"""Command lines."""
MAX_REMEMBERED_CHARS: Final = 1000
"""Of one."""

_MAX_BETWEEN: Final = 64
"""Words that are looked at for the next one of a pattern."""
_MAX_HEADS: Final = 8
"""Places in one command at which a program is looked for: it stands first, or behind wrappers."""
_BUNDLE: Final = re.compile(r"-[A-Za-z]{1,3}")
_WILD: Final = re.compile(r"[*?\[]")
_CLASSES: Final = re.compile(r"\[[^\]]*\[[:.=].*?\][^\]]*\]")
_LETTER: Final = re.compile("[A-Za-z0-9]")
_TAIL: Final = re.compile(r"[^*?\[\]]+\Z")
MAX_WILD: Final = 256
"""Words with wildcards that are looked at, in a line to be forbidden."""
_MAX_WILD_CHARS: Final = 64
"""Of one."""
_REST: Final = "**"
_ONE: Final = "*"


@record
class CommandRule:
    """A pattern for the words of one command: literal words, `*` for exactly one word, and at the
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
        """Whether the words match, whatever they do."""
        size = len(self.words)
        if len(argv) < size or (len(argv) > size and not self.rest):
            return False
        return all(map(_one_fits, self.words, argv))

    def covers(self, command: Command) -> str:
        """ "" if this rule allows the command, else why not."""
        if any(name not in ENVIRONMENT for name, _ in command.assignments):
            names = ", ".join([name for name, _ in command.assignments if name not in ENVIRONMENT])
            return f"it sets {names}"
        if not command.argv:
            return "it is not a command"
        if self.fits(command.argv):
            why = self._opens(command.argv)
            if not why:
                return ""
            # a literal wrapper may still be covered by the command inside it
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
        """Whether this line contains, or could contain, such a command."""
        return self.is_in(_Line(text, parsed))

    def is_in(self, line: _Line) -> bool:
        """Like `forbids`, for a line that was analysed."""
        if any(
            self._named(words, at, line) for words in line.flat for at in self._heads(words, line)
        ):
            return True
        if len(self.words) > 1 and all(map(line.has, self.words)) and passes_on(line.text):
            return True
        if not any(word.startswith("-") for word in self.words):
            return False
        for words in line.apart:
            for at in islice(self._heads(words, line), _MAX_HEADS):
                if self._named(words, at, line, apart=True):
                    return True
        return False

    def _heads(self, argv: Sequence[str], line: _Line) -> Iterator[int]:
        """Where the program could be, also by another path to it."""
        first = self.words[0]
        for at, word in enumerate(argv):
            if line.may_be(first, word) or ("/" in word and line.may_be(first, basename(word))):
                yield at

    def _named(self, argv: Sequence[str], at: int, line: _Line, *, apart: bool = False) -> bool:
        """As `fits` from the word `at` on, with options between the words and bundled otherwise
        (`git -C x push`, `rm -f -r`), and with more words behind it. `apart`: they are all of one
        command, whose options may stand anywhere."""
        at += 1
        for word in self.words[1:]:
            found = _after(word, argv, at, line, anywhere=apart and word.startswith("-"))
            if found is None:
                return False
            at = found
        return True


class _Line:
    """What a command line could run, determined once for all deny rules."""

    def __init__(self, text: str, parsed: Parsed) -> None:
        self.text = text
        commands: list[Sequence[str]] = [command.argv for command in parsed.commands]
        self.flat = [*commands, *scan(text)]
        self.apart = [*commands, *scan_apart(text)] if parsed.complex else commands
        """Its commands each by itself."""
        self.words = dict.fromkeys([word for words in self.flat for word in words])
        self.wild: dict[str, re.Pattern[str]] = {}
        """Words with wildcards, by which a shell may find a program or a file of a name, and what
        they find. At most MAX_WILD of them."""
        if _WILD.search(text):
            self._find_wild()

    def _find_wild(self) -> None:
        for word in self.words:
            if _WILD.search(word) is None or len(word) > _MAX_WILD_CHARS:
                continue
            for form in (word, basename(word)):
                if _LETTER.search(form) is not None:
                    self.wild[form] = re.compile(translate(_glob(form)))
            if len(self.wild) >= MAX_WILD:
                return

    def has(self, pattern: str) -> bool:
        """Whether any of its words may be this one."""
        return any(self.may_be(pattern, word) for word in self.words)

    def may_be(self, pattern: str, word: str) -> bool:
        """Like `_one_fits`, also through a wildcard."""
        if _one_fits(pattern, word):
            return True
        found = self.wild.get(word) if self.wild else None
        return found is not None and found.match(pattern) is not None


def _glob(word: str) -> str:
    """A shell's wildcards as those of `fnmatch`: `[^a]` is `[!a]`; `[[:alpha:]]` is any letter."""
    return _CLASSES.sub("?", word).replace("[^", "[!")


def _one_fits(pattern: str, word: str) -> bool:
    return pattern == _ONE or (fnmatchcase(word, pattern) if _ONE in pattern else word == pattern)


def _after(
    pattern: str, argv: Sequence[str], at: int, line: _Line, *, anywhere: bool
) -> int | None:
    """Where what follows is to be looked for, if `pattern` may be the next word from `at` on;
    options may stand before it, each with a value, or `anywhere`: any words."""
    letters: set[str] = set()
    value = False
    for here in range(at, min(len(argv), at + _MAX_BETWEEN)):
        word = argv[here]
        if line.may_be(pattern, word):
            return here + 1
        option = word.startswith("-")
        if not option and not value and not anywhere:
            return None
        if option and _BUNDLE.fullmatch(pattern) and not word.startswith("--"):
            letters.update(word)
            if letters.issuperset(pattern):
                return at  # the others of them may serve the next pattern
        value = option and "=" not in word
    return None


class Memory(dict[str, T]):
    """A cache for the latest command lines, since agents repeat themselves. Bounded; long lines are
    not cached."""

    def __setitem__(self, text: str, found: T) -> None:
        if len(text) > MAX_REMEMBERED_CHARS:
            return
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        super().__setitem__(text, found)


class CommandRules:
    """Several patterns, indexed by the program that they name, so their number costs nothing."""

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
        return tuple(found) or "it is not a command"

    def _covering(self, command: Command) -> CommandRule | str:
        """The first rule that covers it, or why none does."""
        named = ""
        argv, inner = command.argv, unwrapped(command.argv)
        rules = list(self._named.get(argv[0], ())) if argv else []
        if inner and inner[0] != argv[0]:
            rules += self._named.get(inner[0], ())
        for rule in [*rules, *self._open]:
            why = rule.covers(command)
            if not why:
                return rule
            if why != "no rule fits":
                named = named or why
        shown = " ".join(argv)[:100]
        return f"{shown}: {named}" if named else f"no rule fits {shown!r}"

    def forbidding(self, text: str, parsed: Parsed) -> list[CommandRule]:
        """The rules by which this line contains, or could contain, what they forbid."""
        known = self._forbidden.get(text)
        if known is None:
            known = self._forbidden[text] = self._forbids(text, parsed)
        return known

    def _forbids(self, text: str, parsed: Parsed) -> list[CommandRule]:
        line = _Line(text, parsed)
        rules = list(self._open)
        for word in line.words:
            rules += self._named.get(word, ())
            if "/" in word:
                rules += self._named.get(basename(word), ())
        for word, found in line.wild.items():
            start, end = _WILD.split(word)[0], _TAIL.search(word)
            for head, named in self._named.items():
                if (
                    head.startswith(start)
                    and (end is None or head.endswith(end[0]))
                    and found.match(head)
                ):
                    rules += named
        return [rule for rule in dict.fromkeys(rules) if rule.is_in(line)]
