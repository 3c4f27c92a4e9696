"""The estimate at genuine sizes: against what was measured on GPUs, and that every preset fits its GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_train.config import TrainConfig
from gigavideo_train.estimate import estimate as module
from gigavideo_train.estimate.estimate import Unit, estimate, training_bytes
from gigavideo_train.estimate.fit import usable
from gigavideo_train.estimate.live import Live
from gigavideo_train.losses.losses import losses
from gigavideo_train.models.registry import load_family
from gigavideo_train.presets import MEMORY_PRESETS
from tests.support import genuine_configs
from tests.support.genuine_configs import LTX, WAN_1_3B, WAN_5B, WAN_14B
from tests.train.test_settings import PRESETS, tables

BENCHMARKS = Path(__file__).parents[3] / "benchmarks" / "gpu"
NAMES = {"Wan 2.1 1.3B": WAN_1_3B, "LTX-Video": LTX, "Wan 2.1 14B": WAN_14B, "Wan 2.2 5B": WAN_5B}
PRODUCTS = ("aten.mm.default", "aten.addmm.default", "aten.bmm.default", "aten.convolution.default")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("genuine")
    return {name: genuine_configs.write(name, root / str(at)) for at, name in enumerate(NAMES.values())}


def unit(name: str, *, pair: bool = False) -> Unit:
    profile = PROFILES[name]
    clip = (profile.num_frames, profile.height, profile.width)
    return Unit(clip, 1, profile.max_tokens, clip if pair else None)


def measured() -> dict[str, float]:
    """The largest peak of each case, GB, by section and case."""
    found: dict[str, float] = {}
    for path in sorted(BENCHMARKS.glob("results*.jsonl")):
        for line in filter(None, path.read_text().splitlines()):
            result = json.loads(line)
            case, _, what = result.get("name", "").rpartition(", ")
            if what == "peak memory":
                key = f"{result['section']}: {case}"
                found[key] = max(found.get(key, 0.0), result["value"])
    return found


def settings_of(case: str) -> dict[str, Any]:
    """Of a name such as "full, offloaded, selective, compiled, pair", or "full, selective, nft"."""
    words = case.split(", ")
    tune, rest = words[0], words[1:]
    offload = "offloaded" in rest
    mode = next(word for word in rest if word in ("none", "selective", "full"))
    strategy = "nft" if "nft" in rest else "reweight"
    return {"tune": tune, "checkpointing": mode, "offload": offload, "strategy": strategy, "batch_size": 1}


@pytest.mark.slow
def test_the_estimate_is_never_below_what_was_measured(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # When pairs were measured, both passes of one were kept.
    monkeypatch.setattr(module, "loss_parts", lambda *arguments: [losses(*arguments)])
    folder, compared = folders[WAN_1_3B], []
    for name, gigabytes in measured().items():
        section, _, case = name.partition(": ")
        if section not in ("training", "references"):
            continue
        parts = training_bytes(folder, TrainConfig(**settings_of(case)), unit(WAN_1_3B, pair="pair" in case))
        estimated = sum(parts.values()) / 1e9
        compared.append(case)
        assert gigabytes <= estimated <= 1.3 * gigabytes, f"{case}: measured {gigabytes}, estimated {estimated}"
    assert len(compared) >= 10
    around = estimate(folder, TrainConfig(sample_every=1), unit(WAN_1_3B))
    assert measured()["encoding: autoencoder, encode"] <= around.peak("clips") / 1e9
    states = sum(size for kind, size in around.stages["training"].items() if kind in module.STATES)
    assert measured()["encoding: autoencoder, decode"] <= (around.peak("sample clips") - states) / 1e9


@pytest.mark.slow
@pytest.mark.parametrize("shown", tables(PRESETS), ids=lambda line: ", ".join(line[:4]))
def test_each_preset_fits_its_gpu_with_the_documented_figures(folders: dict[str, Path], shown: list[str]) -> None:
    name = NAMES[shown[0]]
    size, processes = int(shown[1]), int(shown[2])
    preset = MEMORY_PRESETS.get(name, MEMORY_PRESETS["any"])[size, processes]
    config = TrainConfig(**preset)
    for documented, pair in zip(shown[4:6], (False, True), strict=True):
        total = sum(training_bytes(folders[name], config, unit(name, pair=pair), processes).values())
        assert total <= usable("training", size * 10**9)
        assert total / 1e9 == pytest.approx(float(documented), abs=0.3)


class OneDtype(Live):
    """Asserts that the inputs of every product have one dtype; fake tensors do not."""

    products = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(op) in PRODUCTS:
            dtypes = {arg.dtype for arg in args if isinstance(arg, torch.Tensor)}
            assert len(dtypes) == 1, f"{op} of {dtypes}"
            OneDtype.products += 1
        return super().__torch_dispatch__(op, types, args, kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES.values())
def test_a_whole_run_has_products_of_one_dtype_and_latents_of_the_stated_shape(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the encoders and of a step with a pair: a value that is read on the way would raise."""
    encoded: list[torch.Size] = []
    family = load_family(folders[name])
    encode_video = family.encode_video

    def kept(pipeline: Any, frames: Any) -> torch.Tensor:
        latents = encode_video(pipeline, frames)
        encoded.append(latents.shape)
        assert tuple(latents.shape) == family.latents_shape(pipeline, *unit(name).clip)
        return latents

    monkeypatch.setattr(family, "encode_video", kept)
    monkeypatch.setattr(module, "Live", OneDtype)
    monkeypatch.setattr(OneDtype, "products", 0)
    found = estimate(folders[name], TrainConfig(checkpointing="selective"), unit(name, pair=True))
    assert len(encoded) == 1
    assert OneDtype.products > 300
    text_gb = 9.52 if name == LTX else 11.36  # of bfloat16 weights
    assert text_gb <= found.peak("prompts") / 1e9 <= 1.03 * text_gb


@pytest.mark.slow
def test_going_back_through_the_whole_decoder_does_not_fit_the_largest_gpu(folders: dict[str, Path]) -> None:
    online = TrainConfig(strategy="backprop-online", checkpointing="full", micro_batch=1)
    parts = training_bytes(folders[WAN_1_3B], online, unit(WAN_1_3B))
    assert sum(parts.values()) > 3 * usable("training", 141 * 10**9)
