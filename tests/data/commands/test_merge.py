"""Sets joined: equal rows once, nothing trained on that is held back, and a ledger that adds up."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gigavideo_data.commands.merge import merge
from gigavideo_data.commands.remake import withhold
from gigavideo_data.commands.rescore import recompute
from gigavideo_data.dataset import cost as costs
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.dataset.writer import write_dataset
from gigavideo_data.errors import DatasetError
from tests.support.rows import COST, make_eval_prompts, make_manifest, make_rejects, make_row, make_rows, write_set


def ids(folder: Path) -> list[str]:
    return pq.read_table(folder / "data", columns=["id"])["id"].to_pylist()


def test_two_sets_become_one_that_verifies_and_equal_rows_are_there_once(tmp_path):
    shared, more = make_rows(), [make_row(seed) for seed in range(700, 705)]
    first, second = write_set(tmp_path / "a", shared), write_set(tmp_path / "b", [*shared[:3], *more])
    facts = merge([first, second], tmp_path / "joined")
    assert facts["rejected"] == {"duplicate": 3}
    assert facts["rows"] == len(shared) + len(more)
    assert set(ids(tmp_path / "joined")) == {row["id"] for row in (*shared, *more)}
    verify_folder(tmp_path / "joined")
    assert (tmp_path / "joined" / "report.html").exists()
    manifest = json.loads((tmp_path / "joined" / "manifest.json").read_text())
    assert [one["name"] for one in manifest["merged"]] == ["tiny", "tiny"]
    ends = {line["source"]: line for line in manifest["ledger"] if line["stage"] == "merge"}
    assert sum(line["in"] for line in ends.values()) == len(shared) + 3 + len(more)
    assert sum(line["out"] for line in ends.values()) == facts["rows"]


@pytest.mark.parametrize(("shared", "seconds"), [(0, 6.0), (1, None)])
def test_what_a_joined_set_took_is_known_only_if_no_row_is_in_several_sets(tmp_path, shared, seconds):
    folders = []
    for name, first in (("a", 700), ("b", 706 - shared)):
        folders.append(write_set(tmp_path / name, [make_row(first + n, reward=0.75, split="train") for n in range(6)]))
        cost = {"stages": [{"stage": "judge", "rows": 6, "spent": {"cpu": 3.0}}], "wall_seconds": 9.0}
        (folders[-1] / "cost.json").write_text(json.dumps(cost))
    merge(folders, tmp_path / "joined")
    figure = costs.cost_per_sample(costs.read(tmp_path / "joined"))
    assert (figure and figure["seconds"]) == seconds


def test_the_order_of_the_sets_decides_no_row(tmp_path):
    first = write_set(tmp_path / "a")
    second = write_set(tmp_path / "b", [*make_rows()[:2], make_row(710)])
    for name, folders in (("ab", [first, second]), ("ba", [second, first])):
        merge(folders, tmp_path / name)
    tables = [pq.read_table(tmp_path / name / "data").drop_columns(["recipe"]) for name in ("ab", "ba")]
    assert tables[0].equals(tables[1])


def test_a_row_of_two_sets_keeps_the_source_file_that_one_of_them_knows(tmp_path):
    source_file = {"name": "a.mp4", "path": "a.mp4", "sha256": "0" * 64}
    row = make_row(750)
    row["generator"] |= {"backend": "files"}
    sets = [[*make_rows(), row], [*make_rows(), row | {"source_file": source_file}]]
    folders = [write_set(tmp_path / str(number), rows) for number, rows in enumerate(sets)]
    for name, both in (("ab", folders), ("ba", folders[::-1])):
        merge(both, tmp_path / name)
        kept = pq.read_table(tmp_path / name / "data").to_pylist()
        assert [one["source_file"] for one in kept if one["id"] == row["id"]] == [source_file]


def test_what_one_set_holds_back_the_other_may_not_train_on(tmp_path):
    row = make_row(720)
    prompts = [{**make_eval_prompts()[0], "prompt_id": row["prompt_id"]}, *make_eval_prompts()[1:]]
    rows, rejects = make_rows(), make_rejects()
    first = write_set(tmp_path / "a", [*make_rows(), row])
    write_dataset(tmp_path / "b", rows, prompts, rejects, make_manifest(rows, rejects), COST)
    facts = merge([first, tmp_path / "b"], tmp_path / "joined")
    assert facts["rejected"] == {"duplicate": len(rows), "held_out": 1}
    assert row["id"] not in ids(tmp_path / "joined")
    rejects = pq.read_table(tmp_path / "joined" / "rejects").to_pylist()
    assert Counter(one["reason"] for one in rejects if one["stage"] == "merge") == facts["rejected"]
    assert next(one for one in rejects if one["reason"] == "held_out")["id"] == row["id"]


def test_what_one_set_withholds_the_other_gives_in_either_order(tmp_path):
    whole = write_set(tmp_path / "whole")
    withhold(whole, tmp_path / "scores")
    for name, folders in (("a", [whole, tmp_path / "scores"]), ("b", [tmp_path / "scores", whole])):
        merge(folders, tmp_path / name)
        assert "withheld" not in json.loads((tmp_path / name / "manifest.json").read_text())
        assert pq.read_table(tmp_path / name / "data")["video"].null_count == 0


def test_sets_joined_twice_know_all_their_recipes(tmp_path):
    folders = [write_set(tmp_path / str(number), [*make_rows(), make_row(740 + number)]) for number in range(3)]
    merge(folders[:2], tmp_path / "two")
    merge([tmp_path / "two", folders[2]], tmp_path / "three")
    assert len(json.loads((tmp_path / "three" / "manifest.json").read_text())["merged"]) == 3
    verify_folder(tmp_path / "three")


def test_sets_of_other_rules_or_other_splits_are_refused_by_that_name(tmp_path):
    first = write_set(tmp_path / "a")
    recompute(first, tmp_path / "strict", min_mass=0.9)
    with pytest.raises(DatasetError, match="different rules"):
        merge([first, tmp_path / "strict"], tmp_path / "joined")
    rows = make_rows()
    moved = [row | {"split": "train"} for row in rows]
    with pytest.raises(DatasetError, match="validation_share"):
        merge([first, write_set(tmp_path / "b", moved)], tmp_path / "joined")


def test_sets_that_contradict_each_other_are_refused(tmp_path):
    first = write_set(tmp_path / "a", [make_row(730, reward=0.75), *make_rows()])
    second = write_set(tmp_path / "b", [make_row(730, reward=0.25), *make_rows()])
    with pytest.raises(DatasetError, match="has other values there"):
        merge([first, second], tmp_path / "joined")
    rows, rejects = make_rows(), make_rejects()
    manifest = make_manifest(rows, rejects) | {"target_model": "org/other"}
    write_dataset(tmp_path / "c", rows, make_eval_prompts(), rejects, manifest, COST)
    with pytest.raises(DatasetError, match=r"target_model differs .*'org/other'"):
        merge([first, tmp_path / "c"], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
