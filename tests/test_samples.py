"""Clips made while a model trains: what they are of, that they change nothing, and the page."""

import json
from pathlib import Path

import pytest
import torch
from test_train import losses, metrics, refused, run, same, start, weights
from train_set import row, training_set

from gigavideo_data import video
from gigavideo_train.families.condition import condition
from gigavideo_train.samples import Sample, guided, page, solved

pytestmark = pytest.mark.timeout(600)
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SETTINGS = {"epochs": "3", "sample_every": "2"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its only prompt of the split dev is "a blue cube falls"."""
    return training_set(tmp_path_factory.mktemp("samples") / "set", [row(1), row(2)])


@pytest.fixture(scope="module")
def reference(dataset: Path) -> Path:
    run(dataset, dataset.parent / "reference", **SETTINGS)
    return dataset.parent / "reference"


def clips(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted((out / "samples").rglob("*.mp4"))}


def test_clips_of_held_out_prompts_are_made_before_between_and_after_and_change_nothing(
    dataset: Path, reference: Path, tmp_path: Path
) -> None:
    made = clips(reference)
    assert list(made) == ["step-00000000", "step-00000002", "step-00000003"]
    assert len(set(made.values())) == 3
    decoded = video.decode(made["step-00000003"], "clip")
    assert decoded.frames_THWC.shape == (5, 48, 48, 3)
    shown = (reference / "samples.html").read_text()
    assert "a blue cube falls" in shown
    assert [f'src="samples/{name}/0.mp4"' in shown for name in made] == [True, False, True]
    run(dataset, tmp_path / "plain", epochs="3")
    assert losses(tmp_path / "plain") == losses(reference)
    assert same(weights(tmp_path / "plain"), weights(reference))
    assert len(metrics(reference)) == 3


def test_a_resumed_run_and_two_processes_make_the_same_clips(dataset: Path, reference: Path, tmp_path: Path) -> None:
    run(dataset, tmp_path / "cut", max_steps="2", **SETTINGS)
    run(dataset, tmp_path / "cut", "--resume", **SETTINGS)
    assert clips(tmp_path / "cut") == clips(reference)
    process = start(dataset, tmp_path / "two", launcher=TWO, **SETTINGS)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert list(clips(tmp_path / "two")) == list(clips(reference))
    ours, theirs = (
        video.decode(clips(out)["step-00000000"], "clip").frames_THWC for out in (tmp_path / "two", reference)
    )
    assert abs(ours.astype(int) - theirs).mean() < 1


def test_a_set_without_prompts_is_refused_only_if_clips_are_asked_for(tmp_path: Path) -> None:
    bare = training_set(tmp_path / "set", [row(1)])
    manifest = json.loads((bare / "manifest.json").read_text())
    manifest["files"] = {name: file for name, file in manifest["files"].items() if "dev-" not in name}
    (bare / "manifest.json").write_text(json.dumps(manifest))
    assert "no held-out prompts of mechanics to sample" in refused(bare, tmp_path / "out", sample_every="1")
    run(bare, tmp_path / "out", max_steps="1")


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_an_oracles_velocity_leads_from_noise_to_the_clean_latent(shift: float) -> None:
    clean, noise = torch.randn(2, 1, 8, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    seen: list[float] = []

    def oracle(noisy: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(noisy, (1 - sigma_B) * clean + sigma_B * noise, atol=1e-5, rtol=1e-5)
        seen.append(float(sigma_B))
        return noise - clean

    torch.testing.assert_close(solved(oracle, noise, 4, shift), clean, atol=1e-5, rtol=1e-5)
    assert seen == pytest.approx([1, *(shift * s / (1 + (shift - 1) * s) for s in (0.75, 0.5, 0.25))])


def test_guidance_leads_away_from_no_text() -> None:
    told, plain = (condition([torch.full((1, 2), value)], 3, [8.0]) for value in (5.0, 2.0))
    noisy, sigma_B = torch.zeros(1, 1, 1, 1, 1), torch.ones(1)
    found = [
        float(guided(lambda noisy, _, told: noisy + told.text_BLD.max(), noisy, sigma_B, told, plain, guidance))
        for guidance in (1.0, 3.0)
    ]
    assert found == [5.0, 2.0 + 3 * 3.0]


def test_a_prompt_is_never_markup() -> None:
    shown = page([Sample('<script>alert("x")</script>', 1)], 7)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
