"""What gives the features of clips in `gv-data eval`: an autoencoder or a named network. No part of a recipe."""

from __future__ import annotations

from typing import ClassVar, Literal

from gigavideo_data.recipe.recipe import Model
from gigavideo_data.recipe.yaml_config import StrictModel


class Features(StrictModel):
    """`vae`: the autoencoder of the text-to-video `model`; `network`: an image or video encoder of transformers.

    `model` is a shipped name, a Hub id (with a `revision`) or a folder.
    """

    kind: ClassVar[Literal["features"]] = "features"

    backend: Literal["vae", "network"]
    model: Model
    revision: Model | None = None
