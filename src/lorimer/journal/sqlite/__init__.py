"""The journal in one SQLite file.

`store.py` is what a program opens. Written through `writer.py`, which says when, and
`transactions.py`: `streams.py`, `inbox.py`, `purse_tables.py`, `removal.py`; read through
`reader.py`: `rows.py`, `blocks.py`, `rowcheck.py`, `announcements.py`. `schema.py` has the tables,
`database.py` the connection, `wal.py` and `checkpointer.py` the log, `faults.py` what errors mean.
"""
