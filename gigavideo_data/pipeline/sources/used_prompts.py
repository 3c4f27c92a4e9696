"""The prompts that earlier datasets were trained on, which a build takes only where its writer has no others left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from gigavideo_data.dataset.reader import read_data
from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.models.llm.templates.prompts import normalised


def read(folders: Iterable[str]) -> dict[str, list[str]]:
    """The different base prompts of the synthetic rows of datasets, sorted, by the dimension they were written for.

    Args:
        folders: of finished datasets; rows of both splits count.

    Raises:
        RecipeError: a folder is no finished dataset of a format that this code reads, or is damaged.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for folder in folders:
        try:
            for batch in read_data(Path(folder).expanduser(), ["source", "dimension", "base_prompt"]):
                for row in batch.to_pylist():
                    if row["source"] == "synthetic":
                        found[row["dimension"]].add(row["base_prompt"])
        except DatasetError as error:
            raise RecipeError(f"prompts.used: {error}") from error
    return {dimension: sorted(texts) for dimension, texts in found.items()}


def num_used(texts: Iterable[str], used: Iterable[str]) -> int:
    """How many of these prompts are among the used ones, whatever their spelling."""
    known = {normalised(text) for text in used}
    return sum(normalised(text) in known for text in texts)
