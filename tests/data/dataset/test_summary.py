import io
import json

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from gigavideo_data.dataset import summary
from gigavideo_data.dataset.manifest import LedgerLine
from gigavideo_data.errors import DatasetError
from gigavideo_data.scoring import judge_verdict
from gigavideo_data.scoring.rewards import CAPTIONS
from tests.support.rows import DIMENSION, make_row, make_rows, write_set

CHECK: judge_verdict.JudgeCheck = {
    "dimension": DIMENSION,
    "videos": 50,
    "auc_foreign": 0.93,
    "real_videos": 0,
    "auc_real": None,
    "real_score": None,
    "yes_bias": 0.0,
    "inconsistency": 0.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"))


def shown(facts: dict, width: int = 160) -> str:
    screen = io.StringIO()
    summary.show(facts, Console(file=screen, width=width, force_terminal=True, color_system="truecolor"))
    return screen.getvalue()


def test_facts_count_the_rows_themselves(folder):
    facts = summary.summarize(folder)
    assert facts["counts"] == {
        "rows": 10,
        "prompts": 8,
        "split": {"train": 9, "validation": 1},
        "source": {"real": 2, "synthetic": 6, "twin": 2},
        "status": {"not_scored": 2, "scored": 7, "unscorable": 1},
    }
    reward = facts["rewards"][DIMENSION]
    assert (reward["scored"], reward["unscorable"], reward["reasons"]) == (5, 1, {"low_mass": 1})
    assert reward["mean"] == pytest.approx((0 + 1 / 8 + 2 / 8 + 3 / 8 + 4 / 8) / 5)
    assert sum(reward["histogram"]) == 5
    assert facts["rewards"][CAPTIONS]["histogram"][14] == 2  # 0.75 is the upper end of its range
    assert reward["best"]["reward"] == 0.5
    assert reward["worst"]["prompt"].startswith("a red ball number 0")
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_ledger_that_loses_rows_is_named():
    row: LedgerLine = {"stage": "judge", "source": "twin", "in": 9, "out": 7, "rejected": {"worker died": 1}}
    line = summary.ledger_line(row)
    assert (line["num_rejected"], line["adds_up"]) == (1, False)


def test_a_reward_of_one_falls_into_the_last_bin():
    assert summary.reward_facts([make_row(reward=1.0)], DIMENSION)["histogram"][-1] == 1


def test_no_scored_row_gives_no_mean():
    facts = summary.reward_facts([make_row(reward=None)], DIMENSION)
    assert facts["mean"] is None
    assert facts["sem"] is None
    assert facts["best"] is None


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "passed"),
        ({"auc_foreign": 0.60}, "failed"),  # within two standard errors of chance
        ({"auc_foreign": None}, "too few videos"),
        ({"videos": 2}, "too few videos"),
        ({"videos": 4, "auc_foreign": 0.5}, "too few videos"),
        ({"videos": 11, "auc_foreign": 0.5}, "too few videos"),
        ({"videos": 12, "auc_foreign": 0.5}, "failed"),
        ({"videos": 4, "auc_foreign": 1.0}, "passed"),
        ({"videos": 4, "auc_foreign": 0.5, "real_videos": 4, "auc_real": 0.5, "real_score": 0.9}, "too few videos"),
        ({"videos": 0, "auc_foreign": None, "real_videos": 4, "auc_real": 1.0, "real_score": 0.3}, "too few videos"),
        ({"real_videos": 4, "auc_real": 0.5, "real_score": 0.3}, "passed"),  # too few real clips to speak against it
        (
            {"auc_foreign": 0.55, "real_videos": 30, "auc_real": 0.99, "real_score": 0.97},
            "passed",
        ),  # a weak generator
        ({"real_videos": 30, "auc_real": 0.70, "real_score": 0.9}, "failed"),
        ({"real_videos": 30, "auc_real": 0.99, "real_score": 0.3}, "failed"),  # blind to what is there
        ({"real_videos": 2, "auc_real": 1.0, "real_score": 0.9}, "passed"),  # too few real clips: the others decide
    ],
)
def test_verdict_on_the_judge(change, verdict):
    assert summary.with_verdict(CHECK | change)["verdict"] == verdict


def test_terminal_shows_prompts_as_they_are(tmp_path):
    rows = make_rows()
    rows[0]["prompt"] = "[/x] [red]ball[/red] \x1b[2J\u202eends"
    screen = shown(summary.summarize(write_set(tmp_path, rows)))
    assert "[/x] [red]ball[/red]" in screen
    assert "\x1b[2J" not in screen
    assert "\u202e" not in screen
    for word in (DIMENSION, "tiny", "duplicate", "low_mass", "sanity check"):
        assert word in screen


def test_narrow_terminal_keeps_every_prompt_whole(folder):
    assert "number" in shown(summary.summarize(folder), width=60)


def test_unfinished_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no manifest\.json.*gv-data build"):
        summary.summarize(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "1.0"}', '{"format": "9.0"}', '{"format": 1}'])
def test_damaged_or_foreign_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        summary.summarize(tmp_path)


def test_flipped_byte_in_a_shard_is_refused(tmp_path):
    folder = write_set(tmp_path)
    shard = next((folder / "data").glob("train-*"))
    offset = pq.ParquetFile(shard).metadata.row_group(0).column(0).data_page_offset
    data = bytearray(shard.read_bytes())
    data[offset + 60] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match="the manifest says"):
        summary.summarize(folder)


def test_too_few_videos_for_the_judge_check_are_named_with_their_number():
    assert judge_verdict.verdict(CHECK | {"videos": 2})[1].startswith(
        "0.93 on 2 generated clips, too few for any result"
    )
    verdict, why = judge_verdict.verdict(CHECK | {"videos": 4, "auc_foreign": 0.5})
    assert verdict == "too few videos"
    assert why.startswith("0.50 on 4 generated clips, 0.93 needed; 12 clips or more")
    enough = [
        CHECK | {"auc_foreign": judge_verdict.REAL_AUC, "videos": judge_verdict.LEAST_VIDEOS - less} for less in (0, 1)
    ]
    assert [judge_verdict.verdict(check)[0] for check in enough] == ["passed", "too few videos"]
