"""Final latents of generated videos in a dataset: read from the store, or copied from another dataset.

They are the output of the pipeline's sampler in bfloat16, before its autoencoder decoded them, normalised as the
transformer sees them in every model family. With them, training a model with the same autoencoder encodes no videos.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from gigavideo_data.dataset.manifest import files_in
from gigavideo_data.dataset.reader import read_latents, read_manifest
from gigavideo_data.dataset.schema import LATENTS_FOLDER
from gigavideo_data.io.atomic import Blob
from gigavideo_data.rows import DatasetRow, LatentsRow, VaeColumn, VideoRow


def columns(row: DatasetRow, kept: Blob, vae: VaeColumn) -> LatentsRow:
    """The latents of one video as a row of the table; their bytes are not read into memory.

    Args:
        row: of the dataset.
        kept: the safetensors file of the store, with one tensor `latents` of shape (C, F, H, W).
        vae: name of the model with the autoencoder, and the revision of the autoencoder.
    """
    with kept.file.open("rb") as file:
        start = 8 + (length := int.from_bytes(file.read(8), "little"))
        tensor = json.loads(file.read(length))["latents"]
    data = Blob(kept.file, start)
    assert (tensor["dtype"], tensor["data_offsets"]) == ("BF16", [0, len(data)])
    return {
        "id": row["id"],
        "video_sha256": row["video_sha256"],
        "latents": data,
        "latents_sha256": hashlib.sha256(data.read()).hexdigest(),
        "shape": tensor["shape"],
        "vae": vae,
    }


def carried(folder: Path, rows: Iterable[VideoRow]) -> Iterator[LatentsRow]:
    """The latents that a dataset has for some rows; none for rows whose video is withheld or was replaced."""
    if not files_in(read_manifest(folder), LATENTS_FOLDER):
        return
    videos = {row["id"]: row["video_sha256"] for row in rows if row["video"] is not None}
    yield from (one for one in read_latents(folder) if videos.get(one["id"]) == one["video_sha256"])
