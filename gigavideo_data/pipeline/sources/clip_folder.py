"""Real clips from a folder, fitted to the target model: its frame rate, its size, a number of frames that it accepts.

A clip whose file has its own name is used whole; one that is part of a source is cut out by its times (see
`clip_files`). A clip that fits already keeps its coded frames. The store knows a clip by its name: if the content of a
file changes, give it another name or use a new store.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gigavideo_data.errors import DatasetError, RowError
from gigavideo_data.io import resampling, video
from gigavideo_data.io.hashing import sha256_of
from gigavideo_data.pipeline.sources.clip_files import ClipFiles
from gigavideo_data.pipeline.sources.stream_copy import stream_copied
from gigavideo_data.reasons import Reason
from gigavideo_data.rows import Origin, SourceFile


@dataclass(frozen=True)
class Target:
    """What a clip is fitted to: size in px, fps in Hz, the largest number of frames."""

    height: int
    width: int
    fps: float
    num_frames: int


class FolderClips:
    """The clips of one folder."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Set the target.

        Args:
            engine: dataset (its name), height and width in px, fps in Hz, num_frames at most, stride of the valid
                numbers of frames; `load`, the folder.
        """
        self.dataset, self.stride = engine["dataset"], engine["stride"]
        self.target = Target(engine["height"], engine["width"], engine["fps"], engine["num_frames"])
        self.files = ClipFiles(Path(engine["load"]))

    def clip(self, caption: str, clip: str, start_s: float | None, end_s: float | None) -> tuple[str, bytes, Origin]:
        """Caption, MP4 bytes and origin of one real clip.

        Raises:
            RowError: there is no such file, or several are possible (no_clip), it is too short (too_short), or as
                `resampling.read` says.
        """
        times = None if start_s is None or end_s is None else (start_s, end_s)
        file, whole = self.files.locate(clip, timed=times is not None)
        span = (0.0, math.inf) if whole or times is None else times
        frames_THWC = resampling.read(file, **asdict(self.target), start_s=span[0], end_s=span[1])
        num_frames = resampling.valid_num_frames(len(frames_THWC), self.stride)
        if num_frames <= self.stride:
            raise RowError(Reason.TOO_SHORT, f"{clip}: {len(frames_THWC)} frames at {self.target.fps:g} Hz")
        origin = Origin(dataset=self.dataset, clip=clip, start_s=start_s, end_s=end_s)
        frames_THWC = frames_THWC[:num_frames]
        data = self._unchanged(file, frames_THWC) if span == (0.0, math.inf) else None
        return caption, data or video.encode(frames_THWC, self.target.fps), origin

    def source_file(self, clip: str, start_s: float | None, end_s: float | None, **_: Any) -> SourceFile:
        """The file of a clip.

        Raises:
            RowError: as `clip`.
        """
        file, _whole = self.files.locate(clip, timed=start_s is not None and end_s is not None)
        path = file.relative_to(self.files.folder).as_posix()
        return SourceFile(name=file.name, path=path, sha256=sha256_of(file))

    def _unchanged(self, file: Path, frames_THWC: np.ndarray) -> bytes | None:
        """The coded frames of the file, if they are exactly these frames at the target's rate; else None."""
        data = stream_copied(file, **asdict(self.target))
        if data is None:
            return None
        try:
            copied = video.decode(data)
        except DatasetError:
            return None
        same = copied.fps == self.target.fps and np.array_equal(copied.frames_THWC, frames_THWC)
        return data if same else None
