"""The trainer on a machine with few packages besides torch: what it imports."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gigavideo_data.errors import RunError
from gigavideo_data.models.generators.profiles import model_folder
from gigavideo_data.models.spec import folder_revision
from gigavideo_train.cli import app
from gigavideo_train.data.cache import Cache
from scripts.offline_bundle import BUILDERS
from tests.support.rows import write_set
from tests.support.train_set import row

# What only building a set needs; filelock is there with the Hub's client.
BUILDING = tuple({"opencv-python-headless": "cv2"}.get(name, name) for name in BUILDERS if name != "filelock")
SHELL = ("rich", "typer")  # what only the command line needs


def python(code: str, without: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess:
    """Run code in a process in which some packages cannot be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({without}))\n"
    command = [sys.executable, "-c", blocked + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


def shipped_set(out: Path, cache: Path) -> Path:
    """Two rows: latents of the first come along, those of the second are in the trainer's cache."""
    rows = [row(seed, reward=0.9) for seed in (1, 2)]
    revision = folder_revision(model_folder("miniature") / "vae")
    shape, generator = (8, 2, 12, 12), torch.Generator().manual_seed(0)
    latents_CFHW = torch.randn(shape, generator=generator)
    data = latents_CFHW.bfloat16().view(torch.uint8).numpy().tobytes()
    shipped = {
        "id": rows[0]["id"],
        "video_sha256": rows[0]["video_sha256"],
        "latents": data,
        "latents_sha256": hashlib.sha256(data).hexdigest(),
        "shape": list(shape),
        "vae": {"model": "miniature", "revision": revision},
    }
    Cache(cache, f"latents {revision}").make(rows[1]["video_sha256"], lambda: latents_CFHW)
    return write_set(out, rows, latents=[shipped])


def test_the_training_loop_is_imported_without_what_builds_sets_and_without_the_command_line():
    done = python("import gigavideo_train.training", BUILDING + SHELL)
    assert done.returncode == 0, done.stderr


def test_the_sections_of_the_gpu_benchmark_are_imported_without_them_too():
    code = f"import sys, importlib; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    code += "from benchmarks.gpu.sections import SECTIONS\n"
    code += "for one in SECTIONS: importlib.import_module(f'benchmarks.gpu.{one.name}')"
    done = python(code, BUILDING + SHELL)
    assert done.returncode == 0, done.stderr


def test_training_from_shipped_and_cached_latents_needs_no_pyav_no_opencv_and_no_ray(tmp_path):
    cache, out = tmp_path / "latents", tmp_path / "run"
    arguments = [
        "--dataset",
        str(shipped_set(tmp_path / "set", cache)),
        "--out",
        str(out),
        "--cache",
        str(cache),
        "--json",
    ]
    settings = [f"--set={one}" for one in ("latents=own", "batch_size=1", "max_steps=2", "validate_every=null")]
    done = python("from gigavideo_train.cli import main; main()", BUILDING, *arguments, *settings)
    assert done.returncode == 0, done.stderr
    assert "latents of 1 of 2 clips came with the dataset" in " ".join(done.stderr.split())
    assert json.loads(done.stdout)["steps"] == 2
    assert (out / "model" / "model_index.json").is_file()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], r"encoding 2 clips \(latents=own takes latents of the dataset, if it has them\) needs av,"),
        (["sample_every=5"], "sample_every: writing clips needs av, not installed here; pip install av"),
        (["strategy=reweight-online"], "reweight-online: judging clips needs av,"),
    ],
)
def test_a_missing_pyav_is_reported_before_anything_is_written(tmp_path, monkeypatch, settings, message):
    dataset = write_set(tmp_path / "set", [row(seed, reward=0.9) for seed in (1, 2)])
    monkeypatch.setitem(sys.modules, "av", None)
    options = [part for one in settings for part in ("--set", one)]
    arguments = ["--dataset", str(dataset), "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")]
    with pytest.raises(RunError, match=message):
        CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    assert not (tmp_path / "cache").exists()
