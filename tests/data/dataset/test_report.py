import base64
import hashlib
import json
import re
from typing import Any

import pytest

from gigavideo_data.commands.remake import withhold
from gigavideo_data.dataset.report import frame
from gigavideo_data.dataset.report import page as report
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.spool import Spool
from gigavideo_data.scoring import bootstrap
from tests.support.rows import DIMENSION, clip, make_row, make_rows, write_set
from tests.support.workspace import QUOTED

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7*7 }} \u2028"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = write_set(tmp_path_factory.mktemp("set"))
    return report.write_report(folder).read_text("utf-8")


def found(pattern: str, page: str) -> str:
    match = re.search(pattern, page, re.S)
    assert match, pattern
    return match[1]


def data_of(page: str) -> dict:
    return json.loads(found(r'<script type="application/json" id="data">(.*?)</script>', page))


def test_page_holds_facts_and_every_clip(page):
    data = data_of(page)
    assert "10 of 10 videos are in this page" in page
    assert len(data["clips"]) == 10
    assert len(data["cards"]) == 8
    assert base64.b64decode(data["clips"][make_row(0)["id"]]) == clip(0)
    for text in (
        "tiny",
        "0123456789abcdef",
        "duplicate",
        "low mass",
        "5 scored, 1 unscorable",
        "2 scored, 0 unscorable",  # twins
        "every row accounted for",
    ):
        assert text in page


def test_real_clip_stands_beside_its_twin(page):
    pairs = [card for card in data_of(page)["cards"] if len(card["clips"]) == 2]
    assert [[c["source"] for c in card["clips"]] for card in pairs] == [["twin", "real"]] * 2


def test_card_tells_questions_probabilities_and_seed(page):
    card = next(card for card in data_of(page)["cards"] if card["id"] == make_row(3)["id"])
    assert card["generator"] == {"model": "miniature", "steps": 20, "guidance": 3.0, "seed": 3}
    assert card["reward"] == pytest.approx(3 / 8)
    [answer] = card["answers"]
    assert (answer["question"], answer["expected"]) == ("Does the ball fall?", "yes")
    assert answer["p_yes"] == pytest.approx(3 / 8)


def test_page_is_a_function_of_the_folder(tmp_path):
    folder = write_set(tmp_path)
    first = report.write_report(folder).read_bytes()
    assert report.write_report(folder, tmp_path / "again.html").read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_pages_of_equal_sets_differ_only_in_what_they_cost(tmp_path):
    folder = write_set(tmp_path)
    pages = []
    for seconds in (1.5, 91.5):
        stage = {"stage": "judge", "calls": 0, "cached": 8, "seconds": seconds, "rows": 8, "spent": {"cpu": seconds}}
        cost = {"stages": [stage], "samples": {"kept": 2, "effective": 2.0}, "wall_seconds": 99.0}
        (folder / "cost.json").write_text(json.dumps(cost))
        pages.append(report.write_report(folder).read_bytes())
    assert pages[0] != pages[1]
    assert QUOTED.sub(b"", pages[0]) == QUOTED.sub(b"", pages[1])


def test_text_of_others_stays_text(tmp_path):
    rows = make_rows()
    rows[0]["prompt"] = HOSTILE
    rows[0]["answers"][0]["question"] = HOSTILE
    rows[5] |= {"reason": HOSTILE, "rewards": [rows[5]["rewards"][0] | {"reason": HOSTILE}]}
    page = report.write_report(write_set(tmp_path, rows)).read_text("utf-8")
    assert "<img" not in page
    assert "<script>alert" not in page
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert HOSTILE in {card["prompt"] for card in data_of(page)["cards"]}


