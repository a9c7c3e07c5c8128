"""Converts HTML to readable text: headings, paragraphs, lists, tables, code, links.

It takes one pass, in time linear in the length of the page. The standard library's parser does not
guarantee that for pages made to be slow.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Final
from urllib.parse import urljoin

_SILENT: Final = frozenset("svg math iframe object canvas nav form button select dialog".split())
"""Elements whose content is left out."""

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


_TAG: Final = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*+)([^<>]*+)>|<!--|<[!?][^<>]*+>")
"""Never backtracks, so it takes linear time."""
_ATTRIBUTE: Final = re.compile(r"""([a-zA-Z-]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_MAX_ATTRIBUTES: Final = 4000
_RAW: Final = frozenset({"script", "style", "noscript", "template", "textarea", "title"})
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
        self._silent: list[str] = []
        """The open elements whose content is left out, outermost first."""
        self._pre = 0
        self._links: list[str] = []
        self._shown = 0

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
                at = self._after(html, "-->", at, ends)
            elif tag and found[1]:
                self._close(tag)
            elif tag in _RAW:
                end = self._after(html, f"</{tag}", at, ends)
                if tag == "title":
                    title = html[at : min(end, at + 1000)].partition("</")[0]
                    self.parts.append(f"# {_plain(title).strip()}\n\n")
                at = end
            elif tag:
                self._open(tag, found[3])
        self._text(html[at:])

    def _after(self, html: str, mark: str, at: int, ends: dict[str, bool]) -> int:
        """The position after the next `mark`; the end of the page if there is none."""
        if ends.get(mark, True):
            found = re.compile(re.escape(mark), re.IGNORECASE).search(html, at)
            ends[mark] = found is not None
            if found is not None:
                return found.end() if mark == "-->" else found.start()
        return len(html)

    def _open(self, tag: str, attributes: str) -> None:
        given = {
            name.lower(): _plain(value.strip("\"'"))
            for name, value in _ATTRIBUTE.findall(attributes[:_MAX_ATTRIBUTES])
        }
        hidden = tag in _SILENT or "hidden" in given or given.get("aria-hidden") == "true"
        hidden = hidden or "display:none" in given.get("style", "").replace(" ", "").lower()
        if self._silent or hidden:
            if tag not in _VOID and not attributes.endswith("/") and len(self._silent) < _MAX_DEPTH:
                self._silent.append(tag)
            return
        if tag in _BLOCKS:
            self._break(tag)
        if tag == "pre":
            self._pre += 1
        elif tag == "a":
            self._links.append(given.get("href", ""))
        elif tag == "img" and given.get("alt"):
            self.parts.append(f"[image: {given['alt']}]")

    def _break(self, tag: str) -> None:
        if tag == "li":
            self.parts.append("\n- ")
        elif tag in ("td", "th"):
            self.parts.append(" | ")
        elif tag in ("br", "tr", "dt", "dd"):
            self.parts.append("\n")
        elif tag[0] == "h" and tag[1:].isdigit():
            self.parts.append(f"\n\n{'#' * int(tag[1:])} ")
        elif tag not in ("ul", "ol", "tbody", "thead"):
            self.parts.append("\n\n")

    def _close(self, tag: str) -> None:
        if tag in self._silent:
            # also closes elements inside it that were never closed
            at = len(self._silent) - 1 - self._silent[::-1].index(tag)
            del self._silent[at:]
        elif not self._silent:
            self._end(tag)

    def _end(self, tag: str) -> None:
        if tag == "pre":
            self._pre = max(0, self._pre - 1)
        if tag == "a" and self._links:
            target = self._links.pop()
            if target and not target.startswith(("#", "javascript:", "data:")):
                self._link(target)
        elif tag in _BLOCKS and tag not in ("td", "th", "tr", "li", "br"):
            self.parts.append("\n\n" if tag not in ("ul", "ol") else "\n")

    def _link(self, target: str) -> None:
        if self._shown < _MAX_LINKS:
            self._shown += 1
            try:
                self.parts.append(f" ({urljoin(self._url, target)})")
            except ValueError:  # not a URL at all
                return

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
