"""The digest of a folder of programs, to check that only trusted contents run. It covers everything
in the folder: a program loads its neighbours, and an added file can shadow another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

MAX_FILES: Final = 200
MAX_BYTES: Final = 4_000_000
"""Bytes of all files together."""


def digest_of(folder: Path) -> str:
    """The SHA-256 of all names and contents below a folder, in hex; "" if the folder cannot be
    read, or contains more than 200 files or 4 MB, a link, or anything but files and folders, or if
    it, or the folder that it is in, is a link: who may change that chooses the contents. Blocks."""
    total = hashlib.sha256()
    left, size = MAX_FILES, MAX_BYTES
    try:
        if folder.is_symlink() or folder.parent.is_symlink() or not folder.is_dir():
            return ""
        for parent, folders, names in os.walk(folder, onerror=_raise):
            folders.sort()
            if any(os.path.islink(os.path.join(parent, name)) for name in folders):
                return ""
            for name in sorted(names):
                path = Path(parent) / name
                if path.is_symlink() or not path.is_file():
                    return ""
                with path.open("rb") as file:
                    body = file.read(size + 1)
                left, size = left - 1, size - len(body)
                if left < 0 or size < 0:
                    return ""
                mode = "x" if os.access(path, os.X_OK) else "-"
                part = f"{mode} {path.relative_to(folder)}\0{hashlib.sha256(body).hexdigest()}\n"
                total.update(part.encode("utf-8", "surrogateescape"))
    except OSError:
        return ""
    return total.hexdigest()


def _raise(error: OSError) -> None:
    raise error
