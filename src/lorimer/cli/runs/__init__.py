"""`lorimer runs`: `command.py` has the group and its small commands; others have a module."""
