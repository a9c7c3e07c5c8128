"""Plays in processes of their own, and without noise. A crash leaks what it abandons, on purpose,
so no process plays very many."""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import apsw


@contextmanager
def quiet() -> Iterator[None]:
    """What handlers raise is logged, what is abandoned is never awaited, and SQLite does without
    some writes that fail: all as it should."""
    log = logging.getLogger("lorimer")
    level = log.level
    log.setLevel(logging.CRITICAL)
    told = sys.unraisablehook
    sys.unraisablehook = lambda it: None if issubclass(it.exc_type, apsw.Error) else told(it)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=RuntimeWarning)
            yield
            gc.collect()
    finally:
        log.setLevel(level)
        sys.unraisablehook = told


def elsewhere(program: str, **environment: str) -> str:
    """What a program prints in a process of its own."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), *sys.path])
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path, **environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def side_by_side(module: str, function: str, chunks: Sequence[object]) -> list[str]:
    """All that `function` of `module` finds, called with each chunk (plain data), as many
    processes at once as there are cores. Says how far it is."""
    done = count(1)

    def one(chunk: object) -> list[str]:
        call = f"print(json.dumps(m.{function}(json.loads({json.dumps(chunk)!r}))))"
        found: list[str] = json.loads(elsewhere(f"import json, {module} as m; {call}"))
        print(f"{next(done)} of {len(chunks)}: {str(chunk)[:70]}", file=sys.stderr, flush=True)
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [text for texts in pool.map(one, chunks) for text in texts]
