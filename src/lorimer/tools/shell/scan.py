"""The words that a command line might run, and the files that it might open, for deny rules.

`parse` says what a line certainly runs; this says what it might run. A line is read in several
ways, each by text substitution in time linear in its length. Words that no shell would run do no
harm here; a missing one would.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

_QUOTING: Final = re.compile(r"\$(?=['\"])|[\\'\"]")
_BETWEEN: Final = re.compile(r"[\s;&|()<>`{}]+")
_ENDS: Final = re.compile(r"[;&|()\n`]+")
_CODED: Final = re.compile(
    r"\\(?:([0-7]{1,3})|(x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{1,4}|U[0-9A-Fa-f]{1,8}))"
)
_EXPANDED: Final = re.compile(r"\$(?:\{[^{}]*\}|[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-])")
_SET: Final = re.compile(
    r"(?:^|[\s;&|(])([A-Za-z_][A-Za-z0-9_]*)(?:\[[^\]\s]{0,40}\])?(\+?)=([^\s;&|()]*)"
)
_LOOP: Final = re.compile(r"\b(?:for|select)\s+([A-Za-z_][A-Za-z0-9_]*)\s+in\s+([^;\n]*)")
_NAMED: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*+)[^{}]*+\}|([A-Za-z_][A-Za-z0-9_]*))")
_BEFORE_QUOTE: Final = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)(?=[\\'\"])")
_ELSE: Final = re.compile(r"\$\{(?>[A-Za-z0-9_@*#?!-]+?:?[-=+])([^{}]*+)\}")
_SUBSTITUTED: Final = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")
_BRACES: Final = re.compile(r"\{([^{}\s,]*+,[^{}\s]*+)\}")
_IN_BRACES: Final = re.compile(
    r"(?<![^\s;&|(){}])([^\s;&|(){}]*+)\{([^{}\s,]*+,[^{}\s]*+)\}([^\s;&|(){}]*+)"
)
_WITH_BLANKS: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\\[ \t]")
_UNUSUAL: Final = re.compile(r"[^\w./:@%+=,-]+")
_REDIRECTED: Final = re.compile(
    r"(?:(?<![0-9])[0-9]++|&)?(?:<<<|<<-?|<>|>\||>>|[<>]&?)[ \t]*[^\s;&|()<>]+"
)
_SHORT: Final = re.compile(r"(?<!\S)-[A-Za-z]{0,3}?[SI](?=[A-Za-z./])")
_INSIDE: Final = re.compile(r"[=!,\[\]]")
_PASSED_ON: Final = re.compile(
    r"(?<![\w.-])(?:xargs|parallel|eval|read|mapfile|readarray|printf)(?![\w.-])|\$\{?[@*1-9]"
)
_FILE: Final = r"""(?:'[^']*+'|"(?:[^"\\]|\\.)*+"|\\.|[^\s;&|()<>'"\\`])++"""  # with its quotes
_OPENED: Final = re.compile(rf"(<>|&?>>|&>|>[|&]?|(?<!<)<)(?![<>(&])[ \t]*({_FILE})", re.DOTALL)
_ENTERED: Final = re.compile(rf"(?<![\w.-])(?:cd|pushd)[ \t]+(?:-\S*[ \t]+)*({_FILE})", re.DOTALL)
_UNQUOTED: Final = re.compile(r"\\(.)|['\"]", re.DOTALL)
_DESCRIPTOR: Final = re.compile(r"[0-9]*-?")
_MIN_WAYS: Final = 4
"""Values of a variable, and alternatives in braces, that are tried however long the line is."""
_MAX_INSERTED: Final = 2_000_000
"""Characters that replace variables, or braces, in one reading."""
_MAX_NAME: Final = 255
"""Characters in the name of a file."""
_MAX_SCANNED: Final = 20_000
"""Characters of text, over all readings, up to which more of them are tried."""


def scan(text: str) -> list[list[str]]:
    """The words of a line, one list per reading. Operators end words. The readings: quotes kept, or
    removed with the backslashes; `$'\\x72m'` decoded; a variable replaced by a blank, by nothing,
    and by the values that the line assigns; a substitution replaced by nothing, and by the
    arguments of its command; parts of a word (`--rsh=rm`, `-c '!rm'`) as words. Never raises."""
    return [_words(reading) for reading in [*_readings(text), *_within(text)]]


def scan_apart(text: str) -> list[list[str]]:
    """Like `scan`, without parts of words, and one list per command where its end is visible."""
    return [_words(part) for reading in _readings(text) for part in _ENDS.split(reading)]


def opened(text: str) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """The files that a shell might open for this line, and whether it would write to them: what
    stands behind a `<` or `>` in any reading, also where that is not a redirection. And the folders
    that it might change to, in order, one list per reading. Wildcards and variables that the line
    does not set are left as they are. Never raises."""
    files: dict[tuple[str, bool], None] = {}
    folders: dict[tuple[str, ...], None] = {}
    for reading in _of_files(text):
        folders[tuple([_bare(word) for word in _ENTERED.findall(reading)])] = None
        for operator, word in _OPENED.findall(reading):
            path = _bare(word)
            if operator == ">&" and _DESCRIPTOR.fullmatch(path):
                continue
            for writes in (False, True) if operator == "<>" else (operator != "<",):
                files[path, writes] = None
    return list(files), [[*each] for each in folders]


