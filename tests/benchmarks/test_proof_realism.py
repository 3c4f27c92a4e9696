"""The distance to rendered clips stands beside the rewards of a run, as soon as the base has been scored too."""

import json
from pathlib import Path

import numpy as np

from benchmarks.proof import realism
from benchmarks.proof.results import distance, read
from benchmarks.proof.runs import FOCUS, Run, result_file

RUN = Run("t", "n", (FOCUS,), views=("dev",))
KEYS = [(FOCUS, f"p{n}", seed) for n in range(30) for seed in (0, 1)]
OTHER = ("mechanics", "p0", 0)


def write(work: Path, run: Run | None, shift: float) -> Path:
    rng = np.random.default_rng(0)
    keys = KEYS if run else [OTHER, *KEYS]  # the base has been scored on all dimensions
    features_ND, real_ND = rng.normal(size=(2, len(keys), 6))
    file = result_file(work, "dev", run)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"plan": {}, "rewards": []}))
    realism.write_features(file, keys, list(features_ND + shift), **({} if run else {"real_ND": real_ND}))
    return file


def test_videos_as_far_from_real_ones_as_those_of_the_base_pass_and_others_fail(tmp_path: Path) -> None:
    write(tmp_path, None, 0.5)
    for shift, verdict in ((0.5, "passed"), (1.0, "failed")):
        file = write(tmp_path, RUN, shift)
        realism.add([RUN], tmp_path)
        found = read(file)
        assert found is not None
        assert found["realism"]["verdict"] == verdict
        assert distance(found).endswith(verdict)
        before = file.read_bytes()
        realism.add([RUN], tmp_path)
        assert file.read_bytes() == before


def test_without_the_base_there_is_no_distance(tmp_path: Path) -> None:
    file = write(tmp_path, RUN, 0.5)
    realism.add([RUN], tmp_path)
    assert distance(json.loads(file.read_text())) == "-"
