import json
from pathlib import Path

import pytest

from gigavideo_data.commands import evaluate
from gigavideo_data.commands.evaluation import candidates, output
from gigavideo_data.commands.evaluation.setting import ENDPOINT_VARIABLE, Setting, read_setting
from gigavideo_data.dataset.writer import write_dataset
from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.models.generators.profiles import MODEL_INFO_FILE
from gigavideo_data.scoring import bootstrap
from tests.support.rows import COST, make_eval_prompts, make_manifest, make_rejects, make_rows, write_set

FACTS = {
    "split": "test",
    "others": ["mechanics"],
    "judge": "miniature@1",
    "judge_note": "A remark.",
    "comparisons": bootstrap.facts(
        bootstrap.compare([bootstrap.Scored("mechanics", f"p{i}", 0, 0.25, 0.5 + i / 100) for i in range(4)])
    ),
}


def test_scores_go_into_the_card_between_their_marks_and_are_replaced_by_later_ones(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# a model\n<!-- scores -->\nnone yet\n<!-- /scores -->\n## Settings\n")
    output.write_scores(tmp_path, FACTS)
    first = card.read_text()
    assert "| mechanics (other) | 0.25 |" in first
    assert "| 4 of 4 | perhaps better |" in first  # of four prompts
    assert "judge `miniature@1`. A remark." in first
    assert "**others**: mechanics: base 0.25, tuned 0.52, difference +0.27 " in first  # the sum comes before the table
    assert first.index("**others**") < first.index("| dimension |")
    assert "none yet" not in first
    assert first.startswith("# a model\n")
    assert first.endswith("<!-- /scores -->\n## Settings\n")
    output.write_scores(tmp_path, FACTS)
    assert card.read_text() == first


def test_a_dataset_does_not_choose_the_endpoint(tmp_path: Path) -> None:
    rows, rejects = make_rows(), make_rejects()
    manifest = make_manifest(rows, rejects)
    judge = {"backend": "http", "model": "m", "endpoint": "http://attacker.example/v1", "min_mass": 0.5}
    manifest["recipe"] = {"judge": judge}
    write_dataset(tmp_path, rows, make_eval_prompts(), rejects, manifest, COST)
    with pytest.raises(RecipeError, match="endpoint"):
        read_setting(tmp_path, "test")
    ours = read_setting(tmp_path, "test", ["judge.endpoint=http://127.0.0.1:9/v1"])
    assert ours.judge.endpoint == "http://127.0.0.1:9/v1"


def test_a_card_of_others_is_left_alone(tmp_path: Path) -> None:
    output.write_scores(tmp_path, FACTS)  # no card at all
    card = tmp_path / "README.md"
    card.write_text("# not ours\n")
    output.write_scores(tmp_path, FACTS)
    assert card.read_text() == "# not ours\n"


def test_models_are_shown_by_name_and_never_by_path(tmp_path: Path) -> None:
    (tmp_path / "order" / "model").mkdir(parents=True)
    assert candidates.Candidate(str(tmp_path / "order" / "model")).name == "order"
    assert candidates.Candidate(str(tmp_path / "order")).name == "order"
    assert candidates.Candidate("miniature", Path("runs/train/lora")).name == "miniature + lora"


def test_a_comparison_samples_and_judges_as_the_dataset_did_unless_overridden(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["recipe"] |= {"judge": {"min_mass": 0.25}, "generators": [{"steps": 7}]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    same = read_setting(folder, "test")
    assert (same.judge.min_mass, same.judge.readout, same.generator.steps) == (0.25, "logits", 7)
    assert [q["dimension"] for prompt in same.prompts for q in prompt["questions"]] == [
        "mechanics"
    ] * 2  # others count not
    other = read_setting(folder, "test", ["judge.readout=text", "generators.0.steps=4"])
    assert (other.judge.min_mass, other.judge.readout, other.generator.steps) == (0.25, "text", 4)
    assert other.prompts == same.prompts
    manifest["rescored"] = {"min_mass": 0.75, "combine": {"mechanics": "all"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    rescored = read_setting(folder, "test")
    assert (rescored.judge.min_mass, rescored.judging.combine) == (0.75, {"mechanics": "all"})
    with pytest.raises(RecipeError, match="readuot"):
        read_setting(folder, "test", ["judge.readuot=text"])
    with pytest.raises(RecipeError, match="prompts"):
        read_setting(folder, "test", ["prompts.variants=2"])
    manifest["recipe"] |= {"generators": [{"guidance": 1.0}], "eval_prompts": {"guidance": 3.0}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert read_setting(folder, "test").generator.guidance == 3.0
    assert read_setting(folder, "test", ["generators.0.guidance=2.0"]).generator.guidance == 2.0


@pytest.mark.parametrize(
    ("judge", "of_training", "words"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct@a", "Qwen/Qwen2.5-VL-7B-Instruct@a", "the same as in training"),
        ("Qwen/Qwen2.5-VL-7B-Instruct@a", "Qwen/Qwen3-VL-8B-Instruct", "of the same family"),
        ("lmms-lab/LLaVA-OneVision-7B", "Qwen/Qwen3-VL-8B-Instruct", None),
    ],
)
def test_a_judge_of_the_same_family_as_that_of_the_rewards_gives_a_remark(
    judge: str, of_training: str, words: str | None
) -> None:
    note = evaluate.judge_note([judge], [of_training])
    assert note is None if words is None else words in str(note)


WAN, COMMIT, OTHER = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "a" * 40, "b" * 40


@pytest.fixture
def hub(monkeypatch) -> None:
    """A Hub whose main branches are at OTHER."""
    monkeypatch.setattr("gigavideo_data.hub.pin.commit_of", lambda *named: named[1] or OTHER)


def setting_of(folder: Path, **manifest: object) -> Setting:
    """The setting of a small set with other values in its manifest."""
    path = write_set(folder) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | manifest))
    return read_setting(folder, "test")


def prompts_only(folder: Path) -> Setting:
    """The setting of a Parquet file of prompts."""
    (file,) = (write_set(folder) / "eval_prompts").glob("test-*.parquet")
    return read_setting(file, "test")


def tuned_model(folder: Path, profile: str, **recorded: object) -> str:
    """A folder that is signed as gv-train signs a tuned model."""
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    (folder / MODEL_INFO_FILE).write_text(json.dumps({"profile": profile, "dimensions": [], **recorded}))
    return str(folder)


@pytest.mark.usefixtures("hub")
def test_the_default_base_is_the_datasets_target_at_the_commit_that_made_its_videos(tmp_path: Path) -> None:
    recipe = {"judge": {"min_mass": 0.5}, "generators": [{"model": WAN, "revision": COMMIT}]}
    setting = setting_of(tmp_path / "set", target_model=WAN, recipe=recipe)
    tuned = tuned_model(tmp_path / "tuned", WAN, base=WAN, commit=COMMIT)
    base, second = candidates.candidates(None, tuned, None, setting)
    assert base == candidates.Candidate(WAN, commit=COMMIT)
    assert second == candidates.Candidate(tuned)
    assert candidates.base_note(base, second) is None
    named = candidates.candidates(f"{WAN}@{OTHER}", tuned, None, setting)
    assert named[0] == candidates.Candidate(WAN, commit=OTHER)
    assert f"tuned from {WAN}@{COMMIT} and is compared with {WAN}@{OTHER}" in str(candidates.base_note(*named))
    same = candidates.candidates(None, WAN, tmp_path / "lora", setting)
    assert same == (base, candidates.Candidate(WAN, tmp_path / "lora", COMMIT))


@pytest.mark.usefixtures("hub")
def test_a_model_of_a_later_round_may_be_compared_with_each_model_that_it_descends_from(tmp_path: Path) -> None:
    setting = setting_of(tmp_path / "set", target_model=WAN, recipe={"judge": {"min_mass": 0.5}})
    first = tuned_model(tmp_path / "first", WAN, base=WAN, commit=COMMIT)
    third = tuned_model(tmp_path / "third", WAN, base="second", commit=None, ancestors=["first", f"{WAN}@{COMMIT}"])
    for base in (first, f"{WAN}@{COMMIT}"):
        assert candidates.base_note(*candidates.candidates(base, third, None, setting)) is None
    note = candidates.base_note(*candidates.candidates(f"{WAN}@{OTHER}", third, None, setting))
    assert f"third was tuned from second and is compared with {WAN}@{OTHER}" in str(note)


@pytest.mark.usefixtures("hub")
def test_a_base_of_another_family_or_size_is_refused(tmp_path: Path) -> None:
    setting = setting_of(tmp_path / "set", target_model="miniature", recipe={"judge": {"min_mass": 0.5}})
    tuned = tuned_model(tmp_path / "tuned", WAN, base=WAN, commit=COMMIT)
    with pytest.raises(RecipeError, match=r"miniature \(the dataset's target model\) is .* 48x48 "):
        candidates.candidates(None, tuned, None, setting)
    with pytest.raises(RecipeError, match=r"--base Wan-AI/Wan2\.1-T2V-14B-Diffusers is a"):
        candidates.candidates(WAN.replace("1.3B", "14B"), tuned, None, setting)
    assert candidates.candidates(WAN, tuned, None, setting)[0] == candidates.Candidate(WAN, commit=OTHER)


@pytest.mark.usefixtures("hub")
def test_without_a_dataset_the_base_is_the_one_that_the_tuned_model_records(tmp_path: Path) -> None:
    setting = prompts_only(tmp_path / "set")
    tuned = tuned_model(tmp_path / "tuned", WAN, base=WAN, commit=COMMIT)
    assert candidates.candidates(None, tuned, None, setting)[0] == candidates.Candidate(WAN, commit=COMMIT)
    assert candidates.candidates(None, WAN, tmp_path / "lora", setting)[0] == candidates.Candidate(WAN, commit=OTHER)
    with pytest.raises(RecipeError, match="--base is missing"):
        candidates.candidates(None, tuned_model(tmp_path / "older", WAN), None, setting)
    with pytest.raises(RecipeError, match="--base is missing"):  # a folder of another machine
        candidates.candidates(None, tuned_model(tmp_path / "local", WAN, base="wan"), None, setting)


@pytest.mark.parametrize("content", [b"prompt,dimension\na ball falls,mechanics\n", b"", b"PAR1 and no more PAR1"])
def test_prompts_that_are_no_parquet_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ep.csv"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"ep\.csv: not a readable Parquet file .*--prompts takes") as caught:
        read_setting(file, "test")
    assert "\n" not in str(caught.value)


def test_a_lost_or_damaged_file_of_prompts_is_named(tmp_path: Path) -> None:
    (file,) = (write_set(tmp_path) / "eval_prompts").glob("test-*.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="not a readable Parquet file"):
        read_setting(tmp_path, "test")
    file.unlink()
    with pytest.raises(DatasetError, match="not a readable Parquet file"):
        read_setting(tmp_path, "test")


def test_the_endpoint_of_a_datasets_judge_is_named_by_an_option_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_set(tmp_path / "set")
    manifest = json.loads((folder / "manifest.json").read_text())
    judge = {"backend": "http", "model": "m", "endpoint": "/v1", "min_mass": 0.5}
    manifest["recipe"] |= {"judge": judge, "generators": [{"steps": 7}]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    variable = ENDPOINT_VARIABLE
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(RecipeError, match=f"judge m needs an endpoint.*--judge-endpoint.*{variable}"):
        read_setting(folder, "test")
    monkeypatch.setenv(variable, "http://127.0.0.1:1/v1")
    assert read_setting(folder, "test").judge.endpoint == "http://127.0.0.1:1/v1"
    set_by_hand = read_setting(folder, "test", ["judge.endpoint=http://127.0.0.1:2/v1"])
    assert set_by_hand.judge.endpoint == "http://127.0.0.1:2/v1"
    named = read_setting(folder, "test", judge_endpoint="http://127.0.0.1:3/v1")
    assert named.judge.endpoint == "http://127.0.0.1:3/v1"
    manifest["recipe"]["judge"] = {"min_mass": 0.5}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert read_setting(folder, "test").judge.endpoint is None
    with pytest.raises(RecipeError, match="--judge-endpoint: the judge has no endpoint"):
        read_setting(folder, "test", judge_endpoint="http://127.0.0.1:3/v1")
