"""Rounds of the proof: what each round builds and trains on, which one is best, and that a loop is resumed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.proof import final, rounds, rounds_dev, tiny, views
from benchmarks.proof.rounds import Loop, best_round, is_done, set_of
from benchmarks.proof.runs import DIMENSIONS, FOCUS, Run, result_file
from gigavideo_data.errors import GigaVideoError
from gigavideo_train import config
from tests.benchmarks.test_proof import ROWS

LOOP = Loop("nft", num_rounds=3)


def write(work: Path, view: str, run: Run | None, reward: float) -> None:
    file = result_file(work, view, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    rewards = [
        {"dimension": d, "prompt_id": f"p{n}", "seed": 0, "reward": reward + 0.01 * (n % 3) if d == FOCUS else 0.5}
        for d in DIMENSIONS
        for n in range(9)
    ]
    file.write_text(json.dumps({"plan": {"kept": 7, "steps": 9}, "rewards": rewards}))


def test_a_round_is_built_by_the_model_of_the_round_before_and_with_fresh_prompts(tmp_path: Path) -> None:
    first, third = set_of(LOOP, 1, tmp_path), set_of(LOOP, 3, tmp_path)
    assert first == rounds.SET
    folders = [tmp_path / LOOP.round_folder(number) for number in (1, 2)]
    assert third["generators.0.model"] == folders[1] / "model"
    assert third["prompts.used"] == f"[{folders[0]}/set, {folders[1]}/set]"
    assert "prompts.used" not in set_of(replace(LOOP, fresh=False), 3, tmp_path)


def test_the_distance_is_held_to_the_first_model_by_nft_alone() -> None:
    assert dict(LOOP.run(2).settings) | {"nft_kappa": 0.1, "anchor_model": "miniature"} == dict(LOOP.run(2).settings)
    other = Loop("reweight", strategy="reweight").run(2)
    config.load("miniature", None, [f"{key}={value}" for key, value in (("strategy", "reweight"), *other.settings)])


def test_loops_that_are_compared_differ_in_one_thing() -> None:
    first, *others = rounds_dev.LOOPS
    changed = [(loop.kappa != first.kappa) + (loop.fresh != first.fresh) + bool(loop.dataset) for loop in others]
    assert changed == [1] * len(others)
    assert len({loop.key for loop in rounds_dev.LOOPS}) == len(rounds_dev.LOOPS)
    real, control = list(final.loops())[:2]
    assert replace(real, name=control.name, corrupted=1.0) == control
    assert control.run(3).corrupted == 1.0


def test_the_best_round_is_chosen_on_the_focus(tmp_path: Path) -> None:
    for number, reward in zip(LOOP.numbers, (0.3, 0.5, 0.4), strict=True):
        assert not is_done(LOOP, tmp_path)
        write(tmp_path, "dev", LOOP.run(number), reward)
    assert is_done(LOOP, tmp_path)
    assert not is_done(replace(LOOP, views=("test",)), tmp_path)
    assert best_round(LOOP, tmp_path) == 2


def test_the_page_has_a_row_for_each_round_that_is_done(tmp_path: Path) -> None:
    assert rounds_dev.table(tmp_path) == "Not measured."
    here, loop = rounds_dev.folder(tmp_path), rounds_dev.LOOPS[1]
    write(here, "dev", None, 0.3)
    write(here, "dev", loop.run(1), 0.5)
    *_, row = rounds_dev.table(tmp_path).splitlines()
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:5] == [loop.name, "1", "7", "-", "+0.200 (+0.200 to +0.200)"]
    assert cells[5:] == ["+0.000 (+0.000 to +0.000)"] * 6


def test_prompts_that_were_trained_on_are_scored_with_their_own_questions_and_other_seeds() -> None:
    rows = [row | {"prompt_id": f"p{n // 4}"} for n, row in enumerate(ROWS)]
    prompts = views.tune_prompts(rows, 4)
    assert sorted(prompt["prompt_id"] for prompt in prompts) == sorted(f"p{n}" for n in range(10))
    for prompt in prompts:
        (row,) = [r for r in rows if r["prompt_id"] == prompt["prompt_id"] and r["prompt"] == prompt["prompt"]][:1]
        own = [a["question"] for a in row["answers"] if a["dimension"] == FOCUS]
        assert [q["question"] for q in prompt["questions"]] == own
        assert len(set(prompt["seeds"])) == 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupted_loop_continues_and_gives_the_same_results(tmp_path: Path) -> None:
    """Two rounds of two steps; the second time the training of the second round fails once."""
    loops = [tiny.loop(replace(rounds_dev.LOOPS[0], fresh=False))]
    rounds_dev.run(tmp_path / "whole", tuple(loops), tiny.PROMPTS)
    broken = tmp_path / "broken" / "rounds-dev" / loops[0].round_folder(2) / "set"
    broken.parent.mkdir(parents=True)
    broken.write_text("not a folder")
    with pytest.raises(GigaVideoError, match="set"):
        rounds_dev.run(tmp_path / "broken", tuple(loops), tiny.PROMPTS)
    broken.unlink()
    rounds_dev.run(tmp_path / "broken", tuple(loops), tiny.PROMPTS)
    assert "| 2 |" in rounds_dev.table(tmp_path / "whole", tuple(loops))
    assert rounds_dev.table(tmp_path / "broken", tuple(loops)) == rounds_dev.table(tmp_path / "whole", tuple(loops))
