"""The word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

_LONGEST: Final = 100
"""Longer words are not compared."""

_SURE: Final = (0.95, 0.9, 0.8, 0.65)
"""Confidence that the word was meant, by distance."""


def near(word: str, words: Iterable[str]) -> str:
    """The most likely of the words; empty if none is similar enough."""
    return nearest(word, words)[0]


def nearest(word: str, words: Iterable[str]) -> tuple[str, float]:
    """The most likely of the words and the confidence; ("", 0) if none is similar enough.

    By optimal string alignment distance: one for a letter that is missing, extra, different, or
    swapped with the next. Differences only in case and underscores do not count.
    """
    if len(word) > _LONGEST:
        return "", 0.0
    most = _allowed(word)
    plain = _plain(word)
    letters = set(plain)
    best, ranked = "", (most + 1, 0.0)
    for each in dict.fromkeys(words):
        if each == word or abs(len(each) - len(word)) > most + 1:
            continue
        other = _plain(each)
        if len(letters.symmetric_difference(other)) > 2 * most:
            continue
        found = distance(plain, other, min(most, ranked[0]))
        if found > min(most, ranked[0]) or found > _allowed(each):
            continue
        rank = (found, -SequenceMatcher(None, word, each).ratio())
        if rank < ranked:
            best, ranked = each, rank
    return (best, _SURE[ranked[0]]) if best else ("", 0.0)


def distance(one: str, other: str, most: int) -> int:
    """The number of typos between two words; `most + 1` if there are more."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, before, row = before, row, [i, *[most + 1] * len(other)]
        for j in range(max(1, i - most), min(len(other), i + most) + 1):  # further off is too far
            b = other[j - 1]
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row[j] = cost
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)


def _allowed(word: str) -> int:
    """The number of typos that a word of this length may have and still be recognized."""
    return 0 if len(word) < 2 else 1 if len(word) < 5 else 2 if len(word) < 9 else 3


def _plain(word: str) -> str:
    return word.lower().replace("_", "")
