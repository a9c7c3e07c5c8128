"""The user's own modules that steps have loaded. When the file of one changes, they are loaded
again, as in a new process, so that a step which imports one gets what its file says now.

Modules loaded before the session belong to the host, and stay.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from lorimer.esg.execution.owners import is_own
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.resources import resources
from lorimer.esg.resources.files import FileLog, Files

_NOTHING: Final = (0, "")


@dataclass(frozen=True, slots=True)
class _Loaded:
    module: types.ModuleType
    step: str
    """The step that first loaded it."""
    file: str
    """`file:<path>`."""
    print: str
    """The fingerprint of the file."""


class Modules:
    """The modules of one session."""

    def __init__(self, graph: ExecutionStateGraph, files: Files) -> None:
        self._graph = graph
        self._files = files
        self._known = {*sys.modules}
        self._last = _NOTHING
        self._loaded: dict[str, _Loaded] = {}

    def begin(self, step_id: str) -> list[types.ModuleType]:
        """A step is about to run. If a file it had from a module has changed, drop the modules that
        it or a later step has loaded. Returns them."""
        if not self._loaded:
            return []
        used = self._graph.used(step_id)
        had = [each for each in self._loaded.values() if each.file in used]
        if not any(self._other(each, step_id, used[each.file]) for each in had):
            return []
        later = {step_id, *self._graph.steps_after(step_id)}
        gone = [n for n, e in self._loaded.items() if e.step in later or e.step not in self._graph]
        return [module for name in gone for module in self._let_go(name)]

    def ran(self, step_id: str, imports: Iterable[str], log: FileLog) -> dict[str, str]:
        """A step has run, whose code imports these. Returns the files of modules that it depends on
        as a result, with their fingerprints."""
        last = (len(sys.modules), next(reversed(sys.modules)))
        if last != self._last:
            self._last = last
            for name in [each for each in sys.modules if each not in self._known]:
                self._known.add(name)
                self._note(name, step_id, log)
        if self._loaded.keys().isdisjoint(imports):
            return {}
        return {each.file: each.print for each in self._loaded.values()}

    def rename(self, old: str, new: str) -> None:
        """The id of a step has changed."""
        for name, each in self._loaded.items():
            if each.step == old:
                self._loaded[name] = _Loaded(each.module, new, each.file, each.print)

    def _other(self, loaded: _Loaded, step_id: str, used: str) -> bool:
        now = self._files.at_place(loaded.file, step_id, put=True)
        if loaded.step == step_id and loaded.file in self._graph.made(step_id):
            return True  # it writes the file itself: what it will find is not known yet
        if now == resources.ABSENT and loaded.step == step_id:
            return used != now  # others still find the module, if it was loaded earlier
        return now not in (used, resources.ABSENT) or now not in (loaded.print, resources.ABSENT)

    def _note(self, name: str, step_id: str, log: FileLog) -> None:
        module: object = sys.modules.get(name)
        if isinstance(module, types.ModuleType) and is_own(module):
            file = f"{resources.FILE}{os.path.abspath(str(module.__file__))}"
            print_ = log.before.get(file) or resources.fingerprint(file)
            self._loaded[name] = _Loaded(module, step_id, file, print_)

    def _let_go(self, name: str) -> list[types.ModuleType]:
        """Drop a module, and what a step has loaded from its file in its stead."""
        module = self._loaded.pop(name).module
        self._known.discard(name)
        self._last = _NOTHING
        found = [module]
        now: object = sys.modules.get(name)
        if isinstance(now, types.ModuleType) and vars(now).get("__file__") == module.__file__:
            del sys.modules[name]
            found.append(now)
        package, _, child = name.rpartition(".")
        held = vars(sys.modules[package]) if package in sys.modules else {}
        if held.get(child) is module:
            del held[child]
        with suppress(OSError, ValueError, NotImplementedError):  # times may be equal to the second
            os.unlink(importlib.util.cache_from_source(str(module.__file__)))
        importlib.invalidate_caches()
        return found
