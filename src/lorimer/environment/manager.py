"""A folder of manifests, by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from lorimer.assembly import check_manifest
from lorimer.core.catalogue import Catalogue
from lorimer.core.documents import MAX_BYTES, SUFFIXES, dump, parse
from lorimer.core.errors import ConfigError, nearest
from lorimer.core.faults import invalid
from lorimer.core.manifest import EnvironmentManifest
from lorimer.core.record import record
from lorimer.core.variables import references
from lorimer.environment.diff import Change, diff
from lorimer.environment.foreign import Carried, carried
from lorimer.world.files import NotRegularFile, OutsideRoots, RootedFiles

MAX_MANIFESTS: Final = 10_000
"""Maximum that are listed of one folder."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@record
class Environment:
    """One manifest of the folder, as listed."""

    name: str
    """The name of its file, without the suffix."""
    title: str = ""
    """`metadata.name`."""
    description: str = ""
    tags: tuple[str, ...] = ()
    model: str = ""
    digest: str = ""
    fault: str = ""
    """Why it cannot be read or run; the other fields are then empty."""


class EnvironmentManager:
    """Reads and writes the manifests of one folder, and nothing outside it: a name consists of
    letters, digits, `-` and `_`, at most 64. Files are replaced atomically, also across a power
    failure. Calls block.

    All methods raise ConfigError: for a name that is invalid, missing or taken, and for a manifest
    with faults, each with its path; OSError as the system does.
    """

    def __init__(self, folder: str | Path, catalogue: Catalogue | None = None) -> None:
        """The folder is created if missing. `catalogue`: with the host's own stages and strategies,
        if manifests name them."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files = RootedFiles([self.folder])
        self._catalogue = catalogue

    def save(self, manifest: EnvironmentManifest, name: str = "", *, replace: bool = True) -> str:
        """Write a manifest; by default under `metadata.name`. An existing one keeps its file
        format, a new one is JSON. Returns the name."""
        name = _named(name or manifest.metadata.name)
        there = self._there().get(name)
        if there is not None and not replace:
            raise ConfigError(f"there is a manifest {name!r} already", hint="Give another name.")
        if problems := check_manifest(manifest.to_dict(), self._catalogue):
            raise invalid(problems)
        file = there or f"{name}.json"
        text = dump(manifest.to_dict(), Path(file).suffix)
        self._files.write_bytes(file, text.encode("utf-8"))
        return name

    def load(self, name: str) -> EnvironmentManifest:
        """Load a manifest that can be run: it is validated first."""
        return self._read(self._file(name))

    def list_all(self) -> list[Environment]:
        """All manifests, by name. One that cannot be read is listed with its fault."""
        found: list[Environment] = []
        for name, file in sorted(self._there().items()):
            try:
                manifest = self._read(file)
            except ConfigError as error:
                found.append(Environment(name, fault=str(error).partition("\n")[0]))
                continue
            about = manifest.metadata
            found.append(
                Environment(
                    name,
                    about.name,
                    about.description,
                    tuple(about.tags),
                    manifest.model.model,
                    manifest.digest,
                )
            )
        return found

    def delete(self, name: str) -> None:
        """Remove a manifest."""
        self._files.unlink(self._file(name))

    def duplicate(self, name: str, to: str) -> str:
        """Copy a manifest to another name, which must be free. Returns the name."""
        return self.save(self.load(name), _named(to), replace=False)

    def export(self, name: str, path: str | Path) -> None:
        """Write a manifest to a file anywhere: .json, .yaml or .toml."""
        self.load(name).save(path)

    def import_file(self, path: str | Path, name: str = "", *, replace: bool = False) -> Carried:
        """Import a file from anywhere, including those of geny-executor; the result lists what was
        not carried over. The default name is that of the file."""
        found = carried(path)
        self.save(found.manifest, name or Path(path).stem, replace=replace)
        return found

    def variables(self, name: str) -> list[str]:
        """The variables that a manifest refers to: they have to be passed when it is run."""
        used = references(self.load(name)).values()
        return sorted({each for names in used for each in names})

    def diff(self, before: str, after: str) -> list[Change]:
        """The differences of two of them."""
        return diff(self.load(before), self.load(after), self._catalogue)

    def close(self) -> None:
        """Close the folder."""
        self._files.close()

    def __enter__(self) -> EnvironmentManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _there(self) -> dict[str, str]:
        """Name → file."""
        entries, _ = self._files.list_dir(".", MAX_MANIFESTS)
        files = [Path(entry.path) for entry in entries if entry.kind in ("file", "link")]
        return {
            file.stem: file.name
            for file in files
            if file.suffix in SUFFIXES and _NAME.fullmatch(file.stem)
        }

    def _file(self, name: str) -> str:
        there = self._there()
        if _named(name) not in there:
            raise ConfigError(f"there is no manifest {name!r}{nearest(name, there)}")
        return there[name]

    def _read(self, file: str) -> EnvironmentManifest:
        try:
            raw, more = self._files.read_bytes(file, MAX_BYTES)
            text = raw.decode("utf-8")
        except (OutsideRoots, NotRegularFile) as error:
            raise ConfigError(f"{file}: is not a file of this folder", cause=error) from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: is not UTF-8 text", cause=error) from None
        if more:
            raise ConfigError(f"{file}: larger than {MAX_BYTES:,} bytes")
        data = parse(text, Path(file).suffix, file)
        if problems := check_manifest(data, self._catalogue):
            raise invalid([f"{file}: {problem}" for problem in problems])
        return EnvironmentManifest.from_dict(data)


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a valid name for a manifest",
            hint="Letters, digits, - and _, at most 64, beginning with a letter or digit.",
        )
    return name
