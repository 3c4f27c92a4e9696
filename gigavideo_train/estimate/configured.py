"""A pipeline from its configuration files alone: the genuine modules, without weights and without memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers


def configured_pipeline(folder: Path) -> Any:
    """The pipeline of a folder as `load_pipeline` returns it, on the meta device and without its tokenizer.

    Only the configurations are read: the folder needs no weights.
    """
    index: dict[str, Any] = json.loads((folder / "model_index.json").read_text("utf-8"))
    parts = {name: value for name, value in index.items() if not name.startswith("_")}
    for name, value in parts.items():
        if isinstance(value, list):
            parts[name] = _part(folder, name, *value)
    pipeline = getattr(diffusers, index["_class_name"])(**parts)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.transformer):
        part.requires_grad_(False).eval()
    return pipeline


def _part(folder: Path, name: str, library: str | None, class_name: str | None) -> Any:
    """A part of a pipeline; None for a tokenizer, and for a part that the pipeline does not have."""
    if library is None or class_name is None or name == "tokenizer":
        return None
    kind = getattr(diffusers if library == "diffusers" else transformers, class_name)
    with torch.device("meta" if name != "scheduler" else "cpu"):
        if library == "diffusers":
            return kind.from_config(kind.load_config(folder / name))
        return kind(kind.config_class.from_pretrained(folder / name))
