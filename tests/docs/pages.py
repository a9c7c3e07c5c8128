"""Pages of documentation as the tests see them: fenced blocks, links, headings, made parts.

A page may say, in an HTML comment right before a block,

    <!-- not run: reason -->     nothing of it is run; only for make, pip and git
    <!-- file: agent.yaml -->    it is a file that the code after it finds in its folder
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=fence)[ ]*$", re.M | re.S
)
_REMARK = re.compile(r"<!-- (?P<key>not run|file): (?P<value>[^>]+?) -->\s*\Z")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_MADE = r"(<!-- made: {name} -->\n)(.*?)(\n<!-- end -->)"


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    """Why it is not run."""
    file: str = ""
    """What it is called in the folder of the code after it."""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        found: list[Block] = []
        for match in _FENCE.finditer(self.text):
            remark = _REMARK.search(self.text[: match.start()])
            given = {remark["key"]: remark["value"]} if remark else {}
            found.append(
                Block(
                    self.name,
                    self.text.count("\n", 0, match.start()) + 1,
                    match["language"],
                    match["text"],
                    given.get("not run", ""),
                    given.get("file", ""),
                )
            )
        return found

    @cached_property
    def prose(self) -> str:
        """The text without its blocks."""
        return _FENCE.sub("", self.text)

    @property
    def links(self) -> list[str]:
        """Where its links go, those to other sites included."""
        return [match["target"] for match in _LINK.finditer(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """What may stand behind a `#`: its headings, as GitHub spells them."""
        headings = re.findall(r"^#+ +(.+?) *$", self.prose, re.M)
        plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
        return {heading.replace(" ", "-") for heading in plain}

    def rows(self, heading: str) -> list[list[str]]:
        """The cells of the first table beneath a heading, without its head."""
        _, mark, rest = self.text.partition(f"\n{heading}\n")
        assert mark, f"{self.name} has no heading {heading!r}"
        table = re.search(r"(?:^\|.*\n)+", rest, re.M)
        assert table, f"{self.name} has no table beneath {heading!r}"
        return _rows(table[0])

    def all_rows(self, heading: str) -> list[list[str]]:
        """As `rows`, of all tables until the next heading of its level."""
        _, mark, rest = self.text.partition(f"\n{heading}\n")
        assert mark, f"{self.name} has no heading {heading!r}"
        section = rest.partition(f"\n{heading.partition(' ')[0]} ")[0]
        return [row for table in re.findall(r"(?:^\|.*\n)+", section, re.M) for row in _rows(table)]

    def made(self, name: str) -> str:
        """The part between `<!-- made: name -->` and `<!-- end -->`."""
        found = re.search(_MADE.format(name=name), self.text, re.S)
        assert found, f"{self.name} has no part '<!-- made: {name} -->' ... '<!-- end -->'"
        return found[2]

    def make(self, name: str, content: str) -> None:
        """Write that part anew."""
        pattern = re.compile(_MADE.format(name=name), re.S)
        now = self.path.read_text("utf-8")  # another part may just have been written
        text = pattern.sub(lambda found: found[1] + content + found[3], now)
        self.path.write_text(text, "utf-8")


def _rows(table: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


README = Page(ROOT / "README.md")
PAGES = [
    README,
    *(Page(ROOT / name) for name in ("CONTRIBUTING.md", "CHANGELOG.md")),
    *(Page(path) for path in sorted((ROOT / "docs").rglob("*.md"))),
]


def doc(name: str) -> Page:
    """A page of docs/."""
    return next(page for page in PAGES if page.name == f"docs/{name}")
