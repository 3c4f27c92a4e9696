import base64
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gigavideo_data.dataset.report import frame
from gigavideo_data.errors import DatasetError
from gigavideo_data.io.video import encode
from gigavideo_data.scoring import bootstrap
from gigavideo_loop import page

TARGETS = ["motion_order_understanding"]
OTHERS = ["dynamic_attribute", "counting", "spatial_relation", "mechanics", "composition", "camera_motion"]
GAINS = (0.07, 0.13, 0.11)  # of the target in rounds 1 to 3
PROMPTS = 12
SEEDS = (1, 2)
HOSTILE = "</script><img src=x onerror=alert(1)> {{ 7*7 }} & \u2028"


def make_clip(number: int, speed: int) -> bytes:
    """A square that moves to the right, 12 frames of 48 px."""
    frames_THWC = np.full((12, 48, 48, 3), 230, np.uint8)
    for at in range(12):
        left = 2 + at * speed
        frames_THWC[at, 16:30, left : left + 12] = ((37 * number) % 200, 90, 160)
    return encode(frames_THWC, 8)


def make_rewards(dimensions: list[str], number: int) -> list[bootstrap.Scored]:
    """Rewards of one evaluation: the target gains, the others move a little."""
    of_base, of_round = np.random.default_rng(0), np.random.default_rng(number)
    scored = []
    for dimension in dimensions:
        level = of_base.uniform(0.25, 0.7)
        gain = GAINS[number - 1] if dimension in TARGETS else of_round.normal(0, 0.03)
        for prompt in range(PROMPTS):
            for seed in SEEDS:
                base = float(np.clip(level + of_base.normal(0, 0.1), 0, 1))
                tuned = float(np.clip(base + gain + of_round.normal(0, 0.08), 0, 1))
                scored.append(bootstrap.Scored(dimension, f"p{prompt}", seed, base, tuned))
    return scored


def make_pair(folder: Path, dimension: str, prompt: str, number: int, speed: int) -> dict[str, Any]:
    """An entry of eval.json's clips, whose two files are written."""
    sides = {}
    for side, pixels, reward in (("base", speed, 0.3), ("tuned", 1 + number % 3, 0.3 + 0.1 * number)):
        data = make_clip(len(dimension), pixels)
        name = f"{side}-{number if side == 'tuned' else 0}-{len(dimension)}-{pixels}.mp4"
        (folder / "clips" / name).write_bytes(data)
        sides[side] = {"reward": reward, "clip": name, "num_frames": 12, "height": 48, "width": 48, "fps": 8.0}
    return {"dimension": dimension, "prompt": prompt, "seed": 1, **sides}


def make_measures(number: int) -> dict[str, Any]:
    ends = {"low": -0.012, "high": 0.004}
    return {
        "realism": {
            "features": "vae",
            "real": 64,
            "base": {"value": 0.052, "low": 0.04, "high": 0.07},
            "tuned": {"value": 0.05 + number / 1000, "low": 0.04, "high": 0.07},
            "excess": {"value": -0.004 + number / 1000, **ends},
            "verdict": ("passed", "inconclusive", "failed")[number - 1],
        },
        "motion": {"base": 0.82, "tuned": 0.8 - number / 50, "ratio": 0.97 - number / 40, "low": 0.91, "high": 1.04},
        "spread": {"base": 1.4, "tuned": 1.3, "ratio": 0.93, "low": 0.88, "high": 0.98},
        "correlation": {
            "base": {"motion": 0.11, "brightness": -0.02, "length": None},
            "tuned": {"motion": 0.11 + number / 50, "brightness": -0.03, "length": None},
        },
        "plain": {"base": 0.91, "tuned": 0.9},
    }


