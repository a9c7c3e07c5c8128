"""Files that a caller passes to a run: stored beside it, and read by the model by their id.

Their bytes are never in the prompt, except for images, which the model is to see.
"""

from __future__ import annotations

import base64
import re
from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import field
from os import PathLike
from typing import Any, Final, Protocol

from lorimer.core.arguments import check_texts, is_a, wrong
from lorimer.core.context import short_hash
from lorimer.core.media import SNIFFED, image_type
from lorimer.core.messages import ImageBlock, TextBlock
from lorimer.core.record import record
from lorimer.core.redaction import logger
from lorimer.core.world import World
from lorimer.tools.base import Tool, ToolContext, ToolInput, ToolResult
from lorimer.tools.threads import Threads
from lorimer.world.files import RootedFiles
from lorimer.world.real import RealWorld

MAX_FILE_BYTES: Final = 50_000_000
MAX_FILES: Final = 50
"""Most files of one run."""
MAX_HELD_BYTES: Final = 200_000_000
"""Most bytes of all runs together, in memory."""
MAX_IMAGE_BYTES: Final = 20_000_000
"""A larger image is staged as a file instead of shown."""
MAX_NAME: Final = 100

_NOT_IN_NAME: Final = re.compile(r"[^\w .()+@=,-]+")
_MIME: Final = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}")
_ROOM_FOR_NOTE: Final = 200

_log = logger("lorimer.run")


@record
class InputFile:
    """A file as the caller passed it."""

    name: str
    data: bytes = field(repr=False)
    mime: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigError for a field of another type."""
        if not is_a(self.data, bytes):
            raise wrong("InputFile.data", self.data, "bytes", 'InputFile("a.txt", b"...")')
        check_texts("InputFile", name=self.name, mime=self.mime)


@record
class StagedFile:
    """A file that the model may read by its id."""

    id: str
    name: str
    mime: str
    size: int
    """Bytes."""


class InputFiles(Protocol):
    """Stores files for runs. May be used by many runs at once."""

    async def stage(self, run_id: str, id: str, file: InputFile) -> None:
        """Store a file for a run under an id, replacing an existing one: a resumed run stages its
        files again."""
        ...

    async def read(self, run_id: str, id: str, offset: int, limit: int) -> bytes | None:
        """At most `limit` bytes from `offset` on; None: that run has no such file."""
        ...

    async def drop(self, run_id: str) -> None:
        """The run has ended: its files are no longer needed. Calling it again is harmless."""
        ...


class InMemoryInputFiles:
    """Stores files in memory, at most 200 MB of them: what does not fit is not staged."""

    def __init__(self, *, max_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._files: dict[str, dict[str, bytes]] = {}

    async def stage(self, run_id: str, id: str, file: InputFile) -> None:
        """Raises OSError when there is no space."""
        files = self._files.get(run_id, {})
        more = len(file.data) - len(files.get(id, b""))
        if self._held + more > self._max_bytes:
            raise OSError(f"there is room for {self._max_bytes - self._held:,} bytes only")
        self._files.setdefault(run_id, files)[id] = file.data
        self._held += more

    async def read(self, run_id: str, id: str, offset: int, limit: int) -> bytes | None:
        """See InputFiles."""
        data = self._files.get(run_id, {}).get(id)
        return None if data is None else data[offset : offset + limit]

    async def drop(self, run_id: str) -> None:
        """See InputFiles."""
        self._held -= sum([len(data) for data in self._files.pop(run_id, {}).values()])


class FolderInputFiles:
    """Stores files in a folder; they outlive this process until they are dropped. Their names there
    reveal nothing of the original names."""

    def __init__(
        self, files: RootedFiles, folder: str = "inputs", *, world: World | None = None
    ) -> None:
        if not is_a(files, RootedFiles):
            raise wrong("files", files, "RootedFiles", "RootedFiles([folder])")
        self._files = files
        self._folder = folder
        self._world = world or RealWorld()
        self._threads = Threads()

    @property
    def files(self) -> Sequence[PathLike[str]]:
        """Where they are; an executor hides it from the programs of runs."""
        return [self._files.roots[0] / self._folder]

    async def stage(self, run_id: str, id: str, file: InputFile) -> None:
        """Raises OSError as the system does."""
        path = self._path(run_id, id)

        def write() -> None:
            if self._files.exists(path):  # of this run, before it was interrupted
                self._files.unlink(path)
            self._files.create(path, [file.data], mode=0o600)

        await self._threads.run(self._world, write)

    async def read(self, run_id: str, id: str, offset: int, limit: int) -> bytes | None:
        """See InputFiles."""
        path = self._path(run_id, id)

        def read() -> bytes | None:
            try:
                with self._files.open(path) as file:
                    file.seek(offset)
                    return file.read(limit)
            except FileNotFoundError:
                return None

        return await self._threads.run(self._world, read)

    async def drop(self, run_id: str) -> None:
        """See InputFiles."""

        def drop() -> None:
            for number in range(1, MAX_FILES + 1):
                path = self._path(run_id, _id(number))
                if self._files.exists(path):
                    self._files.unlink(path)

        await self._threads.run(self._world, drop)

    def _path(self, run_id: str, id: str) -> str:
        # hashed, because ids of runs, and those that a model asks for, may contain anything
        return f"{self._folder}/{short_hash(run_id.encode())}-{short_hash(id.encode())}"


@record
class Staging:
    """The staged files of one run."""

    files: tuple[StagedFile, ...] = ()
    images: tuple[ImageBlock, ...] = ()
    """The images, for the first message."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    @property
    def summary_block(self) -> TextBlock | None:
        """For the first message: the files by id, and the notes. None: there is nothing to say."""
        lines = [
            f"- {file.id}: {file.name} ({file.mime}, {file.size:,} bytes)" for file in self.files
        ]
        if lines:
            lines.insert(0, f"Files given with this message; {ReadInput.name} reads one by its id:")
        lines += [f"[left out: {note}]" for note in self.notes]
        return TextBlock("\n".join(lines)) if lines else None