def _of_files(text: str) -> list[str]:
    """The readings in which files are looked for: also with quotes, since names may have blanks."""
    return list(dict.fromkeys([text, *_given(text), *_chosen(text), *_readings(text)]))


def _bare(word: str) -> str:
    """A word without its quotes."""
    return _UNQUOTED.sub(r"\1", word)


def passes_on(text: str) -> bool:
    """Whether words of this line may become arguments elsewhere in it: `echo push | xargs git`."""
    return _PASSED_ON.search(text) is not None


def _readings(text: str) -> list[str]:
    quoted = _QUOTING.search(text) is not None
    bare = text.replace("\\\n", "") if quoted else text
    readings = [bare]
    if quoted:
        named = _BEFORE_QUOTE.sub(r"${\1}", bare)
        forms = [_WITH_BLANKS.sub(_joined, named), named]
        if "$'" in bare:
            forms.append(_CODED.sub(_decoded, named))
        readings += [_QUOTING.sub("", form) for form in forms]
    plain = readings[-1]
    if "<" in bare or ">" in bare:
        readings.append(_REDIRECTED.sub(" ", plain))
    if "$" in bare:
        readings += [_EXPANDED.sub(blank, plain) for blank in (" ", "")]
        readings += _given(plain)
    if "`" in bare or "$(" in bare:
        readings += [_SUBSTITUTED.sub(way, plain) for way in ("", _arguments)]
    if "{" in bare and "," in bare:
        plain = readings[-1]
        readings += _chosen(plain)
        each = partial(_all_choices, most=_MAX_INSERTED // (plain.count("{") + 1))
        readings.append(_IN_BRACES.sub(each, plain))
    return list(dict.fromkeys(readings))


def _within(text: str) -> Iterator[str]:
    """The readings in which parts of words are words."""
    plain = _QUOTING.sub(" ", text.replace("\\\n", ""))
    if _INSIDE.search(plain) is not None or plain != text:
        yield _INSIDE.sub(" ", plain)
    if _SHORT.search(_QUOTING.sub("", text)) is not None:
        yield _SHORT.sub(" ", _QUOTING.sub("", text))


def _ways(wanted: int, text: str) -> int:
    return min(wanted, max(_MIN_WAYS, _MAX_SCANNED // (len(text) + 1)))


def _given(text: str) -> list[str]:
    """The line with its variables replaced by the values that it assigns to them."""
    values: dict[str, list[str]] = {}
    longest = _MAX_INSERTED // (text.count("$") + 1)

    def known(name: str, value: str) -> None:
        value = _NAMED.sub(partial(given, at=-1), value)  # `a=${b}c`
        each = [value, _ELSE.sub(r"\1", value)] if "${" in value else [value]  # `a=${b:-c}`
        values.setdefault(name, []).extend([one[:longest] for one in dict.fromkeys(each)])

    def given(found: re.Match[str], at: int) -> str:
        each = values.get(found[1] or found[2], ())
        return each[min(at, len(each) - 1)] if each else found[0]

    for name, more, value in _SET.findall(text):
        before = values.get(name)
        known(name, f"{before[-1]}{value}" if more and before else value)
    for name, words in _LOOP.findall(text):
        for word in words.split():
            known(name, word)
    most = max(map(len, values.values()), default=0)
    ways = [*range(_ways(most, text)), -1]
    found = [_NAMED.sub(partial(given, at=at), text) for at in ways]
    if "${" in text:
        found.append(_ELSE.sub(r"\1", text))
    return found


def _chosen(text: str) -> list[str]:
    """The line with the first, second, ... alternative in each of its braces."""
    most = max([found.count(",") for found in _BRACES.findall(text)], default=-1) + 1
    return [_BRACES.sub(_choice(at), text) for at in range(_ways(most, text))]


def _arguments(found: re.Match[str]) -> str:
    return (found[1] or found[2] or "").strip().partition(" ")[2]


def _joined(found: re.Match[str]) -> str:
    return _UNUSUAL.sub("_", found[0].strip("'\""))


def _choice(at: int) -> Callable[[re.Match[str]], str]:
    def chosen(found: re.Match[str]) -> str:
        choices = found[1].split(",")
        return choices[min(at, len(choices) - 1)]

    return chosen


def _all_choices(found: re.Match[str], most: int) -> str:
    """`a{b,c}d` as `abd acd`. Where that would be longer than `most`, only with the names in it:
    without the folders before, and without what is too long for a name."""
    before, choices, after = found[1], found[2].split(","), found[3]
    if (len(before) + len(after)) * len(choices) > most:
        before = before.rpartition("/")[2]
        if (len(before) + len(after)) * len(choices) > max(most, _MAX_NAME * len(choices)):
            before = after = ""
    return " ".join([f"{before}{choice}{after}" for choice in choices])


def _words(text: str) -> list[str]:
    words = [word.removeprefix("$") for word in _BETWEEN.split(text)]
    return [word for word in words if word]


def _decoded(found: re.Match[str]) -> str:
    octal, code = found[1], found[2]
    number = int(octal, 8) if octal else int(code[1:], 16)
    return chr(number) if 32 < number < 0xD800 else " "