def make_round(out: Path, number: int, dimensions: list[str], targets: list[str]) -> dict[str, Any]:
    folder = out / f"round-{number}" / "eval"
    (folder / "clips").mkdir(parents=True)
    scored = make_rewards(dimensions, number)
    comparisons = bootstrap.facts(bootstrap.compare(scored, set(dimensions) - set(targets)))
    fixed = [make_pair(folder, name, f"A square of {name} moves to the right.", number, 1) for name in dimensions]
    names = [f"A square that only round {number} shows.", *["A square that two rounds show."] * (number < 3)]
    largest = [make_pair(folder, dimensions[0], name, number, 2) for name in names]
    (folder / "eval.json").write_text(json.dumps({"clips": largest, "fixed_clips": fixed}))
    guards = [
        {"name": "no new best", "fired": False, "detail": f"Round {number} has the best dev mean of {number} rounds."},
        {"name": "untrained dimensions", "fired": False, "detail": "The lowest upper bound is -0.01, of mechanics."},
        {"name": "realism", "fired": False, "detail": "The lower bound of the excess is -0.012."},
    ]
    of_targets = bootstrap.facts(bootstrap.compare(one for one in scored if one.dimension in targets))[-1]
    return {
        "number": number,
        "dataset": {"rows": 828 + number, "kept": 700 + number, "path": f"round-{number}/dataset"},
        "model": f"round-{number}/model",
        "eval": f"round-{number}/eval",
        "dev_mean": of_targets["tuned"],
        "targets": {name: of_targets[name] for name in ("base", "tuned", "difference", "low", "high")},
        "comparisons": comparisons,
        "measures": make_measures(number),
        "second": None,
        "guards": guards,
        "seconds": {"build": 171.4, "train": 95.2, "eval": 31.7},
    }


def make_loop(
    out: Path, num_rounds: int = 3, targets: list[str] = TARGETS, others: list[str] = OTHERS, **changes: Any
) -> dict[str, Any]:
    """The folder of a finished loop over all dimensions; `changes` replace keys of its loop.json."""
    rounds = [make_round(out, number, [*targets, *others], targets) for number in range(1, num_rounds + 1)]
    loop: dict[str, Any] = {
        "recipe": "quickstart",
        "recipe_hash": "0123456789abcdef",
        "rounds_planned": num_rounds,
        "targets": targets,
        "others": others,
        "strategy": "nft",
        "settings": {"lr": 3e-4, "beta": 0.3, "kappa": 0.1},
        "base": {"name": "miniature", "dev_mean": rounds[0]["targets"]["base"] if rounds else None},
        "rounds": rounds,
        "best": min(2, num_rounds) or None,
        "stopped": None,
        "next": "Score the model of round 2 on the test prompts, once: gv-data eval --split test.",
    }
    return write_loop(out, loop | changes)


def write_loop(out: Path, loop: dict[str, Any]) -> dict[str, Any]:
    (out / "loop.json").write_text(json.dumps(loop))
    return loop


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """A finished loop and its page."""
    out = tmp_path_factory.mktemp("loop")
    return make_loop(out), page.write(out).read_text("utf-8")


