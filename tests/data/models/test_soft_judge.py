"""The miniature's judge with gradients: its own answers, and slopes that hold against small changes of pixels."""

import numpy as np
import pytest
import torch

from benchmarks.miniature_trials import trial
from gigavideo_data.miniature.judge import MiniatureJudge
from gigavideo_data.miniature.questions import ASK
from gigavideo_data.miniature.world import FPS
from gigavideo_data.models.judges.base import negate
from gigavideo_data.models.registry import load_engine

SOFT = load_engine("soft judge", {"backend": "miniature"})
LENGTHS = (5, 8, 9, 11)
NO_GRADIENT = ("camera_motion", "instance_preservation")


def texts_of(asked) -> list[str]:
    return [question.text for question in asked]


@pytest.mark.parametrize("dimension", ASK)
def test_the_probabilities_are_the_judges(dimension):
    for number in range(12):
        asked, frames_THWC = trial(dimension, number, right=number % 2 == 0)
        texts = texts_of(asked) + [negate(text) for text in texts_of(asked)] + ["What is the meaning of life?"]
        answers = MiniatureJudge({}).answer(frames_THWC, FPS, texts)
        p_Q2 = SOFT.probabilities(torch.from_numpy(frames_THWC).float(), FPS, texts)
        torch.testing.assert_close(p_Q2, torch.tensor([(a.p_yes, a.p_no) for a in answers]), rtol=0, atol=1e-5)


def half_way(dimension: str, number: int) -> tuple[list[str], torch.Tensor]:
    """Questions, and frames of which the judge is not sure: the beginning of a clip, with a little noise; float64."""
    asked, frames_THWC = trial(dimension, number // len(LENGTHS), right=True)
    cut_THWC = frames_THWC[: LENGTHS[number % len(LENGTHS)]]
    noisy_THWC = (cut_THWC + np.random.default_rng(number).normal(0, 2, cut_THWC.shape)).clip(0, 255)
    return texts_of(asked), torch.from_numpy(noisy_THWC).requires_grad_()


@pytest.mark.parametrize("dimension", [name for name in ASK if name not in NO_GRADIENT])
def test_the_gradient_is_what_small_changes_of_pixels_do(dimension):
    ratios = []
    for number in range(24):
        texts, frames_THWC = half_way(dimension, number)
        p_Q = SOFT.probabilities(frames_THWC, FPS, texts)[:, 0]
        for text, p in zip(texts, p_Q, strict=True):
            if not 0.05 < p.item() < 0.95:
                continue
            (slope_THWC,) = torch.autograd.grad(p, frames_THWC, retain_graph=True)
            assert slope_THWC.isfinite().all()
            assert slope_THWC.norm() > 0
            along_THWC = slope_THWC / slope_THWC.norm()
            with torch.no_grad():
                ends = [SOFT.probabilities(frames_THWC + step * along_THWC, FPS, [text])[0, 0] for step in (1, -1)]
            ratios.append(((ends[0] - ends[1]) / 2 / slope_THWC.norm()).item())
    assert len(ratios) >= 4
    # Where a pixel joins or leaves a blob's rim at such a step, or another frame becomes the median, they differ.
    assert np.median(np.abs(np.array(ratios) - 1)) < 0.02
    assert min(ratios) > 0


@pytest.mark.parametrize("dimension", NO_GRADIENT)
def test_nothing_pulls_where_the_judge_counts_or_follows_the_camera(dimension):
    for number in range(4):
        texts, frames_THWC = half_way(dimension, number)
        p_Q2 = SOFT.probabilities(frames_THWC, FPS, texts)
        assert not p_Q2.requires_grad or not torch.autograd.grad(p_Q2.sum(), frames_THWC)[0].any()


def test_an_empty_clip_is_judged_without_gradient():
    asked, _ = trial("mechanics", 0, right=True)
    black_THWC = torch.zeros(17, 48, 48, 3, requires_grad=True)
    assert not SOFT.probabilities(black_THWC, FPS, texts_of(asked)).requires_grad


def test_pixels_can_be_moved_until_the_judge_says_yes():
    """A thing that goes half the way: the gradient alone makes it go further."""
    asked, whole_THWC = trial("motion_order_understanding", 9, right=True)
    question, frames_THWC = asked[0].text, torch.from_numpy(whole_THWC[:8]).float()
    assert SOFT.probabilities(frames_THWC, FPS, [question])[0, 0] < 0.2
    for _ in range(20):
        frames_THWC.requires_grad_()
        (slope_THWC,) = torch.autograd.grad(SOFT.probabilities(frames_THWC, FPS, [question])[0, 0], frames_THWC)
        frames_THWC = (frames_THWC + 100 * slope_THWC / slope_THWC.norm()).detach().clamp(0, 255)
    assert SOFT.probabilities(frames_THWC, FPS, [question])[0, 0] > 0.8
