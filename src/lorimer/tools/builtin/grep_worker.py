"""The matching of Grep; also a program, `python -I -S grep_worker.py`.

stdin: one JSON line of options, then for each file a JSON line `[name, size]` and its bytes.
stdout: one JSON document. It opens no file. It imports nothing of ours, to start fast.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable

MAX_LINE_CHARS = 500
"""Longer lines are truncated in the answer."""


def search(
    lines: list[bytes], matches: Callable[[str], object], context: int, room: int
) -> tuple[int, list[tuple[int, bool, str]]]:
    """How many lines match, and the first `room` of them with `context` lines around each, as
    (number from 1, whether it matches, text)."""
    texts = [line.decode("utf-8", "replace").rstrip("\r") for line in lines]
    hits = [number for number, text in enumerate(texts) if matches(text)]
    wanted = set(hits[:room])
    shown: set[int] = set()
    for number in wanted:
        shown.update(range(max(number - context, 0), min(number + context + 1, len(texts))))
    return len(hits), [
        (number + 1, number in wanted, texts[number][:MAX_LINE_CHARS]) for number in sorted(shown)
    ]


def split(data: bytes) -> list[bytes]:
    """The lines of a file, without an empty one after a final line end."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def main() -> None:
    """Read the request from stdin, and write the answer to stdout."""
    options = json.loads(sys.stdin.buffer.readline())
    try:
        regex = re.compile(options["pattern"], re.IGNORECASE if options["ignore_case"] else 0)
    except (re.error, OverflowError, RecursionError) as error:
        json.dump({"error": str(error)}, sys.stdout)
        return
    room: int = options["room"]
    found: list[tuple[str, int, list[tuple[int, bool, str]]]] = []
    while header := sys.stdin.buffer.readline():
        name, size = json.loads(header)
        lines = split(sys.stdin.buffer.read(size))
        count, shown = search(lines, regex.search, options["context"], room)
        if count:
            found.append((name, count, shown))
            room = max(room - count, 0)
    json.dump({"found": found}, sys.stdout)


if __name__ == "__main__":
    main()
