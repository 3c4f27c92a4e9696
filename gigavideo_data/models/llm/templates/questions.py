"""Questions about a video: the messages that ask a language model for them, and the checks of its answer. Pure.

A judge sees a video and one question. Its probability of the expected answer is the score (see `rewards`), so a
question must be about one thing, answerable from the video alone, and must not reveal the expected answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from gigavideo_data.models.llm.templates.prompts import normalised
from gigavideo_data.recipe.yaml_config import StrictModel

MAX_QUESTIONS = 6
MAX_WORDS = 50


class Question(StrictModel):
    """One question, the expected answer for a correct video, and the negated question.

    A gate asks whether the video can be scored at all (see `rewards.score`).
    """

    question: Annotated[str, Field(min_length=1, max_length=400)]
    expected: Literal["yes", "no"]
    gate: bool
    negated: Annotated[str, Field(min_length=1, max_length=400)]


class Questions(StrictModel):
    """A model's answer to `ask`; an empty list means that videos of the prompt cannot show the ability."""

    questions: Annotated[list[Question], Field(max_length=MAX_QUESTIONS)]


ASK = """You write yes/no questions for a judge who watches a short video that was made from a prompt. They test one
ability:

{definition}

How to ask: {guidance}

Rules:
- Two to {most} questions, fewer where fewer do. Each is about one thing, and answerable by looking at the video alone.
- Some expect "yes" and at least one expects "no": ask also whether a likely mistake is there.
- Ask about what the prompt states and this ability tests, nothing else. The judge does not see the prompt.
- Do not write what the answer is, and not the words yes or no. No question twice.
- "negated" is the same question turned round, so that the other answer would be right.
- {gates}
- If a video of this prompt cannot show the ability, answer with an empty list.
"""
_GATES = {
    True: '"gate" is true for the questions, expecting "yes", whether the setting is there at all; else it is false.',
    False: '"gate" is always false.',
}
_PREFIX = " Ask for the beats in the order in which they should come; those before decide whether later ones count."


def ask(prompt: str, about: dict[str, Any]) -> list[dict[str, str]]:
    """Return messages that ask for the questions on a prompt.

    Args:
        prompt: of the video.
        about: definition, question_guidance and combine of the dimension.
    """
    system = ASK.format(
        definition=about["definition"].strip(),
        guidance=about["question_guidance"].strip() + (_PREFIX if about["combine"] == "prefix" else ""),
        most=MAX_QUESTIONS,
        gates=_GATES[about["combine"] == "gate"],
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def flaws(questions: Sequence[Question], combine: str) -> list[str]:
    """What is wrong with a set of questions, in words; an empty set has no flaws."""
    found = []
    texts = [normalised(question.question) for question in questions]
    if len(set(texts)) != len(texts):
        found.append("a question is asked twice")
    for question, text in zip(questions, texts, strict=True):
        if not question.question.strip().endswith("?"):
            found.append(f"{question.question!r} is no question")
        if re.search(r"\b(?:yes|no|answer|expected)\b", text):
            found.append(f"{question.question!r} tells or names an answer")
        if len(text.split()) > MAX_WORDS:
            found.append(f"{question.question[:60]!r}... is longer than {MAX_WORDS} words")
        if normalised(question.negated) == text:
            found.append(f"{question.question!r} is not turned round")
        if question.gate and (combine != "gate" or question.expected != "yes"):
            found.append(f"{question.question!r} cannot be a gate")
    if questions and {question.expected for question in questions} != {"yes", "no"}:
        found.append("both answers must be expected somewhere, else a judge that always agrees is right")
    if questions and combine == "gate" and len({question.gate for question in questions}) != 2:
        found.append("there must be a gate and a question behind it")
    return found
