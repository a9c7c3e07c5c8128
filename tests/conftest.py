"""How the whole suite is run."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """What is there by now stays: ten thousand items, and the classes of three SDKs. Tests that
    collect garbage need not look through all of it, each time for most of a second."""
    gc.collect()
    gc.freeze()
