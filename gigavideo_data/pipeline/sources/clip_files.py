"""Find the file of a clip in a folder by its name in a table; the name's ending may be missing or in another case.

If the table has times, a clip without a file of its own is cut out of its source: the name without its last "_" part.
Without times it is not, because the source is a different video from the captioned one.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePath

from gigavideo_data.errors import RowError
from gigavideo_data.reasons import Reason

ENDINGS = (".mp4", ".webm", ".mkv", ".mov")


class ClipFiles:
    """The video files of one folder, listed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate(self, clip: str, *, timed: bool) -> tuple[Path, bool]:
        """The file of a clip, and whether it is the clip itself rather than its source.

        Args:
            clip: its name in the table.
            timed: whether the table gives its times.

        Raises:
            RowError: no_clip: there is no such file, or several are possible.
        """
        names = [clip, *filter(None, [clip.rpartition("_")[0]] if timed else [])]
        for name in names:
            files = self._files_of(name)
            if len(files) > 1:
                raise RowError(Reason.NO_CLIP, f"{name} can be {' or '.join(files)}: give its exact ending")
            if files:
                return self.folder / files[0], name == clip
        missing = " and no source ".join(names)
        raise RowError(Reason.NO_CLIP, f"no file {missing}, as written or with {', '.join(ENDINGS)}")

    def _files_of(self, name: str) -> list[str]:
        if name in self._names:
            return [name]
        stem, ending = PurePath(name).stem, PurePath(name).suffix
        files = self._by_stem.get(_composed(name), [])
        if ending.lower() in ENDINGS:
            same = self._by_stem.get(_composed(stem), [])
            files = files + [file for file in same if PurePath(file).suffix.lower() == ending.lower()]
        return sorted(files)

    @cached_property
    def _names(self) -> frozenset[str]:
        with os.scandir(self.folder) as entries:
            return frozenset(one.name for one in entries if one.name.lower().endswith(ENDINGS) and one.is_file())

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        files = defaultdict(list)
        for name in self._names:
            files[_composed(PurePath(name).stem)].append(name)
        return dict(files)


def _composed(name: str) -> str:
    """The composed form of accented letters; archives made on a Mac have the decomposed form."""
    return unicodedata.normalize("NFC", name)
