"""Final latents that a dataset ships: what they are, who carries them on, and who trains on them without encoding."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from huggingface_hub.utils._paths import filter_repo_objects
from rich.console import Console

from gigavideo_data.commands.merge import merge
from gigavideo_data.commands.remake import withhold
from gigavideo_data.commands.rescore import recompute
from gigavideo_data.dataset import latents, schema, writer
from gigavideo_data.dataset.reader import read_latents, read_video_rows
from gigavideo_data.dataset.verify import verify_folder
from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.io import video
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.generators import profiles
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.models.generators.profiles import model_folder, vae_of
from gigavideo_data.models.registry import generator_spec, load_engine
from gigavideo_data.models.spec import folder_revision
from gigavideo_data.recipe.recipe import Generator
from gigavideo_train import plan as planning
from gigavideo_train.checkpoint.export import card
from gigavideo_train.data.dataset import read
from gigavideo_train.data.encode import EncodedRows, encode
from gigavideo_train.distributed.world import World
from gigavideo_train.models import wan
from gigavideo_train.models.registry import load_family
from tests.support import tiny_pipelines
from tests.support.hub_clients import gv_data, gv_train
from tests.support.hub_server import serving
from tests.support.pipelines import load_with_encoders
from tests.support.ranks import run_together

SHARD = "latents/latents-00000-of-00001.parquet"
SMALL = {
    "dimensions": "[motion_order_understanding, instance_preservation]",
    "prompts.per_dimension": "2",
    "captions.count": "3",
    "samples_per_prompt": "1",
    "eval_prompts.per_dimension": "1",
    "check.videos": "0",
    "generators.0.steps": "8",
    "limits.replicas": "1",
    "validation_share": "0.0",
}
pytestmark = pytest.mark.timeout(600)


MAIN = "from gigavideo_data.cli import main; main()"
NO_AUTOENCODER = """
from gigavideo_data.commands import build
from gigavideo_data.errors import RecipeError
def vae_of(generator):
    raise RecipeError("no autoencoder")
build.vae_of = vae_of
"""


def build(folder: Path, out: str, *flags: str, program: str = MAIN) -> Path:
    """A small build by the miniature itself; what is in the folder's store is not made again."""
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-c", program, "build", "--recipe", "quickstart-all"]
    done = subprocess.run(
        [*command, "--out", out, "--store", "store", *settings, *flags],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    if done.returncode:
        raise ChildProcessError(done.stderr)
    return folder / out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("latents"), "set")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "set", ignore=shutil.ignore_patterns(".gv")))


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_with_encoders(model_folder("miniature"))


def rows_of(folder: Path) -> list[Any]:
    return list(read_video_rows(folder))


def latents_of(folder: Path) -> list[Any]:
    return list(read_latents(folder))


def files(folder: Path) -> dict[str, str]:
    """Sums of what a manifest lists, and of manifest and card."""
    names = [*json.loads((folder / "manifest.json").read_text())["files"], "manifest.json", "README.md"]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def listed(folder: Path) -> bool:
    """Whether a set ships latents; its manifest, its card and its files must agree."""
    verify_folder(folder)
    here = bool(list(folder.glob("latents/*")))
    assert (
        any(name.startswith("latents/") for name in json.loads((folder / "manifest.json").read_text())["files"]) is here
    )
    assert ("config_name: latents" in (folder / "README.md").read_text()) is here
    return here


def unpacked(one: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(one["latents"]), dtype=torch.bfloat16).reshape(one["shape"]).float()


