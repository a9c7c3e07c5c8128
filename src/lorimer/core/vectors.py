"""Texts as vectors, and an index of them in memory.

A vector is made by hashing the words of a text into buckets (the hashing trick: Weinberger et al.,
2009), so nothing has to be trained, requested or stored, and the same text has the same vector in
every process.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from hashlib import blake2b
from math import log1p, sqrt
from typing import Final

from lorimer.core.words import is_gram, words

BUCKETS: Final = 1 << 16
MAX_WORDS: Final = 2_000
"""Most words of one text; the rest is ignored."""
POSTINGS: Final = 512
"""Most texts in one bucket: the newest, so that a search costs the same however many texts there
are."""
_STEM: Final = 6


def embed(text: str) -> dict[int, float]:
    """The sparse vector of a text, of length 1: bucket to value. Words count by their first
    letters, so that "deploy" is found by "deployment", and by the logarithm of their frequency."""
    found = words(text.casefold())[:MAX_WORDS]
    counts = Counter([_bucket(word[:_STEM]) for word in found if _counts(word)])
    values = {bucket: log1p(count) for bucket, count in counts.items()}
    length = sqrt(sum([value * value for value in values.values()]))
    return {bucket: value / length for bucket, value in values.items()}


def _counts(word: str) -> bool:
    return len(word) > 2 or word.isdigit() or is_gram(word)


def _bucket(word: str) -> int:
    return (
        int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=4).digest()) % BUCKETS
    )


class Vectors:
    """Texts in the order in which they were added, each identified by its number, from 0."""

    def __init__(self) -> None:
        self.length = 0
        """Number of texts."""
        self._postings: dict[int, deque[tuple[int, float]]] = {}

    def add(self, text: str) -> int:
        """Add a text. Returns its number."""
        at = self.length
        for bucket, value in embed(text).items():
            self._postings.setdefault(bucket, deque(maxlen=POSTINGS)).append((at, value))
        self.length += 1
        return at

    def remove(self, number: int, text: str) -> None:
        """Remove a text: search no longer finds it, nor does it take the place of others. `number`
        is what `add` returned for this text."""
        for bucket, value in embed(text).items():
            posting = self._postings.get(bucket, ())
            if (number, value) in posting:  # unless newer texts have taken its place
                self._postings[bucket].remove((number, value))

    def search(
        self, text: str, top_k: int, *, min_score: float = 0.0, before: int | None = None
    ) -> list[int]:
        """The numbers, below `before`, of the most similar texts, most similar first: those whose
        score (cosine similarity) is above 0 and at least `min_score`. Rare words count for more, by
        their inverse document frequency."""
        scores: dict[int, float] = {}
        asked = self._weighted(embed(text))
        for bucket, value in asked.items():
            for at, theirs in self._postings.get(bucket, ()):
                if before is None or at < before:
                    scores[at] = scores.get(at, 0.0) + value * theirs
        ranked = sorted(scores.items(), key=lambda each: (-each[1], -each[0]))
        return [at for at, score in ranked[:top_k] if score >= min_score]

    def _weighted(self, vector: Mapping[int, float]) -> dict[int, float]:
        weights = {
            bucket: value * log1p(self.length / (1 + len(self._postings.get(bucket, ()))))
            for bucket, value in vector.items()
        }
        length = sqrt(sum([value * value for value in weights.values()]))
        return {bucket: value / length for bucket, value in weights.items()} if length else {}
