"""The parts of a loss in metrics.jsonl, and the training curves."""

import math
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from gigavideo_train.losses import metrics
from gigavideo_train.losses.inputs import SOURCES, Inputs, Noised
from gigavideo_train.losses.losses import Losses
from gigavideo_train.models.base import Condition
from gigavideo_train.monitoring.curves import MAX_POINTS, svg

CPU = torch.device("cpu")
SHAPE = torch.Size((8, 2, 4, 4))


def passed(match: list[float], sigma: list[float], sources: list[str]) -> tuple[Losses, Inputs]:
    """A pass with these terms."""
    match_B, nothing_B = torch.tensor(match), torch.zeros(len(match))
    clip = Noised(nothing_B, nothing_B, nothing_B, torch.tensor(sigma), Condition(nothing_B, nothing_B, nothing_B))
    source_B = torch.tensor([SOURCES.index(source) for source in sources])
    inputs = Inputs([], True, clip, None, None, nothing_B + 1, nothing_B + 1, source_B, nothing_B)
    known_B = match_B > 1
    return Losses(
        match_B * 10, match_B, nothing_B + 3, nothing_B + 0.5, known_B, nothing_B, nothing_B, Counter({SHAPE: 2})
    ), inputs


def reported(*passes: tuple[Losses, Inputs], online: bool = False) -> dict[str, Any]:
    sums = sum((metrics.sums_of(*one, {SHAPE: 100}) for one in passes), metrics.zero_sums(CPU))
    return metrics.step_metrics(sums.tolist(), num_samples=4, batch_size=5, seconds=2.0, online=online)


def test_terms_are_reported_by_noise_level_and_source_over_all_passes() -> None:
    match, sigma = [1.0, 2.0, 4.0, 8.0], [0.0, 0.3, 0.3, 1.0]
    sources = ["synthetic", "twin", "synthetic", "synthetic"]
    whole = reported(passed(match, sigma, sources))
    assert whole["match_by_sigma"] == {"0.00-0.25": 1.0, "0.25-0.50": 3.0, "0.50-0.75": None, "0.75-1.00": 8.0}
    assert whole["match_by_source"] == {"synthetic": pytest.approx(13 / 3), "twin": 2.0}
    assert (whole["loss"], whole["match"], whole["kl"]) == (150 / 5, 15 / 4, 3.0)
    assert whole["model_tflops"] == pytest.approx(3 * 2 * 100 / 2.0 / 1e12)
    parts = [passed(match[at], sigma[at], sources[at]) for at in (slice(0, 1), slice(1, 4))]
    twice_the_work = {"model_tflops": 2 * whole["model_tflops"]}
    assert reported(*parts) == whole | twice_the_work


def test_a_value_that_is_not_finite_affects_only_its_own_part() -> None:
    found = reported(passed([math.nan, 2.0], [0.6, 0.1], ["twin", "synthetic"]))
    assert found["match_by_sigma"] == {"0.00-0.25": 2.0, "0.25-0.50": None, "0.50-0.75": None, "0.75-1.00": None}
    assert found["match_by_source"] == {"synthetic": 2.0, "twin": None}
    assert math.isnan(found["match"])


def test_the_mean_reward_is_that_of_clips_that_could_be_scored() -> None:
    some, none = passed([2.0, 0.0], [0.1, 0.1], ["twin", "twin"]), passed([0.0], [0.1], ["twin"])
    assert reported(some, none, online=True)["reward"] == 0.5
    assert reported(none, online=True)["reward"] is None
    assert "reward" not in reported(some)


def test_curves_show_the_metrics_that_exist() -> None:
    lines: list[dict] = [{"step": 0, "held_out": 0.5}]
    lines += [{"step": step, "loss": None if step == 7 else 1 / step, "grad_norm": 2.0} for step in range(1, 1001)]
    drawn = ElementTree.fromstring(svg([*lines, {"step": 1000, "held_out": 0.25}]))
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["loss", "held out", "0.5", "0.001", "step 1000", "grad norm", "2", "2", "step 1000"]
    for line in drawn.iter("{http://www.w3.org/2000/svg}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert 2 <= len(points) <= MAX_POINTS
        assert all(0 <= x <= float(drawn.attrib["width"]) for x, _ in points)
        assert all(0 <= y <= float(drawn.attrib["height"]) for _, y in points)
    assert ElementTree.fromstring(svg([])).attrib["height"] == "0"