def replaced(folder: Path, rows: list[Any]) -> None:
    """Write other latents and make the manifest agree: what a careless or hostile publisher would do."""
    table = schema.to_table(rows, schema.LATENTS)
    pq.write_table(table, folder / SHARD)
    data, manifest = (folder / SHARD).read_bytes(), json.loads((folder / "manifest.json").read_text())
    manifest["files"][SHARD] = {"sha256": hashlib.sha256(data).hexdigest(), "rows": len(rows), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def with_bytes(one: Any, data: bytes) -> Any:
    return one | {"latents": data, "latents_sha256": hashlib.sha256(data).hexdigest()}


def with_vae(one: Any, revision: str | None) -> Any:
    return one | {"vae": {"model": "other", "revision": revision}}


def encoded(folder: Path, pipeline: Any, cache: Path, *settings: str) -> tuple[planning.Plan, EncodedRows, str]:
    """A plan of all samples, their tensors, and what is said of them."""
    plan = planning.make(read(folder), None, None, ["strategy=sft", "latents=own", *settings])
    said = io.StringIO()
    with Progress(Console(file=said, width=200)) as progress:
        tensors = EncodedRows.open(
            plan.model_folder, plan.profile.max_tokens, plan.latents, cache, World(0, 1, torch.device("cpu"))
        )
        encode(tensors, plan.dataset, plan.rows, (), pipeline, wan, World(0, 1, torch.device("cpu")), progress)
    return plan, tensors, said.getvalue()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many clips the trainer decodes, and how many it encodes."""
    calls = {"decode": 0, "encode_video": 0}

    def counting(plain: Callable, name: str) -> Callable:
        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return plain(*arguments)

        return call

    monkeypatch.setattr(video, "decode", counting(video.decode, "decode"))
    monkeypatch.setattr(wan, "encode_video", counting(wan.encode_video, "encode_video"))
    return calls


# --- what a build writes ---------------------------------------------------------------------------------------------


def test_a_build_ships_what_was_kept_byte_by_byte_and_load_dataset_reads_it(whole, tmp_path):
    from datasets import load_dataset

    generated = {row["id"]: row for row in rows_of(whole) if row["source"] != "real"}
    assert {row["source"] for row in generated.values()} == {"synthetic", "twin"}
    assert listed(whole)
    kept = {
        safetensors.torch.load(path.read_bytes())["latents"].view(torch.uint8).numpy().tobytes()
        for path in (whole.parent / "store" / "blobs").rglob("*.safetensors")
    }
    loaded = load_dataset(str(whole), "latents", split="latents", cache_dir=str(tmp_path))
    assert [one["id"] for one in loaded] == [row["id"] for row in schema.in_order(list(generated.values()))]
    assert {one["latents"] for one in loaded} == kept
    vae = {"model": "miniature", "revision": folder_revision(model_folder("miniature") / "vae")}
    for one in loaded:
        assert one["video_sha256"] == generated[one["id"]]["video_sha256"]
        assert one["latents_sha256"] == hashlib.sha256(one["latents"]).hexdigest()
        assert (one["shape"], one["vae"]) == ([8, 5, 12, 12], vae)


def test_the_same_build_again_writes_the_same_bytes_and_no_latents_leaves_out_only_the_latents(whole):
    again = build(whole.parent, "again", "--latents")
    assert files(again) == files(whole)
    build(whole.parent, "again", "--no-latents")
    assert not listed(again)
    without = files(again)
    del without["manifest.json"], without["README.md"]
    assert without.items() <= files(whole).items()
    recipes = [json.loads((each / "manifest.json").read_text())["recipe_hash"] for each in (whole, again)]
    assert recipes[0] == recipes[1]


def test_without_the_autoencoder_a_build_has_no_latents_unless_they_are_required(whole):
    assert not listed(build(whole.parent, "no_model", program=NO_AUTOENCODER + MAIN))
    with pytest.raises(ChildProcessError, match="no autoencoder"):
        build(whole.parent, "no_model", "--latents", program=NO_AUTOENCODER + MAIN)


def test_they_are_near_what_encoding_the_clip_gives_and_nearer_than_what_is_not_normalised(whole, pipeline):
    rows, vae = {row["id"]: row for row in rows_of(whole)}, pipeline.vae.config
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std))

    def alike(one_CFHW: torch.Tensor, other_CFHW: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([one_CFHW.flatten(), other_CFHW.flatten()]))[0, 1])

    for one in latents_of(whole):
        clip = video.decode(rows[one["id"]]["video"]["bytes"])
        encoded_CFHW = wan.encode_video(pipeline, clip.frames_THWC)
        assert alike(unpacked(one), encoded_CFHW) > 0.8, "the autoencoder is small"
        assert alike(unpacked(one), encoded_CFHW) > alike(unpacked(one), encoded_CFHW * std + mean)


@pytest.fixture(scope="module", params=["miniature", "wan2.2", "ltx"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A pipeline of each kind that can be trained."""
    name = request.param
    if name == "miniature":
        return name, model_folder(name)
    made = tiny_pipelines.build(name, tmp_path_factory.mktemp("pipelines") / name)
    (made / profiles.MODEL_INFO_FILE).write_text(json.dumps({"profile": name}))
    return name, made


def test_the_trainer_reads_what_each_generator_keeps_as_the_video_that_it_made(trained, monkeypatch):
    name, place = trained
    for each, profile in tiny_pipelines.PROFILES.items():
        monkeypatch.setitem(PROFILES, each, profile)
    generator = Generator(model=name if name == "miniature" else str(place), steps=3)
    (made,) = load_engine("generator", generator_spec(generator).settings).generate(["a red circle"], [7])
    family, its_pipeline = load_family(place), load_with_encoders(place)
    with torch.inference_mode():
        frames_THWC = family.decode(its_pipeline, made.latents_CFHW[None])[0] * 255
    assert made.frames_THWC.std() > 1, "a picture of one colour proves nothing"
    np.testing.assert_allclose(frames_THWC.numpy(), made.frames_THWC, atol=0.51)  # whole numbers
    assert family.latents_shape(its_pipeline, *made.frames_THWC.shape[:3]) == tuple(made.latents_CFHW.shape)


def test_the_shape_of_latents_is_known_without_encoding(trained):
    _, place = trained
    family, its_pipeline = load_family(place), load_with_encoders(place)
    for size in ((9, 64, 96), (17, 96, 64), (19, 79, 97), (1, 64, 64)):
        made_CFHW = family.encode_video(its_pipeline, np.zeros((*size, 3), np.uint8))
        assert family.latents_shape(its_pipeline, *size) == tuple(made_CFHW.shape)


def test_of_a_model_on_the_hub_only_the_autoencoder_is_fetched_and_its_content_names_it(tmp_path, monkeypatch):
    there, here = tiny_pipelines.build("wan2.2", tmp_path / "there"), tmp_path / "here"

    def download(model: str, *, revision: str, allow_patterns: list[str], **_: object) -> str:
        assert (model, revision) == ("org/tiny", "c0ffee")
        names = [path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns):
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(there / name, here / name)
        return str(here)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    identity = vae_of(Generator(model="org/tiny", revision="c0ffee"))
    assert identity == {"model": "org/tiny", "revision": folder_revision(there / "vae")}
    assert {path.parent.name for path in here.rglob("*.safetensors")} == {"vae"}
    shutil.rmtree(here / "vae")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(here))  # as offline, of a part
    with pytest.raises(RecipeError, match="org/tiny has no autoencoder on this machine"):
        vae_of(Generator(model="org/tiny", revision="c0ffee"))


