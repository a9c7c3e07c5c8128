"""Files that steps read and write, as they are at the places of steps.

A file that steps write is a variable like others: a reader gets the version of the last earlier
step that wrote it. The content before a step changes it, and after, is kept, so that another step
finds the file as it is at its place; a file too large to be kept is made again by the step that
wrote it. A content that no step has made was put there by somebody else, and is left alone.
"""

from __future__ import annotations

import ast
import os
import shutil
import tempfile
from collections.abc import Iterable, Set
from contextlib import suppress
from typing import Final

from lorimer.esg.analysis.code_words import words_in
from lorimer.esg.analysis.parsing import parsed
from lorimer.esg.graph.graph import ExecutionStateGraph
from lorimer.esg.graph.steps import ABSENT
from lorimer.esg.resources import resources
from lorimer.esg.values.store import Lost

KEPT: Final = 64 * 2**20
"""Bytes kept of the contents of files in total; the oldest are dropped first."""
_MOST_LINKS: Final = 40
_ASKS: Final = frozenset(
    "exists lexists isfile is_file isdir is_dir islink is_symlink stat lstat access getsize "
    "listdir scandir iterdir glob iglob rglob walk".split()
)
"""Code that uses one of these names may ask whether a file exists."""
_Sign = tuple[int, int, int] | None


class FileLog:
    """What one run of one step does to files."""

    def __init__(self, files: Files, step_id: str, spoken: Set[str]) -> None:
        self._files = files
        self._step = step_id
        self.spoken = spoken
        """Identifiers in the code that it may run."""
        self.read: dict[str, str] = {}
        """`file:<path>` -> fingerprint when it was opened."""
        self.before: dict[str, str] = {}
        """The same for every file that was opened, including those opened to be overwritten."""
        self.written: set[str] = set()
        self.relative = False
        """A path was relative, so the folder mattered."""
        self.starts = False
        """A program was started, which gets the environment."""
        self.signs: dict[str, _Sign] = {}
        """Signs by which changes through a handle that an earlier step opened are noticed."""
        self.mapped_before: dict[str, str] = {}
        """The same for files mapped into memory: fingerprints."""
        self.known_before: dict[str, str] = {}
        """Fingerprints of files before the run, where they are known without looking."""

    def opened(self, path: str, writes: bool, truncates: bool) -> None:
        """The step opens a file, by its name or by that of a link, which then counts as read."""
        for _ in range(_MOST_LINKS):
            link = self._link(os.path.abspath(path))
            if link is None:
                break
            name, rest = self._look(link, put=True), os.path.abspath(path)[len(link) + 1 :]
            if not os.path.islink(link):
                break
            if name not in self.written:
                self.read.setdefault(name, self.before[name])
            path = os.path.join(os.path.dirname(link), os.readlink(link), rest).rstrip(os.sep)
        self.put(path, writes, truncates)

    def _link(self, path: str) -> str | None:
        """The link by which this file is opened, if there may be one. Links that steps have made
        are found anywhere in the path; other links only at its end."""
        for link in self._files.links:
            name = link.removeprefix(resources.FILE)
            if path == name or path.startswith(name + os.sep):
                return name
        return path if os.path.islink(path) else None

    def put(self, path: str, writes: bool, truncates: bool) -> None:
        """The step opens what has exactly this name, or puts something there. Folders are not
        versioned."""
        if os.path.isdir(path) and not os.path.islink(path):
            return
        name = self._look(path, put=not truncates)
        asked = not self.spoken.isdisjoint(_ASKS)
        if (asked or not truncates) and name not in self.written:
            self.read.setdefault(name, self.before[name])
        if writes:
            self.written.add(name)

    def removed(self, path: str, *, listed: bool = False) -> None:
        """The step removes a file. If the file does not exist at the step's place but does now, and
        the step may have asked for it or has `listed` its folder, it is left as the step has seen
        it."""
        if os.path.isdir(path) and not os.path.islink(path):
            return
        wanted = self._files.wanted(resources.FILE + os.path.abspath(path), self._step)
        seen = wanted == ABSENT and (listed or not self.spoken.isdisjoint(_ASKS))
        name = self._look(path, put=not seen)
        if seen:
            self.before[name] = ABSENT
        if name not in self.written:
            self.read.setdefault(name, self.before[name])
        self.written.add(name)

    def started(self, *, program: bool) -> None:
        """The step starts a program, or forks. What that reads cannot be seen, so every file that
        steps have written counts as read. What it writes is seen in files that steps have
        opened."""
        self.starts |= program
        for name in self._files.of_steps():
            self.put(name.removeprefix(resources.FILE), writes=False, truncates=False)
        for name in self._files.known():
            self.signs.setdefault(name, _sign(name))

    def listed(self, folder: str) -> None:
        """The step lists a folder: files that steps have written there are as they are at its
        place."""
        beneath = os.path.join(resources.FILE + os.path.abspath(folder), "")
        for name in self._files.of_steps():
            if name.startswith(beneath):
                self._look(name.removeprefix(resources.FILE), put=True)

    def mapped(self, descriptor: int) -> None:
        """The step maps a file into memory: from now on the file may change without being
        opened."""
        with suppress(OSError):
            self._files.map(os.fstat(descriptor))

    def _look(self, path: str, *, put: bool) -> str:
        name = resources.FILE + os.path.abspath(path)
        self.relative |= not os.path.isabs(path)
        if name not in self.before:
            if name in self.signs and _sign(name) != self.signs[name]:  # by a handle, just now
                self.before[name] = self.read[name] = self._files.wanted(name, self._step)
                self.written.add(name)
            else:
                self.before[name] = self._files.at_place(name, self._step, put=put)
            self.signs[name] = _sign(name)
        return name


