"""The published models of `genuine_models.yaml`, built on the meta device: their classes and sizes without weights."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
import yaml
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

MODELS: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "genuine_models.yaml").read_text("utf-8"))
NO_PARTS = ("source", "pipeline")
OF_PIPELINES = {"LTX2TextConnectors": LTX2TextConnectors, "LTX2Vocoder": LTX2Vocoder}


def parts(model: str) -> list[str]:
    """Names of the parts with weights."""
    return [name for name in MODELS[model] if name not in NO_PARTS]


def build(model: str, part: str, **changes: Any) -> Any:
    """One part of a model, with some arguments changed."""
    name, arguments = MODELS[model][part]
    cls = OF_PIPELINES.get(name) or getattr(diffusers, name, None)
    with torch.device("meta"):
        if cls is not None:
            return cls(**arguments | changes)
        cls = getattr(transformers, name)
        return cls(cls.config_class(**arguments | changes))


def num_parameters(module: Any) -> int:
    """The number of weights of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
