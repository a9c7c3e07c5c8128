"""A parser for the small subset of the shell's grammar that all shells interpret alike.

The subset: simple commands of literal words, joined by `&&`, `||`, `;`, `|` and newline, with
redirections to literal paths. Everything else (substitution, expansion, globs, functions,
here-documents, ...) is `complex`: what it runs cannot be known in advance. When in doubt, a line is
complex.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lorimer.core.record import record

MAX_CHARS: Final = 65_536
"""A longer command is complex."""
MAX_COMMANDS: Final = 64
"""A line with more commands is complex."""

RESERVED: Final = frozenset(
    "if then else elif fi for while until do done case esac in function select time coproc { } "
    "[[ ]] !".split()
)
"""Words that are grammar at the start of a command."""

_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_ODD_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\[|\+=)")
_LETTERS: Final = re.compile(r"[^\s\\'\"`$&|;<>(){}*?\[\]~#!^\x00-\x1f\x7f]+")
"""Characters that are literal everywhere. `=`, `,`, `:`, `%`, `@`, `+` and `/` are among them: with
braces and `~` excluded they have no meaning to a shell."""
_IN_DOUBLE: Final = re.compile(r'["\\$`!]')
_NUMBERED: Final = re.compile(r"[0-9]+[<>]")
_REDIRECTION: Final = re.compile(r"([0-9]*)(>&1|<<<|<<-?|<>|>\||>>|>&|<&|>|<)")
_WORD: Final = r"[A-Za-z0-9_./:@+,-]+"
_WORDS: Final = rf"{_WORD}(?: {_WORD})*"
_PLAIN: Final = re.compile(rf"{_WORDS}(?: (?:&&|\|\||[|;]) {_WORDS})*")
"""A fast path, five times as fast, for most lines: literal words, and operators between single
spaces. `_Reader` parses all others, and would give the same result for these."""
_JOINED: Final = re.compile(r" (?:&&|\|\||[|;]) ")
_ODD: Final = re.compile(
    r"[^\S \t\n]|[\x00-\x08\x0e-\x1f\x7f\u0085\u200b-\u200f\u2028-\u202e\u2060\ufeff]"
)
"""White space and control characters that shells, terminals and people interpret differently."""
_ESCAPED_IN_QUOTES: Final = '$`"\\'


@record
class Redirect:
    """A file that a command reads or writes through the shell."""

    path: str
    writes: bool


@record
class Command:
    """A simple command: what the shell would start, with which words."""

    argv: tuple[str, ...]
    """Without quotes and escapes; [0] as written. Empty: assignments or redirections only."""
    redirects: tuple[Redirect, ...] = ()
    assignments: tuple[tuple[str, str], ...] = ()
    """Variables set for it: `NAME=value` before its first word."""


@record
class Parsed:
    """A command line, understood or not."""

    commands: tuple[Command, ...]
    """In order. For a complex line, those before the part that makes it complex."""
    complex: str = ""
    """Why it is unknown what it runs; "": it runs exactly `commands`."""

    @property
    def simple(self) -> Command | None:
        """The only command of a line without operators and redirections: it needs no shell."""
        only = self.commands[0] if len(self.commands) == 1 and not self.complex else None
        return None if only is None or only.redirects or only.assignments else only


class _Complex(Exception):
    """The rest of the line is not parsed."""


def parse(text: str) -> Parsed:
    """Parse a command line for bash or a POSIX shell. Never raises."""
    if len(text) <= MAX_CHARS and _PLAIN.fullmatch(text):
        argvs = [tuple(part.split(" ")) for part in _JOINED.split(text)]
        if len(argvs) <= MAX_COMMANDS and RESERVED.isdisjoint([argv[0] for argv in argvs]):
            return Parsed(tuple([Command(argv) for argv in argvs]))
    reader = _Reader(text)
    try:
        reader.line()
    except _Complex as why:
        return Parsed(tuple(reader.commands), str(why))
    return Parsed(tuple(reader.commands))


@dataclass(slots=True)
class _Draft:
    """A command during parsing."""

    argv: list[str]
    redirects: list[Redirect]
    assignments: list[tuple[str, str]]

    @property
    def empty(self) -> bool:
        return not (self.argv or self.redirects or self.assignments)


class _Reader:
    def __init__(self, text: str) -> None:
        self.commands: list[Command] = []
        self._text = text
        self._at = 0
        self._draft = _Draft([], [], [])
        self._joined = False
        """The last operator still needs a command after it."""

    def line(self) -> None:
        """Read the whole line. Raises _Complex."""
        text = self._text
        if len(text) > MAX_CHARS:
            raise _Complex(f"it is longer than {MAX_CHARS} characters")
        odd = _ODD.search(text)
        if odd is not None:
            raise _Complex(f"it contains {odd[0]!r}, which shells interpret differently")
        while self._at < len(text):
            char = text[self._at]
            if char in " \t":
                self._at += 1
            elif char in "\n;&|":
                self._operator(char)
            elif char in "<>" or self._starts_redirect():
                self._redirect()
            else:
                self._word()
        if self._joined:
            raise _Complex("a command is missing at its end")
        self._end()

    def _operator(self, char: str) -> None:
        two = self._text[self._at : self._at + 2]
        if two in ("&&", "||"):
            if self._draft.empty:
                raise _Complex(f"there is no command before {two}")
            self._at += 2
            self._end()
            self._joined = True
        elif char == "&":
            raise _Complex("it starts a background job")
        elif two in ("|&", ";;", ";&"):
            raise _Complex(f"it uses {two}")
        elif char == "|":
            if self._draft.empty:
                raise _Complex("there is no command before |")
            self._at += 1
            self._end()
            self._joined = True
        elif char == ";":
            if self._draft.empty:
                raise _Complex("there is no command before ;")
            self._at += 1
            self._end()
        else:  # a newline: an empty line is nothing, and after an operator it is blank
            self._at += 1
            if not self._draft.empty:
                self._end()

    def _end(self) -> None:
        draft = self._draft
        if draft.empty:
            return
        if len(self.commands) == MAX_COMMANDS:
            raise _Complex(f"it joins more than {MAX_COMMANDS} commands")
        self.commands.append(
            Command(tuple(draft.argv), tuple(draft.redirects), tuple(draft.assignments))
        )
        self._draft = _Draft([], [], [])

    # --- words ---------------------------------------------------------------------------

    def _word(self) -> None:
        start = self._at
        value = self._read_word()
        raw = self._text[start : self._at]
        draft = self._draft
        self._joined = False
        if raw.startswith("="):
            raise _Complex("a word starts with =")
        if not draft.argv:
            if value in RESERVED:
                raise _Complex(f"{value} is a word of the shell's grammar")
            if _ODD_ASSIGNMENT.match(raw):
                raise _Complex("it assigns to an array element, or appends to a variable")
            if value.startswith("%"):
                raise _Complex("it names a job")
            assigned = _ASSIGNMENT.fullmatch(value)
            if assigned is not None:
                if _ASSIGNMENT.match(raw) is None:
                    raise _Complex("an assignment is quoted")
                draft.assignments.append((assigned[1], assigned[2]))
                return
        draft.argv.append(value)

    def _read_word(self) -> str:
        text = self._text
        parts: list[str] = []
        while self._at < len(text):
            plain = _LETTERS.match(text, self._at)
            if plain is not None:
                parts.append(plain[0])
                self._at = plain.end()
                continue
            char = text[self._at]
            if char in " \t\n;&|<>":
                break
            if char == "'":
                parts.append(self._single())
            elif char == '"':
                parts.append(self._double())
            elif char == "\\":
                parts.append(self._escape())
            elif char in "{}" and text[self._at : self._at + 2] == "{}" and self._alone(2):
                parts.append("{}")
                self._at += 2
            elif char in "~^" and parts and not parts[-1].endswith(("=", ":")):
                parts.append(char)  # `HEAD~2`: they have a meaning only at the start of a word
                self._at += 1
            else:
                raise _Complex(f"{char} is not quoted")
        return "".join(parts)

    def _alone(self, size: int) -> bool:
        """Whether the next `size` characters are a whole word."""
        before = self._text[self._at - 1 : self._at]
        after = self._text[self._at + size : self._at + size + 1]
        return (
            before in ("", " ", "\t")
            and after in ("", " ", "\t", "\n", ";")
            and bool(self._draft.argv)
        )

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise _Complex("a quote is not closed")
        value = self._text[self._at + 1 : end]
        self._at = end + 1
        return value

    def _double(self) -> str:
        text = self._text
        parts: list[str] = []
        at = self._at + 1
        while True:
            found = _IN_DOUBLE.search(text, at)
            if found is None:
                raise _Complex("a quote is not closed")
            parts.append(text[at : found.start()])
            char = found[0]
            at = found.end()
            if char == '"':
                self._at = at
                return "".join(parts)
            if char == "\\":
                following = text[at : at + 1]
                if following == "\n":
                    raise _Complex("a line is continued")
                if following in _ESCAPED_IN_QUOTES and following:
                    parts.append(following)
                    at += 1
                else:
                    parts.append("\\")
            else:
                raise _Complex(f"{char} has a meaning between double quotes")

    def _escape(self) -> str:
        following = self._text[self._at + 1 : self._at + 2]
        if following in ("", "\n"):
            raise _Complex("a line is continued")
        self._at += 2
        return following

    # --- redirections --------------------------------------------------------------------

    def _starts_redirect(self) -> bool:
        return _NUMBERED.match(self._text, self._at) is not None

    def _redirect(self) -> None:
        found = _REDIRECTION.match(self._text, self._at)
        if found is None:
            raise _Complex("a redirection is not understood")
        number, operator = found[1], found[2]
        self._at = found.end()
        self._joined = False
        if operator == ">&1" and number in ("", "2"):
            if self._text[self._at : self._at + 1] not in ("", " ", "\t", "\n", ";", "|", "&"):
                raise _Complex("a redirection is not understood")
            return  # stderr joins stdout: no file
        if operator not in (">", ">>", "<") or number not in ("", "0", "1", "2"):
            raise _Complex(f"it redirects with {number}{operator}")
        if (number == "0") != (operator == "<") and number:
            raise _Complex(f"it redirects with {number}{operator}")
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1
        path = self._read_word()
        if not path:
            raise _Complex("a redirection has no file")
        if path.startswith(("/dev/tcp", "/dev/udp", "/dev/fd", "/proc")) or path.isdigit():
            raise _Complex(f"it redirects to {path}")
        if path != "/dev/null":
            self._draft.redirects.append(Redirect(path, operator != "<"))
        elif self._draft.empty:
            raise _Complex("a redirection has no command")
