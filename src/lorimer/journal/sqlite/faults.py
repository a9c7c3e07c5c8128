"""What SQLite's errors mean, in a sentence for a person."""

from __future__ import annotations

import os
from errno import EDQUOT, ENOSPC
from typing import Final, cast

import apsw

from lorimer.core.errors import JournalError

LOCKED: Final = (apsw.BusyError, apsw.ProtocolError)
"""Another process holds a lock, or stands still where it looks which it may take: after ten
seconds of that SQLite gives up (https://sqlite.org/rescode.html#protocol)."""
_INTACT = "What was acknowledged before is intact."


class FileMoved(OSError):
    """An open database file was moved, deleted or replaced: SQLite goes on writing to it without an
    error, and nobody who opens the path sees that."""


class Inherited(OSError):
    """A file was open when this process was forked."""


def explain(error: Exception, path: str) -> JournalError:
    """The JournalError `exec.journal.failed` for what SQLite or the file system raised."""
    what, hint = describe(error)
    if os.path.isdir(path):
        what, hint = "cannot be opened: it is a folder", "Name a file in it."
    elif isinstance(error, UnicodeEncodeError) and not _is_unicode(path):
        what, hint = "cannot be opened: its path is not UTF-8", "Give a path that is."
    return JournalError(f"the journal {path} {what}", hint=hint, cause=error)


def _is_unicode(path: str) -> bool:
    return path == path.encode("utf-8", "replace").decode()


def describe(error: Exception) -> tuple[str, str]:
    """What is wrong with a file, as the end of a sentence, and a hint what to do about it."""
    match error:
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
    """An fsync failed: the kernel may have dropped what it could not write, so later fsyncs that
    succeed prove nothing about earlier commits."""
    return _code(error) in (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


def _is_full(error: Exception) -> bool:
    """Also whoever only wants to read makes room for the index of the write-ahead log."""
    if isinstance(error, OSError):
        return error.errno in (ENOSPC, EDQUOT)
    return isinstance(error, apsw.FullError) or _code(error) == apsw.SQLITE_IOERR_SHMSIZE


def _code(error: Exception) -> int:
    """What went wrong with a file, exactly; 0: it is another error."""
    if not isinstance(error, apsw.IOError):
        return 0
    return cast(int, vars(error).get("extendedresult", 0))  # apsw's stubs leave it out
