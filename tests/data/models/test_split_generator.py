"""A video that several processes compute together, on a CPU: the genuine split of diffusers, over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gigavideo_data.models.generators import profiles
from tests.support import tiny_pipelines

ROOT = Path(__file__).parents[3]
SPLIT = """
import json, sys
import numpy as np
from gigavideo_data.models.generators import profiles
from gigavideo_data.models.generators.diffusers_generator import DiffusersGenerator
from gigavideo_data.models.generators.split_generator import SplitGenerator
from gigavideo_data.models.registry import generator_spec, load_engine
from gigavideo_data.recipe.recipe import Generator

settings = generator_spec(Generator(model=sys.argv[1], negative_prompt="blurred", steps=2)).settings
alone = load_engine("generator", settings | {"gpus": 1})
split = load_engine("generator", settings | {"gpus": 2})
assert type(alone) is DiffusersGenerator and type(split) is SplitGenerator
for prompt, seed in (("a red circle", 7), ("two blue bars", 8)):
    (one,), (both,) = alone.generate([prompt], [seed]), split.generate([prompt], [seed])
    np.testing.assert_allclose(both.latents_CFHW, one.latents_CFHW, atol=1e-3)
    np.testing.assert_allclose(both.frames_THWC.astype(int), one.frames_THWC, atol=1)
    assert one.frames_THWC.std() > 1
split.close()
print(json.dumps([process.poll() for process in split._others]))
"""


# Of both processes. Diffusers divides by the number of accelerators, also where it computes on the CPU.
SITE = """
import torch

torch.accelerator.device_count = lambda: 1
from gigavideo_data.models.generators.profile_table import PROFILES
from tests.support import tiny_pipelines

PROFILES |= tiny_pipelines.PROFILES
"""


@pytest.mark.slow
def test_two_processes_make_the_video_that_one_makes(tmp_path):
    folder = tmp_path / "pipeline"
    tiny_pipelines.build("wan2.2-a14b", folder)
    (folder / profiles.MODEL_INFO_FILE).write_text(json.dumps({"profile": "wan2.2-a14b"}))
    (tmp_path / "sitecustomize.py").write_text(SITE)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    run = subprocess.run(
        [sys.executable, "-c", SPLIT, str(folder)], env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert json.loads(run.stdout.splitlines()[-1]) == [-9]
