"""A process that measures: `python -m benchmarks.worker SCALE`.

Each line on standard input names a case, `module:function` below `benchmarks`; its answer is one
line of JSON, its figures or the reason why it cannot be measured here. A case that fails ends the
process. Imports as little as it can: rows 8 and 9 are about what this process holds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module

from benchmarks.scale import SCALES, NotHere


def main() -> None:
    """Serve until standard input ends."""
    scale = SCALES[sys.argv[1]]
    for line in sys.stdin:
        module, _, function = line.strip().partition(":")
        case = getattr(import_module(f"benchmarks.{module}"), function)
        try:
            answer = asyncio.run(case(scale))
        except NotHere as reason:
            answer = str(reason)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
