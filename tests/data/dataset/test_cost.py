"""The cost per useful sample: what counts, where it is shown, and when it is not known."""

import json
from pathlib import Path
from typing import Any

import pytest

from gigavideo_data.dataset import cost as costs
from gigavideo_data.dataset.card import card_text
from gigavideo_data.dataset.reader import read_manifest, read_rows
from gigavideo_data.dataset.report.page import write_report
from gigavideo_data.dataset.summary import show, summarize
from gigavideo_data.dataset.writer import write_dataset
from gigavideo_data.io import terminal
from gigavideo_data.scoring.training_weights import default_weights, effective_size
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.samples import select
from tests.support.rows import DIMENSION, make_eval_prompts, make_manifest, make_rejects, make_row, write_set

STAGES: list[Any] = [
    {"stage": "synthesize", "rows": 8, "seconds": 9.0, "spent": {"cpu": 24.0}},
    {"stage": "judge check", "rows": 8, "seconds": 9.0, "spent": {"cpu": 6.0}},
]


def with_cost(folder: Path, stages: list[Any]) -> Path:
    rows = [make_row(seed, reward=reward, split="train") for seed, reward in enumerate((0.4, 0.6, 0.8, 1.0))]
    manifest = make_manifest(rows, make_rejects())
    write_dataset(folder, rows, make_eval_prompts(), make_rejects(), manifest, {"stages": stages, "wall_seconds": 9.0})
    return folder


def test_the_samples_are_those_that_gv_train_keeps_by_default() -> None:
    rows = [make_row(seed, reward=seed / 8, split="train") for seed in range(8)]
    rows += [make_row(20, reward=0.9, split="validation"), make_row(21, reward=None, split="train")]
    rows += [make_row(22, reward=0.9, split="train") | {"dimension": "composition"}]
    for seed in (10, 11):
        rows += [make_row(seed, source, split="train") for source in ("twin", "real")]
    for kept in (rows, [row for row in rows if row["source"] == "synthetic"]):
        selection = select([row for row in kept if row["split"] == "train"], [DIMENSION], TrainConfig())
        weights = default_weights(kept, [DIMENSION])
        assert sorted(weights) == pytest.approx(sorted(sample.weight for sample in selection.samples))
        assert effective_size(weights) == pytest.approx(selection.effective_size)
    hard = [row | {"answers": [answer | {"readout": "text"} for answer in row["answers"]]} for row in rows]
    selection = select([row for row in hard if row["split"] == "train"], [DIMENSION], TrainConfig())
    assert len(default_weights(hard, [DIMENSION])) == len(selection.samples) > len(weights)


def test_the_seconds_of_all_stages_are_divided_among_kept_clips_and_effective_samples(tmp_path: Path) -> None:
    found = costs.cost_per_sample(costs.read(with_cost(tmp_path, STAGES)))
    assert found
    effective = (0.6 + 0.8 + 1.0) ** 2 / (0.6**2 + 0.8**2 + 1.0**2)
    assert (found["device"], found["seconds"], found["kept"]) == ("CPU", 30.0, 3)
    assert found["per_kept"] == 10.0
    assert found["per_effective"] == pytest.approx(30 / effective, abs=0.01)
    assert costs.sentence(found) == "10 CPU-seconds per kept clip, 10.4 per effective sample"


def test_seconds_of_gpus_and_of_cores_are_not_added() -> None:
    stages = [*STAGES, {"stage": "judge", "rows": 8, "spent": {"gpu": 6.0}}]
    found = costs.cost_per_sample({"stages": stages, "samples": {"kept": 3, "effective": 2.5}})
    assert found
    assert (found["device"], found["seconds"], found["stages"]) == ("GPU", 6.0, {"judge": 6.0})


def test_a_stage_behind_an_endpoint_is_named_and_not_counted() -> None:
    stages = [*STAGES, {"stage": "judge", "rows": 8, "spent": {"endpoint": 600.0}}]
    found = costs.cost_per_sample({"stages": stages, "samples": {"kept": 3, "effective": 2.5}})
    assert found
    assert found["seconds"] == 30.0
    assert costs.sentence(found).endswith("12 per effective sample, without judge behind an endpoint")


@pytest.mark.parametrize(
    "stages",
    [
        [*STAGES, {"stage": "judge", "rows": 8, "spent": None}],  # some rows of an older version
        [*STAGES, {"stage": "judge", "rows": 8, "seconds": 9.0}],  # as older versions wrote it
        [*STAGES, {"stage": "judge", "rows": 8, "spent": {"gpu": -1.0}}],
        [*STAGES, {"stage": "judge", "rows": 8, "spent": {"gpu": float("nan")}}],
    ],
)
def test_what_is_not_known_is_not_shown(tmp_path: Path, stages: list[Any]) -> None:
    folder = with_cost(tmp_path, STAGES)
    cost = json.loads((folder / "cost.json").read_text()) | {"stages": stages}
    (folder / "cost.json").write_text(json.dumps(cost))
    assert costs.cost_per_sample(costs.read(folder)) is None
    assert "seconds per kept clip" not in card_text(read_manifest(folder), cost=cost)
    assert "seconds per kept clip" not in write_report(folder, tmp_path / "page.html").read_text()


def test_without_kept_samples_or_a_file_there_is_no_figure(tmp_path: Path) -> None:
    assert costs.cost_per_sample({"stages": STAGES, "samples": {"kept": 0, "effective": 0.0}}) is None
    assert costs.cost_per_sample(costs.read(tmp_path)) is None
    (tmp_path / "cost.json").write_text("[")
    assert costs.cost_per_sample(costs.read(tmp_path)) is None


def test_page_card_and_summary_begin_with_the_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = with_cost(tmp_path, STAGES)
    page = write_report(folder).read_text()
    assert page.index("<dt>cost per useful sample</dt><dd>10 CPU-s</dd>") < page.index("<dt>videos</dt>")
    assert '<tr><th scope="row">judge check</th><td class="n">6</td><td class="n">2</td></tr>' in page
    card = (folder / "README.md").read_text()
    assert "**Cost per useful sample:** 10 CPU-seconds per kept clip, 10.4 per effective sample" in card
    assert card.index("Cost per useful sample") < card.index("## How to load it")
    show(summarize(folder), terminal.console())
    assert capsys.readouterr().out.startswith("cost per useful sample: 10 CPU-seconds per kept clip, 10.4 per")


def test_text_of_a_foreign_cost_is_escaped(tmp_path: Path) -> None:
    folder = with_cost(tmp_path, STAGES)
    hostile = "<img src=x>[a](b)"
    cost = json.loads((folder / "cost.json").read_text())
    cost["stages"] += [{"stage": hostile, "rows": 1, "spent": {"endpoint": 1.0, "cpu": 1.0}}]
    (folder / "cost.json").write_text(json.dumps(cost))
    assert hostile not in card_text(read_manifest(folder), cost=cost)
    assert hostile not in write_report(folder).read_text()


def test_other_rewards_change_the_useful_samples(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    kept = json.loads((folder / "cost.json").read_text())["samples"]["kept"]
    assert kept == len(default_weights(read_rows(folder), [DIMENSION])) > 0
    write_set(folder, [make_row(seed, reward=0.9, split="train") for seed in range(kept + 1)])
    assert json.loads((folder / "cost.json").read_text())["samples"]["kept"] == kept + 1