# --- what is refused, carried on, and left behind --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one | {"id": "0" * 32}, "belong to no generated video"),
        (lambda one: one | {"video_sha256": "0" * 64}, "belong to no generated video"),
        (lambda one: one | {"latents": one["latents"][::-1]}, "latents_sha256"),
        (lambda one: with_bytes(one, one["latents"][:-2]), "11518 bytes, 11520 make"),
        (lambda one: with_bytes(one, b"\x80\x7f" + one["latents"][2:]), "not finite"),
        (lambda one: one | {"shape": [8, 720]}, "expected channels, latent frames, height and width"),
        (lambda one: one | {"latents_sha256": "no sum"}, "64 hexadecimal digits"),
        (lambda one: with_vae(one, None), "vae.revision is null"),
    ],
)
def test_latents_that_are_not_their_rows_are_found(folder, change, message):
    first, *others = latents_of(folder)
    replaced(folder, [change(first), *others])
    with pytest.raises(DatasetError, match=message):
        verify_folder(folder)


def test_latents_of_a_real_clip_or_twice_or_unlisted_are_found(folder):
    found = latents_of(folder)
    real = next(row for row in rows_of(folder) if row["source"] == "real")
    replaced(folder, [*found, found[0] | {"id": real["id"], "video_sha256": real["video_sha256"]}])
    with pytest.raises(DatasetError, match="belong to no generated video"):
        verify_folder(folder)
    replaced(folder, [*found, found[0]])
    with pytest.raises(DatasetError, match="are there twice"):
        verify_folder(folder)
    replaced(folder, found)
    shutil.copy(folder / SHARD, folder / "latents" / "latents-00001-of-00002.parquet")
    with pytest.raises(DatasetError, match="not in the manifest"):
        verify_folder(folder)


def test_new_rewards_and_joined_sets_carry_them_and_what_is_withheld_goes_without(whole, folder, tmp_path):
    recompute(folder, folder, min_mass=0.0, combine={"instance_preservation": "mean"})
    assert listed(folder)
    assert (folder / SHARD).read_bytes() == (whole / SHARD).read_bytes()
    withhold(folder, tmp_path / "scores")
    assert not listed(tmp_path / "scores")
    merge([whole, whole], tmp_path / "joined")
    assert listed(tmp_path / "joined")
    assert latents_of(tmp_path / "joined") == latents_of(whole)


def test_latents_of_a_video_that_was_made_otherwise_are_not_carried_on(whole):
    first, *others = [row for row in rows_of(whole) if row["source"] != "real"]
    assert len(list(latents.carried(whole, [first, *others]))) == len(others) + 1
    for stale in (first | {"video_sha256": "0" * 64}, first | {"video": None}):
        assert {one["id"] for one in latents.carried(whole, [stale, *others])} == {row["id"] for row in others}


