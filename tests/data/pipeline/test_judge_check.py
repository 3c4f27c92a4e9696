"""Can the judge tell? The check must find out a blind judge, an agreeable one, and one that sees."""

import pytest

from gigavideo_data.miniature.writer import GrammarWriter
from gigavideo_data.pipeline.judge_check import plan, summary
from gigavideo_data.pipeline.row import Row
from gigavideo_data.scoring.judge_verdict import verdict

DIMENSION = "motion_order_understanding"


def rows(source: str, num_rows: int) -> list[Row]:
    writer = GrammarWriter({})
    return [
        Row(
            source,
            prompt,
            dimension=DIMENSION if source == "synthetic" else None,
            prompt=prompt,
            asks={DIMENSION: writer.questions(prompt, DIMENSION)["questions"]},
            clip={"video_sha256": f"{number:064}"},
        )
        for number, prompt in enumerate(
            draft["prompt"] for draft in writer.prompts(DIMENSION, num_rows, 0, "train")["prompts"]
        )
    ]


def sees(trial, question: str) -> float:
    """P(yes) of a judge that knows what the row's prompt says."""
    negated = question.startswith("Is the answer no: ")
    plain = question.removeprefix("Is the answer no: ").capitalize()
    yes = any(q["question"] == plain and q["expected"] == "yes" for q in trial.own)
    return 0.9 if yes != negated else 0.1


JUDGES = {
    "sees": (sees, "passed"),
    "blind": (lambda _trial, _question: 0.5, "failed"),
    "agreeable": (lambda _trial, _question: 0.95, "failed"),
}


@pytest.mark.parametrize("name", JUDGES)
def test_verdict_on_judges_of_known_skill(name):
    p_yes, expected = JUDGES[name]
    trials = plan(rows("synthetic", 30), rows("real", 30), [DIMENSION], 50)
    records = [{"answers": [{"p_yes": p_yes(t, q), "p_no": 1 - p_yes(t, q)} for q in t.asked]} for t in trials]
    (check,) = summary(trials, records, [DIMENSION], 0.5)
    assert (check["videos"], check["real_videos"]) == (30, 30)
    assert verdict(check)[0] == expected
    assert check["yes_bias"] == pytest.approx({"sees": 0.0, "blind": 0.0, "agreeable": 0.45}[name])


def test_at_most_the_asked_number_of_videos_is_checked_and_none_is_asked_its_own_promise_as_foreign():
    trials = plan(rows("synthetic", 20), [], [DIMENSION], 7)
    assert len(trials) == 7
    for trial in trials:
        own = {q["question"] for q in trial.own if q["expected"] == "yes"}
        assert trial.foreign
        assert not own & {q["question"] for q in trial.foreign if q["expected"] == "yes"}


def test_with_nothing_to_compare_there_is_no_verdict():
    (check,) = summary([], [], [DIMENSION], 0.5)
    assert verdict(check)[0] == "too few videos"
