"""The reward of a clip that was made for an evaluation prompt: one rule for all who show or compare such rewards."""

from __future__ import annotations

from typing import Any

from gigavideo_data.dimensions.catalogue import load_dimension
from gigavideo_data.recipe import AnyJudge, readout_of
from gigavideo_data.rewards import Reward, as_read, score


def own_questions(prompt: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions that decide: a prompt counts for the dimension that it was written for."""
    return [question for question in prompt["questions"] if question["dimension"] == prompt["dimension"]]


def reward_of(prompt: dict[str, Any], answers: list[dict[str, Any]], judge: AnyJudge, min_mass: float) -> Reward:
    """The reward of answers, p_yes, p_no and readings each, to a prompt's own questions.

    Args:
        prompt: an evaluation prompt.
        answers: in the order of its own questions.
        judge: who gave them, for how they are read.
        min_mass: least P(yes) + P(no) of an answer.
    """
    readings = [name for answer in answers for name in answer.get("readings", ())]
    given = as_read({"answers": answers}, readout_of(judge))["answers"]
    both = [{**question, **answer} for question, answer in zip(own_questions(prompt), given, strict=True)]
    return score(both, load_dimension(prompt["dimension"]).combine, min_mass, readings)
