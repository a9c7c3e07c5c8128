"""What SQLite's errors are told as."""

from __future__ import annotations

import errno

import apsw
import pytest

import lorimer.journal
from lorimer.core.errors import ExecutorErrorCode
from lorimer.journal.sqlite.faults import FileMoved, explain, lost_sync

SAID = {
    apsw.FullError("x"): "the disk is full",
    apsw.exception_for(apsw.SQLITE_IOERR_SHMSIZE): "the disk is full",
    OSError(errno.ENOSPC, "x"): "the disk is full",
    apsw.BusyError("x"): "is locked: another process",
    apsw.LockedError("x"): "is locked: another process",
    apsw.ProtocolError("locking protocol"): "is locked: another process",
    apsw.NotADBError("x"): "is not a SQLite database",
    apsw.CorruptError("x"): "is damaged (x)",
    apsw.ReadOnlyError("x"): "cannot be written (x)",
    PermissionError("x"): "cannot be written (x)",
    apsw.CantOpenError("x"): "cannot be opened (x)",
    FileNotFoundError("x"): "cannot be opened (x)",
    FileMoved("x"): "was moved, deleted or replaced while it was open",
    apsw.IOError("x"): "cannot be read or written (x)",
    apsw.TooBigError("x"): "cannot hold anything that large",
}


@pytest.mark.parametrize(
    ("error", "said"), SAID.items(), ids=[type(error).__name__ for error in SAID]
)
def test_an_error_is_a_sentence_with_the_path_and_a_remedy(error: Exception, said: str) -> None:
    told = explain(error, "/some/where.db")
    assert told.code is ExecutorErrorCode.EXEC_JOURNAL_FAILED
    assert str(told).startswith("the journal /some/where.db ")
    assert said in str(told)
    assert told.hint
    assert told.__cause__ is error


def test_what_nobody_expected_is_told_as_it_is() -> None:
    assert "failed (SQLError: no such table: x)" in str(
        explain(apsw.SQLError("no such table: x"), "p")
    )


def test_only_a_failed_fsync_voids_what_was_synced() -> None:
    assert lost_sync(apsw.exception_for(apsw.SQLITE_IOERR_FSYNC))
    assert lost_sync(apsw.exception_for(apsw.SQLITE_IOERR_DIR_FSYNC))
    assert not lost_sync(apsw.exception_for(apsw.SQLITE_IOERR_WRITE))
    assert not lost_sync(apsw.FullError("full"))


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="PostgresJournal"):
        _ = lorimer.journal.PostgresJournal  # type: ignore[attr-defined]
