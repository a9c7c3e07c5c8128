"""Rules about the source tree that no linter knows, held over its syntax trees.

- `core`, `models`, `stages` and `run` do no file I/O, but for load and save in `core/manifest.py`
  and the stores in `run/stores`.
- No module but a package's `__init__` holds imports only.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "lorimer"

PURE_PACKAGES = ("core", "models", "stages", "run")
MAY_DO_FILE_IO = ("core/manifest.py", "run/stores/")

FILE_MODULES = frozenset(
    "apsw bz2 dbm fileinput glob gzip linecache lzma mmap shutil sqlite3 tarfile tempfile "
    "zipfile".split()
)
FILE_FUNCTIONS = frozenset(
    [
        *("open", "io.open", "io.open_code", "io.FileIO", "codecs.open", "tokenize.open"),
        *("anyio.open_file", "anyio.TemporaryDirectory", "anyio.TemporaryFile"),
        *("importlib.resources.open_binary", "importlib.resources.open_text"),
        *(
            f"os.{name}"
            for name in (
                "open fdopen read write pread pwrite sendfile truncate ftruncate fsync fdatasync "
                "mkdir makedirs mkfifo rmdir removedirs remove unlink rename renames replace "
                "link symlink readlink listdir scandir walk fwalk stat lstat access chmod chown "
                "utime chdir"
            ).split()
        ),
        *(
            f"os.path.{name}"
            for name in "exists lexists isfile isdir islink getsize getmtime".split()
        ),
    ]
)
# Names that only files have; the receiver's type is not known here.
FILE_METHODS = frozenset(["read_text", "read_bytes", "write_text", "write_bytes"])
# Names that other things have too: they count where the module imports a Path.
PATH_METHODS = frozenset(
    "open touch mkdir rmdir unlink rename symlink_to hardlink_to iterdir rglob exists "
    "is_file is_dir".split()
)


def imports_of(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Each imported name as (name in the module, dotted origin, line)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                yield (alias.asname or first, alias.name if alias.asname else first, node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield (alias.asname or alias.name, f"{node.module}.{alias.name}", node.lineno)


def dotted(node: ast.expr, origins: dict[str, str]) -> str | None:
    """`os.path.exists` for that expression, aliases resolved; None if it is no chain of names."""
    if isinstance(node, ast.Name):
        return origins.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        left = dotted(node.value, origins)
        return left and f"{left}.{node.attr}"
    return None


def file_io(source: str) -> list[str]:
    """Every place in `source` that reads, writes or asks about a file, as "line: what"."""
    tree = ast.parse(source)
    imports = list(imports_of(tree))
    origins = {name: origin for name, origin, _ in imports}
    has_path = any(
        origin in {"pathlib", "pathlib.Path", "anyio.Path"} for origin in origins.values()
    )
    found = [
        (line, f"import of {origin}")
        for _, origin, line in imports
        if origin.partition(".")[0] in FILE_MODULES
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute):
            continue
        name = dotted(node, origins)
        if name in FILE_FUNCTIONS:
            found.append((node.lineno, name))
        elif isinstance(node, ast.Attribute) and (
            node.attr in FILE_METHODS or (has_path and node.attr in PATH_METHODS)
        ):
            found.append((node.lineno, f".{node.attr}"))
    return [f"{line}: {what}" for line, what in sorted(found)]


def holds_imports_only(source: str) -> bool:
    """True for a module of imports, with or without a docstring, `__all__` and TYPE_CHECKING."""

    def is_import(node: ast.stmt) -> bool:
        if isinstance(node, ast.If | ast.Try):
            return all(is_import(inner) for inner in node.body)
        return isinstance(node, ast.Import | ast.ImportFrom)

    def is_decoration(node: ast.stmt) -> bool:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return all(
                isinstance(target, ast.Name) and target.id == "__all__" for target in targets
            )
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    body = [node for node in ast.parse(source).body if not is_decoration(node)]
    return bool(body) and all(is_import(node) for node in body)


def modules(*packages: str) -> list[str]:
    """The modules of those packages that exist (of all, if none is named), below src/lorimer."""
    roots = [SOURCE / package for package in packages] if packages else [SOURCE]
    return sorted(
        path.relative_to(SOURCE).as_posix()
        for root in roots
        if root.is_dir()
        for path in root.rglob("*.py")
    )


def test_pure_packages_do_no_file_io() -> None:
    pure = [m for m in modules(*PURE_PACKAGES) if not m.startswith(MAY_DO_FILE_IO)]
    assert len(pure) > 200
    found = {module: file_io((SOURCE / module).read_text()) for module in pure}
    assert {module: places for module, places in found.items() if places} == {}


def test_no_module_holds_imports_only() -> None:
    known = [m for m in modules() if not m.endswith("__init__.py")]
    assert len(known) > 500
    assert [m for m in known if holds_imports_only((SOURCE / m).read_text())] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("open('x')", ["1: open"]),
        ("import os\nos.open('x', 0)", ["2: os.open"]),
        ("import os as o\no.path.exists('x')", ["2: os.path.exists"]),
        ("from os import replace as swap\nswap('a', 'b')", ["2: os.replace"]),
        ("from pathlib import Path\nPath('x').open()", ["2: .open"]),
        ("def f(where):\n    return where.read_text()", ["2: .read_text"]),
        ("def f(run, where):\n    return run(where.write_bytes)", ["2: .write_bytes"]),
        ("def f():\n    import tempfile", ["2: import of tempfile"]),
        ("import sqlite3 as s", ["1: import of sqlite3"]),
        ("import os\nimport io\nos.environ, os.getpid(), io.BytesIO()", []),
        ("def f(circuit):\n    return circuit.open()", []),
        ("from urllib.parse import quote\n'a'.replace('a', 'b')", []),
    ],
)
def test_file_io_is_recognised(source: str, found: list[str]) -> None:
    assert file_io(source) == found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from a import b", True),
        ('"""Doc."""\nfrom a import b\n__all__ = ["b"]', True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a", True),
        ("try:\n    import a\nexcept ImportError:\n    a = None", True),
        ('"""Doc only."""', False),
        ("", False),
        ("from a import main\nmain()", False),
        ("import a\nX = a.y", False),
    ],
)
def test_imports_only_is_recognised(source: str, expected: bool) -> None:
    assert holds_imports_only(source) is expected