async def stage(port: InputFiles | None, run_id: str, files: Sequence[InputFile]) -> Staging:
    """Stage the files of a run. Never raises: files that are empty, too large, too many, or fail
    are left out with a note; without a port, these are all files except images. A file that fails
    has an id of its own all the same: when the run is resumed, every other has the same as before.
    """
    staged: list[StagedFile] = []
    images: list[ImageBlock] = []
    notes: list[str] = []
    names: set[str] = set()
    tried = 0
    for number, file in enumerate(files):
        name = _unused(clean_name(file.name), names)
        kind = image_type(file.data[:SNIFFED])
        why = ""
        if number >= MAX_FILES:
            notes.append(f"{len(files) - MAX_FILES} more files, at most {MAX_FILES} are taken")
            break
        if not file.data:
            why = "it is empty"
        elif len(file.data) > MAX_FILE_BYTES:
            why = f"its {len(file.data):,} bytes are more than {MAX_FILE_BYTES:,}"
        elif _is_shown(file):
            images.append(ImageBlock(kind, base64.b64encode(file.data).decode("ascii")))
        elif port is None:
            why = "files cannot be read here"
        else:
            tried += 1
            try:
                await port.stage(run_id, _id(tried), file)
            except Exception:  # noqa: BLE001 - code of the host: the run does without the file
                _log.warning("input file %s of run %s is not staged", name, run_id, exc_info=True)
                why = "it could not be kept"
            else:
                staged.append(StagedFile(_id(tried), name, kind or _mime(file), len(file.data)))
        if why:
            notes.append(f"{name}: {why}")
    return Staging(tuple(staged), tuple(images), tuple(notes))


def some_to_read(files: Sequence[InputFile]) -> bool:
    """Whether a run with these files has the tool `ReadInput`. That does not depend on whether they
    could be stored: a run that is resumed has the tools that it began with."""
    return any(
        0 < len(file.data) <= MAX_FILE_BYTES and not _is_shown(file) for file in files[:MAX_FILES]
    )


def _is_shown(file: InputFile) -> bool:
    return bool(image_type(file.data[:SNIFFED])) and len(file.data) <= MAX_IMAGE_BYTES


