"""Numbers and untrusted text formatted for people, and data for programs."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final
from unicodedata import east_asian_width

import click

from lorimer.core.jsonable import JSON, dumps

if TYPE_CHECKING:
    from lorimer.core.request import Usage

# Control characters (except newline and tab), and marks that reverse text: a model or a file must
# not move the cursor or hide a part of a command. Some programs take two of them for line ends, and
# so for the end of a JSON object on a line.
_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
JOINERS: Final = "\u200c\u200d"
"""What joins or separates letters in some scripts (Persian, Hindi), and joins emoji."""
_JOINED: Final = re.compile(
    "(?<=[\u0590-\u1fff\u2190-\u2bff\ufb1d-\ufdff\ufe0f\ufe70-\ufefc\U0001f000-\U0001faff])"
    "[\u200c\u200d]"
    "(?=[\u0590-\u1fff\u2190-\u2bff\ufb1d-\ufdff\ufe70-\ufefc\U0001f000-\U0001faff])"
)
# Characters that may be invisible, or look like a blank, but also occur in honest text.
_UNSEEN: Final = re.compile(
    "[\xa0\xad\u034f\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200a\u202f\u205f\u2800\u3000"
    "\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U00013430-\U0001343f\U00016fe4\U0001bca0-\U0001bca3"
    "\U0001d159\U0001d173-\U0001d17a\U000e0080-\U000e0fff]"
)
# Combining marks: from the third on they cover the text around them.
_MARKS: Final = re.compile(
    "(?<=[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{2})"
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_GAP: Final = re.compile(r"[ \t]{40,}|(?:[ \t]*\n){4,}")
_WIDTHS: Final = {"W": 2, "F": 2}
_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def visible(text: str) -> str:
    """The text with everything escaped that a terminal would act on instead of showing."""
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(_escaped, text)


def readable(text: str) -> str:
    """Like `visible`, but keeps the joiners that some scripts and emoji are written with: for what
    a model says. What is approved or copied is shown with `seen` or `visible`."""
    if text.isascii():
        return visible(text)
    return _HIDDEN.sub(
        lambda found: found[0] if _JOINED.match(text, found.start()) else _escaped(found), text
    )


def seen(text: str) -> str:
    """Like `visible`, but also escapes what is invisible or looks like a blank: for texts that a
    person is asked to approve."""
    if text.isascii():
        return visible(text)
    return _MARKS.sub(_escaped, _UNSEEN.sub(_escaped, visible(text)))


def seen_on_line(text: str) -> str:
    """Like `seen`, with line ends escaped too, and long runs of blanks shortened: for what is told
    about a text that a person is asked to approve."""
    return without_gaps(seen(text).replace("\n", "\\n"))


def rows(text: str, width: int) -> int:
    """How many rows of a screen of this width the text takes, at most. A wide letter may leave the
    last column of a row empty."""
    narrow, wide = max(width, 1), max(width - 1, 1)
    return sum(
        [1 + _columns(line) // (narrow if line.isascii() else wide) for line in text.split("\n")]
    )


def _columns(line: str) -> int:
    if line.isascii() and "\t" not in line:
        return len(line)
    return sum([_WIDTHS.get(east_asian_width(char), 1) for char in line.expandtabs()])


def without_gaps(text: str) -> str:
    """The text with long runs of blanks or empty lines, which could push what precedes them off the
    screen, replaced by their number in red."""
    return _GAP.sub(_gap, text)


def _gap(found: re.Match[str]) -> str:
    ends = found[0].count("\n")
    told = f"{ends:,} ends of lines" if ends else count(len(found[0]), "blank")
    return f"\x1b[31m[{told}]\x1b[0m{chr(10) if ends else ''}"


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def on_line(text: str) -> str:
    """Like `visible`, with line ends escaped too."""
    return visible(text).replace("\n", "\\n")


def harmless(text: str) -> str:
    """JSON with everything escaped in its strings that a terminal would act on, or a program take
    for a line end. The parsed data is the same; letters are not changed."""
    if text.isascii() and "\x7f" not in text:
        return text  # JSON has escaped the characters below a space already
    return _HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def print_json(value: JSON, *, indent: int | None = None) -> None:
    """A value on stdout, `harmless`: on one line, unless it is indented."""
    text = dumps(value) if indent is None else json.dumps(value, indent=indent, ensure_ascii=False)
    click.echo(harmless(text))


def coloured() -> bool | None:
    """The colour setting for `click`: False if the user wants none (`NO_COLOR`, a dumb terminal),
    else None: depends on the stream."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def one_line(text: str, width: int = 100) -> str:
    """All of the text on one line, at most `width` characters."""
    if len(text) > 4 * width:
        text = text[: 4 * width]
    line = " ".join(visible(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def count(number: int, noun: str) -> str:
    """`1 turn`, `2 turns`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def tokens(number: int) -> str:
    """`950`, `12.3k`, `1.2M`."""
    if number < 1000:
        return str(number)
    if number < 999_950:
        return f"{number / 1000:.1f}k"
    return f"{number / 1e6:.1f}M"


def flow(usage: Usage) -> str:
    """`12.3k in, 950 out`: the tokens of a prompt, and those of the answer."""
    return f"{tokens(usage.prompt_tokens)} in, {tokens(usage.output_tokens)} out"


def money(nano: int) -> str:
    """Nano-dollars as dollars, with as many digits as a small amount needs."""
    dollars = nano / 1e9
    return f"${dollars:.2f}" if dollars >= 1 or not nano else f"${dollars:.4f}"


def cost(nano: int, used_tokens: int) -> str:
    """The cost; if tokens were used and nothing was charged, a note that the price is unknown."""
    return "price unknown" if used_tokens and not nano else money(nano)


def duration(seconds: float) -> str:
    """`340 ms`, `8.2 s`, `3 min 05 s`, `2 h 05 min`."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def moment(time: float) -> str:
    """A wall clock time, in the time zone of this machine."""
    try:
        return f"{datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # of a damaged store
        return "at an impossible time"


def ago(seconds: float) -> str:
    """`just now`, `5 min ago`, `3 d ago`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return "just now"


def short_id(run_id: str) -> str:
    """A prefix of an id that is long enough to identify the run; commands accept it."""
    prefix, mark, rest = run_id.partition("_")
    return visible(f"{prefix}{mark}{rest[:8]}")