def text_of(html: str) -> str:
    """The page's text without tags, styles and scripts; spaces are single."""
    body = re.sub(r"<(style|script)\b.*?</\1>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def data_of(html: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert match
    return json.loads(match[1])


def changed(out: Path, **changes: Any) -> str:
    """The page's text of the loop in a folder, with some keys of its loop.json replaced."""
    write_loop(out, json.loads((out / "loop.json").read_text()) | changes)
    return text_of(page.write(out).read_text("utf-8"))


def test_the_verdict_names_the_best_round_with_the_interval_of_its_gain(example: tuple[dict[str, Any], str]) -> None:
    loop, html = example
    target = next(line for line in loop["rounds"][1]["comparisons"] if line["dimension"] in TARGETS)
    assert (
        f"Round 2 is best: the dev mean of the targets is {target['tuned']:.3f} with its model and "
        f"{target['base']:.3f} with the base, a difference of {target['difference']:+.3f} "
        f"(95 % interval {target['low']:+.3f} to {target['high']:+.3f})."
    ) in text_of(html)
    assert "All 3 rounds are finished; no guard stopped the loop." in text_of(html)


def test_every_number_of_the_table_is_that_of_the_state(example: tuple[dict[str, Any], str]) -> None:
    loop, html = example
    for name in [*TARGETS, *OTHERS, "mean_of_others"]:
        lines = [next(line for line in each["comparisons"] if line["dimension"] == name) for each in loop["rounds"]]
        label = name.replace("_", " ")
        row = re.search(rf'<th scope="row">{label}.*?</tr>', html.partition('id="guards"')[0], re.S)
        assert row
        cells = [line["base"] for line in lines[:1]]
        numbers = [f"{cells[0]:.3f}"]
        for line in lines:
            numbers += [f"{line['tuned']:.3f}", *(f"{line[key]:+z.3f}" for key in ("difference", "low", "high"))]
        assert re.findall(r"[+-]?\d\.\d{3}", text_of(row[0])) == numbers


def test_every_chart_has_its_values_as_text(example: tuple[dict[str, Any], str]) -> None:
    loop, html = example
    labels = re.findall(r'<svg class="chart"[^>]*aria-label="([^"]*)"', html)
    assert len(labels) == 8  # seven dimensions and the mean of the six that are no target
    for line in loop["rounds"][2]["comparisons"]:
        assert any(f"round 3: {line['tuned']:.3f}, base {line['base']:.3f}" in label for label in labels)
    assert html.count('class="ring" cx') == 8 + 1  # the best round in each chart, and the legend


def test_guards_measures_and_cost_are_shown(example: tuple[dict[str, Any], str]) -> None:
    loop, html = example
    text = text_of(html)
    assert text.count(" quiet ") == 9
    assert " fired " not in text
    for each in loop["rounds"]:
        assert all(guard["detail"] in text for guard in each["guards"])
        assert f"{each['measures']['motion']['ratio']:.3f} 0.910 to 1.040" in text
        assert f"{each['dataset']['rows']} {each['dataset']['kept']} 2 min 51 s 1 min 35 s 31.7 s 4 min 58 s" in text
    for verdict in ("passed", "inconclusive", "failed"):
        assert f"{verdict} KID" in text
    assert "Base +0.110 -0.020 – Round 1 +0.130 -0.030 –" in text  # correlations
    assert loop["next"] in text


def test_one_prompt_has_the_clips_of_the_base_and_of_every_round(example: tuple[dict[str, Any], str]) -> None:
    _, html = example
    data = data_of(html)
    shots = data["shots"]
    assert [shot["dimension"] for shot in shots] == [TARGETS[0], *TARGETS, *OTHERS]
    assert [len(shot["sides"]) for shot in shots] == [4] * 8
    assert [side and side["reward"] for side in shots[0]["sides"]] == pytest.approx([0.3, 0.4, 0.5, 0.6])
    assert [side is None for side in shots[1]["sides"]] == [False, False, False, True]
    assert shots[1]["prompt"] == "A square that two rounds show."
    assert {side["clip"] for shot in shots for side in shot["sides"] if side} == data["clips"].keys()
    assert base64.b64decode(data["clips"][shots[0]["sides"][0]["clip"]]) == make_clip(len(TARGETS[0]), 1)


def test_the_page_is_one_file_without_paths_and_addresses(tmp_path: Path) -> None:
    after = f"Evaluate: gv-data eval --tuned {tmp_path}/round-1/model --base /models/wan"
    make_loop(
        tmp_path, 1, settings={"from": "/models/old/wan"}, base={"name": "/models/wan", "dev_mean": 0.3}, next=after
    )
    html = page.write(tmp_path).read_text("utf-8")
    assert f"gv-data eval --tuned {tmp_path.name}/round-1/model --base wan" in html
    assert str(tmp_path) not in html
    assert "/models" not in html
    assert not re.search(r"https?://", html)
    assert not re.search(r"<[^>]+\s(style|on\w+)=", html.split('<script type="application/json"')[0])
    assert "default-src 'none'" in html
    assert {file.name for file in tmp_path.iterdir()} == {"loop.json", "report.html", "round-1"}


def test_text_of_others_stays_text(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, 1, next=HOSTILE, recipe=HOSTILE)
    loop["rounds"][0]["guards"][0] |= {"name": HOSTILE, "detail": HOSTILE}
    write_loop(tmp_path, loop)
    file = tmp_path / "round-1" / "eval" / "eval.json"
    facts = json.loads(file.read_text())
    facts["fixed_clips"][0] |= {"prompt": HOSTILE}
    file.write_text(json.dumps(facts))
    html = page.write(tmp_path).read_text("utf-8")
    assert "<img" not in html
    assert html.count("<script") == html.count("</script>") == 2
    assert HOSTILE in {shot["prompt"] for shot in data_of(html)["shots"]}
    assert "{{ 7*7 }}" in text_of(html)


def test_clips_above_the_limit_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_loop(tmp_path, 1)
    monkeypatch.setattr(frame, "EMBED_BYTES", 20_000)
    data = data_of(page.write(tmp_path).read_text("utf-8"))
    assert data["shots"]
    assert len(data["shots"]) < 7
    assert len(json.dumps([data["shots"], data["clips"]], separators=(",", ":"))) < 20_100


def test_states_of_a_loop(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, 1)
    stopped = {"round": 1, "guard": "realism", "detail": "The lower bound of the excess is +0.004."}
    (each,) = loop["rounds"]
    each["guards"][2] |= {"fired": True, "detail": stopped["detail"]}
    text = changed(tmp_path, rounds=[each], rounds_planned=4, best=None, stopped=stopped)
    assert "No round is best: the highest dev mean" in text
    assert "a guard fired in every round above the base" in text
    assert "The loop stopped after round 1 of 4, by the guard “realism”: The lower bound of the excess is" in text
    assert "realism The lower bound of the excess is +0.004. fired" in text
    assert text.count(" quiet ") == 2
    each["dev_mean"] = 0.1
    text = changed(tmp_path, rounds=[each], stopped=None)
    assert "No round is above the base: the highest dev mean of the targets is 0.100 (round 1)" in text
    assert "1 of 4 rounds are finished: the loop is still running, or was interrupted." in text
    assert "No round is finished." in changed(tmp_path, rounds=[])


def test_what_could_not_be_measured_is_a_dash(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, 1)
    (each,) = loop["rounds"]
    nothing = {"base": None, "tuned": None, "difference": None, "low": None, "high": None}
    each["comparisons"] = [line | nothing for line in each["comparisons"]]
    unknown = {"base": None, "tuned": None, "ratio": None, "low": None, "high": None}
    no_correlation = dict.fromkeys(["motion", "brightness", "length"])
    each["measures"] = {
        "realism": None,
        "motion": unknown,
        "spread": unknown | {"base": 0.5, "tuned": 0.5, "ratio": 1.0},
        "correlation": {"base": no_correlation, "tuned": no_correlation},
        "plain": None,
    }
    each |= {"dev_mean": None, "guards": [], "targets": nothing}
    each["dataset"]["kept"] = None
    text = changed(tmp_path, rounds=[each], best=None, base={"name": "m", "dev_mean": None})
    assert "the dev mean of the targets could not be computed" in text
    assert "motion order understanding target – – dynamic attribute – – " in text
    assert text.count("no scorable videos") == 8
    assert "Round 1 not measured – – 1.000 0.500 → 0.500" in text
    each["measures"] = None
    assert "Round 1 not measured – – –" in changed(tmp_path, rounds=[each])


def test_several_targets_are_compared_by_their_mean(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, 2, [*TARGETS, "counting"], OTHERS[2:])
    html = page.write(tmp_path).read_text("utf-8")
    mean = loop["rounds"][1]["targets"]
    assert f"a difference of {mean['difference']:+.3f} (95 % interval {mean['low']:+.3f} to" in text_of(html)
    assert "mean of the targets over rounds. round 1" in html
    assert "mean of targets" not in html  # the same line under another name
    loop["rounds"][1]["targets"] |= {"low": None, "high": None}
    assert f"a difference of {mean['difference']:+.3f} (without an interval)" in changed(
        tmp_path, rounds=loop["rounds"]
    )


def test_a_second_judge_has_its_own_table(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, 1)
    (each,) = loop["rounds"]
    assert "Second judge" not in changed(tmp_path)
    each["second"] = {"judge": "other-judge@1", "comparisons": each["comparisons"][:1]}
    text = changed(tmp_path, rounds=[each])
    assert "Second judge other-judge@1 on the same videos" in text


def test_an_unreadable_state_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no readable loop\.json"):
        page.write(tmp_path)
    make_loop(tmp_path, 1)
    (tmp_path / "round-1" / "eval" / "eval.json").write_text("{")
    with pytest.raises(DatasetError, match=r"eval\.json: not readable .*`gv-data eval"):
        page.write(tmp_path)