class Files:
    """The files of one session."""

    def __init__(self, graph: ExecutionStateGraph) -> None:
        self._graph = graph
        self._first: dict[str, str] = {}  # fingerprints of files when they were first opened
        self._made: dict[str, set[str]] = {}  # file -> states in which steps or restoring left it
        self._kept: dict[str, bytes] = {}
        self._mapped: set[str] = set()
        self._used: dict[str, set[str]] = {}  # step -> the files that its last run used
        self._seen: dict[str, tuple[_Sign, str]] = {}  # file -> its sign and fingerprint, then
        self.links: set[str] = set()
        """Everything that has ever been a symbolic link."""
        self.cut_off: set[str] = set()
        """Steps whose last run used a file that this process still has open, but which was replaced
        by another under its name. The caller empties this."""

    def of_steps(self) -> list[str]:
        """Every file that steps have written."""
        return sorted(self._made)

    def known(self) -> list[str]:
        """Every file that steps have opened."""
        return sorted(self._first)

    def begin(self, step_id: str, spoken: Set[str]) -> FileLog:
        """A step is about to run. The files that its last run used, or all if its code may ask
        whether one exists, are restored to their state at its place. `spoken`: identifiers in the
        code that it may run, as they are seen."""
        made = self.of_steps()
        asks = bool(made) and _may_ask(self._graph.source(step_id))
        for name in made:
            if asks or name in self._used.get(step_id, ()):
                self.at_place(name, step_id, put=True)
        log = FileLog(self, step_id, spoken)
        log.signs = {name: _sign(name) for name in self._made}
        for name, sign in log.signs.items():
            seen, print_ = self._seen.get(name, (None, ""))
            if seen is not None and seen == sign:
                log.known_before[name] = print_
        log.mapped_before = {name: resources.fingerprint(name) for name in self._mapped}
        return log

    def at_place(self, name: str, step_id: str, *, put: bool) -> str:
        """The fingerprint of a file that a step is about to open; with `put`, after the file was
        restored to its state at the step's place, as far as possible."""
        found = self._look(name)
        self._first.setdefault(name, found)
        wanted = self.wanted(name, step_id)
        if put and found != wanted and self._put(name, found, wanted):
            return wanted
        return found

    def given(self, name: str) -> bool:
        """Whether a file existed before any step."""
        return self._first.get(name, ABSENT) != ABSENT

    def map(self, info: os.stat_result) -> None:
        """A file is mapped into memory: from now on only its arrays may restore it."""
        for name in self._first:
            with suppress(OSError):
                if os.path.samestat(os.lstat(name.removeprefix(resources.FILE)), info):
                    self._mapped.add(name)
                    self._made.setdefault(name, set())

    def reached(self, step_id: str, log: FileLog, steps: Iterable[str]) -> None:
        """The step has got a handle that one of these steps opened, so it may have read files that
        they used and that are still open."""
        used = {name for each in steps for name in self._used.get(each, ())}
        for name in sorted(used & log.known_before.keys() - log.before.keys()):
            if self._graph.maker(name, step_id) and _is_open(name.removeprefix(resources.FILE)):
                log.before[name] = log.read[name] = log.known_before[name]

    def lost(self, step_id: str, log: FileLog) -> Lost | None:
        """A file that was read and was not as it is at the step's place."""
        for name, found in log.read.items():
            maker = self._graph.maker(name, step_id)
            if maker and found != self._graph.made(maker).get(name, ABSENT):
                return Lost(name, maker)
            if not maker and found != self._first[name] and self._graph.last_writer(name):
                return Lost(name, "")
        return None

    def left(self, step_id: str, log: FileLog, *, reached_maps: bool) -> dict[str, str]:
        """`file:<path>` -> fingerprint of everything that the step has written, including through
        handles of earlier steps. `reached_maps`: it got something that is mapped into memory."""
        for name, sign in log.signs.items():
            if name in log.written or (name not in self._mapped and _sign(name) == sign):
                continue
            if not reached_maps and log.mapped_before.get(name) == resources.fingerprint(name):
                continue  # it is as at another place, and stays so: see `map`
            believed = log.before.get(name, self.wanted(name, step_id))
            if self._look(name) != believed:
                log.read.setdefault(name, believed)
                log.written.add(name)
        self._used[step_id] = {*log.before, *log.written}
        found = {name: self._look(name) for name in sorted(log.written)}
        for name, made in found.items():
            self._made.setdefault(name, set()).add(made)
        return found

    def rename(self, old: str, new: str) -> None:
        """The id of a step has changed."""
        if old in self._used:
            self._used[new] = self._used.pop(old)

    def gone(self, name: str, maker: str) -> bool:
        """Whether a file is not as a step left it and cannot be restored."""
        made, found = self._graph.made(maker).get(name, ABSENT), resources.fingerprint(name)
        return found != made and not self._can_put(name, found, made)

    def changed(self) -> None:
        """Report files that have changed since a step read them and that no step left as they
        are."""
        for name in self._graph.outside():
            if name.startswith(resources.FILE):
                now, last = resources.fingerprint(name), self._graph.last_writer(name)
                if not last or self._graph.made(last).get(name) != now:
                    self._graph.changed(name, now)

    def unlike(self) -> list[str]:
        """Steps that were the last to write a file which is not as they left it and cannot be
        restored: they have to run again."""
        found: dict[str, None] = {}
        for step in self._graph.steps:
            for name, made in self._graph.made(step).items():
                if name.startswith(resources.FILE) and self._graph.last_writer(name) == step:
                    now = self._look(name)
                    if now != made and not self._put(name, now, made):
                        found[step] = None
        return [*found]

    def wanted(self, name: str, step_id: str) -> str:
        """The fingerprint of a file at the place of a step; an unknown file does not exist."""
        maker = self._graph.maker(name, step_id)
        if maker:
            return self._graph.made(maker).get(name, ABSENT)
        return self._first.get(name, ABSENT)

    def _look(self, name: str) -> str:
        sign = _sign(name)
        print_, data = resources.look(name)
        self._seen[name] = sign, print_
        if print_.startswith(resources.LINK):
            self.links.add(name)
        if data is not None:
            self._kept.pop(print_, None)
            self._kept[print_] = data
            held = sum(map(len, self._kept.values()))
            while held > KEPT:
                held -= len(self._kept.pop(next(iter(self._kept))))
        return print_

    def _can_put(self, name: str, found: str, wanted: str) -> bool:
        ours = found in self._made.get(name, ())
        if name in self._mapped and self._graph.last_writer(name):
            return False
        if not ours or (wanted != ABSENT and wanted not in self._kept):
            return False
        return not self._cuts_off(name, found, wanted)

    def _cuts_off(self, name: str, found: str, wanted: str) -> bool:
        """Whether the file is open, and as an earlier step left it than the one that left it as
        wanted: what is open belongs to the file as it is, so later steps write it again."""
        made = [
            made[name] for each in self._graph.steps if name in (made := self._graph.made(each))
        ]
        later = made[made.index(found) + 1 :] if found in made else ()
        return wanted in later and _is_open(name.removeprefix(resources.FILE))

    def _put(self, name: str, found: str, wanted: str) -> bool:
        if not self._can_put(name, found, wanted):
            return False
        folder, base = os.path.split(name.removeprefix(resources.FILE))
        path = os.path.join(os.path.realpath(folder), base)
        opened = _is_open(path)
        try:
            self._put_at(path, wanted)
        except OSError:
            return False
        self._made[name].add(wanted)
        if opened:
            self.cut_off |= {step for step, used in self._used.items() if name in used}
        return True

    def _put_at(self, path: str, wanted: str) -> None:
        if wanted == ABSENT:
            os.unlink(path)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if wanted.startswith(resources.LINK):
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.symlink(os.fsdecode(self._kept[wanted]), path)
        else:
            _replace(path, self._kept[wanted])


def _may_ask(source: str) -> bool:
    """Whether code uses one of these names; what it says in comments does not count."""
    if _ASKS.isdisjoint(words_in(source)):
        return False
    tree = parsed(source)
    return tree is not None and not _ASKS.isdisjoint(words_in(ast.unparse(tree)))


def _replace(path: str, data: bytes) -> None:
    """Put another file under the name: whoever has the old one open continues with the old one.
    Raises OSError, and then leaves everything as it was."""
    handle, fresh = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".lorimer-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        if os.path.isfile(path) and not os.path.islink(path):
            shutil.copymode(path, fresh)
        os.replace(fresh, path)
    except OSError:
        os.unlink(fresh)
        raise


def _is_open(path: str) -> bool:
    """Whether this process has the file open, or may have, where that cannot be determined."""
    try:
        info = os.stat(path)
        handles = os.listdir("/proc/self/fd")
    except OSError:
        return os.path.exists(path)
    for each in handles:
        with suppress(OSError):
            if os.path.samestat(os.fstat(int(each)), info):
                return True
    return False


def _sign(name: str) -> _Sign:
    try:
        info = os.lstat(name.removeprefix(resources.FILE))
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns
