"""What a step can depend on besides names: random states, the folder, the environment, files,
settings of libraries.

Each is a name in the graph (`rng:random`, `rng:numpy`, `os:cwd`, `os:env`, `settings:pandas`,
`settings:numpy`, `file:<path>`, ...). States are set to those of a step's place before it runs and
compared afterwards. Files: files.py.
"""

from __future__ import annotations

import os
import random
import re
import stat
import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, cast

from lorimer.esg.graph.steps import ABSENT
from lorimer.esg.resources.settings import (
    BACKEND,
    DECIMAL,
    LOCALE,
    MATPLOTLIB,
    NUMPY,
    NUMPY_ERRORS,
    OF_PYTHON,
    PANDAS,
    PANDAS_WORKS,
    POLARS,
    PYTHON,
    SKLEARN,
    State,
    environment,
    of_libraries,
)

FILE: Final = "file:"
LINK: Final = "link:"
"""Prefix of the fingerprint of a symbolic link."""
CWD: Final = "os:cwd"
ENV: Final = "os:env"
_WORDS: Final[Mapping[str, str]] = {
    "rng:random": "seed setstate",
    "rng:numpy": "seed set_state",
    CWD: "chdir getcwd",
    ENV: "environ getenv expandvars expanduser home which gettempdir",
    PANDAS: "option",
    NUMPY: "printoptions",
    MATPLOTLIB: "rc style use",
    BACKEND: "use backend",
    NUMPY_ERRORS: "seterr",
    DECIMAL: "getcontext setcontext",
    LOCALE: "setlocale",
    PYTHON: "setrecursionlimit max_str_digits",
    SKLEARN: "set_config get_config config_context",
}
_WHOLE: Final = {"rc": re.compile(r"\brc(\b|[_Pd])"), "use": re.compile(r"\buse\b")}
"""Those that many other words contain (`search`, `because`), and how they are meant."""
SPEAKS_OF: Final = tuple(
    (word, _WHOLE.get(word), name) for name, words in _WORDS.items() for word in words.split()
)
"""Words that show that code may depend on a state, or set it to the value it already has: a step
that uses one counts as reading the state. Other changes are seen directly."""
READ_BY_ALL: Final = frozenset({PANDAS_WORKS})
"""States that every step after the session's first library counts as reading."""
READ_ONCE_SET: Final = frozenset({CWD, NUMPY_ERRORS, DECIMAL, LOCALE, PYTHON, POLARS, SKLEARN})
"""States that every step counts as reading once a step has changed them, which is rare."""
WHOLE: Final = 8 * 2**20
"""Files up to this many bytes are read for comparison; for larger ones size and time are
compared."""


def states() -> dict[str, State]:
    """The present states: numpy's exist once somebody has imported it."""
    found = {**_ALWAYS, **of_libraries()}
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        found["rng:numpy"] = State(
            lambda: _drawing(numpy.random), lambda value: _set_drawing(numpy, value)
        )
    return found


def mark(value: object) -> str:
    """The fingerprint of such a state."""
    return blake2b(repr(value).encode(), digest_size=12).hexdigest()


def fingerprint(name: str) -> str:
    """The fingerprint of the file at present; ABSENT if there is none."""
    return look(name)[0]


def look(name: str) -> tuple[str, bytes | None]:
    """The fingerprint of the file at present, and its content unless it is too large to be read;
    for a symbolic link, its target."""
    path = name.removeprefix(FILE)
    try:
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            target = os.fsencode(os.readlink(path))
            return f"{LINK}{blake2b(target, digest_size=12).hexdigest()}", target
        if info.st_size > WHOLE or not stat.S_ISREG(info.st_mode):  # reading a pipe would block
            return f"{info.st_size}:{info.st_mtime_ns}", None
        data = Path(path).read_bytes()
    except OSError:
        return ABSENT, None
    return blake2b(data, digest_size=12).hexdigest(), data


def _drawing(random: Any) -> object:
    """The state of numpy's generator: (its kind, its key, ...). Arrays have no plain equality."""
    state: object = random.get_state(legacy=True)
    if not isinstance(state, tuple):  # it was replaced by a generator of another kind
        return state
    kind, key, *more = cast("tuple[Any, ...]", state)
    return (kind, key.tobytes(), *more)


def _set_drawing(numpy: Any, value: object) -> None:
    if isinstance(value, tuple):
        kind, key, *more = cast("tuple[Any, ...]", value)
        value = (kind, numpy.frombuffer(key, dtype="uint32"), *more)
    numpy.random.set_state(value)


def _set_environment(value: object) -> None:
    wanted = cast("Mapping[bytes, bytes]", value)
    for name in os.environb.keys() - wanted.keys():
        del os.environb[name]
    os.environb.update(wanted)


_ALWAYS: Final[Mapping[str, State]] = {
    "rng:random": State(
        random.getstate, cast("Callable[[object], None]", random.setstate), sooner_set=True
    ),
    CWD: State(os.getcwd, lambda value: os.chdir(str(value))),
    ENV: State(environment, _set_environment),
    **OF_PYTHON,
}
"""The states of every process."""
