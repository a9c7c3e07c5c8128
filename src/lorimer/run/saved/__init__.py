"""Saved agents: with versions, for their owners or for others."""
