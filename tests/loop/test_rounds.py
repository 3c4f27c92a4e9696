"""The loop with commands that write files only: the order of commands, their arguments, resuming, the best round."""

import json
from pathlib import Path

import pytest

from gigavideo_data.errors import RecipeError, RunError
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.models.spec import folder_revision
from gigavideo_loop import state
from gigavideo_loop.setting import load_recipe
from tests.support.loop_commands import RECIPE, FakeCommands, Killed, run


def without_seconds(out: Path) -> dict:
    loop = json.loads((out / "loop.json").read_text().replace(str(out), "OUT"))
    for one in loop["rounds"]:
        assert set(one.pop("seconds")) == {"build", "train", "eval"}
    return loop


def test_each_round_starts_from_the_model_of_the_round_before(tmp_path: Path) -> None:
    commands, out = FakeCommands(), tmp_path / "loop"
    loop = run(out, commands)
    assert commands.names() == ["build", "train", "eval"] * 3
    models = [str(out / f"round-{number}/model") for number in (1, 2, 3)]
    builds, trains, evals = (commands.options(name) for name in ("build", "train", "eval"))
    assert [json.loads(one.get("generators.0.model", "null")) for one in builds] == [None, *models[:2]]
    assert [one["--model"] for one in trains] == ["miniature", *models[:2]]
    assert [one.get("anchor_model") for one in trains] == [None, '"miniature"', '"miniature"']
    assert {one["nft_kappa"] for one in trains} == {"0.1"}
    assert [one["--tuned"] for one in evals] == models
    assert {(one["--base"], one["--prompts"], one["--split"]) for one in evals} == {
        ("miniature", str(out / "round-1/dataset"), "dev")
    }
    assert [one["model_hash"] for one in loop["rounds"]] == [folder_revision(Path(model)) for model in models]
    assert (loop["best"], loop["stopped"], loop["others"]) == (3, None, ["mechanics"])
    assert [one["dev_mean"] for one in loop["rounds"]] == pytest.approx([0.35, 0.4, 0.45])
    assert loop["base"]["dev_mean"] == pytest.approx(0.3)


def test_later_rounds_have_seeds_of_their_own_fresh_prompts_and_no_evaluation_prompts(tmp_path: Path) -> None:
    commands = FakeCommands()
    run(tmp_path / "loop", commands)
    first, second, third = commands.options("build")
    assert not {"seed", "video_seed", "prompts.used", "eval_prompts.per_dimension"} & set(first)
    assert second["seed"] != third["seed"]
    datasets = [str(tmp_path / f"loop/round-{number}/dataset") for number in (1, 2)]
    assert [json.loads(one["prompts.used"]) for one in (second, third)] == [datasets[:1], datasets]
    assert {one["eval_prompts.per_dimension"] for one in (second, third)} == {"0"}
    assert "blocklists" not in second, "the grammar keeps its splits apart"


def test_same_prompts_change_the_seed_of_videos_alone(tmp_path: Path) -> None:
    commands = FakeCommands()
    run(tmp_path / "loop", commands, same_prompts=True)
    first, second, third = commands.options("build")
    assert len({one.get("video_seed") for one in (first, second, third)}) == 3
    assert not {"seed", "prompts.used"} & (set(second) | set(third))


def test_a_language_model_must_not_write_an_evaluation_prompt_in_a_later_round(tmp_path: Path) -> None:
    commands, out = FakeCommands(), tmp_path / "loop"
    run(out, commands, "writer={backend: vllm, model: org/writer}", rounds=2)
    assert json.loads(commands.options("build")[1]["blocklists"]) == [str(out / "held_out.json")]
    assert json.loads((out / "held_out.json").read_text()) == ["a ball rolls"]


def test_an_adapter_is_continued_and_loaded_into_the_first_model(tmp_path: Path) -> None:
    commands, out = FakeCommands(lora=True), tmp_path / "loop"
    run(out, commands, rounds=2)
    adapter = str(out / "round-1/model")
    build, train = commands.options("build")[1], commands.options("train")[1]
    assert json.loads(build["generators.0.adapter"]) == adapter
    assert json.loads(build["generators.0.model"]) == "miniature"
    assert (train["--model"], train["--adapter"], train.get("anchor_model")) == ("miniature", adapter, None)
    assert [(one["--tuned"], one["--adapter"]) for one in commands.options("eval")] == [
        ("miniature", adapter),
        ("miniature", str(out / "round-2/model")),
    ]


