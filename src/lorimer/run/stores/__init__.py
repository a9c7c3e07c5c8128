"""Stores of the kernel's: in the process, and in a SQLite file. Imported by whoever uses one."""
