"""Journals as earlier versions of the format left them. `versionN.db` was made by the code of
version N and is never made anew; `python -m tests.journal.stored.make FILE` makes one with the code
that is there, when a version is released."""
