"""Block-lists: prompts of benchmarks that must not become training prompts. Pure, but for reading the files.

A prompt falls if it equals a blocked one once case and punctuation are gone, if it holds half of its word sequences, or
if it says nearly the same.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.prompts import Seen, normalised

GRAM = 5  # words in a sequence; the whole of a blocked prompt that is shorter
MIN_WORDS = 3  # shorter ones ("a dog") are in every second prompt: they must be equal to count
CONTAINED = 0.5  # of a blocked prompt's sequences
LIKENESS = 0.85
_TEXT_KEYS = ("prompt_en", "prompt", "caption", "text")


class Blocklist:
    """Blocked prompts, ready to be compared with."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Index some prompts; empty ones are left out."""
        blocked = list(dict.fromkeys(filter(None, map(normalised, texts))))
        self._seen = Seen(LIKENESS, blocked)
        self._num_grams: list[int] = []
        self._holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, text in enumerate(blocked):
            words = text.split()
            grams = _grams(words, min(GRAM, len(words))) if len(words) >= MIN_WORDS else set()
            self._num_grams.append(len(grams))
            for gram in grams:
                self._holders[gram].append(number)
        self._sizes = sorted({len(gram) for gram in self._holders})

    def reason(self, prompt: str) -> str | None:
        """Why a prompt falls: blocked, blocked_words or blocked_near; None if it does not."""
        double = self._seen.double(prompt)
        if double == "duplicate":
            return "blocked"
        words = normalised(prompt).split()
        shared: Counter[int] = Counter()
        for size in self._sizes:
            for gram in _grams(words, size):
                shared.update(self._holders.get(gram, ()))
        if any(count >= CONTAINED * self._num_grams[number] for number, count in shared.items()):
            return "blocked_words"
        return "blocked_near" if double else None


def read(path: Path) -> list[str]:
    """The prompts of a block-list: lines of text, CSV with a column of them, or JSON.

    In JSON: a list of texts, a list of objects, an object by prompt, or one object per line; objects hold the text
    under `prompt_en`, `prompt`, `caption` or `text`, as those of VBench do.

    Raises:
        RecipeError: it cannot be read, or holds no prompts.
    """
    try:
        content = path.expanduser().read_text("utf-8-sig")
        if path.suffix == ".json":
            texts = list(_texts(json.loads(content)))
        elif path.suffix == ".jsonl":
            texts = [text for line in content.splitlines() if line.strip() for text in _texts([json.loads(line)])]
        elif path.suffix == ".csv":
            texts = list(_texts(list(csv.DictReader(content.splitlines()))))
        else:
            texts = [line for line in content.splitlines() if line.strip()]
    except OSError as error:
        raise RecipeError(f"blocklists: {path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise RecipeError(
            f"blocklists: {path}: not readable ({error}); see `gigavideo_data/decontaminate.py`"
        ) from error
    if not texts:
        raise RecipeError(f"blocklists: {path}: holds no prompts; objects need one of {', '.join(_TEXT_KEYS)}")
    return texts


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):  # by prompt, perhaps cut short: what it maps to may hold the whole
        for key, held in value.items():
            yield key
            yield from _texts([held])
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, str):
                yield item
            elif isinstance(item, dict):
                yield from (item[key] for key in _TEXT_KEYS if isinstance(item.get(key), str))


def _grams(words: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}
