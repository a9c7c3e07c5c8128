"""Runs the blocks of a page: Python from top to bottom in one namespace, shell lines in bash."""

from __future__ import annotations

import ast
import asyncio
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from inspect import CO_COROUTINE
from pathlib import Path

from lorimer import Pipeline
from tests.docs.pages import ROOT, Block, Page
from tests.forker import socket_path

_EXPECTED = re.compile(r"#> ?(.*)$", re.M)


class Program:
    """The Python of one page: later blocks see what earlier ones have named. `await` may stand
    outside functions, as in `python -m asyncio` and notebooks."""

    def __init__(self, name: str) -> None:
        self.names: dict[str, object] = {"__name__": name}
        self._open: dict[int, Pipeline] = {}
        self._runner = asyncio.Runner()

    def run(self, block: Block) -> str:
        """Run it; what it printed. Raises what it raises, with the page's own line numbers."""
        tree = ast.parse(block.text, block.where)
        ast.increment_lineno(tree, block.line)
        code = compile(
            tree,
            str(ROOT / block.page),
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        out = io.StringIO()
        with redirect_stdout(out):
            if code.co_flags & CO_COROUTINE:
                self._runner.run(self._awaited(code))
            else:
                exec(code, self.names)
        for value in self.names.values():
            if isinstance(value, Pipeline):
                self._open[id(value)] = value
        return out.getvalue()

    async def _awaited(self, code: object) -> None:
        await eval(code, self.names)  # type: ignore[arg-type, misc]

    def close(self) -> None:
        """Close what the page left open: pages do not repeat clean-up in every block."""

        async def close_all() -> None:
            for pipeline in self._open.values():
                await pipeline.aclose()

        self._runner.run(close_all())
        self._runner.close()


def expected_output(text: str) -> list[str]:
    """The lines that a block says it prints: `#> line`."""
    return [line.rstrip() for line in _EXPECTED.findall(text)]


def prints_what_it_says(block: Block, printed: str) -> bool:
    """`...` stands for anything within a line."""
    said = expected_output(block.text)
    lines = [line.rstrip() for line in printed.splitlines()]
    if len(said) != len(lines):
        return False
    patterns = [".*".join(map(re.escape, line.split("..."))) for line in said]
    return all(re.fullmatch(p, line) for p, line in zip(patterns, lines, strict=True))


@contextmanager
def folder(path: Path, blocks: Sequence[Block]) -> Iterator[None]:
    """Work in `path`, with the files that a page shows."""
    for block in blocks:
        if block.file:
            (path / block.file).write_text(block.text, "utf-8")
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def bash(text: str, *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run shell lines as a person would type them; `lorimer` is this tree's. The first line that
    fails ends it."""
    asks = shlex.join([sys.executable, "-IS", str(ROOT / "tests" / "forked.py"), socket_path()])
    script = f'set -euo pipefail\nlorimer() {{ {asks} "$@"; }}\n{text}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "src"),
            "HOME": str(cwd),
            "XDG_DATA_HOME": str(cwd / "data"),
            **env,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def main(page: str, words: str) -> None:
    """Run the first Python block of a page that holds certain words, by itself."""
    import lorimer

    blocks = Page(ROOT / page).blocks
    block = next(b for b in blocks if b.language == "python" and words in b.text)
    program = Program(page)
    program.names.update({name: getattr(lorimer, name) for name in lorimer.__all__})
    sys.stdout.write(program.run(block))
    program.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
