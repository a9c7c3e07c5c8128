"""Converts HTML to readable text: headings, paragraphs, lists, tables, code, links.

It takes one pass, in time linear in the length of the page. Parsers written in Python, that of the
standard library included, take minutes of CPU for some pages of a megabyte that are made to be
slow; those in C can be killed by some, and the program with them.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Final
from urllib.parse import urljoin

_SILENT: Final = frozenset("svg iframe object canvas video audio nav select".split())
"""Elements whose content is left out."""

_UNENDED: Final = frozenset("p li dt dd tr td th option".split())
"""Elements without an end tag in many pages: the next one of the kind, or the end of what they are
in, ends them."""

_BLOCKS: Final = frozenset(
    "address article aside blockquote body caption dd details div dl dt fieldset figcaption figure "
    "footer header hr main ol p pre section summary table tbody td tfoot th thead tr ul li br "
    "h1 h2 h3 h4 h5 h6".split()
)
_VOID: Final = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()
)
_INVISIBLE: Final = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
"""Characters that are invisible to a person: text hidden with them should not reach the model."""
_NO_CHARACTER: Final = re.compile(r"&#[0-9]{8,}")
"""A reference to a character that does not exist; `unescape` raises ValueError for one with
thousands of digits."""
_MAX_LINKS: Final = 1000
_MAX_DEPTH: Final = 200
_MAX_INDENT: Final = 8
_SELF_CLOSING: Final = (" /", '"/', "'/", "\n/")
"""How the attributes of an element without content end; not the one of `href=/x/`."""


_TAG: Final = re.compile(
    r"<(/?)([a-zA-Z][a-zA-Z0-9-]*+)"
    r"""((?:[^<>=]++|=\s*+(?:"[^"<]*+"|'[^'<]*+')?+)*+)>"""
    r"|<!--(?:-?>)?|<[!?][^<>]*+>"
)
"""Never backtracks, nor passes a `<`, so it takes linear time."""
_ATTRIBUTE: Final = re.compile(r"""([^\s"'<>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_REFRESH: Final = re.compile(r"""url\s*=\s*["']?([^"']+)""", re.IGNORECASE)
_NO_PLACE: Final = ("#", "javascript:", "data:", "about:")
"""How links begin that lead nowhere."""
_MAX_ATTRIBUTES: Final = 4000
_RAW: Final = frozenset({"script", "style", "template", "textarea", "title"})
"""Elements that end only with their own end tag."""


def readable(html: str, url: str) -> str:
    """The text of a page; `url` is what its links are relative to."""
    reader = _Reader(url)
    reader.feed(html)
    text = _INVISIBLE.sub("", "".join(reader.parts))
    lines = [line.rstrip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Reader:
    def __init__(self, url: str) -> None:
        self.parts: list[str] = []
        self._url = url
        self._based = False
        """The page has said what its links are relative to; only the first time counts."""
        self._silent: list[str] = []
        """The open elements whose content is left out, outermost first."""
        self._pre = 0
        self._links: list[str] = []
        self._shown = 0
        self._lists: list[int] = []
        """The next number of each open list; negative: it has none."""
        self._formula: int | None = None
        """The number of parts before the open formula."""

    def feed(self, html: str) -> None:
        at = 0
        ends: dict[str, bool] = {}
        """End marks of elements and comments: whether the last search found one. If not, none is
        left, and it is not searched for again."""
        while (found := _TAG.search(html, at)) is not None:
            self._text(html[at : found.start()])
            at = found.end()
            tag = (found[2] or "").lower()
            if found[0] == "<!--":
                at = self._after(html, "--!?>", at, ends)
            elif tag and found[1]:
                self._close(tag)
            elif tag in _RAW and not found[3].endswith("/") and "shadowroot" not in found[3]:
                end = self._after(html, f"</{tag}", at, ends)
                if tag == "title" and not self._silent:
                    title = html[at : min(end, at + 1000)].partition("</")[0]
                    self.parts.append(f"# {_plain(title).strip()}\n\n")
                at = end
            elif tag:
                self._open(tag, found[3])
        self._text(html[at:])

    def _after(self, html: str, mark: str, at: int, ends: dict[str, bool]) -> int:
        """The position of the next end tag `mark`, or after the next such end of a comment; the end
        of the page if there is none."""
        if ends.get(mark, True):
            found = re.compile(mark, re.IGNORECASE).search(html, at)
            ends[mark] = found is not None
            if found is not None:
                return found.start() if mark.startswith("</") else found.end()
        return len(html)

    def _open(self, tag: str, attributes: str) -> None:
        given = {
            name.lower(): _plain(value.strip("\"'"))
            for name, value in _ATTRIBUTE.findall(attributes[:_MAX_ATTRIBUTES])
        }
        hidden = "hidden" in given or given.get("aria-hidden") == "true"
        hidden = hidden or "display:none" in given.get("style", "").replace(" ", "").lower()
        hidden = hidden or (tag == "dialog" and "open" not in given)
        if self._silent and self._silent[-1] == tag and tag in _UNENDED:
            self._silent.pop()
        if not self._silent and not hidden:
            hidden = self._begin(tag, given)
        ends = tag in _VOID or attributes.endswith(_SELF_CLOSING) or attributes == "/"
        if (self._silent or hidden) and not ends and len(self._silent) < _MAX_DEPTH:
            self._silent.append(tag)

    def _begin(self, tag: str, given: dict[str, str]) -> bool:
        """Write what an element begins with. Returns whether its content is left out."""
        if tag in _BLOCKS:
            self._break(tag, given)
        if tag == "pre":
            self._pre += 1
        elif tag in ("ul", "ol"):
            self._lists.append(_number(given.get("start", ""), 1) if tag == "ol" else -1)
        elif tag == "a":
            self._links.append(given.get("href", ""))
        elif tag == "img" and given.get("alt"):
            self.parts.append(f"[image: {given['alt']}]")
        elif tag == "sup":
            self.parts.append("^")
        elif tag in ("frame", "iframe"):
            if _leads(given.get("src", "")):
                self._apart("frame", given["src"])
        elif tag == "base" and given.get("href") and not self._based:
            self._based = True
            self._url = self._absolute(given["href"]) or self._url
        elif tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            if (found := _REFRESH.search(given.get("content", ""))) is not None:
                self._apart("goes on at", found[1])
        elif tag == "math":
            self._formula = len(self.parts)
            self.parts.append(given.get("alttext", ""))
            return bool(given.get("alttext"))
        elif tag.startswith("annotation") and self._formula is not None:
            if not given.get("encoding", "").lower().endswith("tex"):
                return True
            del self.parts[self._formula :]  # the same formula, in a form that is less clear
        return tag in _SILENT

    def _apart(self, what: str, target: str) -> None:
        self.parts.append(f"\n\n[{what}]")
        self._link(target)
        self.parts.append("\n\n")

    def _break(self, tag: str, given: dict[str, str]) -> None:
        if self._pre and tag != "br":
            self._new_line()
        elif tag == "li":
            number = _number(given.get("value", ""), self._lists[-1] if self._lists else -1)
            if number >= 0 and self._lists:
                self._lists[-1] = number + 1
            indent = "  " * min(len(self._lists) - 1, _MAX_INDENT)
            self.parts.append(f"\n{indent}{f'{number}.' if number >= 0 else '-'} ")
        elif tag in ("td", "th"):
            self.parts.append(" | ")
        elif tag in ("br", "tr", "dt", "dd"):
            self.parts.append("\n")
        elif tag[0] == "h" and tag[1:].isdigit():
            self.parts.append(f"\n\n{'#' * int(tag[1:])} ")
        elif tag not in ("ul", "ol", "tbody", "thead"):
            self.parts.append("\n\n")

    def _new_line(self) -> None:
        """The blocks of code are its lines."""
        if self.parts and not self.parts[-1].endswith("\n"):
            self.parts.append("\n")

    def _close(self, tag: str) -> None:
        if tag in self._silent:
            # also closes elements inside it that were never closed
            at = len(self._silent) - 1 - self._silent[::-1].index(tag)
            del self._silent[at:]
            return
        if self._silent and self._silent[0] in _UNENDED and tag in _BLOCKS:
            self._silent.clear()  # what it is in has ended
        if not self._silent:
            self._end(tag)

    def _end(self, tag: str) -> None:
        if tag == "pre":
            self._pre = max(0, self._pre - 1)
        if tag == "a" and self._links:
            target = self._links.pop()
            if _leads(target):
                self._link(target)
        elif tag in ("ul", "ol"):
            del self._lists[-1:]
            self.parts.append("" if self._lists else "\n")
        elif tag == "math":
            self._formula = None
        elif self._pre and tag in _BLOCKS:
            self._new_line()
        elif tag in _BLOCKS and tag not in ("td", "th", "tr", "li", "br"):
            self.parts.append("\n\n")

    def _link(self, target: str) -> None:
        if self._shown < _MAX_LINKS and (url := self._absolute(target)):
            self._shown += 1
            self.parts.append(f" ({url})")

    def _absolute(self, target: str) -> str:
        """ "": it is not a URL at all."""
        try:
            return urljoin(self._url, target)
        except ValueError:
            return ""

    def _text(self, data: str) -> None:
        if self._silent or not data:
            return
        text = _plain(data)
        if not self._pre:
            text = re.sub(r"\s+", " ", text)
            if text.startswith(" ") and self.parts and self.parts[-1].endswith(("\n", " ")):
                text = text[1:]
        self.parts.append(text)


def _plain(text: str) -> str:
    """The text with character references such as `&amp;` and `&#38;` replaced."""
    return unescape(_NO_CHARACTER.sub("&#0", text))


def _leads(target: str) -> bool:
    return bool(target) and not target.strip().lower().startswith(_NO_PLACE)


def _number(text: str, default: int) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,6}", text) else default
