"""The matching of Grep; also a program, `python -I -S grep_worker.py`.

stdin: one JSON line of options, then for each file a JSON line `[name, size]` and its bytes.
stdout: one JSON document. It opens no file. It imports nothing of ours, to start fast.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections import deque
from collections.abc import Callable

MAX_LINE_CHARS = 500
"""Longer lines are truncated in the answer."""


def search(
    data: bytes, matches: Callable[[str], object], context: int, room: int
) -> tuple[int, list[tuple[int, bool, str]]]:
    """How many lines of a file match, and the first `room` of them with `context` lines around
    each, as (number from 1, whether it matches, text). Keeps no others: there may be millions."""
    count, after = 0, 0
    shown: list[tuple[int, bool, str]] = []
    before: deque[str] = deque(maxlen=context)
    for number, line in enumerate(io.BytesIO(data), 1):
        text = line.decode("utf-8", "replace").removesuffix("\n").rstrip("\r")
        hit = bool(matches(text))
        count += hit
        if hit and count <= room:
            first = number - len(before)
            shown += [(first + at, False, each[:MAX_LINE_CHARS]) for at, each in enumerate(before)]
            shown.append((number, True, text[:MAX_LINE_CHARS]))
            before.clear()
            after = context
        elif after:
            shown.append((number, False, text[:MAX_LINE_CHARS]))
            after -= 1
        elif context:
            before.append(text)
    return count, shown


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
        data = sys.stdin.buffer.read(size)
        count, shown = search(data, regex.search, options["context"], room)
        if count:
            found.append((name, count, shown))
            room = max(room - count, 0)
    json.dump({"found": found}, sys.stdout)


if __name__ == "__main__":
    main()
