"""Lines of notebooks that are not Python."""

from __future__ import annotations

import re
from typing import Final

from lorimer.esg.analysis.parsing import parsed

_OF_PYTHON: Final = frozenset({"%%time", "%%timeit", "%%capture", "%%prun"})
_MAGIC: Final = re.compile(r"^\s*[%!?]|^\s*[\w.]+\?+\s*$|^\s*+[\w, ]+=\s*[%!]")


def magics(source: str) -> list[int]:
    """The lines, from 0, that are for a notebook and not Python: `%time`, `!ls`, `help?`, `files =
    !ls`."""
    if parsed(source) is not None:
        return []
    lines = source.split("\n")
    if lines[0].startswith("%%") and lines[0].split()[0] not in _OF_PYTHON:
        return [*range(len(lines))]  # text in another language
    return [at for at, line in enumerate(lines) if _MAGIC.match(line)]
