"""The meaning of SQLite's errors, in a sentence for people."""

from __future__ import annotations

import os
from errno import EDQUOT, ENOSPC
from typing import Final, cast

import apsw

from lorimer.core.errors import JournalError

LOCKED: Final = (apsw.BusyError, apsw.ProtocolError)
"""Another process holds a lock, or is stopped while it acquires one: SQLite gives up after ten
seconds of that (https://sqlite.org/rescode.html#protocol)."""
_INTACT = "What was acknowledged before is intact."


class FileMoved(OSError):
    """An open database file was moved, deleted or replaced: SQLite continues writing to it without
    an error, invisible to anybody who opens the path."""


class Inherited(OSError):
    """A file was open when this process was forked."""


def explain(error: Exception, path: str) -> JournalError:
    """The JournalError `exec.journal.failed` for an error of SQLite or the file system."""
    what, hint = describe(error, path)
    return JournalError(f"the journal {path} {what}", hint=hint, cause=error)


def _is_unicode(path: str) -> bool:
    return path == path.encode("utf-8", "replace").decode()


def describe(error: Exception, path: str) -> tuple[str, str]:
    """What is wrong with a file, as the end of a sentence, and a hint for fixing it."""
    if os.path.isdir(path):
        return "cannot be opened: it is a folder", "Name a file in it."
    if os.path.exists(path) and not os.path.isfile(path):
        return "cannot be opened: it is a device or a pipe", "Give the path of a file."
    match error:
        case UnicodeEncodeError() if not _is_unicode(path):
            what, hint = "cannot be opened: its path is not UTF-8", "Give a path that is."
        case _ if _is_full(error):
            what, hint = "cannot grow: the disk is full", f"Free some space. {_INTACT}"
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            what = "is locked: another process kept writing to it for 5 s"
            hint = f"Try again, or end the program that holds it. {_INTACT}"
        case apsw.NotADBError():
            what = "is not a SQLite database"
            hint = "Give another path, or move the file away."
        case apsw.CorruptError():
            what = f"is damaged ({error})"
            hint = "Stop writing to it, copy it, and recover it with `sqlite3 FILE .recover`."
        case apsw.ReadOnlyError() | apsw.PermissionsError() | PermissionError():
            what = f"cannot be written ({error})"
            hint = (
                "Check who owns the file and its directory: SQLite writes to both, also to read. "
                "A copy elsewhere can be read."
            )
        case FileMoved():
            what = "was moved, deleted or replaced while it was open"
            hint = (
                "Put it back, with the files beside it that begin with its name, then start again: "
                "nothing is written until then."
            )
        case Inherited():
            what = "was open when this process was forked: SQLite allows it on one side only"
            hint = (
                "Open it after the fork (as in gunicorn's post_fork), or close it before; or "
                "start processes by `spawn`."
            )
        case apsw.CantOpenError() | OSError():
            what = f"cannot be opened ({error})"
            hint = "Check that the directory exists and that this user may write to it."
        case apsw.IOError():
            what, hint = f"cannot be read or written ({error})", "Check the disk."
        case apsw.TooBigError():
            what, hint = "cannot hold anything that large", "Keep large content in a file."
        case UnicodeDecodeError():
            what = "is damaged: a text in it is none"
            hint = "`lorimer runs verify` tells where it is, if it is in the facts."
        case UnicodeEncodeError():
            what, hint = "cannot hold a text with half a surrogate pair in it", ""
        case _:
            what, hint = f"failed ({type(error).__name__}: {error})", ""
    return what, hint


def lost_sync(error: Exception) -> bool:
    """An fsync failed: the kernel may have dropped data that it could not write, so later
    successful fsyncs prove nothing about earlier commits."""
    return _code(error) in (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


def _is_full(error: Exception) -> bool:
    """Also raised by readers, which need space for the index of the write-ahead log."""
    if isinstance(error, OSError):
        return error.errno in (ENOSPC, EDQUOT)
    return isinstance(error, apsw.FullError) or _code(error) == apsw.SQLITE_IOERR_SHMSIZE


def _code(error: Exception) -> int:
    """SQLite's extended error code; 0: not an error of SQLite."""
    if not isinstance(error, apsw.IOError):
        return 0
    return cast(int, vars(error).get("extendedresult", 0))  # missing from apsw's type stubs
