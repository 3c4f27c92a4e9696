"""Recipes: what is refused, the file and line of each message, and what the hash depends on."""

from pathlib import Path

import pytest

from gigavideo_data.dataset.reader import read_manifest
from gigavideo_data.errors import RecipeError
from gigavideo_data.models.registry import judge_spec, writer_spec
from gigavideo_data.recipe.loading import load
from gigavideo_data.recipe.recipe import Recipe, hash_of

ARMS = Path(__file__).parents[3] / "benchmarks" / "proof" / "recipes"
FORMAT_1_0 = Path(__file__).parents[3] / "tests" / "support" / "format_1_0" / "set"
BASE = "name: mine\ndimensions: [mechanics]\n"


def written(folder: Path, text: str | bytes) -> str:
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_the_arms_make_the_rows_of_table_2() -> None:
    def kinds(name: str) -> tuple[bool, bool, bool]:
        recipe = load(str(ARMS / f"{name}.yaml"))
        return recipe.synthetic, recipe.captions.count > 0, recipe.captions.count > 0 and recipe.captions.real

    assert kinds("arm-ps-vs") == (True, False, False)
    assert kinds("arm-pr-vs") == (False, True, False)
    assert kinds("arm-ps-vs-pr-vs") == (True, True, False)
    assert kinds("arm-pr-vs-pr-vr") == (False, True, True)
    assert kinds("arm-all") == (True, True, True)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("prompts:\n  per_dimenson: 3\n", 4, "did you mean 'per_dimension'?"),
        (
            "generators:\n  - model: miniature\n    stps: 3\n",
            5,
            "generators.0.stps: unknown key; did you mean 'steps'?",
        ),
        ("dimensoins: [mechanics]\n", 3, "did you mean 'dimensions'?"),
        ("seed: 1\nseed: 2\n", 4, "given twice"),
        ("seed: 010\n", 3, "without quotes or leading zeros"),
        ("seed: '7'\n", 3, "must be a valid integer, not '7'"),
        ("seed: -1\n", 3, "greater than or equal to 0"),
        ("synthetic: no\n", 3, "write true or false"),
        ("synthetic: 1\n", 3, "must be a valid boolean"),
        ("license: no\nsynthetic: off\n", 4, "write true or false"),
        ("target: 1e-4\n", 3, "must be a valid string"),
        ("validation_share: .nan\n", 3, "must be a valid number"),
        ("judge: {min_mass: 1e999}\n", 3, "not a finite number"),
        ("samples_per_prompt: 0\n", 3, "an integer of 1 or more, or first and more: {first: 2, more: 6}; not 0"),
        ("samples_per_prompt: two\n", 3, "an integer of 1 or more, or first and more: {first: 2, more: 6}; not 'two'"),
        ("samples_per_prompt: {first: 2}\n", 3, "samples_per_prompt.more: missing"),
        (
            "samples_per_prompt: {first: 2, more: -1}\n",
            3,
            "samples_per_prompt.more: must be greater than or equal to 0",
        ),
        ("samples_per_prompt: {first: 2, moer: 1}\n", 3, "unknown key; did you mean 'more'"),
        (
            "samples_per_prompt: {first: 1, more: 6}\n",
            None,
            "samples_per_prompt.first: the rewards of one video cannot differ",
        ),
        ("judge: {min_mass: 1.5}\n", 3, "less than or equal to 1"),
        ("prompts:\n", 3, "must be a valid dictionary"),
        ("prompts: &a {variants: 1}\n", 3, "anchors"),
        ("target: *a\n", 3, "anchors"),
        ("target: !!python/name:os.system x\n", 3, "tag"),
        ("seed: !!int x\n", 3, "not a number"),
        ("1: 2\n", 3, "a key must be text"),
        ("target: [\n", 4, "expected"),
        ("---\nname: other\n", 3, "another document"),
        ("captions: {count: 3, twins: false}\n", None, "captions.twins"),
        ("synthetic: false\n", None, "captions.count is 0, no imports"),
        ("writer: {temperature: 0.1}\n", 3, "the grammar has no settings"),
        ("writer: {backend: http}\n", 3, "endpoint: only for backend http"),
        ("writer: {endpoint: 'http://h/v1'}\n", 3, "the grammar has no settings"),
        ("writer: {backend: vllm, endpoint: 'http://h/v1'}\n", 3, "endpoint: only for backend http"),
        ("writer: {backend: http, endpoint: 'http://h/v1', revision: abc}\n", 3, "revision: only for backend vllm"),
        ("judge: {vllm: {enforce_eager: true}}\n", 3, "vllm: only for backend vllm"),
        ("judge: {backend: vllm}\n", 3, "name the judge's model"),
        ("judge: {backend: vllm, model: a/b, vllm: {gpu_memory_utilization: 2}}\n", 3, "less than or equal to 1"),
        ("writer: {backend: http, endpoint: 'http://me:secret@h/v1'}\n", 3, "must be a base URL"),
    ],
)
def test_a_mistake_is_reported_with_its_line(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    path = written(tmp_path, BASE + text)
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert words in str(caught.value)
    assert f"{path}:{line or 1}: " in str(caught.value)


def test_a_wrong_dimension_is_reported_with_its_own_line(tmp_path: Path) -> None:
    path = written(tmp_path, "name: mine\ndimensions:\n  - mechanics\n  - mecanics2\n")
    with pytest.raises(
        RecipeError, match=r"mine\.yaml:4: dimensions\.1: unknown dimension 'mecanics2'; did you mean 'mechanics'"
    ):
        load(path)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(written(tmp_path, "sed: 1\nprompts: {variants: 0}\n"))
    assert len(str(caught.value).splitlines()) == 4  # two missing keys, one unknown, one out of range


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must contain keys and values"),
        (b"- a\n", "must contain keys and values"),
        (BASE.encode() + b"license: caf\xe9\n", "mine.yaml:3: not UTF-8"),
        (BASE.encode() + b"#" * 70_000, "larger than 64 kB"),
        (BASE.encode() + b"target: " + b"[" * 20_000, "nested too deeply"),
        (BASE.encode() + b"target: a\x00b\n", "not readable"),
    ],
)
def test_a_file_that_is_not_a_recipe_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load(written(tmp_path, content))