@pytest.mark.slow
def test_a_set_that_is_judged_again_carries_them(whole, folder):
    recipe = ["--recipe", "quickstart-all", "--set", "check.videos=0", "--set", "judge.readout=text"]
    command = [sys.executable, "-c", "from gigavideo_data.cli import main; main()", "score", str(folder), *recipe]
    subprocess.run(
        [*command, "--in-place", "--store", "store"], cwd=folder.parent, check=True, timeout=500, capture_output=True
    )
    assert listed(folder)
    assert latents_of(folder) == latents_of(whole)


# --- training --------------------------------------------------------------------------------------------------------


def test_a_clip_with_shipped_latents_is_neither_decoded_nor_encoded(whole, pipeline, tmp_path, counted):
    plan, tensors, said = encoded(whole, pipeline, tmp_path / "cache")
    shipped = {one["video_sha256"]: one for one in latents_of(whole)}
    real = {sample.real["video_sha256"] for sample in plan.samples if sample.real}
    assert counted == {"decode": len(real), "encode_video": len(real)}
    assert f"latents of {len(shipped)} of {len(shipped) + len(real)} clips came with the dataset" in said
    for sample in plan.samples:
        assert torch.equal(tensors.latents([sample.row])[0], unpacked(shipped[sample.row["video_sha256"]]))
    _, _, said = encoded(whole, pipeline, tmp_path / "cache")
    assert counted == {"decode": len(real), "encode_video": len(real)}
    assert re.search(r"(\d+) of \1 were cached", said)


def test_a_plan_uses_own_latents_of_all_generated_clips_with_own_and_none_with_encoded(
    whole, pipeline, tmp_path, counted
):
    own_plan, own, _ = encoded(whole, pipeline, tmp_path / "cache")
    encoded_plan, ours, said = encoded(whole, pipeline, tmp_path / "cache", "latents=encoded")
    rows, num_own = [sample.row for sample in own_plan.samples], len(latents_of(whole))
    num_real = len({sample.real["video_sha256"] for sample in own_plan.samples if sample.real})
    assert planning.facts(own_plan)["latents"] == {"own": num_own, "encoded": num_real}
    assert planning.facts(encoded_plan)["latents"] == {"own": 0, "encoded": num_own + num_real}
    assert counted["encode_video"] == num_real + num_own
    assert f"latents of 0 of {num_own + num_real} clips came with the dataset" in said
    for row in rows:
        assert not torch.equal(own.latents([row]), ours.latents([row]))
    assert own_plan.identity != encoded_plan.identity
    again = encoded(whole, pipeline, tmp_path / "cache")[1]
    assert torch.equal(again.latents(rows), own.latents(rows))
    text = str(card(own_plan, 1, []))
    assert f"| latents | the sampler's own for {num_own} clips; {num_real} clips encoded |" in text


@pytest.mark.slow
def test_several_processes_share_what_came_with_the_dataset(whole, pipeline, tmp_path):
    settings = ("--set", "strategy=sft", "--set", "max_steps=1", "--set", "validate_every=null", "--set", "latents=own")
    where = ("--dataset", str(whole), "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache"))
    run_together(2, [*where, *settings])
    before = set((tmp_path / "cache").rglob("*.safetensors"))
    _, _, said = encoded(whole, pipeline, tmp_path / "cache")
    assert re.search(r"(\d+) of \1 were cached", said)
    assert set((tmp_path / "cache").rglob("*.safetensors")) == before


def test_latents_of_another_autoencoder_are_left_alone(folder, pipeline, tmp_path, counted):
    first, *others = latents_of(folder)
    replaced(folder, [with_vae(first, "0" * 16), *others])
    plan, tensors, said = encoded(folder, pipeline, tmp_path / "cache")
    real = {sample.real["video_sha256"] for sample in plan.samples if sample.real}
    assert counted["encode_video"] == len(real) + 1
    assert f"latents of {len(others)} of {len(others) + 1 + len(real)} clips" in said
    (row,) = [sample.row for sample in plan.samples if sample.row["id"] == first["id"]]
    assert not torch.equal(tensors.latents([row])[0], unpacked(first))


def test_what_a_tensor_is_depends_on_the_dataset_and_not_on_what_the_cache_has_seen(whole, folder, pipeline, tmp_path):
    replaced(folder, [with_vae(one, "0" * 16) for one in latents_of(folder)])
    found = []
    for order in ((whole, folder), (folder, whole)):
        cache = tmp_path / order[0].parent.name / "cache"
        of = {each: encoded(each, pipeline, cache) for each in order}
        found.append([of[each][1].latents([sample.row for sample in of[each][0].samples]) for each in (whole, folder)])
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(found[0][0], found[0][1])
    assert read(whole).identity != read(folder).identity, "a run does not go on with other tensors"


