"""Real clips from a folder, made to fit the target model: its frame rate, its size, a number of frames that it takes.

A clip of its own name is cut already; one that lies in its source is cut by its times (see `clip_files`). A clip that
fits as it is keeps its coded frames. A clip is known by its name: another content needs another name, or a fresh store.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from gigavideo_data import video
from gigavideo_data.clip_files import ClipFiles
from gigavideo_data.errors import DatasetError, RowError
from gigavideo_data.reasons import Reason
from gigavideo_data.stream_copy import stream_copied


class FolderClips:
    """The clips of one folder."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Remember the shape to be given.

        Args:
            engine: dataset (its name), height and width in px, fps in Hz, num_frames at most, stride of the frame rule;
                `load`, the folder.
        """
        self.shape, self.files = engine, ClipFiles(Path(engine["load"]))

    def clip(
        self, caption: str, clip: str, start_s: float | None, end_s: float | None
    ) -> tuple[str, bytes, dict[str, Any]]:
        """Caption, MP4 bytes and origin of one real video.

        Raises:
            RowError: there is no such file, or several can be meant (no_clip), it is too short (too_short), or as
                `video.read` says.
        """
        times = None if start_s is None or end_s is None else (start_s, end_s)
        file, whole = self.files.locate(clip, timed=times is not None)
        span = (0.0, math.inf) if whole or times is None else times
        shape = self.shape
        wanted = {name: shape[name] for name in ("height", "width", "fps", "num_frames")}
        frames_THWC = video.read(file, **wanted, start_s=span[0], end_s=span[1])
        num_frames = video.fitting(len(frames_THWC), shape["stride"])
        if num_frames <= shape["stride"]:
            raise RowError(Reason.TOO_SHORT, f"{clip}: {len(frames_THWC)} frames at {shape['fps']:g} Hz")
        origin = {"dataset": shape["dataset"], "clip": clip, "start_s": start_s, "end_s": end_s}
        frames_THWC = frames_THWC[:num_frames]
        data = self._as_it_is(file, frames_THWC) if span == (0.0, math.inf) else None
        return caption, data or video.encode(frames_THWC, shape["fps"]), origin

    def source_file(self, clip: str, start_s: float | None, end_s: float | None, **_: Any) -> dict[str, str]:
        """The file of a clip as the column `source_file` names it.

        Raises:
            RowError: as `clip`.
        """
        file, _whole = self.files.locate(clip, timed=start_s is not None and end_s is not None)
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        path = file.relative_to(self.files.folder).as_posix()
        return {"name": file.name, "path": path, "sha256": sha256}

    def _as_it_is(self, file: Path, frames_THWC: np.ndarray) -> bytes | None:
        """The file's own coded frames, if they show at the wanted rate just those that the clip must have."""
        wanted = {name: self.shape[name] for name in ("height", "width", "fps", "num_frames")}
        data = stream_copied(file, **wanted)
        if data is None:
            return None
        try:
            found = video.decode(data)
        except DatasetError:
            return None
        return data if found.fps == wanted["fps"] and np.array_equal(found.frames_THWC, frames_THWC) else None
