"""Rules for commands: patterns of words, and the part of a command line that they cover.

An allow rule needs certainty: the line is understood, and each of its commands is covered. A deny
rule needs a possibility only: any word of the line, however quoted or wrapped, may start the
command that it names.
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
"""Command lines in a cache."""
MAX_REMEMBERED_CHARS: Final = 1000
"""Longer lines are not cached."""

_MAX_BETWEEN: Final = 64
"""Words examined when looking for the next word of a pattern."""
_MAX_HEADS: Final = 8
"""Positions in one command examined as its program: the first word, or one after wrappers."""
_BUNDLE: Final = re.compile(r"-[A-Za-z]{1,3}")
_WILD: Final = re.compile(r"[*?\[]")
_CLASSES: Final = re.compile(r"\[[^\]]*\[[:.=].*?\][^\]]*\]")
_LETTER: Final = re.compile("[A-Za-z0-9]")
_TAIL: Final = re.compile(r"[^*?\[\]]+\Z")
MAX_WILD: Final = 256
"""Words with wildcards that deny rules examine in one line."""
_MAX_WILD_CHARS: Final = 64
"""Longer words with wildcards are not examined."""
_REST: Final = "**"
_ONE: Final = "*"


@record
class CommandRule:
    """A pattern for the words of one command: literal words, `*` for exactly one word, and a final
    `**` for any number of words."""

    words: tuple[str, ...]
    rest: bool = False

    @classmethod
    def parse(cls, text: str) -> CommandRule:
        """From text such as `git log **`, `npm run test` or `python *`, with the shell's quoting.
        Raises ConfigError if it is empty, has a `**` before its end, or is not a simple command."""
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
                hint="Write words, `*` for one word, and `**` at the end for any number of words.",
            )
        if any(_REST in word for word in only.argv):
            raise ConfigError(
                f"{text!r} is not a pattern for commands: ** may only be the last word"
            )
        return cls(only.argv, rest)

    def __str__(self) -> str:
        return " ".join([*self.words, *([_REST] if self.rest else [])])

    def fits(self, argv: Sequence[str]) -> bool:
        """Whether the words match; what the program can do with them does not count."""
        size = len(self.words)
        if len(argv) < size or (len(argv) > size and not self.rest):
            return False
        return all(map(_one_fits, self.words, argv))

    def covers(self, command: Command) -> str:
        """Why this rule does not allow the command; "": it does."""
        if any(name not in ENVIRONMENT for name, _ in command.assignments):
            names = ", ".join([name for name, _ in command.assignments if name not in ENVIRONMENT])
            return f"it sets {names}"
        if not command.argv:
            return "it is not a command"
        if self.fits(command.argv):
            why = self._opens(command.argv)
            if not why:
                return ""
            # `timeout 5 git log` may still be covered as `git log`
        inner = unwrapped(command.argv)
        if inner is None:
            return "it is unclear what it would run"
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
            return ""  # the rule spells out all of it
        return opens(argv, literal)

    def forbids(self, text: str, parsed: Parsed) -> bool:
        """Whether this line contains, or could contain, such a command."""
        return self.is_in(_Line(text, parsed))

    def is_in(self, line: _Line) -> bool:
        """Like `forbids`, for a line already analysed."""
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
        """The positions of words that could be the program, also by a path to it."""
        first = self.words[0]
        for at, word in enumerate(argv):
            if line.may_be(first, word) or ("/" in word and line.may_be(first, basename(word))):
                yield at

    def _named(self, argv: Sequence[str], at: int, line: _Line, *, apart: bool = False) -> bool:
        """Like `fits` from the word `at` on, but also with options in between (`git -C x push`),
        bundled differently (`rm -f -r`), and with more words at the end. `apart`: all words are of
        one command, so its options may be anywhere."""
        at += 1
        for word in self.words[1:]:
            found = _after(word, argv, at, line, anywhere=apart and word.startswith("-"))
            if found is None:
                return False
            at = found
        return True


class _Line:
    """The words that a command line could run, analysed once for all deny rules."""

    def __init__(self, text: str, parsed: Parsed) -> None:
        self.text = text
        commands: list[Sequence[str]] = [command.argv for command in parsed.commands]
        self.flat = [*commands, *scan(text)]
        self.apart = [*commands, *scan_apart(text)] if parsed.complex else commands
        """Like `flat`, with each command separate."""
        self.words = dict.fromkeys([word for words in self.flat for word in words])
        self.wild: dict[str, re.Pattern[str]] = {}
        """Words with wildcards, and the names that they match: a shell may expand `gi?` to `git`.
        At most MAX_WILD."""
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
        """Whether any word of the line may be this word of a pattern."""
        return any(self.may_be(pattern, word) for word in self.words)

    def may_be(self, pattern: str, word: str) -> bool:
        """Like `_one_fits`, also after expansion of wildcards in `word`."""
        if _one_fits(pattern, word):
            return True
        found = self.wild.get(word) if self.wild else None
        return found is not None and found.match(pattern) is not None


def _glob(word: str) -> str:
    """A shell's wildcards in the syntax of `fnmatch`: `[!a]` for `[^a]`, `?` for `[[:alpha:]]`."""
    return _CLASSES.sub("?", word).replace("[^", "[!")


def _one_fits(pattern: str, word: str) -> bool:
    return pattern == _ONE or (fnmatchcase(word, pattern) if _ONE in pattern else word == pattern)


def _after(
    pattern: str, argv: Sequence[str], at: int, line: _Line, *, anywhere: bool
) -> int | None:
    """The position from which the rest of a rule is to be looked for, if `pattern` may be the next
    word from `at` on, else None. Before it there may be options with their values, and any words
    if `anywhere`."""
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
                return at  # the same bundles may hold the next pattern's letters
        value = option and "=" not in word
    return None


class Memory(dict[str, T]):
    """A bounded cache by command line, since agents repeat themselves. Long lines are not
    cached."""

    def __setitem__(self, text: str, found: T) -> None:
        if len(text) > MAX_REMEMBERED_CHARS:
            return
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        super().__setitem__(text, found)


class CommandRules:
    """Rules for commands, indexed by the program that they name, so that a decision does not slow
    down with their number."""

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
        """The deny rules whose commands this line contains, or could contain."""
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
