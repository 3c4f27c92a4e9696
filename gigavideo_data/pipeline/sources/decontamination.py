"""Block-lists: prompts of benchmarks that must not become training prompts. Pure, except for reading the files.

A prompt is rejected if it equals a blocked one without case and punctuation, contains half of its word sequences, or is
nearly the same.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RecipeError
from gigavideo_data.io import tables
from gigavideo_data.models.llm.templates.prompts import Seen, normalised
from gigavideo_data.reasons import Reason

GRAM = 5  # words in a sequence; the whole of a blocked prompt that is shorter
MIN_WORDS = 3  # a shorter blocked prompt ("a dog") is part of many prompts, so only equal prompts are rejected for it
CONTAINED = 0.5  # of a blocked prompt's sequences
SIMILARITY = 0.85
TEXT_KEYS = ("prompt_en", "prompt", "caption", "text")  # names of the prompt in tables and objects

Found = tuple[str, str]  # the place of a prompt (file and line), and the prompt


class Blocklist:
    """An index of blocked prompts."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Index some prompts; empty ones are ignored."""
        blocked = list(dict.fromkeys(filter(None, map(normalised, texts))))
        self._seen = Seen(SIMILARITY, blocked)
        self._num_grams: list[int] = []
        self._holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, text in enumerate(blocked):
            words = text.split()
            grams = _grams(words, min(GRAM, len(words))) if len(words) >= MIN_WORDS else set()
            self._num_grams.append(len(grams))
            for gram in grams:
                self._holders[gram].append(number)
        self._sizes = sorted({len(gram) for gram in self._holders})

    def reason(self, prompt: str) -> Reason | None:
        """Why a prompt is rejected: blocked, blocked_words or blocked_near; None if it is not."""
        double = self._seen.double(prompt)
        if double == Reason.DUPLICATE:
            return Reason.BLOCKED
        words = normalised(prompt).split()
        shared: Counter[int] = Counter()
        for size in self._sizes:
            for gram in _grams(words, size):
                shared.update(self._holders.get(gram, ()))
        if any(count >= CONTAINED * self._num_grams[number] for number, count in shared.items()):
            return Reason.BLOCKED_WORDS
        return Reason.BLOCKED_NEAR if double else None


def read(path: Path) -> list[str]:
    """Read the prompts of a block-list: lines (.txt), rows (.csv, .tsv), or JSON (.json, .jsonl).

    The prompts of a table or of JSON objects are called `prompt_en`, `prompt`, `caption` or `text`. A .json file
    contains a list of texts or objects, such lists by name, or texts or objects by prompt, perhaps with numbers or
    words beside them; a line of a .jsonl file contains one text or object.

    Raises:
        RecipeError: it cannot be read, has no prompts, or a part of it cannot be understood: a list that blocks less
            than expected is worse than none.
    """
    path, where = path.expanduser(), f"blocklists: {path}"
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise RecipeError(f"{where}: its name must end in {', '.join(filter(None, READERS))}, or have no ending")
    try:
        found = list(reader(path, where))
    except OSError as error:
        raise RecipeError(f"{where}: cannot be read ({error.strerror}); check the path") from error
    if not found:
        raise RecipeError(f"{where}: contains no prompts")
    for here, text in found:
        if not normalised(text):
            raise RecipeError(f"{here}: {text!r} has no words to block; remove it")
    return [text for _, text in found]


def _of_lines(path: Path, where: str) -> Iterator[Found]:
    for number, line in tables.lines(path, where):
        here = f"{where}: line {number}"
        if line.lstrip().startswith(("{", "[{", '["')):
            raise RecipeError(f"{here}: is JSON; name the file .json, or .jsonl if each line is one object")
        if "\t" in line.strip():
            raise RecipeError(f"{here}: has several columns; name the file .tsv, with column names in its first line")
        if line.strip():
            yield here, line


def _of_table(path: Path, where: str) -> Iterator[Found]:
    rows = tables.text_rows(path, where)
    _, header = next(rows)
    if not set(TEXT_KEYS) & header.keys():
        raise RecipeError(f"{where}: no column {' or '.join(TEXT_KEYS)}; its first row has {', '.join(header)}")
    for number, row in rows:
        here = f"{where}: row {number}"
        texts = _texts_of(row)
        if not texts:
            raise RecipeError(f"{here}: no prompt; fill it in, or remove the row")
        yield from ((here, text) for text in texts)


def _of_json(path: Path, where: str) -> Iterator[Found]:
    value = _parsed("\n".join(line for _, line in tables.lines(path, where)), where)
    if isinstance(value, dict):
        yield from _of_object(value, where)
    else:
        yield from _of_list(value if isinstance(value, list) else [value], where)


def _of_json_lines(path: Path, where: str) -> Iterator[Found]:
    for number, line in tables.lines(path, where):
        here = f"{where}: line {number}"
        if line.strip():
            yield from ((here, text) for _, text in _of_list([_parsed(line, here)], here))


READERS = {
    ".txt": _of_lines,
    ".csv": _of_table,
    ".tsv": _of_table,
    ".json": _of_json,
    ".jsonl": _of_json_lines,
    "": _of_lines,
}


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{where}: no JSON ({error})") from error


def _of_list(items: list[Any], where: str) -> Iterator[Found]:
    """Texts, or objects with a text."""
    for number, item in enumerate(items, 1):
        texts = [item] if isinstance(item, str) else _texts_of(item) if isinstance(item, dict) else []
        if not texts:
            shown = json.dumps(item, ensure_ascii=False)[:60]
            raise RecipeError(f"{where}: item {number}: no text, and no object with {' or '.join(TEXT_KEYS)}: {shown}")
        yield from ((f"{where}: item {number}", text) for text in texts)


def _of_object(value: dict[str, Any], where: str) -> Iterator[Found]:
    """One object with a text; or lists by name; or values by prompt, which may be shortened."""
    with_text = bool(_texts_of(value)) or any(isinstance(held, list) for held in value.values())
    for key, held in value.items():
        here = f"{where}: {key!r}"
        texts = [key] if _is_phrase(key) else []
        if isinstance(held, list):
            yield from _of_list(held, here)
        elif isinstance(held, dict):
            texts += _texts_of(held)
        elif isinstance(held, str) and (key in TEXT_KEYS or _is_phrase(held)):
            texts.append(held)
        if not texts and (isinstance(held, dict) or not with_text):  # else a number or a word beside the prompts
            raise RecipeError(
                f"{here}: neither a prompt, nor a list of them, nor an object with {' or '.join(TEXT_KEYS)}"
            )
        yield from ((here, text) for text in texts)


def _is_phrase(text: str) -> bool:
    return len(normalised(text).split()) > 1


def _texts_of(held: dict[str, Any]) -> list[str]:
    return [held[key] for key in TEXT_KEYS if isinstance(held.get(key), str) and held[key].strip()]


def _grams(words: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}