def test_other_strategies_have_no_anchor(tmp_path: Path) -> None:
    commands = FakeCommands()
    run(tmp_path / "loop", commands, strategy="reweight", rounds=2, train_settings=("lr=1e-5",), processes=2)
    for one in commands.options("train"):
        assert not {"anchor_model", "nft_kappa"} & set(one)
        assert (one["lr"], one["--processes"], one["--strategy"]) == ("1e-5", "2", "reweight")


@pytest.mark.parametrize(
    ("call", "place", "repeated"),
    [
        (1, "during", "build"),  # while the first dataset is built
        (2, "after", "train"),  # the model is written, but the step is not recorded
        (4, "before", "build"),  # between two rounds
        (6, "during", "eval"),
        (9, "after", "eval"),  # the last evaluation is written, loop.json is not
    ],
)
def test_a_killed_loop_ends_as_an_uninterrupted_one(tmp_path: Path, call: int, place: str, repeated: str) -> None:
    whole, cut = tmp_path / "a" / "loop", tmp_path / "b" / "loop"
    uninterrupted = FakeCommands()
    run(whole, uninterrupted)
    killed, rest = FakeCommands(killed_at=(call, place)), FakeCommands()
    with pytest.raises(Killed):
        run(cut, killed)
    run(cut, rest)
    assert without_seconds(cut) == without_seconds(whole)
    datasets = [
        [(folder / f"round-{number}/dataset/manifest.json").read_text() for number in (1, 2, 3)]
        for folder in (whole, cut)
    ]
    assert datasets[0] == datasets[1]
    assert killed.names() + rest.names()[1:] == uninterrupted.names(), "one command is repeated"
    assert rest.names()[0] == repeated


def test_a_kill_while_loop_json_is_written_loses_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands, out = FakeCommands(), tmp_path / "loop"

    def killed(path: Path, data: bytes) -> None:
        if path.name == "loop.json" and len(commands.calls) == 6:
            raise Killed
        write_durably(path, data)

    monkeypatch.setattr(state, "write_durably", killed)
    with pytest.raises(Killed):
        run(out, commands)
    monkeypatch.undo()
    assert len(json.loads((out / "loop.json").read_text())["rounds"]) == 1
    run(out, commands)
    assert len(commands.calls) == 9


def test_a_finished_loop_runs_nothing_and_can_get_more_rounds(tmp_path: Path) -> None:
    out = tmp_path / "loop"
    run(out, FakeCommands(), rounds=2)
    again = FakeCommands()
    assert run(out, again, rounds=2)["best"] == 2
    assert again.calls == []
    assert run(out, again, rounds=3)["best"] == 3
    assert len(again.calls) == 3


def test_it_stops_without_a_new_best_and_names_the_best_round_not_the_last(tmp_path: Path) -> None:
    commands = FakeCommands(gains=(0.1, 0.05, 0.08, 0.2))
    loop = run(tmp_path / "loop", commands, rounds=4)
    assert loop["stopped"] is not None
    assert (loop["stopped"]["round"], loop["stopped"]["guard"], loop["best"]) == (3, "no new best", 1)
    assert len(commands.calls) == 9
    more = FakeCommands(gains=commands.gains, losses=(0.0,) * 4)
    assert run(tmp_path / "loop", more, rounds=4)["stopped"] == loop["stopped"]
    assert more.calls == []
    loop = run(tmp_path / "loop", more, rounds=4, guards_off=frozenset({"no new best"}))
    assert (loop["stopped"], loop["best"], len(more.calls)) == (None, 4, 3)