def test_a_missing_recipe_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'quickstart'"):
        load("quikstart")
    with pytest.raises(RecipeError, match=r"use --recipe paper --dimensions mechanics$"):
        load("mechanics")
    with pytest.raises(RecipeError, match="No such file"):
        load(str(tmp_path / "none.yaml"))
    with pytest.raises(RecipeError, match="directory"):
        load(str(tmp_path) + "/")


def test_scalars_follow_yaml_1_2(tmp_path: Path) -> None:
    recipe = load(
        written(tmp_path, BASE + "license: no\njudge: {min_mass: 1e-4}\ngenerators: [{guidance: 5, steps: 8}]\n")
    )
    assert recipe.license == "no"
    assert recipe.judge.min_mass == 1e-4
    assert recipe.generators[0].guidance == 5.0


def test_overrides_are_typed_and_the_last_one_wins(tmp_path: Path) -> None:
    path = written(tmp_path, BASE)
    changes = [
        "prompts.variants=2",
        "prompts.variants=3",
        "generators.0.steps=8",
        "dimensions=[composition, mechanics]",
    ]
    recipe = load(path, [*changes, "dimensions.0=camera_motion", "license=a=b"])
    assert recipe.prompts.variants == 3
    assert recipe.generators[0].steps == 8
    assert recipe.dimensions == ("camera_motion", "mechanics")
    assert recipe.license == "a=b"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("prompts.variants", "must look like key=value"),
        (".=1", "must look like key=value"),
        ("prompts.variant=1", "did you mean 'variants'?"),
        ("prompts.variants=two", "must be a valid integer, not 'two'"),
        ("generators.1.steps=8", "there is no entry 1: it has 1 entries"),
        ("name.first=x", "cannot be set inside 'mine'"),
        ("name.0=x", "it is no list"),
        ("dimensions=[mechanics", "expected"),
        ("target=*a", "anchors"),
    ],
)
def test_a_wrong_override_is_reported(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(written(tmp_path, BASE), [override])
    assert f"--set {override}" in str(caught.value)
    assert words in str(caught.value)


def test_the_hash_depends_on_what_the_rows_depend_on(tmp_path: Path) -> None:
    recipe = load(written(tmp_path, BASE))
    again = Recipe.model_validate(recipe.resolved())
    assert again == recipe
    assert again.hash == recipe.hash
    assert len(recipe.hash) == 16
    assert load(written(tmp_path, BASE + "judge: {min_mass: 0.4}\n")).hash != recipe.hash
    assert load(written(tmp_path, BASE + "generators: [{share: 1}]\n")).hash == recipe.hash
    assert load(written(tmp_path, BASE + "limits: {replicas: 2}\n")).hash == recipe.hash
    assert load(written(tmp_path, BASE + "scale: {judge: {gpus: 0.5, replicas: 4}}\n")).hash == recipe.hash


@pytest.mark.parametrize(
    ("scale", "share", "most"),
    [
        ("{gpus: 0.5}", 0.9, "0.5"),
        ("{gpus: 0.3}", 0.34, "0.33"),
        ("{gpus: 0.5}", 0.45, None),
        ("{gpus: 0.5, replicas: 1}", 0.9, None),
        ("{gpus: 0.6}", 0.9, None),
        ("{gpus: 2}", 0.9, None),
        ("{}", 0.9, None),
    ],
)
@pytest.mark.parametrize("part", ["writer", "judge"])
def test_workers_of_vllm_may_not_share_more_than_a_gpu(
    tmp_path: Path, part: str, scale: str, share: float, most: str | None
) -> None:
    engine = f"{part}: {{backend: vllm, model: a/b, vllm: {{gpu_memory_utilization: {share}}}}}\n"
    path = written(tmp_path, BASE + engine + f"scale: {{{part}: {scale}}}\n")
    if most is None:
        load(path)
        return
    with pytest.raises(RecipeError, match=rf"scale\.{part}\.gpus: .*\.gpu_memory_utilization to {most} or less"):
        load(path)


def test_options_of_vllm_change_no_row(tmp_path: Path) -> None:
    path = written(tmp_path, BASE + "writer: {backend: vllm}\njudge: {backend: vllm, model: org/judge}\n")
    recipe = load(path)
    here = load(path, ["judge.vllm.enforce_eager=true", "writer.vllm.max_model_len=4096"])
    assert here.hash == recipe.hash
    assert load(path, ["writer.revision=abc"]).hash != recipe.hash
    (settings, location), (same, _) = judge_spec(here.judge), judge_spec(recipe.judge)
    assert settings == same
    assert location["vllm"]["enforce_eager"]
    (settings, location), (same, _) = writer_spec(here.writer), writer_spec(recipe.writer)
    assert settings == same
    assert location["vllm"]["max_model_len"] == 4096


def test_a_local_folder_is_not_published(tmp_path: Path) -> None:
    changes = [f"generators.0.model={tmp_path}/base", "writer.backend=vllm", f"writer.model={tmp_path}/speaker"]
    recipe = load(written(tmp_path, BASE + "target: org/model\n"), changes)
    assert recipe.resolved()["writer"]["model"] == "speaker"
    assert recipe.generators[0].model == f"{tmp_path}/base"
    assert recipe.resolved()["generators"][0]["model"] == "base"
    assert recipe.resolved()["target"] == "org/model"


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load("quickstart").seed = 3  # type: ignore[misc]


def test_a_published_recipe_contains_no_host_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a blocked prompt\n")
    text = f"writer: {{backend: http, endpoint: 'http://secret-host:8000/v1'}}\nblocklists: ['{tmp_path}/list.txt']\n"
    recipe = load(written(tmp_path, BASE + text))
    plain = recipe.resolved()
    assert "secret-host" not in str(plain)
    assert str(tmp_path) not in str(plain)
    assert plain["writer"]["endpoint"] == "/v1"
    before = recipe.hash
    (tmp_path / "list.txt").write_text("another one\n")
    assert load(written(tmp_path, BASE + text)).hash != before


def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """Ship these recipes instead of the project's."""
    (tmp_path / "shipped").mkdir()
    for name, text in files.items():
        (tmp_path / "shipped" / f"{name}.yaml").write_text(text)
    monkeypatch.setattr("gigavideo_data.recipe.loading._FOLDERS", (tmp_path / "shipped",))


def test_a_recipe_extends_a_shipped_one_that_may_extend_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = (
        "seed: 4\nprompts: {per_dimension: 90, variants: 2}\ngenerators: [{model: org/a, steps: 9}, {model: org/b}]\n"
    )
    small = "extends: large\nprompts: {per_dimension: 3}\n"
    ship(tmp_path, monkeypatch, large=large, small=small)
    own = written(tmp_path, BASE + "extends: large\ngenerators: [{model: org/c}]\n")
    recipe = load(own)
    assert (recipe.seed, recipe.prompts.per_dimension, recipe.prompts.variants) == (4, 90, 2)
    assert [(one.model, one.steps) for one in recipe.generators] == [("org/c", None)]
    tried = load(own, ["generators.0.steps=5", "extends=small", "seed=9"])
    assert (tried.seed, tried.prompts.per_dimension, tried.prompts.variants) == (9, 3, 2)
    assert tried.generators[0].steps == 5
    assert load(own, ["extends="]).prompts == Recipe(name="r", dimensions=("composition",)).prompts


def test_a_mistake_in_an_extended_recipe_is_reported_with_its_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(tmp_path, monkeypatch, large="extends: large\nprompts:\n  variants: none\n  per_dimension: 4\n")
    with pytest.raises(RecipeError, match=r"shipped/large\.yaml:1: extends: .*/large\.yaml would extend itself"):
        load("large")
    (tmp_path / "shipped" / "large.yaml").write_text("prompts:\n  variants: none\n  per_dimension: 4\n")
    with pytest.raises(RecipeError, match=r"shipped/large\.yaml:2: prompts\.variants"):
        load(written(tmp_path, BASE + "extends: large\nprompts: {per_dimension: 2}\n"))
    with pytest.raises(RecipeError, match=r"mine\.yaml:3: extends: no shipped recipe 'lage'; did you mean 'large'"):
        load(written(tmp_path, BASE + "extends: lage\n"))


def test_dimensions_of_the_command_replace_those_of_the_recipe(tmp_path: Path) -> None:
    own = load(written(tmp_path, BASE), ["seed=3"], dimensions=["material", "thermotics"])
    assert (own.name, own.dimensions, own.seed) == ("mine", ("material", "thermotics"), 3)
    paper = load("paper", dimensions=["mechanics"])
    assert paper == load("physics").model_copy(update={"name": "paper-mechanics", "dimensions": ("mechanics",)})
    assert load("paper", dimensions=load("all").dimensions).name == "paper-17-dimensions"
    with pytest.raises(
        RecipeError, match=r"^--dimensions mechanics,heat: dimensions\.1: unknown dimension 'heat'; one of"
    ):
        load("physics", dimensions=["mechanics", "heat"])
    with pytest.raises(RecipeError, match=r"^[^\n]*paper\.yaml:\d+: dimensions: missing; .*--dimensions[^\n]*$"):
        load("paper")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("prompts: {sift: false}\n", 3, "prompts.sift: this key is now called 'drop_infeasible'"),
        ("prompts:\n  likeness: 0.9\n", 4, "prompts.likeness: this key is now called 'dedup_threshold'"),
        ("like: paper\n", 3, "like: this key is now called 'extends'"),
    ],
)
def test_an_old_key_in_a_file_is_refused_with_its_new_name(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = written(tmp_path, BASE + text)
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert f"{path}:{line}: {words}" in str(caught.value)
    with pytest.raises(RecipeError, match="--set like=small: like: this key is now called 'extends'"):
        load("physics", ["like=small"])


def test_the_recipe_in_a_manifest_of_format_1_0_has_todays_keys_and_its_old_hash() -> None:
    manifest = read_manifest(FORMAT_1_0)
    prompts = manifest["recipe"]["prompts"]
    assert (prompts["dedup_threshold"], prompts["drop_infeasible"]) == (None, True)
    assert not {"likeness", "sift"} & prompts.keys()
    assert hash_of(manifest["recipe"]) == manifest["recipe_hash"]
    assert Recipe.model_validate(manifest["recipe"]).name == "format_1_0"


@pytest.mark.parametrize(
    ("name", "changes", "known"),
    [
        ("quickstart-all", ["name=quickstart"], "5bbca63e5ee5f53d"),  # as it was in format 1.0
        ("physics", [], "d8b81e237e9133d9"),
        ("all", [], "3b9c91cf49db37e2"),
    ],
)
def test_the_hash_of_a_recipe_stays_when_keys_are_added(name: str, changes: list[str], known: str) -> None:
    unused = ["others.dimensions=[]", "others.prompts=4", "prompts.used=[]"]
    assert load(name, changes).hash == load(name, [*changes, *unused]).hash == known


def test_a_number_of_samples_is_published_as_it_was_written_and_is_part_of_the_hash() -> None:
    written_values = ("8", "{first: 8, more: 0}", "{first: 2, more: 6}")
    fixed, same, more = (load("physics", [f"samples_per_prompt={value}"]) for value in written_values)
    assert fixed.resolved()["samples_per_prompt"] == same.resolved()["samples_per_prompt"] == 8
    assert more.resolved()["samples_per_prompt"] == {"first": 2, "more": 6}
    assert fixed.hash == same.hash != more.hash
    assert Recipe.model_validate(more.resolved()) == more
    changed = load("physics", ["samples_per_prompt={first: 2, more: 6}", "samples_per_prompt.first=4"])
    assert changed.samples_per_prompt.first == 4
    with_variants = load("physics", ["prompts.variants=2", "samples_per_prompt={first: 1, more: 6}"])
    assert with_variants.samples_per_prompt.more == 6


def test_a_recipe_for_an_existing_dataset_needs_only_the_judge(tmp_path: Path) -> None:
    path = written(tmp_path, "judge: {readout: text}\n")
    recipe = load(path, ["check.videos=3"], dataset_dimensions=["mechanics", "material"])
    assert recipe.dimensions == ("mechanics", "material")
    assert (recipe.judge.readout, recipe.check.videos) == ("text", 3)
    with pytest.raises(RecipeError, match=r"mine\.yaml:1: name: missing"):
        load(path)
    own = load(written(tmp_path, BASE), dataset_dimensions=["material"])
    assert (own.name, own.dimensions) == ("mine", ("mechanics",))
    with pytest.raises(RecipeError, match=r"mine\.yaml:1: jugde: unknown key; did you mean 'judge'"):
        load(written(tmp_path, "jugde: {readout: text}\n"), dataset_dimensions=["material"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mechanic", "did you mean 'mechanics'?"),
        ("physics", "it is a group: write material,mechanics,thermotics, or some of them"),
    ],
)
def test_a_wrong_dimension_is_one_mistake_with_a_suggestion(name: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load("quickstart", [f"dimensions=[{name}]"])
    assert f"dimensions.0: unknown dimension {name!r}; {words}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(RecipeError, match="at least 1 item"):
        load("quickstart", ["dimensions=[]"])


def test_a_suggestion_ends_the_message() -> None:
    with pytest.raises(RecipeError, match=r"\./quikstart\.yaml\); did you mean 'quickstart'\?$"):
        load("quikstart")
