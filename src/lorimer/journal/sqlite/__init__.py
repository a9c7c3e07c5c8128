"""The journal in one SQLite file.

Programs open it through `store.py`. Writes go through `writer.py`, which schedules them, and
`transactions.py`: `streams.py`, `inbox.py`, `purse_tables.py`, `removal.py`; reads through
`reader.py`: `rows.py`, `blocks.py`, `rowcheck.py`, `announcements.py`. `schema.py` has the tables,
`database.py` the connection, `wal.py` and `checkpointer.py` the log, `faults.py` the meaning of
errors. `file.py` is not part of the journal: it is what the small files of other stores share.
"""
