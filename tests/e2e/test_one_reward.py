"""Dataset, card, page, terminal and trainer mean one number by a row's reward."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gigavideo_data.dataset import summary
from gigavideo_data.dataset.report.page import write_report
from gigavideo_data.dataset.writer import write_dataset
from gigavideo_data.errors import DatasetError
from gigavideo_data.pipeline.assemble import reward_summaries
from gigavideo_data.scoring.rewards import CAPTIONS
from gigavideo_train import plan as planning
from gigavideo_train.cli import app
from gigavideo_train.data.dataset import read
from gigavideo_train.data.samples import Sample
from gigavideo_train.losses.inputs import Inputs
from tests.e2e.test_train import arguments, run
from tests.support.rows import COST, make_eval_prompts, make_manifest, make_rejects
from tests.support.train_set import row, training_set
from tests.train.data.test_sample_selection import written_for

DIMENSIONS = ["camera_motion", "composition"]
ROWS = [
    written_for("camera_motion", 31, {"camera_motion": 0.05, "composition": 1.0}) | {"reason": None},
    written_for("camera_motion", 32, {"camera_motion": 0.8, "composition": 0.0}),
    written_for("composition", 33, {"camera_motion": 0.0, "composition": 0.7}),
    written_for("composition", 34, {"camera_motion": 0.9, "composition": 0.2}),
    row(20, "twin"),
    row(20, "real"),
]
CHECK = {"videos": 50, "yes_bias": 0.0, "inconsistency": 0.0, "real_videos": 30, "real_score": 0.9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reward") / "set"
    checks = [
        {"dimension": d, "auc_foreign": auc, "auc_real": auc, **CHECK}
        for d, auc in zip(DIMENSIONS, (0.6, 0.97), strict=True)
    ]
    manifest = make_manifest(ROWS, make_rejects()) | {
        "dimensions": DIMENSIONS,
        "judge_check": checks,
        "rewards": reward_summaries(ROWS, DIMENSIONS),
    }
    write_dataset(out, ROWS, make_eval_prompts(), make_rejects(), manifest, COST)
    return out


def test_page_card_and_trainer_count_the_same_rewards(folder: Path, tmp_path: Path) -> None:
    facts = summary.summarize(folder)["rewards"]
    assert list(facts) == [*DIMENSIONS, CAPTIONS]
    card = (folder / "README.md").read_text()
    manifest = json.loads((folder / "manifest.json").read_text())["rewards"]
    trained = {sample["dimension"]: sample for sample in run(folder, tmp_path / "out", "--dry-run")["samples"]}
    for name, each in facts.items():
        above = sum(each["histogram"][summary.NUM_BINS // 2 :])
        assert trained[name]["kept"] == above == 1
        assert sum(trained[name]["dropped"].values()) == each["scored"] - above
        assert {key: each[key] for key in manifest[name]} == pytest.approx(manifest[name])
        assert f"| {each['scored']} | 0 | {each['mean']:.3f} |" in card
    assert re.search(r"column `reward` is the score on the dimension that the prompt was written for", card)


def good_on_the_page(folder: Path) -> set[str]:
    """Ids of the videos that the report page shows as kept in training, by its own rule."""
    page = (folder / "report.html").read_text()
    (data,) = re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)
    (threshold,) = re.findall(r"kindOf = \(value\) => \(value > ([\d.]+)", page)
    rewards = {card["id"]: card["reward"] for card in json.loads(data)["cards"]}
    return {name for name, reward in rewards.items() if reward is not None and reward > float(threshold)}


def test_page_plan_and_loop_keep_the_same_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [row(seed, reward=reward) for seed, reward in enumerate((0.9, 0.5, 0.51, 0.0, None, 1.0), start=1)]
    dataset = training_set(tmp_path / "set", [*made, row(20, "twin"), row(20, "real"), row(21, "twin", reward=0.5)])
    write_report(dataset)
    above = sum(
        sum(each["histogram"][summary.NUM_BINS // 2 :]) for each in summary.summarize(dataset)["rewards"].values()
    )
    planned = planning.make(read(dataset), None, None, [])
    trained: list[str] = []

    def recorded(samples: list[Sample], *arguments: Any, **options: Any) -> Inputs:
        trained.extend(sample.row["id"] for sample in samples)
        return plain(samples, *arguments, **options)

    plain = Inputs.of
    monkeypatch.setattr(Inputs, "of", recorded)
    facts = run(dataset, tmp_path / "out", epochs="1", validate_every="null")
    assert set(trained) == {sample.id for sample in planned.samples} == good_on_the_page(dataset)
    assert len(trained) == facts["kept"] == sum(line["kept"] for line in facts["samples"]) == above == 4


def test_dimensions_whose_judge_check_failed_are_left_out_on_request(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, arguments(folder, tmp_path / "out", "--dry-run", "--skip-unchecked"), catch_exceptions=False
    )
    facts = json.loads(result.stdout)
    kept = {line["dimension"]: (line["kept"], line["dropped"]) for line in facts["samples"]}
    assert kept["camera_motion"] == (0, {"judge check failed": 2})
    assert kept["composition"][0] == kept[CAPTIONS][0] == 1
    assert {each["dimension"] for each in facts["spread"]} == {"composition", CAPTIONS}
    assert "camera_motion: the judge sanity check failed" in " ".join(result.stderr.split())
    assert "so it is left out" in " ".join(result.stderr.split())
    assert "2 judge check failed" in result.stderr


def test_the_trainer_warns_of_dimensions_whose_judge_check_failed(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(folder, tmp_path / "out", "--dry-run"), catch_exceptions=False)
    stderr = " ".join(result.stderr.split())
    assert "warning: camera_motion: the judge sanity check failed (0.60 on 30 real clips" in stderr
    assert "composition: the judge sanity check" not in result.stderr
    assert "reward of a sample: column `reward` of the dataset" in result.stderr
    assert list(json.loads(result.stdout)["unreliable"]) == ["camera_motion"]
    assert run(folder, tmp_path / "out", "--dry-run", "--dimensions", "composition")["unreliable"] == {}


def test_a_reward_that_is_not_the_one_on_its_own_dimension_breaks_the_contract(tmp_path: Path) -> None:
    lies = [ROWS[0] | {"reward": 1.0}, *ROWS[1:]]
    manifest = make_manifest(lies, make_rejects()) | {"dimensions": DIMENSIONS}
    with pytest.raises(DatasetError, match=r"but rewards has 0.05.* on camera_motion, its own dimension"):
        write_dataset(tmp_path / "set", lies, make_eval_prompts(), make_rejects(), manifest, COST)
