"""Saved agents: versioned, and shared with others if their owner wants that."""
