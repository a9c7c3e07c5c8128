"""Agents that people keep: with versions, for themselves or for others."""
