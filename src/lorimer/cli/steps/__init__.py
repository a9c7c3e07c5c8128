"""`lorimer steps`: `command.py` has the group and the commands that run a file, `show.py` and
`edit.py` further commands; `file.py` reads and writes files of steps."""
