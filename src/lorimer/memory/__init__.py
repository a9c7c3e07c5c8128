"""Memories that ship: of the process, and in a SQLite file."""

from lorimer.core.memory import Memory, MemoryItem
from lorimer.memory.in_memory import InMemory
from lorimer.memory.sqlite import SQLiteMemory

__all__ = ["InMemory", "Memory", "MemoryItem", "SQLiteMemory"]