async def drop(port: InputFiles | None, run_id: str) -> None:
    """The run has ended. What the port raises is logged."""
    if port is not None:
        try:
            await port.drop(run_id)
        except Exception:  # noqa: BLE001 - code of the host, after the run
            _log.warning("input files of run %s are not dropped", run_id, exc_info=True)


class ReadInput(Tool):
    """Text of a file that was passed to the run, by its id, a page at a time; for other files only
    their type is reported. Created by the kernel for runs with such files."""

    name = "read_input"
    description = (
        "Read a file that was given with the message, by its id. Long files come in pages: go on "
        "at the offset that the page before names."
    )
    input_schema: Any = {  # noqa: RUF012 - replaced, never changed
        "type": "object",
        "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": 100, "description": "Its id"},
            "offset": {
                "type": "integer",
                "minimum": 0,
                "description": "Where the page begins, in bytes (default 0)",
            },
        },
        "required": ["id"],
        "additionalProperties": False,
    }
    effects = frozenset[str]()
    concurrency_safe = True
    share_safe = True
    untrusted = True

    def __init__(self, port: InputFiles) -> None:
        """One for all runs, so that they share a pipeline."""
        self._port = port
        self._lent: dict[str, dict[str, StagedFile]] = {}
        """By run, by id."""

    def lend(self, run_id: str, files: Sequence[StagedFile]) -> None:
        """That run, and its child runs, may read these until `end`."""
        self._lent[run_id] = {file.id: file for file in files}

    def end(self, run_id: str) -> None:
        """The run is over. Calling it again is harmless."""
        self._lent.pop(run_id, None)

    async def execute(self, input: ToolInput, context: ToolContext) -> ToolResult:
        """See the class. An unknown id is an error result that names the known ones."""
        run_id = context.root_run_id  # the caller may be a child of it, such as a phase
        files = self._lent.get(run_id, {})
        file = files.get(input["id"])
        offset: int = input.get("offset", 0)
        limit = max(context.max_result_chars - _ROOM_FOR_NOTE, 4)
        data = None
        if file is not None:
            data = await self._port.read(run_id, file.id, offset, limit)
        if file is None or data is None:
            known = ", ".join(files) or "none"
            return ToolResult(f"There is no file {input['id']!r}, but: {known}.", is_error=True)
        if offset >= file.size:
            return ToolResult(f"{file.name} has {file.size:,} bytes.", is_error=True)
        if b"\0" in data:
            return ToolResult(f"{file.name} ({file.mime}, {file.size:,} bytes) holds no text.")
        end = offset + len(data)
        if end < file.size:
            data = whole(data)
            end = offset + len(data)
        text = data.decode("utf-8", "replace")
        if end < file.size:
            text += f"\n[bytes {offset:,}-{end:,} of {file.size:,}; go on with offset={end}]"
        return ToolResult(text)


def whole(data: bytes) -> bytes:
    """Without an incomplete UTF-8 character at its end, and without a short line that it cuts."""
    line = data.rfind(b"\n") + 1
    if len(data) - line < len(data) // 4:
        return data[:line]
    decoder = getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return data[: len(data) - len(decoder.getstate()[0])]


def clean_name(name: str) -> str:
    """The last part of a name, without what could be mistaken for a path, a mark or a line; `file`
    if nothing is left."""
    last = re.split(r"[\\/]", name)[-1]
    last = _NOT_IN_NAME.sub("_", last).strip(" .")
    stem, dot, ending = last.rpartition(".")
    if dot and len(ending) <= 10:
        return f"{stem[: MAX_NAME - len(ending) - 1]}.{ending}"
    return last[:MAX_NAME] or "file"


def _unused(name: str, names: set[str]) -> str:
    """The name, or with `-2`, `-3` before its suffix; it is added to `names`."""
    stem, dot, ending = name.rpartition(".")
    if not dot:
        stem, ending = name, ""
    found, number = name, 1
    while found.lower() in names:
        number += 1
        found = f"{stem}-{number}{dot}{ending}"
    names.add(found.lower())
    return found


def _mime(file: InputFile) -> str:
    if _MIME.fullmatch(file.mime):
        return file.mime
    return "application/octet-stream" if b"\0" in file.data[:8192] else "text/plain"


def _id(number: int) -> str:
    return f"file_{number}"
