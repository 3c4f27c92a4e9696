"""What metrics.jsonl tells of the parts of a loss, and the picture that is drawn of it."""

import math
from xml.etree import ElementTree

import pytest
import torch

from gigavideo_train import breakdown
from gigavideo_train.curves import MAX_POINTS, svg


def test_terms_are_told_by_noise_level_and_source_whatever_process_had_them() -> None:
    match_B, sigma_B = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0.0, 0.3, 0.3, 1.0])
    sources = ["synthetic", "twin", "synthetic", "synthetic"]
    whole = breakdown.means(breakdown.sums(match_B, sigma_B, sources))
    assert whole["match_by_sigma"] == {"0.00-0.25": 1.0, "0.25-0.50": 3.0, "0.50-0.75": None, "0.75-1.00": 8.0}
    assert whole["match_by_source"] == {"synthetic": pytest.approx(13 / 3), "twin": 2.0}
    parts = [breakdown.sums(match_B[at], sigma_B[at], sources[at]) for at in (slice(0, 1), slice(1, 4))]
    summed = [sum(values) for values in zip(*parts, breakdown.NOTHING, strict=True)]
    assert breakdown.means(summed) == whole
    spoiled = breakdown.means(breakdown.sums(torch.tensor([math.nan]), torch.tensor([0.6]), ["twin"]))
    assert set(spoiled["match_by_sigma"].values()) == {None}


def test_curves_are_drawn_of_what_there_is() -> None:
    lines: list[dict] = [{"step": 0, "held_out": 0.5}]
    lines += [{"step": step, "loss": None if step == 7 else 1 / step, "grad_norm": 2.0} for step in range(1, 1001)]
    drawn = ElementTree.fromstring(svg([*lines, {"step": 1000, "held_out": 0.25}]))
    told = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert told == ["loss", "held out", "0.5", "0.001", "step 1000", "grad norm", "2", "2", "step 1000"]
    for line in drawn.iter("{http://www.w3.org/2000/svg}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert 2 <= len(points) <= MAX_POINTS
        assert all(0 <= x <= float(drawn.attrib["width"]) for x, _ in points)
        assert all(0 <= y <= float(drawn.attrib["height"]) for _, y in points)
    assert ElementTree.fromstring(svg([])).attrib["height"] == "0"