def test_a_round_that_does_harm_elsewhere_stops_the_loop_and_is_not_the_best(tmp_path: Path) -> None:
    loop = run(tmp_path / "loop", FakeCommands(losses=(0.0, -0.1, 0.0)))
    assert loop["stopped"] is not None
    assert (loop["stopped"]["round"], loop["stopped"]["guard"], loop["best"]) == (2, "other dimensions", 1)
    assert "mechanics" in loop["stopped"]["detail"]


def test_a_round_may_be_the_best_once_its_guard_is_switched_off(tmp_path: Path) -> None:
    commands, out = FakeCommands(gains=(0.05, 0.3, 0.1), losses=(0.0, -0.1, 0.0)), tmp_path / "loop"
    assert run(out, commands)["best"] == 1
    loop = run(out, commands, guards_off=frozenset({"other dimensions"}))
    assert (loop["stopped"], loop["best"], len(loop["rounds"])) == (None, 2, 3)
    assert [guard["name"] for guard in loop["rounds"][1]["guards"] if guard["fired"]] == ["other dimensions"]
    assert "round-2/model" in loop["next"]
    from_the_start = run(tmp_path / "other", commands, guards_off=frozenset({"other dimensions"}))
    assert from_the_start["best"] == loop["best"]


def test_a_loop_that_two_guards_stopped_goes_on_when_both_are_switched_off(tmp_path: Path) -> None:
    commands, out = FakeCommands(gains=(-0.1, -0.1, 0.1), losses=(0.0, -0.1, 0.0)), tmp_path / "loop"
    both = ["no new best", "other dimensions"]
    loop = run(out, commands)
    assert [guard["name"] for guard in loop["rounds"][1]["guards"] if guard["fired"]] == both
    stops = [run(out, commands, guards_off=frozenset({name}))["stopped"] for name in both]
    assert [stopped and stopped["guard"] for stopped in stops] == both[::-1]
    loop = run(out, commands, guards_off=frozenset(both))
    assert (loop["stopped"], loop["best"], len(loop["rounds"])) == (None, 3, 3)


def test_without_a_round_above_the_base_there_is_no_best_one(tmp_path: Path) -> None:
    commands = FakeCommands(gains=(-0.01, -0.02))
    loop = run(tmp_path / "loop", commands, rounds=2, model_repo="org/model")
    assert loop["best"] is None
    assert "No round is better than the base" in loop["next"]
    assert not commands.options("push")


def test_a_changed_model_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "loop"
    with pytest.raises(Killed):
        run(out, FakeCommands(killed_at=(4, "before")))
    (out / "round-1/model/weights.safetensors").write_text("other")
    with pytest.raises(RunError, match="the model was changed"):
        run(out, FakeCommands())


def test_a_dataset_of_another_model_is_refused(tmp_path: Path) -> None:
    class OtherModel(FakeCommands):
        def _build(self, arguments: list[str], killed: bool) -> dict:
            return super()._build([part for part in arguments if "generators.0" not in part], killed)

    with pytest.raises(RunError, match="were generated by"):
        run(tmp_path / "loop", OtherModel())


def test_a_folder_of_another_loop_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "loop"
    run(out, FakeCommands(), rounds=1)
    for overrides, options, message in (
        (["name=other"], {}, "not of other"),
        (["samples_per_prompt=3"], {}, "another version of the recipe"),
        ([], {"strategy": "sft"}, "strategy 'nft', now 'sft'"),
        ([], {"kappa": 0.2}, "kappa 0.1, now 0.2"),
        ([], {"train_settings": ("lr=1e-5",)}, "now \\['lr=1e-5'\\]"),
    ):
        with pytest.raises(RecipeError, match=message):
            run(out, FakeCommands(), *overrides, **options)
    (out / "loop.json").unlink()
    with pytest.raises(RecipeError, match=r"holds rounds but no loop\.json"):
        run(out, FakeCommands())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("eval_prompts.per_dimension=0", r"eval_prompts\.per_dimension is 0"),
        ("generators=[{model: miniature}, {model: ./other}]", "2 generators"),
        ("generators=[{model: miniature, adapter: ./lora}]", "has an adapter"),
    ],
)
def test_a_recipe_of_which_no_loop_can_be_made_is_refused(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("quickstart", [*RECIPE, override])
