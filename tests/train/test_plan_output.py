"""What a plan says of dimensions in which there is nothing to learn."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gigavideo_train import plan as planning
from gigavideo_train.checkpoint.export import card
from gigavideo_train.cli import app
from gigavideo_train.data.dataset import read
from tests.support.train_set import row, training_set


@pytest.mark.parametrize(
    ("rewards", "hint"),
    [
        ((0.9, 0.9), "All samples are right: write harder prompts"),
        ((0.3, 0.3), "All samples are wrong: write easier prompts"),
        ((0.3, 0.9), None),
    ],
)
def test_a_dry_run_says_what_to_change_where_no_group_differs(
    rewards: tuple[float, ...], hint: str | None, tmp_path: Path
) -> None:
    made = [row(seed, reward=reward, prompt=40) for seed, reward in enumerate(rewards, start=1)]
    dataset = training_set(tmp_path / "set", made)
    options = ["--dataset", str(dataset), "--dry-run", "--strategy", "sft"]
    shown = " ".join(CliRunner().invoke(app, options, catch_exceptions=False).stdout.split())
    assert ("no group of samples has different rewards" in shown) is (hint is not None)
    assert hint is None or hint in shown


def test_a_dry_run_says_what_an_effective_sample_of_these_settings_cost(tmp_path: Path) -> None:
    dataset = training_set(tmp_path / "set", [row(seed, reward=seed / 10, prompt=seed) for seed in (6, 8, 9)])
    options = ["--dataset", str(dataset), "--dry-run"]
    assert "cost of the dataset" not in CliRunner().invoke(app, options, catch_exceptions=False).stdout
    cost = json.loads((dataset / "cost.json").read_text())
    stage = {"stage": "synthesize", "rows": 3, "spent": {"gpu": 30.0}}
    (dataset / "cost.json").write_text(json.dumps(cost | {"stages": [stage]}))
    shown = CliRunner().invoke(app, options, catch_exceptions=False).stdout
    size = (0.6 + 0.8 + 0.9) ** 2 / (0.6**2 + 0.8**2 + 0.9**2)
    assert f"cost of the dataset: {30 / size:.3g} GPU-seconds per effective sample" in shown
    equal = CliRunner().invoke(app, [*options, "--strategy", "sft"], catch_exceptions=False).stdout
    assert "cost of the dataset: 10 GPU-seconds per effective sample" in equal


def test_the_thresholds_are_shown_and_stand_in_the_model_card(tmp_path: Path) -> None:
    dataset = training_set(tmp_path / "set")

    def shown(*settings: str) -> tuple[str, str]:
        options = ["--dataset", str(dataset), "--dry-run", *(part for one in settings for part in ("--set", one))]
        output = CliRunner().invoke(app, options, catch_exceptions=False).stdout
        plan = planning.make(read(dataset), None, None, list(settings))
        return " ".join(output.split()), str(card(plan, 1, []))

    cases: list[tuple[list[str], str | None, str]] = [
        ([], "0.5", "0.5 (captions), 0.5 (mechanics)"),
        (["tau={mechanics: 0.8}"], None, "0.5 (captions), 0.8 (mechanics)"),
        (["tau_quantile=0.6"], None, "0 (captions), 0.8 (mechanics)"),
    ]
    for settings, line, cell in cases:
        output, text = shown(*settings)
        assert f"column `reward` of the dataset, kept above {line or cell}" in output
        assert f"| kept rewards | above {cell} |\n| latents |" in text
    output, text = shown("strategy=sft")
    assert "kept above" not in output
    assert "kept rewards" not in text


def test_others_without_rows_are_not_trained(tmp_path: Path) -> None:
    dataset = training_set(tmp_path / "set")
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["dimensions"].append("composition")
    manifest["recipe"]["others"] = {"dimensions": ["composition"]}
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    options = ["--dataset", str(dataset), "--dry-run", "--json"]
    facts = json.loads(CliRunner().invoke(app, options, catch_exceptions=False).stdout)
    assert (facts["targets"], facts["others"]) == (["mechanics"], [])


def test_the_model_card_says_what_was_trained_only_not_to_get_worse(tmp_path: Path) -> None:
    dataset = training_set(tmp_path / "set")
    manifest = json.loads((dataset / "manifest.json").read_text())
    plan = planning.make(read(dataset), None, None, [])
    alone = str(card(plan, 1, []))
    assert "to improve: mechanics.\n\n| | |" in alone
    plan.dataset.manifest["dimensions"] = ["composition", *manifest["dimensions"]]
    plan.dataset.manifest["recipe"]["others"] = {"dimensions": manifest["dimensions"]}
    held = "Also trained on, so that they do not get worse: mechanics."
    assert f"to improve: composition. {held}\n\n| | |" in str(card(plan, 1, []))
