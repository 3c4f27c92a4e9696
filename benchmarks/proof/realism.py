"""How far the videos of a run are from rendered clips of the same prompts: KID, as `gv-data eval` measures it.

Scoring writes the features of the videos into a file beside the result. When the base has been scored too, the
distances of both go into the result as `realism`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof.results import read
from benchmarks.proof.runs import Run, result_file
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.scoring.realism import compare

Key = tuple[str, str, int]  # dimension, prompt, seed of the video


def write_features(result: Path, keys: Sequence[Key], features_ND: Sequence[np.ndarray], **more_ND: np.ndarray) -> None:
    """Write the features of the videos of a result.

    Args:
        result: the result file.
        keys: of the videos.
        features_ND: of the videos.
        more_ND: of other clips, one for each video.
    """
    data = io.BytesIO()
    arrays: dict[str, Any] = {"features_ND": np.array(features_ND), **more_ND}
    np.savez(data, keys=[json.dumps(key) for key in keys], **arrays)
    write_durably(_file(result), data.getvalue())


def add(runs: Iterable[Run], work: Path) -> None:
    """Add the distances to the results of runs that do not have them, where the features of run and base are there."""
    for run in runs:
        for view in run.views:
            file, base = result_file(work, view, run), result_file(work, view, None)
            result = read(file)
            if result and "realism" not in result and _file(file).exists() and _file(base).exists():
                write_durably(file, json.dumps(result | {"realism": _distances(_file(base), _file(file))}).encode())


def _distances(base: Path, tuned: Path) -> dict[str, object]:
    before, after = np.load(base), np.load(tuned)
    line_of = {key: at for at, key in enumerate(before["keys"])}
    same_N = np.array([line_of[key] for key in after["keys"]])
    prompts_N = np.array(["/".join(json.loads(key)[:2]) for key in after["keys"]])
    base_ND, real_ND = (before[name][same_N] for name in ("features_ND", "real_ND"))
    return compare(base_ND, after["features_ND"], real_ND, prompts_N).facts()


def _file(result: Path) -> Path:
    return result.with_suffix(".npz")
