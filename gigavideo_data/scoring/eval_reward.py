"""The reward of a clip of an evaluation prompt: the same rule wherever such rewards are shown or compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gigavideo_data.recipe.dimensions.catalogue import load_dimension
from gigavideo_data.recipe.recipe import AnyJudge, readout_of
from gigavideo_data.rows import EvalPrompt, QuestionEntry
from gigavideo_data.scoring.rewards import Reward, as_read, score


def own_questions(prompt: EvalPrompt) -> list[QuestionEntry]:
    """The questions on the dimension that a prompt was written for, which alone decide its reward."""
    return [question for question in prompt["questions"] if question["dimension"] == prompt["dimension"]]


def reward_of(
    prompt: EvalPrompt,
    answers: list[dict[str, Any]],
    judge: AnyJudge,
    min_mass: float,
    combine: Mapping[str, str] | None = None,
) -> Reward:
    """The reward of the answers (p_yes, p_no and readings each) to a prompt's own questions.

    Args:
        prompt: an evaluation prompt.
        answers: in the order of its own questions.
        judge: who gave them; says how they are read.
        min_mass: smallest P(yes) + P(no) of an answer.
        combine: rule per dimension, where it is not the dimension's own.
    """
    dimension = prompt["dimension"]
    readings = [name for answer in answers for name in answer.get("readings", ())]
    given = as_read({"answers": answers}, readout_of(judge))["answers"]
    both = [{**question, **answer} for question, answer in zip(own_questions(prompt), given, strict=True)]
    return score(both, (combine or {}).get(dimension) or load_dimension(dimension).combine, min_mass, readings)
