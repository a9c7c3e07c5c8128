"""Starting runs: who may start one, on which stream, and what happens around a live run."""
