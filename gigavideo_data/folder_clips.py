"""Real clips from a folder, made to fit the target model: its frame rate, its size, a number of frames that it takes.

A clip is looked for under its own name, cut already; else under that of its source (the name less its last "_" part),
and cut by its times. A clip is known by its name: another content needs another name, or a fresh store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gigavideo_data import video
from gigavideo_data.errors import RowError

ENDINGS = (".mp4", ".webm", ".mkv", ".mov")


class FolderClips:
    """The clips of one folder."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Remember the shape to be given.

        Args:
            engine: dataset (its name), height and width in px, fps in Hz, num_frames at most, stride of the frame rule;
                `load`, the folder.
        """
        self.shape, self.folder = engine, Path(engine["load"])

    def clip(
        self, caption: str, clip: str, start_s: float | None, end_s: float | None
    ) -> tuple[str, bytes, dict[str, Any]]:
        """Caption, MP4 bytes and origin of one real video.

        Raises:
            RowError: there is no such file (no_clip), it cannot be decoded (broken_clip), or is too short (too_short).
        """
        file, whole = self._file(clip)
        span = {} if whole or start_s is None or end_s is None else {"start_s": start_s, "end_s": end_s}
        shape = self.shape
        wanted = {name: shape[name] for name in ("height", "width", "fps", "num_frames")}
        frames_THWC = video.read(file, **wanted, **span)
        num_frames = video.fitting(len(frames_THWC), shape["stride"])
        if num_frames <= shape["stride"]:
            raise RowError("too_short", f"{clip}: {len(frames_THWC)} frames at {shape['fps']:g} Hz")
        origin = {"dataset": shape["dataset"], "clip": clip, "start_s": start_s, "end_s": end_s}
        return caption, video.encode(frames_THWC[:num_frames], shape["fps"]), origin

    def _file(self, clip: str) -> tuple[Path, bool]:
        """The file, and whether it is the clip itself rather than its source."""
        source = clip.rpartition("_")[0]
        for name, whole in ((clip, True), (source, False)):
            for ending in ("", *ENDINGS) if name else ():
                file = self.folder / f"{name}{ending}"
                if file.suffix in ENDINGS and file.is_file():
                    return file, whole
        raise RowError("no_clip", f"neither {clip} nor {source or 'a source'} with {', '.join(ENDINGS)}")
