"""Text files and programs of the host's own, by path: for packages that do no file I/O themselves.
Files that tools may access: `files.py`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lorimer.core.errors import ConfigError


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file. Raises ConfigError."""
    try:
        return Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        near = "" if Path(path).is_absolute() else f"It was looked for in {Path.cwd()}."
        raise ConfigError(f"{path} cannot be read: {_why(error)}", hint=near) from None


def find_program(name: str) -> str:
    """The absolute path of a program, given by path or found in PATH; "": not found."""
    path = shutil.which(name)
    return "" if path is None else str(Path(path).absolute())


class Lines:
    """A file that is written line by line, readable only by its owner (0600); previous content is
    replaced. When `write` returns, the line has been passed to the operating system."""

    def __init__(self, path: str | Path) -> None:
        """Raises ConfigError."""
        self._path = path
        self.lost = ""
        """Why a line could not be written; "": all were."""
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {_why(error)}") from None
        self._file = os.fdopen(number, "w", encoding="utf-8", errors="replace", newline="\n")

    def write(self, line: str) -> None:
        """Add a line, unless one before it could not be written."""
        if not self.lost:
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except OSError as error:
                self.lost = f"{self._path} cannot be written: {_why(error)}"

    def close(self) -> None:
        """May be called twice."""
        try:
            self._file.close()
        except OSError as error:  # retries what `write` could not write
            self.lost = self.lost or f"{self._path} cannot be written: {_why(error)}"


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
