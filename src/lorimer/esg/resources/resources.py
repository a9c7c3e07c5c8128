"""What a step can depend on besides names: random states, the folder, the environment, files,
settings of libraries.

Each is a name of its own in the graph (`rng:random`, `rng:numpy`, `os:cwd`, `os:env`,
`settings:pandas`, `settings:numpy`, `file:<path>`, ...). States are set to what is right for a
step's place before it runs and compared after it. Files: files.py.
"""

from __future__ import annotations

import os
import random
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
"""Begins the fingerprint of a file that is a symbolic link."""
CWD: Final = "os:cwd"
ENV: Final = "os:env"
_WORDS: Final[Mapping[str, str]] = {
    "rng:random": "seed setstate",
    "rng:numpy": "seed set_state",
    CWD: "chdir getcwd",
    ENV: "environ getenv expandvars expanduser home which gettempdir",
    PANDAS: "option",
    NUMPY: "printoptions",
    MATPLOTLIB: "rc style",
    BACKEND: "use backend",
    NUMPY_ERRORS: "seterr",
    DECIMAL: "getcontext setcontext",
    LOCALE: "setlocale",
    PYTHON: "setrecursionlimit max_str_digits",
    SKLEARN: "set_config get_config config_context",
}
SPEAKS_OF: Final = tuple((word, name) for name, words in _WORDS.items() for word in words.split())
"""Words by which code that depends on a state, or sets it to what it is already, gives itself
away: a step that says one counts as reading the state. Other changes are seen by themselves."""
READ_BY_ALL: Final = frozenset({PANDAS_WORKS})
"""States that every step counts as reading that comes after the session's first library."""
READ_ONCE_SET: Final = frozenset({CWD, NUMPY_ERRORS, DECIMAL, LOCALE, PYTHON, POLARS, SKLEARN})
"""States that every step counts as reading as soon as one has changed them: few do."""
WHOLE: Final = 8 * 2**20
"""Bytes up to which a file is read to compare it; of larger ones size and time are taken."""


def states() -> dict[str, State]:
    """Those that there are now: numpy's is there once somebody has imported it."""
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
    """What the file is like now; ABSENT if there is none."""
    return look(name)[0]


def look(name: str) -> tuple[str, bytes | None]:
    """What the file is like now, and its content unless it is too large to be read; of a symbolic
    link, where it leads."""
    path = name.removeprefix(FILE)
    try:
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            target = os.fsencode(os.readlink(path))
            return f"{LINK}{blake2b(target, digest_size=12).hexdigest()}", target
        if info.st_size > WHOLE or not stat.S_ISREG(info.st_mode):  # a pipe would wait
            return f"{info.st_size}:{info.st_mtime_ns}", None
        data = Path(path).read_bytes()
    except OSError:
        return ABSENT, None
    return blake2b(data, digest_size=12).hexdigest(), data


def _drawing(random: Any) -> object:
    """The state of numpy's generator: (its kind, its key, ...). An array has no plain equality."""
    state: object = random.get_state(legacy=True)
    if not isinstance(state, tuple):  # a generator of another kind was put in its place
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
