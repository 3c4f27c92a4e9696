"""Clips and prompts are encoded once: contents of the cache, when it is reused, and the summary."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoTokenizer

from gigavideo_data.errors import DatasetError, RowError
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.generators.profiles import model_folder
from gigavideo_data.models.spec import folder_revision
from gigavideo_train import plan as planning
from gigavideo_train.data.dataset import read
from gigavideo_train.data.encode import EncodedRows, encode
from gigavideo_train.distributed.world import World
from gigavideo_train.models import loading, wan
from gigavideo_train.models.loading import encoder_dtype, load_pipeline, load_text_encoder
from tests.data.dataset.test_verify import replace_rows
from tests.support.train_set import row, training_set

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_pipeline(model_folder("miniature"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kept synthetic rows, one dropped, a pair whose real clip is shorter."""
    made = [row(1, reward=0.9), row(2, reward=0.7), row(3, reward=0.1), row(20, "twin"), row(20, "real", num_frames=1)]
    return training_set(tmp_path_factory.mktemp("encode") / "set", made)


def planned(dataset: Path, *overrides: str) -> planning.Plan:
    return planning.make(read(dataset), None, None, list(overrides))


def encoded(plan: planning.Plan, pipeline: Any, cache: Path, device: torch.device = CPU) -> tuple[EncodedRows, str]:
    """The encoded rows, and the messages."""
    said = io.StringIO()
    with Progress(Console(file=said, width=200)) as progress:
        tensors = EncodedRows.open(plan.model_folder, plan.profile.max_tokens, plan.latents, cache, World(0, 1, device))
        encode(tensors, plan.dataset, plan.rows, (), pipeline, wan, World(0, 1, device), progress)
    return tensors, said.getvalue()


def files(cache: Path) -> set[Path]:
    return set(cache.rglob("*.safetensors"))


