"""Supervision of long runs."""
