"""Duplicates and near duplicates among all prompts of a build. Pure.

To compare each prompt with all earlier ones takes a time that grows with the square of their number. Above MAX_COMPARED
prompts, a pair is compared only if MinHash (Broder, 1997) makes it a candidate: each prompt has BANDS x BAND_ROWS
hashes, each the smallest one of the sequences of three letters in its words, and a candidate shares all hashes of a
band. A pair that shares half of its sequences is found with a probability of 0.96, one that shares 0.6 with 0.999.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rapidfuzz import fuzz, process

from gigavideo_data.io.hashing import digest_of
from gigavideo_data.models.llm.templates.prompts import Seen, normalised, words_sorted
from gigavideo_data.reasons import Reason

MAX_COMPARED = 20_000  # prompts of which all pairs are compared, in about 20 s
BANDS, BAND_ROWS = 50, 4
BLOCK = 4096  # prompts that are hashed at once
SPACE = ord(" ")
NONE = np.uint32(0xFFFFFFFF)  # larger than the hash of any sequence


def doubles(texts: Sequence[str], threshold: float | None) -> list[Reason | None]:
    """Which prompts are a `duplicate` or `near_duplicate` of an earlier one.

    Args:
        texts: prompts.
        threshold: similarity from 0 to 1 from which two prompts are near duplicates; None finds only equal ones.
    """
    if threshold is None or len(texts) <= MAX_COMPARED:
        return list(_compared_with_all(texts, threshold))
    reasons: list[Reason | None] = [Reason.DUPLICATE] * len(texts)
    seen, first, different = set[bytes](), list[int](), list[str]()
    for number, plain in enumerate(map(normalised, texts)):
        if (digest := digest_of(plain)) not in seen:
            seen.add(digest)
            first.append(number)
            different.append(words_sorted(plain))
            reasons[number] = None
    for at in _near(different, threshold):
        reasons[first[at]] = Reason.NEAR_DUPLICATE
    return reasons


def _compared_with_all(texts: Sequence[str], threshold: float | None) -> Iterator[Reason | None]:
    seen = Seen(threshold)
    for text in texts:
        yield seen.double(text)
        seen.add(text)


def _near(texts: list[str], threshold: float) -> set[int]:
    """The numbers of texts that are near an earlier candidate."""
    found: set[int] = set()
    for hashes_N in _signatures(texts).T:
        order = np.argsort(hashes_N, kind="stable")  # equal hashes side by side, in the order of the texts
        equal = np.diff(hashes_N[order]) == 0
        first, last = np.flatnonzero(np.diff(equal, prepend=False, append=False)).reshape(-1, 2).T
        for group in (order[start : end + 1] for start, end in zip(first, last, strict=True)):
            for at in range(1, len(group)):
                if group[at] in found:
                    continue
                earlier = [texts[number] for number in group[:at]]
                if process.extractOne(texts[group[at]], earlier, scorer=fuzz.ratio, score_cutoff=threshold * 100):
                    found.add(int(group[at]))
    return found


def _signatures(texts: list[str]) -> np.ndarray:
    """One hash for each text and band, uint32 (N, BANDS)."""
    rng = np.random.default_rng(0)  # fixed, so that a build finds the same duplicates again
    factors = rng.integers(2**31, size=(BANDS, BAND_ROWS), dtype=np.uint32) * 2 + 1
    signatures = np.empty((len(texts), BANDS), np.uint32)
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        letters = np.frombuffer(f" {' '.join(block)} ".encode("utf-32-le"), np.uint32)
        sequences = _mixed((letters[:-2] * 0x01000193 ^ letters[1:-1]) * 0x01000193 ^ letters[2:])
        between = letters[1:-1] == SPACE  # of two words or texts: their neighbours do not count
        starts = np.cumsum([0, *(len(text) + 1 for text in block[:-1])])
        for band, row_factors in enumerate(factors):
            combined = np.zeros(len(block), np.uint32)
            for factor in row_factors:
                hashes = sequences * factor
                hashes[between] = NONE
                combined = _mixed(combined ^ np.minimum.reduceat(hashes, starts))
            signatures[start : start + BLOCK, band] = combined
    return signatures


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spread the bits of uint32 values (the finaliser of MurmurHash3)."""
    values = (values ^ (values >> 16)) * np.uint32(0x85EBCA6B)
    values = (values ^ (values >> 13)) * np.uint32(0xC2B2AE35)
    return values ^ (values >> 16)
