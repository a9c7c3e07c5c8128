"""Converts files with cells to steps and back; shows a session as a page."""
