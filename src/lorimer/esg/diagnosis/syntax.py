"""Code that is not Python: edits of one or two characters, tried until the parser accepts one."""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lorimer.esg.analysis.magics import magics
from lorimer.esg.analysis.parsing import NO_PYTHON, parsed
from lorimer.esg.diagnosis.case import Case
from lorimer.esg.diagnosis.near import distance
from lorimer.esg.diagnosis.report import Finding
from lorimer.esg.diagnosis.rule import rule
from lorimer.esg.patching.patches import Edit

_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
_OPENING: Final = {closing: opening for opening, closing in _CLOSING.items()}
_OPENS: Final = re.compile(
    r"\s*(if|elif|else|for|while|def|class|with|try|except|finally|async|match|case)\b"
)
_MOST: Final = 150
"""Number of edits that are tried."""
_WIDE: Final = 2000
"""Characters of a line whose words are examined: longer lines are data."""
_SURE: Final = (0.95, 0.7, 0.65, 0.6, 0.55, 0.5)
"""Confidence of the accepted edits, in order: running the step shows which one is right."""
_MISMATCH: Final = re.compile(r"closing parenthesis '(.)' does not match opening parenthesis '(.)'")
_BOUNDARY: Final = re.compile(r"(?<=[\w'\")\]}])(?=[^\w'\"]|$)")
_SOFT: Final = ("match", "case")


@dataclass(frozen=True, slots=True)
class Try:
    """An edit that may help."""

    rule: str
    message: str
    edits: tuple[Edit, ...]


class Lines:
    """The code around the line where the parser failed."""

    def __init__(self, step: str, source: str, error: SyntaxError) -> None:
        self.step, self.source = step, source
        self.rows = source.split("\n")
        self.message = error.msg
        self.number = min(max(error.lineno or 1, 1), len(self.rows))
        self.column = max((error.offset or 1) - 1, 0)
        self.row = self.rows[self.number - 1]
        self.begin = self.start(self.number)

    def start(self, number: int) -> int:
        return sum(len(each) + 1 for each in self.rows[: number - 1])

    def end(self, number: int) -> int:
        """Where the code of a line ends, without a comment."""
        row = self.rows[number - 1]
        quoted = max(row.rfind("'"), row.rfind('"')) + 1  # a `#` before it may be in a string
        code = row[:quoted] + row[quoted:].partition("#")[0]
        return self.start(number) + len(code.rstrip())

    def insert(self, at: int, text: str) -> tuple[Edit, ...]:
        return self.replace(at, at, text)

    def close(self, at: int, sign: str, number: int) -> Try:
        """Insert the bracket that is missing since that line."""
        message = f"{_OPENING[sign]!r} of line {number} is not closed"
        return Try("open_bracket", message, self.insert(at, sign))

    def replace(self, start: int, end: int, text: str) -> tuple[Edit, ...]:
        return (Edit(self.step, start, end, text),)


@rule(SyntaxError)
def syntax(case: Case) -> Iterator[Finding]:
    """The first edit that makes the code valid."""
    error = case.error
    if not isinstance(error, SyntaxError) or error.lineno is None:
        return
    lines = Lines(case.step, case.result.source, error)
    if lines.number - 1 in magics(lines.source):
        message = f"line {lines.number} is a command of notebooks, not Python"
        yield Finding("magic", message, case.step, (), 0.95)
        return
    if _compiles(lines.source):
        message = f"line {lines.number}: {lines.message}, a warning that counts as an error here"
        yield Finding("warning", message, case.step, (), 0.95)
        return
    found = dict[str, Try]()  # by the resulting code
    for number, each in enumerate(_tries(lines)):
        text = _edited(lines.source, each.edits)
        if text not in found and _compiles(text):
            found[text] = each
        if number > _MOST or len(found) == len(_SURE):
            break
    for each, sure in zip(found.values(), _SURE, strict=False):
        yield Finding(each.rule, each.message, case.step, each.edits, sure)
    if not found:
        yield Finding("syntax", f"line {lines.number}: {lines.message}", case.step, (), 0.5)


