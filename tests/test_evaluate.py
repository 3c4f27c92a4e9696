from pathlib import Path

from gigavideo_data import evaluate, paired

FACTS = {
    "split": "test",
    "judge": "miniature@1",
    "same_judge": True,
    "comparisons": paired.facts(
        paired.compare([paired.Scored("mechanics", f"p{i}", 0, 0.25, 0.5 + i / 100) for i in range(4)])
    ),
}


def test_scores_go_into_the_card_between_their_marks_and_are_replaced_by_later_ones(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# a model\n<!-- scores -->\nnone yet\n<!-- /scores -->\n## Settings\n")
    evaluate.write_scores(tmp_path, FACTS)
    first = card.read_text()
    assert "| mechanics | 0.25 |" in first
    assert "none yet" not in first
    assert first.startswith("# a model\n")
    assert first.endswith("<!-- /scores -->\n## Settings\n")
    evaluate.write_scores(tmp_path, FACTS)
    assert card.read_text() == first


def test_a_card_of_others_is_left_alone(tmp_path: Path) -> None:
    evaluate.write_scores(tmp_path, FACTS)  # no card at all
    card = tmp_path / "README.md"
    card.write_text("# not ours\n")
    evaluate.write_scores(tmp_path, FACTS)
    assert card.read_text() == "# not ours\n"
