"""docs/architecture.md tells the truth: its paths and names exist, its listing is the listing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, doc

SOURCE = ROOT / "src" / "lorimer"
PAGE = doc("architecture.md")
TABLES = (
    "## To change X, go to Y",
    "## One home for each decision",
    "## Who owns what, and who cancels",
)
_PLACE = re.compile(r"`(src/[^`:]+)(?:: ([^`]+))?`")


def places() -> list[tuple[str, str]]:
    """Every path of the tables, with a name in it or ""."""
    cells = [cell for heading in TABLES for row in PAGE.all_rows(heading) for cell in row]
    return [
        (path, name.strip())
        for cell in cells
        for path, names in _PLACE.findall(cell)
        for name in names.split(",")
    ]


@cache
def definitions(path: Path) -> frozenset[str]:
    """What a module defines: `name`, and `Class.name` for the members of its classes."""
    found: set[str] = set()

    def add(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else ()
            if isinstance(node, ast.AnnAssign):
                targets = (node.target,)
            found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    add(ast.parse(path.read_text("utf-8")).body, "")
    return frozenset(found)


@pytest.mark.parametrize(("path", "name"), places())
def test_every_place_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file(), f"there is no {path}"
    assert not name or name in definitions(ROOT / path), f"{path} defines no {name}"


_FILE = re.compile(r"`((?:\w+/)*\w+\.py)`")


def modules_named() -> list[tuple[Path, str]]:
    """Each module, and one that its text names."""
    texts = {path.relative_to(SOURCE): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}
    return [(path, name) for path, text in texts.items() for name in _FILE.findall(text)]


def is_there(path: Path, name: str) -> bool:
    """Beside the module, or in a folder above it: `core/limits.py`."""
    return any((SOURCE / above / name).is_file() for above in path.parents)


def test_every_module_that_another_names_is_there() -> None:
    named = modules_named()
    assert len(named) > 300
    assert [f"{path}: {name}" for path, name in named if not is_there(path, name)] == []
    assert not is_there(Path("core/engine.py"), "engin.py")


def listing() -> dict[str, tuple[str, str]]:
    """Part -> what it holds, what it imports."""
    return {row[0].strip("`").rstrip("/"): (row[1], row[2]) for row in PAGE.rows("## The listing")}


def test_the_listing_is_complete() -> None:
    there = {path.name for path in SOURCE.glob("[!_]*") if path.suffix in ("", ".py")}
    assert set(listing()) == there


def imports(part: Path) -> Iterator[tuple[str, str]]:
    """(file, part of ours that it imports), also within functions, not for type checking only."""
    for file in [part] if part.is_file() else sorted(part.rglob("*.py")):
        found = list(ast.walk(ast.parse(file.read_text("utf-8"))))
        typing_only = {
            inner
            for node in found
            if isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in found:
            if not isinstance(node, ast.Import | ast.ImportFrom) or node in typing_only:
                continue
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                words = name.split(".")
                if words[0] == "lorimer" and len(words) > 1:
                    yield file.relative_to(SOURCE).as_posix(), words[1]


def test_imports_are_as_the_listing_says() -> None:
    above: set[str] = set()
    for part, (_, said) in listing().items():
        allowed = set(re.findall(r"`(\w+)`", said))
        if said == "all above":
            allowed = {name.removesuffix(".py") for name in above}
        else:
            assert allowed or said == "nothing"
        for file, imported in imports(SOURCE / part):
            assert imported in allowed | {part.removesuffix(".py")}, f"{file} imports {imported}"
        above.add(part)


def test_a_false_place_is_noticed() -> None:
    assert "_work" in definitions(SOURCE / "core" / "engine.py")
    assert "RunContext.effect" in definitions(SOURCE / "core" / "context.py")
    assert "_STATUS" in definitions(SOURCE / "core" / "engine.py")
    assert "RunContext.no_such" not in definitions(SOURCE / "core" / "context.py")
