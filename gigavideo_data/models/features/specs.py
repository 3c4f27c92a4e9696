"""The specs of feature networks, and the families that are known; imports no model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gigavideo_data.errors import RecipeError
from gigavideo_data.hub.models import file_of
from gigavideo_data.models.generators.profiles import vae_of
from gigavideo_data.models.spec import EngineSpec, loaded_from
from gigavideo_data.recipe.features import Features
from gigavideo_data.recipe.recipe import Generator, on_the_hub


@dataclass(frozen=True)
class EncoderFamily:
    """How an encoder takes a clip.

    Attributes:
        takes_video: whether it encodes all frames together; else each frame alone.
    """

    takes_video: bool


ENCODERS = {  # by the model type in a model's configuration
    "videomae": EncoderFamily(takes_video=True),
    "vivit": EncoderFamily(takes_video=True),
    "dinov2": EncoderFamily(takes_video=False),
    "vit": EncoderFamily(takes_video=False),
}


def autoencoder(features: Features) -> EngineSpec:
    """The spec of the autoencoder of a text-to-video model.

    Raises:
        HubError: it cannot be downloaded.
        RecipeError: the model is not known, or its autoencoder is not on this machine.
    """
    vae = vae_of(Generator(model=features.model, revision=features.revision))
    location = {"load": features.model, "load_revision": features.revision}
    return EngineSpec({"backend": features.backend, "model": vae["model"], "revision": vae["revision"]}, location)


def network(features: Features) -> EngineSpec:
    """The spec of an encoder of transformers.

    Raises:
        HubError: its configuration cannot be downloaded.
        RecipeError: it is no folder with a config.json, or its family is not in ENCODERS.
    """
    model, revision = features.model, features.revision
    config = file_of(model, revision, "config.json") if on_the_hub(model) else Path(model).expanduser() / "config.json"
    if not config.is_file():
        raise RecipeError(f"--features {model}: neither 'vae', nor a Hub id, nor a folder with a config.json")
    family = json.loads(config.read_text("utf-8")).get("model_type")
    if family not in ENCODERS:
        raise RecipeError(f"--features {model}: its model type {family!r} is not one of {', '.join(ENCODERS)}")
    return loaded_from(model, {"backend": features.backend, "model": model, "revision": revision})
