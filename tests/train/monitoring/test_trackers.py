"""Trackers get the numbers of metrics.jsonl, and after a resumption no step twice."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

from gigavideo_train.config import TrackerName
from gigavideo_train.monitoring.jsonl import Metrics
from tests.e2e.test_train import metrics, refused, run
from tests.support.train_set import row, training_set

pytestmark = pytest.mark.timeout(600)


class Writer:
    """Records the calls of TensorBoard's SummaryWriter."""

    made: ClassVar[list["Writer"]] = []

    def __init__(self, log_dir: str, purge_step: int) -> None:
        self.log_dir, self.purge_step, self.closed = Path(log_dir), purge_step, False
        self.scalars: dict[tuple[str, int], float] = {}
        Writer.made.append(self)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert (tag, global_step) not in self.scalars
        self.scalars[tag, global_step] = scalar_value

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    package, module = ModuleType("tensorboard"), ModuleType("torch.utils.tensorboard")
    package.__spec__ = ModuleSpec("tensorboard", None)
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboard", package)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "made", [])
    return Writer.made


def test_tensorboard_gets_the_numbers_of_the_metrics(writers: list[Writer], tmp_path: Path) -> None:
    dataset = training_set(tmp_path / "set", [row(1), row(2), row(3) | {"split": "validation"}])
    out, settings = tmp_path / "out", {"epochs": "4"}
    run(dataset, out, "--report-to", "tensorboard", max_steps="2", **settings)
    run(dataset, out, "--report-to", "tensorboard", "--resume", **settings)
    assert [(writer.log_dir, writer.purge_step, writer.closed) for writer in writers] == [
        (out / "tensorboard", 0, True),
        (out / "tensorboard", 3, True),
    ]
    scalars = writers[0].scalars | writers[1].scalars
    for line in metrics(out):
        for name in {"loss", "grad_norm", "held_out"} & line.keys():
            assert scalars[name, line["step"]] == line[name]
        for name, value in line.get("match_by_sigma", {}).items():
            assert scalars.get((f"match_by_sigma/{name}", line["step"])) == value
    assert ("held_out", 0) in scalars
    assert not any(name == "step" for name, _ in scalars)


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    dataset = training_set(tmp_path / "set", [row(1)])
    assert "pip install tensorboard" in refused(dataset, tmp_path / "out", "--report-to", "tensorboard")
    assert "report_to" in refused(dataset, tmp_path / "out", "--report-to", "elsewhere")


class Run:
    """Records the calls of a run of wandb or trackio."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = False

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.logged.append((step, numbers))

    def finish(self) -> None:
        self.finished = True


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio_get_a_run_named_as_the_folder(
    name: TrackerName, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs: dict[str, Run] = {}

    def init(project: str, name: str) -> Run:
        assert project == "gigavideo"
        return runs.setdefault(name, Run())

    module = ModuleType(name)
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    with Metrics(tmp_path / "mine" / "metrics.jsonl", 0, name, enabled=True) as written:
        written.write(step=1, loss=0.5, match_by_source={"synthetic": 0.25, "twin": None})
        written.write(step=2, loss=float("nan"))
    assert runs["mine"].logged == [(1, {"loss": 0.5, "match_by_source/synthetic": 0.25}), (2, {})]
    assert runs["mine"].finished