def test_policy_allows_this_style_and_script_and_nothing_else(page):
    policy = found(r'Content-Security-Policy" content="([^"]*)"', page)
    for tag in ("style", "script"):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)[-1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://", page)
    assert not re.search(r"<[^>]+\s(style|on\w+)=", page.split('<script type="application/json"')[0])


def entry(value):
    return {"dimension": DIMENSION, "value": value, "status": "scored", "reason": None}


def test_above_the_cap_best_worst_and_random_take_turns():
    rows = [make_row(seed) | {"rewards": [entry(seed / 100)]} for seed in range(60)]
    sizes = {row["id"]: 1000 for row in rows}
    chosen: list[Any] = [unit[0] for unit in report.choose(rows, sizes, [DIMENSION], 9_500)]
    seeds = [row["generator"]["seed"] for row in chosen]
    assert len(seeds) == 9
    assert {59, 58, 0, 1} <= set(seeds)
    assert any(5 < seed < 55 for seed in seeds)
    by_id = sorted(rows, key=lambda row: row["id"], reverse=True)
    again = [unit[0]["id"] for unit in report.choose(by_id, sizes, [DIMENSION], 9_500)]
    assert again == [row["id"] for row in chosen]
    assert [unit[0] for unit in report.choose(Spool(rows), sizes, [DIMENSION], 9_500)] == chosen


def test_a_shared_real_clip_is_counted_once():
    twins = [make_row(seed, "twin") | {"pair_id": "pair-1"} for seed in (1, 2)]
    rows = [*twins, make_row(1, "real")]
    units = report.choose(rows, {row["id"]: 100 for row in rows}, [DIMENSION], 300)
    assert [len(unit) for unit in units] == [2, 2]


def test_a_clip_larger_than_the_cap_is_left_out():
    rows = [make_row(0), make_row(1)]
    units = report.choose(rows, {rows[0]["id"]: 10_000, rows[1]["id"]: 10}, [DIMENSION], 100)
    assert [unit[0]["id"] for unit in units] == [rows[1]["id"]]


def test_capped_page_says_so(tmp_path, monkeypatch):
    folder = write_set(tmp_path)
    monkeypatch.setattr(frame, "EMBED_BYTES", 4 * len(base64.b64encode(clip(0))))
    page = report.write_report(folder).read_text("utf-8")
    shown = int(found(r"(\d+) of 10 videos are in this page: the best, the worst", page))
    assert 0 < shown == len(data_of(page)["clips"]) < 10


def write_evaluation(folder, num_pairs: int, clip_bytes: int):
    """A folder as `gv-data eval` leaves it, of two dimensions, each with clips of its own."""
    (folder / "clips").mkdir(parents=True)
    pairs = []
    for at in range(num_pairs):
        sides = {}
        for side, reward in (("base", 0.5), ("tuned", at / num_pairs)):
            name = f"{side}-{at}.mp4"
            (folder / "clips" / name).write_bytes(bytes(clip_bytes))
            sides[side] = {"reward": reward, "clip": name, "num_frames": 5, "height": 32, "width": 32, "fps": 8.0}
        pairs.append({"dimension": ("mechanics", "material")[at % 2], "prompt": f"p{at}", "seed": at, **sides})
    models = {"base": {"name": "base", "commit": None}, "tuned": {"name": "tuned", "commit": None}}
    tuned = {"mechanics": 0.6, "material": 0.4}
    scored = [bootstrap.Scored(name, f"p{at}", 0, 0.5, reward) for name, reward in tuned.items() for at in range(4)]
    facts: dict[str, Any] = {
        "split": "test",
        **models,
        "trained": [],
        "others": ["material"],
        "judge": "m",
        "judge_note": None,
        "comparisons": bootstrap.facts(bootstrap.compare(scored, ["material"])),
    }
    (folder / "eval.json").write_text(json.dumps(facts | {"clips": pairs}))
    return folder


def test_the_clips_of_an_evaluation_count_towards_the_cap_of_the_page(tmp_path, monkeypatch):
    folder = write_set(tmp_path / "set")
    monkeypatch.setattr(frame, "EMBED_BYTES", 100_000)
    evaluation = write_evaluation(tmp_path / "eval", num_pairs=12, clip_bytes=9_000)
    page = report.write_report(folder, tmp_path / "page.html", evaluation).read_text("utf-8")
    data = data_of(page)
    assert len(json.dumps(data)) < 100_000
    assert [pair["prompt"] for pair in data["pairs"]] == [
        "p0",
        "p10",
    ]  # of its dimension the greatest loss and the greatest gain
    assert "2 of 12 pairs fit into this page" in page
    assert "perhaps better</span>" in page
    assert "<dt>targets: mechanics</dt><dd>+0.10</dd>" in page
    assert "<dt>others: material</dt><dd>-0.10</dd>" in page
    assert "4 of 4 <small>4 prompts</small>" in page
    assert "Perhaps: only the 95% interval excludes zero" in page
    assert {card["clips"][0]["id"] for card in data["cards"]} < set(data["clips"])
    (evaluation / "clips" / "base-3.mp4").unlink()
    with pytest.raises(DatasetError, match=r"base-3\.mp4: missing"):
        report.write_report(folder, tmp_path / "page.html", evaluation)


def test_gains_and_losses_of_all_dimensions_take_turns_and_a_shared_clip_counts_once():
    def pair(dimension, gain, clip):
        sides = {"base": {"reward": 0.5, "clip": "same"}, "tuned": {"reward": 0.5 + gain, "clip": clip}}
        return {"dimension": dimension, **sides}

    pairs = [pair("a", -0.3, "1"), pair("a", 0.0, "2"), pair("a", 0.3, "3"), pair("b", -0.2, "4"), pair("b", 0.2, "5")]
    text = max(len(json.dumps(each)) for each in pairs)
    sizes = dict.fromkeys(["same", *"12345"], 1000)
    assert report.choose_pairs(pairs, sizes, 5 * text + 5000) == [pairs[at] for at in (0, 2, 3, 4)]
    assert report.choose_pairs(pairs, sizes, 10_000) == pairs


def test_the_text_of_videos_that_are_withheld_counts_towards_the_cap(tmp_path, monkeypatch):
    rows = [row for row in make_rows() if row["source"] != "real"]
    withhold(write_set(tmp_path / "whole", rows), tmp_path / "scores")
    monkeypatch.setattr(frame, "EMBED_BYTES", 2500)
    page = report.write_report(tmp_path / "scores").read_text("utf-8")
    assert 0 < len(data_of(page)["cards"]) < len(rows)
    assert len(json.dumps(data_of(page), separators=(",", ":"))) < 2600


def test_bars():
    assert report.bars([0, 1, 100], 30, 10) == [(0.5, 10.0, 9.0, 0.0), (10.5, 8.5, 9.0, 1.5), (20.5, 0.0, 9.0, 10.0)]


def test_unfinished_folder_gets_no_page(tmp_path):
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        report.write_report(tmp_path)
    assert not list(tmp_path.iterdir())
