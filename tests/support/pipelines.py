"""A pipeline as training loads it, with its encoders."""

from pathlib import Path
from typing import Any

import torch

from gigavideo_train.models.loading import load_autoencoder, load_pipeline, load_text_encoder


def load_with_encoders(folder: Path) -> Any:
    """In float32 on the CPU."""
    pipeline = load_pipeline(folder)
    load_text_encoder(pipeline, folder, torch.device("cpu"))
    load_autoencoder(pipeline, folder, torch.float32)
    return pipeline
