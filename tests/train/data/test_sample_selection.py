import math
from typing import Any

import pytest

from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_train.config import TrainConfig
from gigavideo_train.data.samples import select
from tests.support.train_set import row, rows


def chosen(made: list[Any], **settings):
    return select(made, ["mechanics"], TrainConfig.model_validate(settings))


def test_samples_with_a_reward_above_tau_are_kept_and_the_rest_is_counted_by_reason() -> None:
    selection = chosen(rows())
    assert sorted(u.reward for u in selection.samples) == pytest.approx([0.6, 0.7, 0.75, 0.75, 0.8, 0.9, 0.95])
    assert dict(selection.dropped) == {
        ("synthetic", "mechanics", "reward at most 0.5"): 1,
        ("synthetic", "mechanics", "unscorable"): 1,
    }


def test_a_pair_is_one_sample_with_its_real_clip_and_a_real_clip_alone_is_none() -> None:
    pairs = [u for u in chosen(rows()).samples if u.branch == "pr"]
    assert [(u.row["source"], u.real["source"]) for u in pairs if u.real] == [("twin", "real")] * 2
    dropped_with_its_twin = [row(20, "twin", reward=0.2), row(20, "real"), row(1, reward=0.9)]
    assert [u.branch for u in chosen(dropped_with_its_twin).samples] == ["ps"]


@pytest.mark.parametrize(("num_ps", "num_pr"), [(1, 6), (6, 1), (3, 3)])
def test_an_epoch_weights_the_branches_by_their_lambdas_whatever_their_counts(num_ps: int, num_pr: int) -> None:
    made = [row(seed) for seed in range(1, num_ps + 1)]
    for seed in range(30, 30 + num_pr):
        made += [row(seed, "twin"), row(seed, "real")]
    samples = chosen(made, lambda_ps=0.3, lambda_pr=0.7).samples
    share = {b: sum(u.scale * u.weight for u in samples if u.branch == b) / len(samples) for b in ("ps", "pr")}
    assert share == pytest.approx({"ps": 0.3, "pr": 0.7})


def test_a_single_branch_has_all_the_weight() -> None:
    samples = chosen([row(1), row(2)]).samples
    assert [u.scale for u in samples] == [1.0, 1.0]


def test_mean1_weights_have_mean_1_per_branch_and_none_is_the_papers_reward() -> None:
    samples = chosen(rows()).samples
    for branch in ("ps", "pr"):
        mine = [u.weight for u in samples if u.branch == branch]
        assert sum(mine) / len(mine) == pytest.approx(1)
    for u in chosen(rows(), normalize="none").samples:
        assert u.weight == pytest.approx(u.reward)


def test_sft_filtered_has_equal_weights_and_sft_also_keeps_unscorable_samples() -> None:
    filtered, everything = chosen(rows(), strategy="sft-filtered"), chosen(rows(), strategy="sft")
    assert {u.weight for u in (*filtered.samples, *everything.samples)} == {1.0}
    assert {u.id for u in filtered.samples} == {u.id for u in chosen(rows()).samples}
    assert len(everything.samples) == 9
    assert not everything.dropped
    for strategy in ("reweight-online", "backprop-online"):  # their rewards are found while training
        assert chosen(rows(), strategy=strategy) == everything
    assert everything.effective_size == pytest.approx(9)


def test_exp_weights_grow_with_the_z_scored_reward_and_are_clipped() -> None:
    samples = [
        u for u in chosen(rows(), weight_map="exp", normalize="none", weight_clip=1.0).samples if u.branch == "ps"
    ]
    by_reward = sorted(samples, key=lambda u: u.reward or 0)
    assert [u.weight for u in by_reward] == sorted(u.weight for u in samples)
    assert by_reward[0].weight == pytest.approx(math.exp(-1))
    assert by_reward[-1].weight == pytest.approx(math.exp(1))
    pairs = [u for u in chosen(rows(), weight_map="exp", normalize="none").samples if u.branch == "pr"]
    assert [u.weight for u in pairs] == [1.0, 1.0]  # equal rewards


def test_group_weights_compare_samples_of_one_prompt_and_drop_singletons() -> None:
    made = [row(1, reward=0.9, prompt=40), row(2, reward=0.6, prompt=40), row(3, reward=0.9)]
    samples = chosen(made, weight_map="group", normalize="none", weight_beta=0.1).samples
    assert len(samples) == 2
    assert sum(u.weight for u in samples) == pytest.approx(2)
    assert max(samples, key=lambda u: u.weight).reward == pytest.approx(0.9)


