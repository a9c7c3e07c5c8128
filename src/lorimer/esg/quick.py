"""A digest of the memory of an array: quick, and not for secrets."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any


def digest(array: Any) -> bytes:
    """Of the bytes of a numpy array, in its order. 16 bytes."""
    return blake2b(_memory(array), digest_size=16).digest()


def _memory(array: Any) -> memoryview | bytes:
    """Its bytes, without a copy where they lie in one piece."""
    try:
        view = memoryview(array)
    except (TypeError, ValueError):  # dates have no buffer
        return array.tobytes()
    whole = view.c_contiguous and view.ndim and view.nbytes
    return view.cast("B") if whole else array.tobytes()
