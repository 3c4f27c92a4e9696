import hashlib
import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from gigavideo_data.cli import app
from gigavideo_data.commands import rescore
from gigavideo_data.dataset import summary
from gigavideo_data.dataset.report import page
from gigavideo_data.errors import RecipeError
from tests.support.rows import DIMENSION, answer, make_row, make_rows, write_set


def honest_rows() -> list[Any]:
    """Rows whose stored rewards follow from their stored answers."""
    return [rescore.rescored(row, [DIMENSION], 0.5, {}) for row in make_rows()]


def wrong(row: Any) -> Any:
    """The row with a reward that its answers do not give."""
    return row | {"reward": 1.0, "rewards": [row["rewards"][0] | {"value": 1.0}]}


def shards(folder) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.parquet")}


def test_the_recipes_own_rules_can_be_had_back(tmp_path):
    folder = write_set(tmp_path, honest_rows())
    before = shards(folder)
    rescore.recompute(folder, folder, min_mass=0.99)
    assert rescore.recompute(folder)["min_mass"] == 0.99
    rescore.recompute(folder, folder, min_mass=0.5)
    assert "rescored" not in json.loads((folder / "manifest.json").read_text())
    assert (rescore.recompute(folder)["min_mass"], shards(folder)) == (0.5, before)


def test_honest_rewards_do_not_move(tmp_path):
    folder = write_set(tmp_path, honest_rows())
    before = shards(folder)
    moved = rescore.recompute(folder)
    assert (moved["rows"], moved["changed"]) == (10, 0)
    assert moved["dimensions"][DIMENSION]["before"] == moved["dimensions"][DIMENSION]["after"]
    assert shards(folder) == before


def test_rewriting_unmoved_rewards_gives_the_same_bytes(tmp_path):
    folder = write_set(tmp_path / "a", honest_rows())
    rescore.recompute(folder, tmp_path / "b")
    assert shards(tmp_path / "b") == shards(folder)
    assert (tmp_path / "b" / "report.html").exists()


def test_wrong_rewards_are_put_right_in_place(tmp_path):
    rows = honest_rows()
    right = rows[0]["reward"]
    rows[0] = wrong(rows[0])
    folder = write_set(tmp_path, rows)
    moved = rescore.recompute(folder, folder)
    entry = moved["dimensions"][DIMENSION]
    assert (moved["changed"], entry["changed"]) == (1, 1)
    assert entry["movers"] == [
        {"id": rows[0]["id"], "prompt": rows[0]["prompt"], "before": 1.0, "after": pytest.approx(right)}
    ]
    assert rescore.recompute(folder)["changed"] == 0
    stored = json.loads((folder / "manifest.json").read_text())["rewards"][DIMENSION]
    assert stored == {key: summary.summarize(folder)["rewards"][DIMENSION][key] for key in stored}


def test_lower_answer_mass_becomes_unscorable_and_is_remembered(tmp_path):
    rows = honest_rows()
    rows[1] = rows[1] | {"answers": [answer(0.5) | {"p_no": 0.1}]}  # mass 0.6
    folder = write_set(tmp_path / "a", [rescore.rescored(row, [DIMENSION], 0.5, {}) for row in rows])
    moved = rescore.recompute(folder, tmp_path / "b", min_mass=0.9)
    assert moved["dimensions"][DIMENSION]["movers"][0]["after"] is None
    row = next(r for r in pq.read_table(tmp_path / "b" / "data").to_pylist() if r["id"] == rows[1]["id"])
    assert (row["status"], row["reason"], row["reward"]) == ("unscorable", "low_mass", None)
    assert rescore.recompute(tmp_path / "b")["changed"] == 0  # 0.9 is now the set's own rule
    assert rescore.recompute(tmp_path / "b", min_mass=0.5)["changed"] == 1


def test_another_rule_and_gates():
    answers = [answer(0.2, gate=True), answer(0.9)]
    entry = {"dimension": DIMENSION, "value": 0.55, "status": "scored", "reason": None}
    row = make_row(reward=0.55) | {"answers": answers, "rewards": [entry]}
    gated = rescore.rescored(row, [DIMENSION], 0.5, {})
    assert (gated["status"], gated["reason"]) == ("unscorable", "gate_failed: Does the ball fall?")
    assert rescore.rescored(row, [DIMENSION], 0.5, {DIMENSION: "mean"}) is row
    assert rescore.rescored(row, [DIMENSION], 0.5, {DIMENSION: "all"})["reward"] == pytest.approx(0.2)


def test_the_reason_that_a_judge_gave_is_read_from_its_measurements():
    silent = {"name": "no answer: cut", "values": [8.0], "judge": "opencv@camera-2"}
    entry = {"dimension": DIMENSION, "value": 1.0, "status": "scored", "reason": None}
    row = make_row() | {"answers": [answer(0.0) | {"p_no": 0.0}], "rewards": [entry]}
    mine, of_another = (row | {"measurements": [silent | {"dimension": name}]} for name in (DIMENSION, "other"))
    assert rescore.rescored(mine, [DIMENSION], 0.5, {})["reason"] == "cut"
    assert rescore.rescored(of_another, [DIMENSION], 0.5, {})["reason"] == "low_mass"


def test_real_rows_are_left_alone():
    real = make_row(source="real")
    assert rescore.rescored(real, [DIMENSION], 0.5, {}) is real


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_mass": 1.5}, "min_mass is 1.5"),
        ({"min_mass": float("nan")}, "min_mass"),
        ({"combine": {DIMENSION: "median"}}, "mean, all, gate, prefix"),
        ({"combine": {"mechanic": "mean"}}, DIMENSION),
    ],
)
def test_bad_rules_are_refused(tmp_path, options, message):
    folder = write_set(tmp_path)
    with pytest.raises(RecipeError, match=message):
        rescore.recompute(folder, **options)


def test_terminal_shows_what_moved(tmp_path):
    rows = honest_rows()
    moved = rescore.recompute(write_set(tmp_path, [wrong(rows[0]), *rows[1:]]))
    screen = io.StringIO()
    rescore.show(moved, Console(file=screen, width=160))
    assert "1 of 10 rows changed" in screen.getvalue()
    assert rows[0]["prompt"] in screen.getvalue()  # brackets and all: a prompt is no markup


def test_rescore_in_place_writes_the_page_again(tmp_path):
    rows = honest_rows()
    folder = write_set(tmp_path / "set", [wrong(rows[0]), *rows[1:]])
    before = page.write_report(folder).read_bytes()
    ended = CliRunner().invoke(app, ["rescore", str(folder), "--in-place"], catch_exceptions=False)
    assert ended.exit_code == 0
    after = (folder / "report.html").read_bytes()
    assert after != before
    assert after == page.write_report(folder, tmp_path / "fresh.html").read_bytes()


def test_no_page_of_an_older_set_stays_beside_a_newer_one(tmp_path):
    folder = write_set(tmp_path)
    page.write_report(folder)
    write_set(tmp_path, make_rows()[:3])
    assert not (folder / "report.html").exists()
