"""Videos of a folder as they are: of any size and length, whole, for a judge to look at.

A file that every reader of a dataset can decode is taken unchanged. Any other one is encoded as MP4 at its own size and
mean frame rate: other containers and codecs, rotated pictures, a changing frame rate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gigavideo_data.errors import DatasetError, RowError
from gigavideo_data.io import resampling, video
from gigavideo_data.io.hashing import sha256_of
from gigavideo_data.reasons import Reason
from gigavideo_data.rows import SourceFile

MAX_FILE_BYTES = 4 * 2**30  # read into memory at once


class VideoFiles:
    """The videos of one folder."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Set the folder, `load` of the engine."""
        self.folder = Path(engine["load"])

    def clip(self, caption: str, clip: str, **_: Any) -> tuple[str, bytes, None]:
        """Caption, MP4 bytes, and no origin.

        Args:
            caption: of the table, returned as it is.
            clip: path of the file in the folder.

        Raises:
            RowError: there is no such file, or it leaves the folder (no_clip), it is too large (broken_clip), or as
                `resampling.as_shown` says.
        """
        file = self._file(clip)
        if file.stat().st_size > MAX_FILE_BYTES:
            raise RowError(Reason.BROKEN_CLIP, f"{clip}: more than {MAX_FILE_BYTES >> 30} GiB")
        data = file.read_bytes()
        try:
            video.measure(data)
        except DatasetError:
            frames_THWC, fps = resampling.as_shown(file)
            data = video.encode(frames_THWC, fps)
        return caption, data, None

    def source_file(self, clip: str, **_: Any) -> SourceFile:
        """The file of a clip."""
        file = self._file(clip)
        return SourceFile(name=file.name, path=clip, sha256=sha256_of(file))

    def _file(self, clip: str) -> Path:
        file = self.folder / clip
        if not file.resolve().is_relative_to(self.folder.resolve()):
            raise RowError(Reason.NO_CLIP, f"{clip}: leads out of the folder")
        if not file.is_file():
            raise RowError(Reason.NO_CLIP, f"{clip}: no such file")
        return file