def test_the_effective_sample_size_decreases_with_uneven_weights() -> None:
    even = chosen([row(1, reward=0.8), row(2, reward=0.8)]).effective_size
    uneven = chosen([row(1, reward=1.0), row(2, reward=0.1)], tau=0.0).effective_size
    assert even == pytest.approx(2)
    assert uneven == pytest.approx(1.1**2 / (1 + 0.01), rel=1e-4)


def test_each_dimension_may_have_a_threshold_of_its_own() -> None:
    made = [row(1, reward=0.9), row(2, reward=0.65), row(20, "twin", reward=0.45), row(20, "real")]
    selection = chosen(made, tau={"mechanics": 0.7, "captions": 0.4})
    assert [sample.reward for sample in selection.samples if sample.branch == "ps"] == [pytest.approx(0.9)]
    assert [sample.reward for sample in selection.samples if sample.branch == "pr"] == [pytest.approx(0.45)]
    assert selection.tau == {"mechanics": 0.7, "captions": 0.4}
    assert selection.dropped == {("synthetic", "mechanics", "reward at most 0.7"): 1}
    assert chosen(made, tau={"captions": 0.4}).tau == {"mechanics": 0.5, "captions": 0.4}
    assert chosen(made, strategy="sft").tau == {}
    with pytest.raises(RecipeError, match=r"tau: 'mechanic' is not trained; .*mechanics"):
        chosen(made, tau={"mechanic": 0.7})


@pytest.mark.parametrize(
    ("rewards", "share", "kept"),
    [
        ((0.1, 0.2, 0.3, 0.4), 0.5, {0.3, 0.4}),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0.5, {0.4, 0.5}),
        ((0.1, 0.2, 0.3, 0.4), 0.99, {0.4}),
        ((0.1, 0.2, 0.3, 0.4), 0.01, {0.2, 0.3, 0.4}),
        ((0.0, 0.0, 0.0, 0.1), 0.5, {0.1}),
        ((0.0, 1.0, 1.0, 1.0), 0.5, {1.0}),
        ((1.0, 1.0), 0.5, {1.0}),
    ],
)
def test_a_quantile_keeps_the_best_samples_of_each_dimension(
    rewards: tuple[float, ...], share: float, kept: set[float]
) -> None:
    made = [row(seed, reward=reward) for seed, reward in enumerate(rewards, start=1)]
    made += [row(20, "twin", reward=0.05), row(20, "real")]
    samples = chosen(made, tau_quantile=share).samples
    assert {round(sample.reward or 0.0, 4) for sample in samples if sample.branch == "ps"} == kept
    assert [sample.reward for sample in samples if sample.branch == "pr"] == [pytest.approx(0.05)], "by itself"


def test_a_quantile_never_keeps_a_reward_of_0() -> None:
    with pytest.raises(DatasetError, match="nothing to train on: of 2 samples 2 reward at most 0"):
        chosen([row(1, reward=0.0), row(2, reward=0.0)], tau_quantile=0.5)


def test_hard_rewards_are_kept_above_0() -> None:
    made = [row(1, reward=0.25), row(2, reward=0.9)]
    for each in made:
        each["answers"] = [{**answer, "readout": "text"} for answer in each["answers"]]
    assert len(chosen(made).samples) == 2


def test_preferences_pair_samples_of_one_prompt_winner_first() -> None:
    made = [row(1, reward=0.2, prompt=40), row(2, reward=0.9, prompt=40), row(3, reward=0.85, prompt=40), row(4)]
    samples = chosen(made, strategy="dpo", dpo_margin=0.5).samples
    assert sorted((u.reward, u.loser["rewards"][0]["value"]) for u in samples if u.loser) == [
        (pytest.approx(0.85), pytest.approx(0.2)),
        (pytest.approx(0.9), pytest.approx(0.2)),
    ]


def test_several_dimensions_are_averaged_with_their_weights() -> None:
    made = [row(1, reward=0.9), row(2, reward=0.9)]
    made[0]["rewards"] = [
        {"dimension": "mechanics", "value": 0.9, "status": "scored", "reason": None},
        {"dimension": "composition", "value": 0.3, "status": "scored", "reason": None},
    ]
    made[1]["rewards"] = [
        {"dimension": "mechanics", "value": 0.9, "status": "scored", "reason": None},
        {"dimension": "composition", "value": None, "status": "unscorable", "reason": "low_mass"},
    ]
    settings = {"dimensions": ("mechanics", "composition"), "dimension_weights": {"mechanics": 3.0}, "tau": 0.0}
    with pytest.raises(ValueError, match="only with reward=mean"):
        chosen(made, **settings)
    settings["reward"] = "mean"
    samples = {u.id: u.reward for u in chosen(made, **settings).samples}
    assert samples[made[0]["id"]] == pytest.approx((3 * 0.9 + 0.3) / 4)
    assert samples[made[1]["id"]] == pytest.approx(0.9)


