"""A dataset that made more samples of some prompts says so: card, page, `gv-data inspect`, merged datasets."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from gigavideo_data.commands.merge import merge
from gigavideo_data.commands.republish import read_stored, republish
from gigavideo_data.commands.rescore import recompute
from gigavideo_data.dataset import summary
from gigavideo_data.dataset.manifest import Sampled
from gigavideo_data.dataset.reader import read_manifest, read_video_rows
from gigavideo_data.dataset.verify import verify_folder
from tests.support.rows import DIMENSION, make_row, make_rows, write_set

LINE: Sampled = {
    "recipe_hash": "00112233445566aa",
    "dimension": DIMENSION,
    "first": 2,
    "more": 6,
    "tau": 0.5,
    "prompts": {"different": 41, "always_right": 23, "always_wrong": 77, "unscored": 5},
}


def with_lines(folder: Path, out: Path, lines: list[Sampled]) -> Path:
    republish(out, read_stored(folder), list(read_video_rows(folder)), changes={"sampled": lines})
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sets = tmp_path_factory.mktemp("sets")
    return with_lines(write_set(sets / "plain"), sets / "sampled", [LINE])


def test_card_page_and_inspect_state_the_rule_and_the_numbers(folder: Path) -> None:
    card, page = ((folder / name).read_text("utf-8") for name in ("README.md", "report.html"))
    screen = io.StringIO()
    summary.show(summary.summarize(folder), Console(file=screen, width=160))
    assert "| mechanics | `00112233445566aa` | 2 | 6 | 0.5 | 41 | 23 | 77 | 5 |\n\n" in card
    assert "hard prompts have fewer videos than easier ones" in " ".join(card.split())
    assert "hard prompts have fewer videos than easier ones" in page
    assert all(f'<td class="n">{number}</td>' in page for number in (41, 23, 77, 5))
    assert "2, then 6 more" in screen.getvalue()
    verify_folder(folder)


def test_a_dataset_with_one_number_of_samples_mentions_none_of_it(tmp_path: Path) -> None:
    folder = with_lines(write_set(tmp_path / "plain"), tmp_path / "same", [])
    assert "amples per prompt" not in (folder / "README.md").read_text("utf-8")
    assert 'id="sampled"' not in (folder / "report.html").read_text("utf-8")


def test_new_rewards_change_nothing_of_what_the_build_decided(folder: Path, tmp_path: Path) -> None:
    recompute(folder, tmp_path / "strict", min_mass=0.9)
    assert read_manifest(tmp_path / "strict")["sampled"] == [LINE]


def test_a_merged_dataset_lists_the_numbers_of_each_build(folder: Path, tmp_path: Path) -> None:
    other: Sampled = {**LINE, "recipe_hash": "ffeeddccbbaa9988", "first": 3}
    plain = write_set(tmp_path / "plain", [*make_rows()[:2], make_row(710)])
    second = with_lines(plain, tmp_path / "second", [other])
    merge([plain, folder, second], tmp_path / "joined")
    assert read_manifest(tmp_path / "joined")["sampled"] == [LINE, other]
    merge([plain, write_set(tmp_path / "third", [make_row(711)])], tmp_path / "without")
    assert "sampled" not in read_manifest(tmp_path / "without")
