"""The content of an array's memory: a digest, and a copy where one was taken.

The digest is as fast as reading memory, and not cryptographic. Large arrays are hashed in parallel
lanes, with numpy itself: each lane multiplies its state by an odd number, folds the upper half into
the lower one, and adds its next word. The final states are hashed again, with the rest. Two arrays
with one digest can be constructed; replay compares what the same steps made, not what an adversary
did.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from typing import Any, Final

_LANES: Final = 8192
"""64 KiB of state: it stays in the processor's cache."""
_LARGE: Final = 512 * 1024
"""Bytes from which on the lanes pay off."""
_FACTOR: Final = 0x9E3779B97F4A7C15
_HALF: Final = 29


def digest(array: Any) -> bytes:
    """The digest of a numpy array's bytes, in the order of its memory. 16 bytes."""
    memory = _memory(array)
    if len(memory) < _LARGE:
        return blake2b(memory, digest_size=16).digest()
    numpy: Any = sys.modules["numpy"]
    words = numpy.frombuffer(memory, dtype=numpy.uint64, count=len(memory) // 8)
    lanes = numpy.zeros(_LANES, dtype=numpy.uint64)
    folded = numpy.empty_like(lanes)
    factor, half = numpy.uint64(_FACTOR), numpy.uint64(_HALF)
    whole = len(words) // _LANES * _LANES
    for start in range(0, whole, _LANES):
        numpy.right_shift(lanes, half, out=folded)
        numpy.bitwise_xor(lanes, folded, out=lanes)
        numpy.multiply(lanes, factor, out=lanes)
        numpy.add(lanes, words[start : start + _LANES], out=lanes)
    found = blake2b(lanes.tobytes(), digest_size=16)
    found.update(memory[whole * 8 :])
    return found.digest()


def _memory(array: Any) -> memoryview | bytes:
    """Its bytes, without a copy if they are contiguous."""
    if array.dtype.kind in "mM":  # dates have no buffer
        array = array.view("i8")
    flat = array.ravel(order="K")
    try:
        return memoryview(flat).cast("B") if flat.nbytes else b""
    except (TypeError, ValueError):
        return array.tobytes()


class Data:
    """The content of a piece of memory: its digest, and a copy where one was taken.

    `late`: the digest is computed on demand, from the copy or else from the memory. Before the
    memory may be written, `settle` has to be called.
    """

    __slots__ = ("late", "copy", "bytes", "_array", "_digest", "_doubtful")

    def __init__(self, array: Any, *, late: bool = False) -> None:
        self.late = late
        self.bytes = int(array.nbytes)
        self.copy: Any = None
        self._array: Any = array if late else None
        self._digest = b"" if late else digest(array)
        self._doubtful = False

    @property
    def digest(self) -> bytes:
        """16 bytes."""
        if not self._digest:
            self._digest = digest(self._array if self.copy is None else self.copy)
            self._array = None
        return self._digest

    def settle(self) -> None:
        """The memory may be written from now on."""
        if self.copy is None:
            _ = self.digest

    def doubt(self) -> None:
        """The memory may have been written already: if its content is not known by now, it stays
        unknown."""
        self._doubtful = self.copy is None and not self._digest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Data) or self._doubtful or other._doubtful:
            return self is other
        return other.digest == self.digest

    __hash__ = None  # pyright: ignore[reportAssignmentType]
