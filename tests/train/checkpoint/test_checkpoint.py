"""Checkpoints on a damaged or full disk."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from gigavideo_data.errors import RunError
from gigavideo_data.io.atomic import write_durably
from gigavideo_train.checkpoint.checkpoint import Done, changes, latest, load, state
from gigavideo_train.checkpoint.checkpoint import save as save_checkpoint
from gigavideo_train.data.cache import Cache

FACTS_OF_RUN = {"dataset": "d"}


def trained(steps: int) -> tuple[dict[str, torch.nn.Parameter], torch.optim.AdamW]:
    parameters = {"w": torch.nn.Parameter(torch.zeros(1000))}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1.0)
    for _ in range(steps):
        parameters["w"].grad = torch.ones(1000)
        optimizer.step()
    return parameters, optimizer


def saved(folder: Path, *steps: int) -> None:
    for number in steps:
        save_checkpoint(folder, Done(number), state(*trained(number), {}), FACTS_OF_RUN)


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """Writing beyond so many bytes of a file fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "cut": lambda one: cut(one / "state.safetensors"),
    "no weights": lambda one: (one / "state.safetensors").unlink(),
    "empty facts": lambda one: (one / "state.json").write_text(""),
    "cut facts": lambda one: cut(one / "state.json"),
    "other facts": lambda one: (one / "state.json").write_text('{"done": {}, "facts": null}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_passed_over_and_told(tmp_path: Path, damage: str) -> None:
    saved(tmp_path, 1, 2)
    DAMAGES[damage](tmp_path / "step-00000002")
    notes: list[str] = []
    found = latest(tmp_path, notes.append)
    assert found == tmp_path / "step-00000001"
    assert "step-00000002 is damaged (state." in notes[0]
    assert changes(found, FACTS_OF_RUN, allowed=False) == []
    parameters, optimizer = trained(0)
    assert load(found, parameters, optimizer, {}) == Done(1)
    assert torch.equal(parameters["w"], trained(1)[0]["w"])


def test_a_run_that_went_back_replaces_the_damaged_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    cut(tmp_path / "step-00000002" / "state.safetensors")
    saved(tmp_path, 2)
    notes: list[str] = []
    assert latest(tmp_path, notes.append) == tmp_path / "step-00000002"
    assert notes == []
    cut(tmp_path / "step-00000002" / "state.safetensors")
    (tmp_path / "step-00000002").rename(tmp_path / "step-00000004")
    saved(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


def test_without_a_whole_checkpoint_nothing_is_trained_anew_unasked(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    cut(tmp_path / "step-00000001" / "state.json")
    with pytest.raises(RunError, match="no checkpoint can be read"):
        latest(tmp_path, print)
    assert latest(tmp_path / "nothing", print) is None


def test_a_full_disk_at_a_checkpoint_is_told_with_file_and_bytes_and_the_one_before_is_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    with file_size_limit(5000), pytest.raises(RunError) as caught:
        saved(tmp_path, 2)
    assert str(tmp_path / "step-00000002" / "state.safetensors") in str(caught.value)
    assert "it takes 12" in str(caught.value)  # 3 x 1000 float32 and the facts
    assert "step-00000001 is kept" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert latest(tmp_path, print) == tmp_path / "step-00000001"


def test_a_full_disk_is_told_with_the_file_wherever_something_is_written(tmp_path: Path) -> None:
    data = save({"x": torch.zeros(5000)})
    with file_size_limit(5000):
        with pytest.raises(RunError, match=rf"{tmp_path}/.*safetensors: .* it takes {len(data)} bytes"):
            Cache(tmp_path, "encoder").make("clip", lambda: torch.zeros(5000))
        with pytest.raises(OSError, match=r"sample\.mp4") as caught:
            write_durably(tmp_path / "sample.mp4", data)
    assert caught.value.filename == str(tmp_path / "sample.mp4")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
