"""Which file of a folder a table means by a name: the one of that name, whose ending may be left out or in capitals.

Where the table gives times, a clip that is not there is cut out of its source: the name less its last "_" part. Without
times it is not, for the source is another video than the one that was captioned.
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
            RowError: no_clip: there is no such file, or several can be meant.
        """
        names = [clip, *filter(None, [clip.rpartition("_")[0]] if timed else [])]
        for name in names:
            files = self._meant_by(name)
            if len(files) > 1:
                raise RowError(Reason.NO_CLIP, f"{name} can be {' or '.join(files)}: give its ending, letter by letter")
            if files:
                return self.folder / files[0], name == clip
        looked_for = " and no source ".join(names)
        raise RowError(Reason.NO_CLIP, f"no file {looked_for}, as it stands or with {', '.join(ENDINGS)}")

    def _meant_by(self, name: str) -> list[str]:
        if name in self._names:
            return [name]
        stem, ending = PurePath(name).stem, PurePath(name).suffix
        meant = self._by_stem.get(_composed(name), [])
        if ending.lower() in ENDINGS:
            same = self._by_stem.get(_composed(stem), [])
            meant = meant + [file for file in same if PurePath(file).suffix.lower() == ending.lower()]
        return sorted(meant)

    @cached_property
    def _names(self) -> frozenset[str]:
        with os.scandir(self.folder) as entries:
            return frozenset(one.name for one in entries if one.name.lower().endswith(ENDINGS) and one.is_file())

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for name in self._names:
            found[_composed(PurePath(name).stem)].append(name)
        return dict(found)


def _composed(name: str) -> str:
    """One spelling of accented letters: archives made on a Mac spell them in two parts."""
    return unicodedata.normalize("NFC", name)
