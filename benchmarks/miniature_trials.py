"""Trials of the miniature's judge against the renderer: scenes that are right, and scenes wrong in one fact."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from gigavideo_data.miniature.grammar import OPPOSITE, SPLITS, Question, sample_scene
from gigavideo_data.miniature.questions import ask
from gigavideo_data.miniature.world import CAMERAS, COLORS, FPS, Scene, render
from gigavideo_data.models.judges.base import Judge
from gigavideo_data.recipe.dimensions.catalogue import load_dimension
from gigavideo_data.scoring.rewards import score


def trial(dimension: str, number: int, *, right: bool) -> tuple[list[Question], np.ndarray]:
    """One trial: a scene's questions, and a clip of that scene or of one that differs in one fact.

    Args:
        dimension: one of the miniature's.
        number: names the trial; splits take turns, so that all are tried equally often.
        right: whether the clip shows what the questions ask for.

    Returns:
        The questions, and frames_THWC uint8 RGB.
    """
    rng = np.random.default_rng([number, right])
    scene = sample_scene(dimension, rng, tuple(SPLITS)[number % len(SPLITS)])
    return ask(scene, dimension), render(scene if right else spoil(scene, dimension, rng), rng)


def judged(judge: Judge, skill: str, asked: list[Question], frames_THWC: np.ndarray) -> float | None:
    """The reward that a judge's answers give, None where it is unscorable; for "plain", the worst answer."""
    answers = judge.answer(frames_THWC, FPS, [q.text for q in asked])
    rows = [
        {"question": q.text, "expected": q.expected, "gate": q.gate, **asdict(a)}
        for q, a in zip(asked, answers, strict=True)
    ]
    combine = "all" if skill == "plain" else load_dimension(skill).combine
    return score(rows, combine, min_mass=0.5).value


def spoil(scene: Scene, dimension: str, rng: np.random.Generator) -> Scene:
    """Change the one fact of a scene that a dimension is about: one more or less, the other order, another colour."""
    first, *rest = scene.things
    match dimension:
        case "instance_preservation":
            counts = [n for n in (first.count - 1, first.count + 1) if 1 <= n <= 4]
            return replace(scene, things=(replace(first, count=int(rng.choice(counts))),))
        case "camera_motion":
            others = [camera for camera in CAMERAS if camera != scene.camera]
            return replace(scene, camera=str(rng.choice(others)))
        case "motion_order_understanding":
            return replace(scene, things=(replace(first, moves=first.moves[::-1]),))
        case "dynamic_attribute":
            others = [c for c in COLORS if c not in (first.color, first.becomes)]
            turn = {"larger": "smaller", "smaller": "larger"}.get(first.becomes or "", str(rng.choice(others)))
            return replace(scene, things=(replace(first, becomes=turn),))
        case "dynamic_spatial_relationship":
            before, after = scene.relation
            return replace(scene, relation=(before,) if rng.random() < 0.5 else (after, OPPOSITE[after]))
        case "mechanics":
            return replace(scene, event="stays" if scene.event == "bounces" else "bounces")
        case "composition":
            second = rest[0]
            swapped = (replace(first, color=second.color), replace(second, color=first.color))
            return replace(scene, things=swapped)
    raise ValueError(f"the miniature world has no dimension {dimension!r}")
