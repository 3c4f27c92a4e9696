"""Count the samples in the tables of an MP4 before FFmpeg opens it.

FFmpeg allocates an index entry per sample when it opens a file: a file of 2 kB whose tables claim 60 million samples
took 4 GB before any limit could apply.
"""

from __future__ import annotations

import os
import struct
from typing import IO

HEADER = struct.Struct(">I4s")
# Boxes in which FFmpeg looks for other boxes, at any place.
PARENTS = frozenset(b"dinf edts mdia meta minf moof moov mvex schi sinf stbl traf trak tref udta wave".split())
COUNT_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4}  # offset of the number of samples in a box's content
COMPRESSED = b"cmov"


def num_samples(file: IO[bytes], limit: int) -> int:
    """The number of samples in all tables of an open MP4, at most `limit` + 1. The file is left at its start.

    `limit` + 1 is also returned for a compressed index, or one with more than `limit` boxes.
    """
    found = boxes = 0
    spans = [(0, file.seek(0, os.SEEK_END))]
    while spans:
        start, end = spans.pop()
        while start + HEADER.size <= end and max(found, boxes) <= limit:
            file.seek(start)
            head = file.read(HEADER.size + 8)
            size, kind = HEADER.unpack_from(head)
            content = start + HEADER.size
            if size == 1:
                size, content = int.from_bytes(head[HEADER.size :], "big"), content + 8
            stop = min(start + size, end) if size else end
            if kind in PARENTS:
                spans.append((content, stop))
            elif kind in COUNT_AT:
                file.seek(content + COUNT_AT[kind])
                found += int.from_bytes(file.read(4), "big")
            elif kind == COMPRESSED:
                found = limit + 1
            start, boxes = max(stop, start + HEADER.size), boxes + 1
    file.seek(0)
    return limit + 1 if boxes > limit else min(found, limit + 1)
