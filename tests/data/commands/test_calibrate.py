"""`gv-data calibrate`: tables of people in several forms, against the table that `gv-data score` writes."""

import json
from pathlib import Path

import pytest

from gigavideo_data.cli import main
from tests.support.hub_clients import here

SCORES = """file,sha256,prompt,dimension,reward,mechanics,material,reason,answers
sub/a.mp4,x,a ball falls,,0.9,0.9,0.2,,[]
b.mp4,x,a ball falls,,0.2,0.2,0.8,,[]
c.mp4,x,a cup breaks,,0.7,0.7,0.9,,[]
d.mp4,x,a cup breaks,,0.1,0.1,,,[]
e.mp4,x,a cup breaks,,,,,broken_clip,[]
"""


def calibrate(folder: Path, text: str, patch, caught, *options: str, name: str = "people.csv") -> tuple[dict, str]:
    (folder / "scores.csv").write_text(SCORES)
    (folder / name).write_text(text)
    patch.chdir(folder)
    code, printed, said = here(main, patch, caught, "calibrate", name, "--scores", "scores.csv", "--json", *options)
    return (json.loads(printed) if code == 0 else {"code": code}), said


def test_ratings_are_compared_within_a_prompt(tmp_path, monkeypatch, capsys) -> None:
    ratings = "video,score\na.mp4,5\nb.mp4,2\nc.mp4,4\nd.mp4,1\ne.mp4,1\n"  # a bare name that one file has
    facts, said = calibrate(tmp_path, ratings, monkeypatch, capsys)
    one = facts["dimensions"]["all"]
    assert (one["pairs"], one["agreement"]["value"], one["ranking"]["spearman"]["value"]) == (2, 1.0, 1.0)
    assert facts["unmatched"]["rows"] == 1
    assert "row 6" in said


def test_a_dimension_is_compared_with_the_column_of_its_name(tmp_path, monkeypatch, capsys) -> None:
    lines = ["video_a,video_b,choice,dimension", "sub/a.mp4,b.mp4,A,mechanics", "sub/a.mp4,b.mp4,A,material"]
    facts, _ = calibrate(tmp_path, "\n".join(lines), monkeypatch, capsys)
    values = {name: one["agreement"]["value"] for name, one in facts["dimensions"].items()}
    assert values == {"mechanics": 1.0, "material": 0.0}
    facts, _ = calibrate(tmp_path, "\n".join(lines), monkeypatch, capsys, "--column", "mechanics")
    assert facts["dimensions"]["material"]["agreement"]["value"] == 1.0


def test_the_columns_of_videogen_rewardbench_are_understood(tmp_path, monkeypatch, capsys) -> None:
    head = "path_A,path_B,A_model,B_model,prompt,VQ,MQ,TA,Overall"
    lines = [head, "x/a.mp4,x/b.mp4,m,n,a ball falls,A,same,B,A", "x/d.mp4,x/c.mp4,m,n,a cup breaks,B,same,A,B"]
    facts, _ = calibrate(tmp_path, "\n".join(lines), monkeypatch, capsys)
    values = {name: (one["agreement"]["value"], one["human_ties"]) for name, one in facts["dimensions"].items()}
    assert values == {"Overall": (1.0, 0), "VQ": (1.0, 0), "MQ": (None, 2), "TA": (0.0, 0)}


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("video,score\na.mp4,five\n", (), "'five': must be a number"),
        ("video_a,video_b,choice\na.mp4,b.mp4,C\n", (), "'C': must be A, B or same"),
        ("video_a,video_b\na.mp4,b.mp4\n", (), "no column choice or Overall"),
        ("video,score\nnowhere.mp4,5\n", (), "none of its videos has a score"),
        ("name,score\na.mp4,5\n", (), "no column video or file"),
        ("video,score\na.mp4,5\n", ("--column", "color"), "--column color: not in scores.csv"),
    ],
)
def test_a_table_that_says_nothing_is_refused(text, options, says, tmp_path, monkeypatch, capsys) -> None:
    facts, said = calibrate(tmp_path, text, monkeypatch, capsys, *options)
    assert facts == {"code": 2}
    assert says in said
