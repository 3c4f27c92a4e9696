"""What a plan says of dimensions in which there is nothing to learn."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gigavideo_train.cli import app
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
