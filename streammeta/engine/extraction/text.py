"""Text as numbers: hashed character n-grams, always the same ones, from the seed and the feature's name alone.

Text in lower case, with one space between words and at both ends, is cut into all its substrings of 3, 4 and 5
characters. A hash of each says which of W numbers it is added to, and whether with + or −, so that collisions cancel in
the mean; then all are divided by their Euclidean norm. Nothing is learned here and nothing is kept, so a word that was
never seen costs nothing, and a word that is misspelt shares most of its n-grams with the right one.

Sources: Weinberger et al. (2009), Feature hashing, arXiv:0902.2206, for hash and sign; Bojanowski et al. (2017),
arXiv:1607.04606, for n-grams of words with their ends. Bits of a hash are mixed as in splitmix64 (Steele et al., 2014).
"""

from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["TextHash"]

_LENGTHS: Final = (3, 4, 5)
_MOST_CHARACTERS: Final = 10_000  # of a text that are read
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_Hashes = npt.NDArray[np.uint64]


class TextHash:
    """Makes W numbers of a text.

    Args:
        name: of the feature.
        width: W.
        seed: fixes which n-gram goes where, together with the name.

    >>> hashed = TextHash("title", 4, seed=0)
    >>> hashed("Red  shoes") == hashed("red shoes"), [round(value, 3) for value in hashed("")]
    (True, [0, 0, 0, 0])
    """

    def __init__(self, name: str, width: int, seed: int) -> None:
        digest = blake2b(f"{seed}:{name}".encode(errors="replace"), digest_size=8).digest()
        self._key, self._width = np.uint64(int.from_bytes(digest, "little")), width

    def __call__(self, text: str) -> list[float]:
        """The numbers of a text [W]; their squares add up to 1, or all are 0."""
        words = " ".join(text[:_MOST_CHARACTERS].casefold().split())
        codes = np.frombuffer(f" {words} ".encode("utf-32-le", errors="replace"), np.uint32).astype(np.uint64)
        hashes = _mixed(np.concatenate([_grams(codes, n) for n in _LENGTHS]) ^ self._key)
        place = (hashes >> np.uint64(32)) * np.uint64(self._width) >> np.uint64(32)
        sign = 1.0 - 2.0 * (hashes & np.uint64(1))
        counts: npt.NDArray[Any] = np.bincount(place.astype(np.int64), sign, self._width)
        norm = float(np.sqrt((counts * counts).sum()))
        found: list[float] = (counts / norm if norm else counts).tolist()
        return found


def _grams(codes: _Hashes, n: int) -> _Hashes:
    """A number for each substring of n characters, by what is in it; modulo 2⁶⁴."""
    count = max(len(codes) - n + 1, 0)
    found = np.full(count, n, np.uint64)
    for j in range(n):
        found = found * _BASE + codes[j : j + count]
    return found


def _mixed(hashes: _Hashes) -> _Hashes:
    """Each bit depends on all bits."""
    for factor in _MIX:
        hashes = (hashes ^ (hashes >> np.uint64(29))) * factor
    return hashes ^ (hashes >> np.uint64(32))
