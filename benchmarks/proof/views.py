"""What a tuned model is scored on: prompts, and how their videos are sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.proof.runs import FOCUS
from gigavideo_data.commands.evaluation.setting import Setting, read_setting
from gigavideo_data.io.hashing import seed_of
from gigavideo_data.rows import DatasetRow, EvalPrompt, QuestionEntry
from gigavideo_train.data import dataset as training_set

TUNE = "tune"
NUM_TUNE_PROMPTS = 100


@dataclass(frozen=True)
class View:
    """A split of evaluation prompts, and changes of the recipe's sampler."""

    split: str
    changes: tuple[str, ...] = ()


VIEWS = {
    "dev": View("dev"),
    "test": View("test"),
    TUNE: View("dev"),  # its prompts are replaced by those that were trained on
    "guidance 1": View("test", ("generators.0.guidance=1.0",)),  # the clips to train on have guidance 3
}


def setting_of(view: str, folder: Path) -> Setting:
    """Prompts, generator and judge of a view.

    Args:
        view: a key of `VIEWS`.
        folder: of the dataset with the evaluation prompts, and for `TUNE` with the prompts to train on.
    """
    setting = read_setting(folder, VIEWS[view].split, VIEWS[view].changes)
    if view != TUNE:
        return setting
    prompts = tune_prompts(training_set.read(folder).rows, len(setting.prompts[0]["seeds"]))
    return replace(setting, prompts=prompts)


def tune_prompts(rows: list[DatasetRow], num_seeds: int) -> list[EvalPrompt]:
    """Prompts of the focus that were trained on, one variant of each base prompt, with seeds of their own."""
    first: dict[str, DatasetRow] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        if row["dimension"] == FOCUS:
            first.setdefault(row["prompt_id"], row)
    return [_as_eval_prompt(row, num_seeds) for row in list(first.values())[:NUM_TUNE_PROMPTS]]


def _as_eval_prompt(row: DatasetRow, num_seeds: int) -> EvalPrompt:
    questions: list[QuestionEntry] = [
        {"dimension": FOCUS, "question": one["question"], "expected": one["expected"], "gate": one["gate"]}
        for one in row["answers"]
        if one["dimension"] == FOCUS
    ]
    return {
        "prompt_id": row["prompt_id"],
        "dimension": FOCUS,
        "base_prompt": row["base_prompt"],
        "prompt": row["prompt"],
        "split": TUNE,
        "questions": questions,
        "seeds": [seed_of([TUNE, row["prompt"], number]) for number in range(num_seeds)],
    }
