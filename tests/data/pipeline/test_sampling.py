"""More samples only where rewards differ: two passes of the same steps, with a runner that has all answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from rich.console import Console

from gigavideo_data.io.hashing import seed_of
from gigavideo_data.io.progress import Progress
from gigavideo_data.pipeline import steps
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.row_counts import summed
from gigavideo_data.pipeline.stages import Item, Record, rejection
from gigavideo_data.reasons import Reason
from gigavideo_data.recipe.loading import load

NO_VIDEO = None  # instead of a reward: the generator failed
UNREADABLE = -1.0  # instead of a reward: P(yes) + P(no) is too low


class Answering:
    """Makes the video of each prompt and sample in a table of rewards, and judges it; keeps the requests."""

    def __init__(self, rewards: Mapping[str, Sequence[float | None]], seed: int = 0) -> None:
        self.progress = Progress(Console(quiet=True))
        self.of_seed = {
            seed_of([seed, prompt, sample]): (prompt, sample, reward)
            for prompt, values in rewards.items()
            for sample, reward in enumerate(values)
        }
        self.of_video = {f"{prompt} {sample}": reward for prompt, sample, reward in self.of_seed.values()}
        self.requests: dict[str, list[str]] = {}

    def records(self, items: Iterable[Item], label: str | None = None) -> list[Record]:
        return [self._record(item, label or item.stage) for item in items]

    def _record(self, item: Item, label: str) -> Record:
        if item.stage == "synthesize":
            prompt, sample, reward = self.of_seed[item.inputs["seed"]]
            name, made = f"{prompt} {sample}", reward is not NO_VIDEO
            record = {"video_sha256": name, "pixels": {}} if made else rejection(Reason.BAD_VIDEO, name)
        else:
            name = item.inputs["video_sha256"]
            p_yes = self.of_video[name]
            assert p_yes is not None
            answer = {"p_yes": p_yes, "p_no": 1 - p_yes} if p_yes >= 0 else {"p_yes": 0.1, "p_no": 0.1}
            record = {"answers": [answer for _ in item.inputs["questions"]]}
        self.requests.setdefault(label, []).append(name)
        return record


def prompt(text: str, base: str | None = None, dimension: str | None = "mechanics", **columns: Any) -> Row:
    question = {"question": "Does it fall?", "expected": "yes", "gate": False, "negated": "Does it not fall?"}
    asks: Any = {dimension or "mechanics": [question]}
    return Row(columns.pop("source", "synthetic"), base or text, dimension, prompt=text, asks=asks, **columns)


def run(rows: list[Row], rewards: Mapping[str, Sequence[float | None]], samples: str = "{first: 2, more: 3}") -> Any:
    """The runner with its requests, the context with its counts, the rows, and the numbers of prompts."""
    runner = Answering(rewards)
    recipe = load("quickstart", ["dimensions=[mechanics, composition]", "others={}", f"samples_per_prompt={samples}"])
    context = steps.Context(recipe, runner)
    return runner, context, *steps.videos(context, rows)


TABLE: Mapping[str, Sequence[float | None]] = {
    "differ": [0.9, 0.1, 0.2, 0.3, 0.4],
    "right": [0.9, 0.9],
    "wrong": [0.1, 0.1],
    "unscored": [UNREADABLE, NO_VIDEO],
}


def test_only_prompts_whose_rewards_differ_get_more_samples_which_continue_the_numbers():
    runner, context, rows, sampled = run([prompt(name) for name in TABLE], TABLE)
    first = [f"{name} {sample}" for name in TABLE for sample in (0, 1)]
    more = ["differ 2", "differ 3", "differ 4"]
    assert runner.requests["synthesize"] == first
    assert runner.requests["judge"] == [name for name in first if name != "unscored 1"]
    assert runner.requests["synthesize more"] == runner.requests["judge more"] == more
    assert sorted(row.sample for row in rows if row.prompt == "differ") == [0, 1, 2, 3, 4]
    assert len(rows) == len(first) - 1 + len(more)
    (line,) = sampled
    assert line["prompts"] == {"different": 1, "always_right": 1, "always_wrong": 1, "unscored": 1}
    assert (line["first"], line["more"], line["tau"], line["dimension"]) == (2, 3, 0.5, "mechanics")
    assert line["recipe_hash"] == context.recipe.hash


def test_the_rows_per_stage_count_both_passes_in_one_line():
    _, context, rows, _ = run([prompt(name) for name in TABLE], TABLE)
    lines = {line["stage"]: line for line in summed(context.counts.lines)}
    assert lines["synthesize"] == {
        "stage": "synthesize", "source": "synthetic", "in": 11, "out": 10, "rejected": {"bad_video": 1},
    }  # fmt: skip
    assert lines["judge"]["in"] == lines["reward"]["out"] == len(rows) == 10


def test_the_rows_are_some_of_those_with_a_fixed_number_of_samples():
    every = {name: [*values, *[0.5] * (5 - len(values))] for name, values in TABLE.items()}
    prompts = [prompt(name) for name in TABLE]
    *_, fixed, counted = run(prompts, every, "5")
    *_, adaptive, _ = run(prompts, every)
    rows = {row.id: row for row in fixed}
    assert counted == []
    assert len(adaptive) == 10 < len(fixed)
    assert all(rows[row.id] == row for row in adaptive)


def test_all_variants_of_a_base_prompt_are_decided_together():
    rewards = {"short": [0.1, 0.2, 0.3, 0.4, 0.5], "long": [0.8, 0.9, 0.9, 0.9, 0.9]}
    runner, *_, sampled = run([prompt(text, base="ball") for text in rewards], rewards)
    assert runner.requests["synthesize more"] == [f"{text} {sample}" for text in rewards for sample in (2, 3, 4)]
    assert sampled[0]["prompts"]["different"] == 1


def test_dimensions_are_decided_each_for_itself():
    rewards = {"one": [0.9, 0.9], "two": [0.1, 0.1], "three": [0.9, 0.1, 0.5, 0.5, 0.5]}
    rows = [prompt("one", "ball"), prompt("two", "ball", "composition"), prompt("three", dimension="composition")]
    runner, *_, sampled = run(rows, rewards)
    assert runner.requests["synthesize more"] == ["three 2", "three 3", "three 4"]
    numbers = {line["dimension"]: line["prompts"] for line in sampled}
    assert numbers["mechanics"] == {"different": 0, "always_right": 1, "always_wrong": 0, "unscored": 0}
    assert numbers["composition"] == {"different": 1, "always_right": 0, "always_wrong": 1, "unscored": 0}


@pytest.mark.parametrize("failed", [NO_VIDEO, UNREADABLE])
def test_a_first_sample_without_a_reward_does_not_count(failed):
    rewards = {"lost": [0.9, failed], "found": [0.9, failed, 0.1, 0.2, 0.3, 0.4]}
    runner, *_, sampled = run([prompt("lost")], rewards)
    assert "synthesize more" not in runner.requests
    assert sampled[0]["prompts"]["always_right"] == 1
    runner, *_ = run([prompt("found")], rewards, "{first: 3, more: 3}")
    assert runner.requests["synthesize more"] == ["found 3", "found 4", "found 5"]


def test_twins_and_imported_videos_neither_get_more_samples_nor_decide():
    rewards = {"differ": [0.9, 0.1, 0.5, 0.5, 0.5], "wrong": [0.1, 0.1], "caption": [0.9], "clip": [0.9]}
    files = {"backend": "files", "model": "other"}
    imported = prompt("clip", base="wrong", clip={"video_sha256": "clip 0"}, generator=files)
    twin = prompt("caption", dimension=None, source="twin", pair_id="pair")
    runner, _, rows, sampled = run([prompt("differ"), prompt("wrong"), twin, imported], rewards)
    assert runner.requests["synthesize more"] == ["differ 2", "differ 3", "differ 4"]
    assert sorted(runner.requests["synthesize"]) == ["caption 0", "differ 0", "differ 1", "wrong 0", "wrong 1"]
    assert sum(line["prompts"]["different"] for line in sampled) == 1
    assert [row.sample for row in rows if row.source == "twin"] == [0]
    assert sum(row.prompt == "clip" for row in rows) == 1


def test_hard_rewards_are_right_above_zero():
    rewards = {"ball": [0.9, 0.1, 0.9, 0.9, 0.9]}
    runner = Answering(rewards)
    changes = ["dimensions=[mechanics]", "others={}", "judge.readout=text", "samples_per_prompt={first: 2, more: 3}"]
    _, sampled = steps.videos(steps.Context(load("quickstart", changes), runner), [prompt("ball")])
    assert sampled[0]["tau"] == 0.0
    assert len(runner.requests["synthesize more"]) == 3
