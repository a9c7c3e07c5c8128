"""docs/architecture.md tells the truth: its paths and names exist, its listing is the listing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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


def wrong(path: str, name: str) -> str:
    """What is wrong with a place; "" when nothing is."""
    if not (ROOT / path).is_file():
        return f"there is no {path}"
    return f"{path} defines no {name}" if name and name not in definitions(ROOT / path) else ""


def test_every_place_exists() -> None:
    named = places()
    assert len(named) > 400
    assert [said for path, name in named if (said := wrong(path, name))] == []


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


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All within it, but those for type checking only."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.If) and ast.unparse(inner.test) == "TYPE_CHECKING":
            continue
        if isinstance(inner, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield inner
            yield from statements(inner)


def imports(part: Path) -> Iterator[tuple[str, str]]:
    """(file, part of ours that it imports), also within functions, not for type checking only."""
    for file in [part] if part.is_file() else sorted(part.rglob("*.py")):
        for node in statements(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Import | ast.ImportFrom):
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
    assert wrong("src/lorimer/core/engin.py", "") == "there is no src/lorimer/core/engin.py"
    assert "defines no _wrk" in wrong("src/lorimer/core/engine.py", "_wrk")
    assert "_work" in definitions(SOURCE / "core" / "engine.py")
    assert "RunContext.effect" in definitions(SOURCE / "core" / "context.py")
    assert "_STATUS" in definitions(SOURCE / "core" / "engine.py")
    assert "RunContext.no_such" not in definitions(SOURCE / "core" / "context.py")
