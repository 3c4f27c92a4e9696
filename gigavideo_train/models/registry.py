"""Which module trains which diffusers pipeline: a literal table.

A family is a module that says with these names how its pipeline makes videos; the loop asks it nothing else. `pipeline`
is what `pipeline.load` gives; it is asked for its settings alone where a transformer is given beside it.

    BLOCKS                                                       the transformer's list of equal blocks
    LORA_TARGETS                                                 linear layers that a LoRA stands beside
    encode_video(pipeline, frames_THWC) -> latents_CFHW          float32 on the CPU, as the transformer sees them
    latents_shape(pipeline, num_frames, height, width)           of what it makes of a clip, known without making it
    decode(pipeline, latents_BCFHW) -> frames_BTHWC              float in [0, 1], differentiable
    encode_prompt(pipeline, prompt, max_tokens) -> text_LD       float32 on the CPU, a row for each token, no padding
    num_tokens(transformer, shape_CFHW) -> int                   that the transformer makes of latents
    velocity(pipeline, transformer, noisy_BCFHW, sigma_B, told)  noise - clean, shaped as its input; told: a Condition
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

from gigavideo_data.errors import RecipeError

FAMILIES = {
    "WanPipeline": "gigavideo_train.models.wan",
    "LTXPipeline": "gigavideo_train.models.ltx",
}


def family_name(folder: Path) -> str:
    """The kind of pipeline in a folder.

    Raises:
        RecipeError: it cannot be trained yet.
    """
    name = json.loads((folder / "model_index.json").read_text("utf-8")).get("_class_name")
    if name not in FAMILIES:
        raise RecipeError(f"--model {folder.name}: a {name} cannot be trained yet, only {', '.join(FAMILIES)}")
    return name


def family_of(folder: Path) -> ModuleType:
    """The module that trains the pipeline in a folder."""
    return importlib.import_module(FAMILIES[family_name(folder)])
