"""`lorimer steps`: `command.py` has the group and what runs a file, `file.py` reads and writes it;
`show.py` and `edit.py` are commands."""