def test_changed_latents_are_refused(folder, pipeline, tmp_path):
    first, *others = latents_of(folder)
    replaced(folder, [first | {"latents": first["latents"][::-1]}, *others])
    with pytest.raises(DatasetError, match=f"row {first['id']}: its latents do not match their sum"):
        encoded(folder, pipeline, tmp_path / "cache")
    replaced(folder, [first | {"shape": [8, 5, 6, 24]}, *others])
    with pytest.raises(
        DatasetError, match=r"bytes of shape \(8, 5, 6, 24\); for its clip the model has shape \(8, 5, 12, 12\)"
    ):
        encoded(folder, pipeline, tmp_path / "cache")


def test_latents_that_are_not_finite_or_of_a_real_clip_are_not_trained_on(folder, pipeline, tmp_path):
    first, *others = latents_of(folder)
    data = b"\xc0\x7f" * (len(first["latents"]) // 2)
    spoiled = {"latents": data, "latents_sha256": hashlib.sha256(data).hexdigest()}
    replaced(folder, [first | spoiled, *others])
    with pytest.raises(DatasetError, match=f"latents of row {first['id']} are not finite"):
        encoded(folder, pipeline, tmp_path / "cache")
    real = next(row for row in rows_of(folder) if row["source"] == "real")
    replaced(folder, [first | {"id": real["id"], "video_sha256": real["video_sha256"]}, *others])
    with pytest.raises(DatasetError, match=f"latents of {real['id']}, which is not a generated video"):
        read(folder)


def test_a_flipped_byte_is_refused(folder, pipeline, tmp_path):
    metadata = pq.read_metadata(folder / SHARD).row_group(0)
    column = next(
        metadata.column(i) for i in range(metadata.num_columns) if metadata.column(i).path_in_schema == "latents"
    )
    data = bytearray((folder / SHARD).read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    (folder / SHARD).write_bytes(data)
    with pytest.raises(DatasetError, match="the manifest says"):
        encoded(folder, pipeline, tmp_path / "cache")


# --- on the Hub ------------------------------------------------------------------------------------------------------


def test_they_are_not_pushed_unless_asked_for_and_then_the_clips_stay_on_the_hub(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_BYTES", 1)  # a row each
    recompute(folder, folder)
    rows = rows_of(folder)
    with serving() as hub:
        code, printed, said = gv_data(hub, tmp_path, "push", "set", "org/ds", "--json")
        assert (code, "latents are not uploaded" in said) == (0, True), said
        there = hub.repo("org/ds").commits[-1].files
        assert not [name for name in there if name.startswith("latents/")]
        assert b"latents/" not in there["manifest.json"].data + there["README.md"].data
        assert gv_data(hub, tmp_path, "verify", "org/ds")[0] == 0
        assert json.loads(gv_data(hub, tmp_path, "push", "set", "org/ds", "--json")[1])["bytes"] == 0

        code, printed, said = gv_data(hub, tmp_path, "push", "set", "org/ds", "--latents", "--json")
        assert code == 0, said
        assert json.loads(printed)["tag"] == "v1.0.1"
        assert hub.repo("org/ds").commits[-1].files["manifest.json"].data == (folder / "manifest.json").read_bytes()
        assert gv_data(hub, tmp_path, "verify", "org/ds@v1.0.1")[0] == 0

        code, printed, said = gv_data(hub, tmp_path, "push", "set", "org/ds", "--json")
        assert (code, json.loads(printed)["bytes"]) == (0, 0), said
        names = hub.repo("org/ds").commits[-1].files
        assert any(name.startswith("latents/") for name in names), "versions after one with latents have them too"

        settings = ("--set", "strategy=sft", "--set", "max_steps=1", "--set", "latents=own")
        code, _, said = gv_train(hub, tmp_path, "--dataset", "org/ds@v1.0.1", *settings)
        assert code == 0, said
        num_real = sum(row["source"] == "real" for row in rows)
        assert f"latents are in {len(rows) - num_real} of" in said
        assert f"clips are in {num_real} of" in said
        assert f"latents of {len(rows) - num_real} of {len(rows)} clips came with the dataset" in said

        code, _, said = gv_data(hub, tmp_path, "push", "set", "org/scores", "--scores-only", "--latents")
        assert (code, "--scores-only" in said) == (2, True), said
