"""Training with `nft`: selection, the first step, processes, and what is refused or reported before a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gigavideo_data.models.generators.profiles import model_revision
from gigavideo_train.cli import app
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.samples import select
from tests.e2e.test_train import arguments, losses, metrics, refused, run
from tests.support.ranks import run_together
from tests.support.train_set import generated_by, row, training_set

pytestmark = pytest.mark.timeout(600)
OWN = (model_revision("miniature"), None)
NFT = ("--strategy", "nft")


def rows() -> list[Any]:
    """A prompt with three samples, one with equal rewards, an unscorable sample, and two pairs of one caption each."""
    made = [row(seed, reward=reward, prompt=40) for seed, reward in ((1, 0.1), (2, 0.9), (3, 0.4))]
    made += [row(seed, reward=0.8, prompt=50) for seed in (4, 5)]
    made += [row(6, reward=None, prompt=40), row(20, "twin"), row(20, "real")]
    return generated_by(made)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_set(tmp_path_factory.mktemp("nft") / "set", rows())


def test_samples_are_compared_within_their_prompt_and_a_pair_keeps_its_realism_term() -> None:
    made = rows()
    selection = select(made, ["mechanics"], TrainConfig(strategy="nft"), OWN)
    by_id = {sample.id: sample for sample in selection.samples}
    assert set(by_id) == {made[i]["id"] for i in (0, 1, 2, 6)}
    compared = [by_id[made[i]["id"]] for i in (0, 2, 1)]
    found = [sample.advantage or 0.0 for sample in compared]
    assert found == sorted(found)
    assert sum(found) == pytest.approx(0, abs=1e-12)
    assert [sample.weight for sample in compared] == [1.0] * 3
    pair = by_id[made[6]["id"]]
    assert (pair.advantage, pair.weight) == (None, 0.0)
    assert pair.scale == 0.5 * 4
    assert dict(selection.dropped) == {
        ("synthetic", "mechanics", "no spread"): 2,
        ("synthetic", "mechanics", "unscorable"): 1,
    }


@pytest.mark.parametrize(
    ("twins", "why"),
    [
        ([None], "unscorable"),
        ([0.9], "a single sample"),
        ([0.9, None], "a single scorable sample"),
        ([0.9, 0.9], "no spread"),
    ],
)
def test_a_pair_without_an_advantage_has_only_its_realism_term(twins: list[float | None], why: str) -> None:
    made = rows()[:6]
    for sample, reward in enumerate(twins):
        made += [row(20 + sample, source, reward, prompt=20) for source in ("twin", "real")]
    samples = select(generated_by(made), ["mechanics"], TrainConfig(strategy="nft"), OWN).samples
    pairs = [sample for sample in samples if sample.real]
    assert [(pair.advantage, pair.weight) for pair in pairs] == [(None, 0.0)] * len(twins), why
    assert sum(pair.scale for pair in pairs) == pytest.approx(len(samples) / 2)


def test_pairs_of_one_caption_are_compared_like_other_samples() -> None:
    made = rows()[:6]
    for sample, reward in enumerate((0.9, 0.2, None)):
        made += [row(20 + sample, source, reward, prompt=20) for source in ("twin", "real")]
    samples = select(generated_by(made), ["mechanics"], TrainConfig(strategy="nft"), OWN).samples
    advantages = {sample.reward: sample.advantage for sample in samples if sample.real}
    assert advantages == {0.9: pytest.approx(1.0), 0.2: pytest.approx(-1.0), None: None}
    assert {sample.reward: sample.weight for sample in samples if sample.real} == {0.9: 1.0, 0.2: 1.0, None: 0.0}


def test_samples_of_another_model_are_left_out_and_counted() -> None:
    made = rows()
    made[0] = made[0] | {"generator": made[0]["generator"] | {"revision": "another"}}
    made[1] = made[1] | {"generator": made[1]["generator"] | {"model": "a copy under another name"}}
    selection = select(made, ["mechanics"], TrainConfig(strategy="nft"), OWN)
    kept = {sample.id for sample in selection.samples}
    assert made[0]["id"] not in kept
    assert made[1]["id"] in kept
    assert selection.dropped["synthetic", "mechanics", "other_model"] == 1


def test_a_group_can_be_one_text_instead_of_a_base_prompt_with_its_variants() -> None:
    made = rows()
    made[0] = made[0] | {"prompt": "a variant"}
    samples = select(made, ["mechanics"], TrainConfig(strategy="nft", group_by="prompt"), OWN).samples
    assert made[0]["id"] not in {sample.id for sample in samples}
    low, high = sorted(sample.advantage for sample in samples if sample.advantage)
    assert low == pytest.approx(-high)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_the_first_step_starts_exactly_at_the_old_model(dataset: Path, tmp_path: Path, tune: str) -> None:
    run(dataset, tmp_path / "run", *NFT, tune=tune, epochs="3", validate_every="null")
    changes = [line["relative_change"] for line in metrics(tmp_path / "run")]
    assert changes[0] == 0.0, "bitwise"
    assert changes[-1] > 0
    first = metrics(tmp_path / "run")[0]
    assert first["mean_advantage"] == pytest.approx(0, abs=1e-9)
    assert first["advantage_std"] > 0
    assert (first["groups"], first["groups_in_run"]) == (1, 1)
    assert "distance_to_first" not in first, "in the first round the first model is the old one"


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_two_processes_compute_the_steps_of_one(dataset: Path, tmp_path: Path, tune: str) -> None:
    run(dataset, tmp_path / "alone", *NFT, epochs="2", tune=tune)
    run_together(2, arguments(dataset, tmp_path / "two", *NFT, epochs="2", tune=tune))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4, abs=1e-6)
    assert metrics(tmp_path / "two")[0]["relative_change"] == 0.0


def test_a_dry_run_reports_the_groups_of_each_dimension(dataset: Path, tmp_path: Path) -> None:
    (spread,) = [each for each in run(dataset, tmp_path / "out", *NFT, "--dry-run")["spread"] if each["samples"]]
    assert (spread["dimension"], spread["with_spread"], spread["without_spread"]) == ("mechanics", 1, 1)
    assert (spread["always_right"], spread["always_wrong"]) == (0.5, 0.0)
    shown = CliRunner().invoke(app, ["--dataset", str(dataset), "--dry-run"]).stdout
    assert "captions: no group of samples has different rewards" in " ".join(shown.split())


@pytest.mark.parametrize("settings", [{"strategy": "nft"}, {"strategy": "dpo"}, {"weight_map": "group"}])
def test_strategies_that_compare_samples_need_groups_with_different_rewards(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    equal = training_set(tmp_path / "set", generated_by([row(1, reward=0.8, prompt=40), row(2, reward=0.8, prompt=40)]))
    assert "no group of samples has different rewards" in refused(equal, tmp_path / "out", **settings)
    run(equal, tmp_path / "out", "--dry-run")


def test_a_low_beta_is_refused_or_warned_about(dataset: Path, tmp_path: Path) -> None:
    assert "nft_beta" in refused(dataset, tmp_path / "out", *NFT, nft_beta="0.01")

    def said(epochs: str) -> str:
        options = arguments(dataset, tmp_path / "out", *NFT, "--dry-run", nft_beta="0.1", epochs=epochs)
        result = CliRunner().invoke(app, options, catch_exceptions=False)
        assert json.loads(result.stdout)["config"]["nft_beta"] == 0.1
        return result.stderr

    assert "memorised" in said("10")
    assert "memorised" not in said("1")