def _tries(lines: Lines) -> Iterator[Try]:
    text = lines.message
    if "indent" in text:
        yield from _indents(lines)
    if text == "expected ':'":
        yield from _colons(lines)
    if "was never closed" in text:
        yield from _open(lines)
    if "does not match opening" in text:
        yield from _mismatched(lines)
    if "unmatched" in text or "does not match" in text:
        yield from _unmatched(lines)
    if "string literal" in text or "f-string" in text:
        yield from _quotes(lines)
    yield from _keywords(lines)
    yield from _colons(lines)
    yield from _equals(lines)
    yield from _print(lines)
    yield from _commas(lines)
    yield from _open(lines)
    yield from _quotes(lines)
    yield from _unmatched(lines)
    yield from _indents(lines)


def _colons(lines: Lines) -> Iterator[Try]:
    for number in (lines.number, lines.number - 1):
        if number > 0 and _OPENS.match(lines.rows[number - 1]):
            message = f"line {number} ends without ':'"
            yield Try("missing_colon", message, lines.insert(lines.end(number), ":"))


def _open(lines: Lines) -> Iterator[Try]:
    """Close it at the end of its line, or of a later one, or where a word ends."""
    found = re.match(r"'([\[({])' was never closed", lines.message)
    first = lines.number if found else max(1, lines.number - 8)
    signs = [_CLOSING[found[1]]] if found else [")", "]", "}"]
    if found and found[1] == "[" and re.search(r"\w$", lines.row[: lines.column]):
        yield from _inside(lines, "]")
    last = min(len(lines.rows), first + 12) if found else lines.number
    numbers = list(range(first, last + 1))
    for number in numbers if found else reversed(numbers):
        for sign in signs:
            end, opened = lines.end(number), first if found else number
            yield lines.close(end, sign, opened)
            if lines.source[end - 1 : end] in (":", ",", ")", "]", "}"):
                yield lines.close(end - 1, sign, opened)
    if found:
        yield from _inside(lines, signs[0])


def _inside(lines: Lines, sign: str) -> Iterator[Try]:
    """Close it where a word ends, the first one first."""
    for found in _BOUNDARY.finditer(lines.row, lines.column + 1):
        yield lines.close(lines.begin + found.start(), sign, lines.number)


def _mismatched(lines: Lines) -> Iterator[Try]:
    """`[1, 2)`: close the open bracket first."""
    found = _MISMATCH.search(lines.message)
    if found is None:
        return
    which = found[2]
    opened = lines.row.rfind(which, 0, lines.column)
    places = [each.start() for each in _BOUNDARY.finditer(lines.row)]
    places = [each for each in places if opened < each <= lines.column]
    for place in places if which == "[" else reversed(places):
        yield lines.close(lines.begin + place, _CLOSING[which], lines.number)


def _unmatched(lines: Lines) -> Iterator[Try]:
    """Remove the bracket that closes nothing, or replace it with the one that fits."""
    row, start = lines.row, lines.begin
    at = lines.column if lines.column < len(row) and row[lines.column] in ")]}" else -1
    places = [at] if at >= 0 else [n for n, each in enumerate(row) if each in ")]}"]
    for place in places:
        message = f"{row[place]!r} of line {lines.number} closes nothing"
        for other in (")", "]", "}"):
            if other != row[place]:
                edits = lines.replace(start + place, start + place + 1, other)
                yield Try("wrong_bracket", f"line {lines.number} needs {other!r}", edits)
        edits = lines.replace(start + place, start + place + 1, "")
        yield Try("extra_bracket", message, edits)


def _quotes(lines: Lines) -> Iterator[Try]:
    """Add a quote before or after a word: the place nearest to the unmatched one."""
    row, start = lines.row, lines.begin
    message = f"the text of line {lines.number} is not closed"
    if len(row) > _WIDE:
        return
    for quote in ("'", '"'):
        if row.count(quote) % 2 == 0:
            continue
        ends = [*(found.start() for found in re.finditer(r"[\])},:]+$", row)), len(row)]
        ends += [found.start() for found in re.finditer(r"(?<!\s)(?=[\])},: .+])", row)]
        begins = [found.start() for found in re.finditer(r"(?<=[\s(\[{,=])(?=[^\s'\"])", row)]
        for at in dict.fromkeys([*begins, *ends]):
            new = row[:at] + quote + row[at:]
            if parsed(new.strip()) is not None or at == len(row):
                yield Try("open_quote", message, lines.insert(start + at, quote))
        for at in dict.fromkeys([*ends, *begins]):
            yield Try("open_quote", message, lines.insert(start + at, quote))