def test_an_unknown_dimension_is_reported_with_the_known_ones() -> None:
    with pytest.raises(DatasetError, match=r"'composition'.*mechanics"):
        chosen(rows(), dimensions=("composition",))


def test_the_error_without_kept_samples_names_what_was_dropped_and_why() -> None:
    with pytest.raises(DatasetError, match=r"2 reward at most 0.5 \(synthetic\)"):
        chosen([row(1, reward=0.0), row(2, reward=0.0)])
    with pytest.raises(DatasetError, match="nothing to train on"):
        chosen([row(1), row(2)], strategy="dpo")


def test_a_weight_for_a_dimension_that_is_not_trained_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"'mechanic' is not trained; did you mean 'mechanics'"):
        chosen(rows(), reward="mean", dimension_weights={"mechanic": 2.0})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mechanic", r"did you mean 'mechanics'\?"),
        ("physics", "it is a group: write mechanics, or some"),
        ("material", "one of: mechanics"),
    ],
)
def test_a_dimension_without_scores_gets_a_suggestion(name: str, words: str) -> None:
    with pytest.raises(DatasetError, match=f"no row was written for '{name}', .*{words}"):
        chosen(rows(), dimensions=(name,))


def written_for(dimension: str, seed: int, rewards: dict[str, float | None]) -> Any:
    """A row written for one dimension and scored on several."""
    entries = [
        {"dimension": name, "value": value, "status": "unscorable" if value is None else "scored", "reason": None}
        for name, value in rewards.items()
    ]
    return row(seed) | {"dimension": dimension, "rewards": entries, "reward": rewards[dimension]}


SEVERAL = [
    written_for("camera_motion", 31, {"camera_motion": 0.05, "composition": 1.0}),
    written_for("camera_motion", 32, {"camera_motion": 0.8, "composition": 0.0}),
    written_for("composition", 33, {"camera_motion": 0.0, "composition": 0.7}),
    written_for("composition", 34, {"camera_motion": 0.9, "composition": None}),
]


def test_a_row_is_kept_and_weighted_by_its_column_reward_only() -> None:
    selection = select(SEVERAL, ["camera_motion", "composition"], TrainConfig(normalize="none"))
    assert {u.id: u.weight for u in selection.samples} == {SEVERAL[1]["id"]: 0.8, SEVERAL[2]["id"]: 0.7}
    assert dict(selection.dropped) == {
        ("synthetic", "camera_motion", "reward at most 0.5"): 1,
        ("synthetic", "composition", "unscorable"): 1,
    }
    mean = select(SEVERAL, ["camera_motion", "composition"], TrainConfig(reward="mean"))
    assert {u.id for u in mean.samples} == {SEVERAL[0]["id"], SEVERAL[3]["id"]}


def test_a_twin_has_its_column_reward() -> None:
    twin = row(20, "twin") | {"reward": 0.6}
    (pair,) = select([twin, row(20, "real")], ["mechanics"], TrainConfig(dimensions=("mechanics",))).samples
    assert pair.reward == 0.6


@pytest.mark.parametrize("strategy", ["sft", "reweight", "dpo", "reweight-online"])
def test_rows_of_a_dimension_that_is_not_trained_are_left_out_by_every_strategy(strategy: str) -> None:
    made = [*SEVERAL, written_for("camera_motion", 35, {"camera_motion": 0.1}) | {"prompt": SEVERAL[1]["prompt"]}]
    made[4]["generator"] = SEVERAL[1]["generator"]
    config = TrainConfig.model_validate({"strategy": strategy, "dimensions": ("camera_motion",)})
    selection = select(made, ["camera_motion", "composition"], config)
    assert {u.row["dimension"] for u in selection.samples} == {"camera_motion"}
    assert selection.dropped["synthetic", "composition", "other_dimension"] == 2


def test_a_target_without_rows_to_train_on_does_not_stop_the_others() -> None:
    assert len(select([row(1)], ["mechanics", "composition"], TrainConfig()).samples) == 1