def test_kept_samples_are_encoded_once_for_all_strategies(
    dataset: Path, pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    plan = planned(dataset)
    _, said = encoded(plan, pipeline, cache)
    assert "text        3/3  done" in said
    assert "latents     4/4  done" in said
    assert "0 of 7 were cached" in said
    assert "MB of latents" in said
    assert len(files(cache)) == 7  # three prompts; three videos and a real clip; nothing of the row that is dropped

    everything = planned(dataset, "strategy=sft")
    _, said = encoded(everything, pipeline, cache)
    assert "text        4/4  done" in said
    assert "7 of 9 were cached" in said

    for name in ("encode_video", "encode_prompt"):
        monkeypatch.setattr(wan, name, None)
    _, said = encoded(everything, pipeline, cache)
    assert "9 of 9 were cached" in said


def test_an_encoder_is_loaded_only_if_it_has_something_to_encode(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    for name in ("load_text_encoder", "load_autoencoder"):
        load = getattr(loading, name)

        def counting(*arguments: Any, name: str = name, load: Any = load) -> None:
            loaded.append(name)
            load(*arguments)

        monkeypatch.setattr(f"gigavideo_train.data.encode.{name}", counting)
    pipeline, cache = load_pipeline(model_folder("miniature")), tmp_path / "cache"
    assert pipeline.text_encoder is None
    assert {parameter.device.type for parameter in pipeline.vae.parameters()} == {"meta"}
    encoded(planned(dataset), pipeline, cache)
    assert loaded == ["load_text_encoder", "load_autoencoder"]
    assert pipeline.text_encoder is None
    assert {parameter.device.type for parameter in pipeline.vae.parameters()} == {"cpu"}
    pipeline = load_pipeline(model_folder("miniature"))
    tensors, _ = encoded(planned(dataset), pipeline, cache)
    assert len(loaded) == 2, "all is in the cache"
    assert tensors.latents([row(1)]).shape == (1, 8, 2, 12, 12), "the settings of the autoencoder are known without it"
    for path in files(cache):
        if load_file(path)["x"].ndim == 2:
            path.unlink()
    encoded(planned(dataset), pipeline, cache)
    assert loaded[2:] == ["load_text_encoder"]


def test_encoders_are_bfloat16_on_a_gpu_but_the_autoencoder_of_wan(tmp_path: Path) -> None:
    wan_folder, gpu = model_folder("miniature"), torch.device("cuda", 0)
    (tmp_path / "model_index.json").write_text('{"_class_name": "LTXPipeline"}')
    parts = ("vae", "text_encoder")
    assert [encoder_dtype(wan_folder, part, gpu) for part in parts] == [torch.float32, torch.bfloat16]
    assert [encoder_dtype(tmp_path, part, gpu) for part in parts] == [torch.bfloat16, torch.bfloat16]
    assert [encoder_dtype(tmp_path, part, CPU) for part in parts] == [torch.float32, torch.float32]
    on_cpu, on_gpu = (EncodedRows.open(wan_folder, 24, {}, tmp_path, World(0, 1, device)) for device in (CPU, gpu))
    assert on_cpu.clips.encoder == on_gpu.clips.encoder
    assert on_cpu.prompts.encoder != on_gpu.prompts.encoder, "an embedding depends on the dtype"


def test_one_process_hashes_the_encoders(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(dataset)
    first = EncodedRows.open(plan.model_folder, 24, {}, tmp_path, World(0, 1, CPU))
    revisions = [folder_revision(plan.model_folder / part) for part in ("vae", "text_encoder", "tokenizer")]
    monkeypatch.setattr("gigavideo_train.data.encode.folder_revision", None)
    monkeypatch.setattr(World, "broadcast_from_rank0", lambda *_: revisions)
    second = EncodedRows.open(plan.model_folder, 24, {}, tmp_path, World(1, 2, CPU))
    assert (second.clips.encoder, second.prompts.encoder) == (first.clips.encoder, first.prompts.encoder)


def test_an_interrupted_encoding_goes_on(
    dataset: Path, pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, cache, plain = planned(dataset), tmp_path / "cache", wan.encode_video
    done: list[object] = []

    def breaks(*arguments: object) -> torch.Tensor:
        if len(done) == 2:
            raise RowError("broken_clip", "")
        done.append(arguments)
        return plain(*arguments)

    monkeypatch.setattr(wan, "encode_video", breaks)
    with pytest.raises(RowError):
        encoded(plan, pipeline, cache)
    assert len(files(cache)) == 5
    monkeypatch.setattr(wan, "encode_video", plain)
    _, said = encoded(plan, pipeline, cache)
    assert "5 of 7 were cached" in said


def test_texts_are_cached_without_padding_and_batched_as_the_pipeline_does(
    dataset: Path, pipeline: Any, tmp_path: Path
) -> None:
    plan = planned(dataset)
    tensors, _ = encoded(plan, pipeline, tmp_path / "cache")
    load_text_encoder(pipeline, plan.model_folder, CPU)
    rows = [sample.row for sample in plan.samples]
    conditioning = tensors.condition(rows, CPU)
    tokenizer = AutoTokenizer.from_pretrained(model_folder("miniature") / "tokenizer")
    lengths = [min(len(tokenizer(each["prompt"]).input_ids), plan.profile.max_tokens) for each in rows]
    assert [len(tensors.prompts.get(each["prompt"])) for each in rows] == lengths
    assert conditioning.mask_BL.sum(1).tolist() == lengths
    with torch.inference_mode():
        text_BLD, _ = pipeline.encode_prompt(
            [each["prompt"] for each in rows],
            do_classifier_free_guidance=False,
            max_sequence_length=plan.profile.max_tokens,
        )
    torch.testing.assert_close(conditioning.text_BLD, text_BLD)
    (pair,) = [sample.real for sample in plan.samples if sample.real]
    faster = tensors.condition([rows[0], pair | {"fps": 30.0}], CPU)
    assert faster.fps_B.tolist() == [8.0, 30.0]
    assert tensors.latents([pair]).shape == (1, 8, 1, 12, 12)


def relisted(folder: Path, made: list[Any]) -> Path:
    """A dataset with changed rows and a manifest that matches them."""
    replace_rows(folder, made)
    return folder


def test_a_clip_that_is_not_the_one_its_row_names_is_refused_and_not_cached(pipeline: Any, tmp_path: Path) -> None:
    made = [row(1), row(2)]
    folder = training_set(tmp_path / "set", made)
    exchanged = row(3)["video"]["bytes"]
    made[0]["video"] = {"bytes": exchanged, "path": "a.mp4"}
    plan = planned(relisted(folder, made))
    with pytest.raises(DatasetError, match=f"{row(3)['video_sha256']}.*{made[0]['video_sha256']}"):
        encoded(plan, pipeline, tmp_path / "cache")
    honest = planned(training_set(tmp_path / "honest", [row(1)]))
    tensors, _ = encoded(honest, pipeline, tmp_path / "cache")
    alone, _ = encoded(honest, pipeline, tmp_path / "alone")
    assert torch.equal(tensors.latents([row(1)]), alone.latents([row(1)]))


@pytest.mark.parametrize("columns", [{"num_frames": 17}, {"height": 64}, {"fps": 16.0}])
def test_a_clip_whose_frames_differ_from_what_its_row_says_is_refused(
    pipeline: Any, tmp_path: Path, columns: dict
) -> None:
    folder = training_set(tmp_path / "set", [row(1)])
    with pytest.raises(DatasetError, match=rf"row {row(1)['id']}: the video .* the row says"):
        encoded(planned(relisted(folder, [row(1) | columns])), pipeline, tmp_path / "cache")
    assert not [path for path in files(tmp_path / "cache") if load_file(path)["x"].ndim == 4]


def test_a_clip_that_is_encoded_already_must_be_of_the_size_its_row_says(pipeline: Any, tmp_path: Path) -> None:
    folder = training_set(tmp_path / "set", [row(1)])
    encoded(planned(folder), pipeline, tmp_path / "cache")
    with pytest.raises(DatasetError, match=r"latents of its clip have shape \(8, 2, 12, 12\)"):
        encoded(planned(relisted(folder, [row(1) | {"num_frames": 17}])), pipeline, tmp_path / "cache")


def test_a_damaged_file_of_the_cache_is_written_again(dataset: Path, pipeline: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    encoded(planned(dataset), pipeline, cache)
    whole = {path: path.read_bytes() for path in sorted(files(cache))}
    first, second, *_ = whole
    first.write_bytes(whole[first][:-8])
    second.write_bytes(b"")
    _, said = encoded(planned(dataset), pipeline, cache)
    assert "5 of 7 were cached" in said
    assert {path: path.read_bytes() for path in sorted(files(cache))} == whole