def _keywords(lines: Lines) -> Iterator[Try]:
    """`retrun x`, `esle:`, `dfe f():`."""
    for number in (lines.number, lines.number - 1):
        if number < 1:
            continue
        for found in re.finditer(r"[A-Za-z]\w*", lines.rows[number - 1][:_WIDE]):
            word = found[0]
            if keyword.iskeyword(word):
                continue
            start = lines.start(number) + found.start()
            most = 1 if len(word) < 5 else 2
            for meant in (*keyword.kwlist, *_SOFT):
                if distance(word, meant, most) <= most:
                    message = f"{word!r} of line {number} is probably {meant!r}"
                    edits = lines.replace(start, start + len(word), meant)
                    yield Try("keyword_typo", message, edits)


def _equals(lines: Lines) -> Iterator[Try]:
    """`if x = 3:`, and `a: 1` for `a=1`."""
    row, start = lines.row, lines.begin
    for found in re.finditer(r"(?<![=!<>:+\-*/%&|^])=(?!=)", row):
        message = f"line {lines.number} compares with '=='"
        at = start + found.start()
        yield Try("assigned_not_compared", message, lines.replace(at, at + 1, "=="))


def _print(lines: Lines) -> Iterator[Try]:
    row, start = lines.row, lines.begin
    found = re.match(r"\s*print\s+(?=\S)", row)
    if found is not None:
        end = lines.end(lines.number)
        opening = start + row.index("print") + len("print")
        edits = (
            Edit(lines.step, opening, start + found.end(), "("),
            Edit(lines.step, end, end, ")"),
        )
        yield Try("print_statement", "print is a function", edits)


def _commas(lines: Lines) -> Iterator[Try]:
    """Between two elements, or at the end of the previous line."""
    row, start = lines.row, lines.begin
    message = f"a comma is missing in line {lines.number}"
    gaps = [each.start() for each in re.finditer(r"(?<=[\w'\")\]}])\s+(?=[\w'\"(\[{])", row)]
    for gap in sorted(gaps, key=lambda each: abs(each - lines.column)):
        yield Try("missing_comma", message, lines.insert(start + gap, ","))
    first = max(1, lines.number - 1)
    for number in range(first, min(lines.number + 8, len(lines.rows))):
        message = f"a comma is missing in line {number}"
        yield Try("missing_comma", message, lines.insert(lines.end(number), ","))


def _indents(lines: Lines) -> Iterator[Try]:
    """Change the indent of the line, of an earlier one that is out of line, or of a block."""
    known = sorted({_indented(row) for row in lines.rows if row.strip()} | {4})
    before = next((each for each in reversed(lines.rows[: lines.number - 1]) if each.strip()), "")
    opens = before.rstrip().endswith(":")
    first = _indented(before) + 4 * opens
    near = [first, *sorted(known, key=lambda each: abs(each - first))]
    yield from _indent(lines, lines.number, near)
    for number in range(lines.number - 1, max(0, lines.number - 6), -1):
        row = lines.rows[number - 1]
        last = lines.rows[number - 2] if number > 1 else ""
        up = _indented(last)
        if row.strip() and _indented(row) < up:
            yield from _indent(lines, number, [up, *sorted(known, key=lambda each: abs(each - up))])
    if opens:  # the whole block is too far left
        edits, number = list[Edit](), lines.number
        while number <= len(lines.rows) and lines.rows[number - 1].strip():
            at = lines.start(number)
            edits.append(Edit(lines.step, at, at, "    "))
            told = f"line {lines.number} is to be indented by 4 more"
            yield Try("indentation", told, tuple(edits))
            number += 1


def _indent(lines: Lines, number: int, wanted: list[int]) -> Iterator[Try]:
    row, start = lines.rows[number - 1], lines.start(number)
    here = _indented(row)
    for each in dict.fromkeys(wanted):
        if each != here:
            message = f"line {number} is indented by {here}; {each} fits"
            yield Try("indentation", message, lines.replace(start, start + here, " " * each))


def _indented(row: str) -> int:
    return len(row) - len(row.lstrip())


def _edited(source: str, edits: tuple[Edit, ...]) -> str:
    for each in sorted(edits, key=lambda edit: edit.start, reverse=True):
        source = source[: each.start] + each.text + source[each.end :]
    return source


def _compiles(source: str) -> bool:
    """Accepted by the parser, and by the compiler, which knows where `return` is allowed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<tried>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except NO_PYTHON:
        return False
    return True


RULES: Final = (syntax,)
