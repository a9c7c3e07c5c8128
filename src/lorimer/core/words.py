"""The words of a text, for searching: also where words are not separated by spaces."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

_HAN: Final = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_OTHERS: Final = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"  # Korean: particles are joined to their words
    "\u1780-\u17ff"  # Khmer
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
)
_UNSPACED: Final = re.compile(f"[{_HAN}{_OTHERS}]+")
_IS_HAN: Final = re.compile(f"[{_HAN}]")
_WORD: Final = re.compile(rf"[{_HAN}{_OTHERS}]+|[^\W{_HAN}{_OTHERS}]+")


def words(text: str) -> list[str]:
    """Its words in order. A run of characters of a script that is written without spaces gives its
    `grams` instead, for its words are not known."""
    found: list[str] = []
    for part in _WORD.findall(text):
        if _UNSPACED.match(part):
            found += _grams_of(part)
        else:
            found.append(part)
    return found


def grams(text: str) -> list[str]:
    """Every pair of neighbouring characters in its runs of Chinese, Japanese, Korean, Thai, Lao,
    Burmese and Khmer, as the bigrams of Lucene's CJKAnalyzer; and every Chinese character, for many
    are words of their own. A single other character stands for itself."""
    return [gram for run in _UNSPACED.findall(text) for gram in _grams_of(run)]


def is_gram(word: str) -> bool:
    """Whether a word of `words` is one of its `grams`."""
    return _UNSPACED.match(word) is not None


def _grams_of(run: str) -> list[str]:
    if len(run) == 1:
        return [run]
    return [*_IS_HAN.findall(run), *map("".join, pairwise(run))]
