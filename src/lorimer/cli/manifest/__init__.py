"""`lorimer manifest`: the group and its small commands are in `command.py`, each of the others in
its own module."""
