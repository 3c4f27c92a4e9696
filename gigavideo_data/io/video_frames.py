"""The frames of a video file, decoded one by one within limits, as a player shows them: turned, with square pixels.

Files may come from anybody, so a file that needs too much memory or time is refused. PyAV is imported by the functions
that need it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from gigavideo_data.errors import RowError
from gigavideo_data.io.mp4 import num_samples
from gigavideo_data.reasons import Reason

MAX_PIXELS = 4096 * 4096  # per frame
MAX_PACKETS = 100_000  # per file
MAX_DECODE_S = 60  # CPU seconds per clip
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # numbers of ITU-T H.273
BT2020 = 9  # primaries, there


@dataclass(frozen=True)
class Orientation:
    """How a decoded frame becomes the shown one: rows and columns swapped, then rows, then columns reversed."""

    swapped: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False


@dataclass(frozen=True)
class Frame:
    """A decoded frame of PyAV, its orientation, and the width of its pixels over their height as shown."""

    decoded: Any
    orientation: Orientation
    aspect: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width (px) as shown."""
        height, width = self.decoded.height, self.decoded.width
        return (width, height) if self.orientation.swapped else (height, width)

    def pixels(self) -> np.ndarray:
        """The frame as it is shown, uint8 RGB (H, W, 3)."""
        frame_HWC, how = self.decoded.to_ndarray(format="rgb24"), self.orientation
        if how.swapped:
            frame_HWC = frame_HWC.swapaxes(0, 1)
        rows, columns = (slice(None, None, -1 if back else 1) for back in (how.rows_reversed, how.columns_reversed))
        return np.ascontiguousarray(frame_HWC[rows, columns])


@contextmanager
def open_mp4(file: IO[bytes]) -> Iterator[tuple[Any, Any]]:
    """Open an MP4 of unknown origin, as `open_video`.

    Raises:
        RowError: as `open_video`, or its index has too many packets.
    """
    if num_samples(file, MAX_PACKETS) > MAX_PACKETS:
        raise RowError(Reason.BROKEN_CLIP, f"its index has more than {MAX_PACKETS} packets, or cannot be counted")
    with open_video(file, format="mp4") as opened:
        yield opened


@contextmanager
def open_video(source: Any, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Open a video file for decoding in one thread; gives PyAV's container and video stream.

    Raises:
        RowError: it is not a video, cannot be decoded, or its frames are too large.
    """
    import av

    limits = {"max_pixels": str(MAX_PIXELS)}  # enforced by the decoder too, as a container may give a wrong size
    try:
        with av.open(source, options=limits, **options) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise RowError(Reason.BROKEN_CLIP, "no video stream in the file")
            codec = stream.codec_context
            if codec.width * codec.height > MAX_PIXELS:
                size = f"{codec.width} x {codec.height}"
                raise RowError(Reason.BROKEN_CLIP, f"frames of {size} px are not accepted, at most {MAX_PIXELS} px are")
            codec.thread_count, codec.options = 1, limits
            yield container, stream
    except (av.error.FFmpegError, EOFError) as error:
        # Without the path, which is one of this machine: rejects are published.
        why = getattr(error, "strerror", None) or error
        raise RowError(Reason.BROKEN_CLIP, f"cannot be decoded ({why}), the file is broken") from error


def frames(container: Any, stream: Any) -> Iterator[Frame]:
    """Decode the frames of a stream, in the order in which they are shown.

    Raises:
        RowError: they are HDR (hdr) or change their size (size_changes), or the file has more packets or takes more
            time than a clip may (broken_clip).
    """
    end_s = time.thread_time() + MAX_DECODE_S
    aspect, orientation, first = float(stream.sample_aspect_ratio or 1), Orientation(), ""
    for number, packet in enumerate(container.demux()):  # of all streams, since the others take time too
        if number >= MAX_PACKETS:
            raise RowError(Reason.BROKEN_CLIP, f"more than {MAX_PACKETS} packets, which one clip may not have")
        for frame in packet.decode() if packet.stream_index == stream.index else ():
            _check_colors(frame)
            size = f"{frame.width} x {frame.height} px" + (f", turned by {frame.rotation}" if frame.rotation else "")
            if not first:
                orientation, first = _orientation(frame), size
            if size != first:
                changes = f"its pictures change from {first} to {size}"
                raise RowError(Reason.SIZE_CHANGES, f"{changes}; cut the video where they change")
            yield Frame(frame, orientation, 1 / aspect if orientation.swapped else aspect)
        if time.thread_time() > end_s:
            raise RowError(Reason.BROKEN_CLIP, f"decoding takes more than the {MAX_DECODE_S} s that one clip may take")


def _check_colors(frame: Any) -> None:
    """Refuse HDR: without tone mapping, its frames would come out pale."""
    if frame.color_trc in HDR_TRANSFERS or frame.color_primaries == BT2020:
        transfer = HDR_TRANSFERS.get(frame.color_trc, "BT.2020 colours")
        raise RowError(Reason.HDR, f"the video is HDR ({transfer}); map it to BT.709 first, as ffmpeg's tonemap does")


def _orientation(frame: Any) -> Orientation:
    """The orientation that the container stores beside a decoded frame."""
    from av.sidedata.sidedata import Type

    # PyAV keeps a frame alive until the garbage collector runs once its side data were read: so read a small copy's.
    side = frame.reformat(width=2, height=2).side_data.get(Type.DISPLAYMATRIX)
    if side is None:
        return Orientation()
    # The matrix maps x and y of a picture to a x + c y and b x + d y, both with y downwards.
    (a, b, _), (c, d, _), _ = np.frombuffer(bytes(side), np.int32).reshape(3, 3).astype(float)
    straight, across = max(abs(a), abs(d)), max(abs(b), abs(c))
    if min(straight, across) > 0.01 * max(straight, across):
        raise RowError(Reason.BROKEN_CLIP, "its pictures are rotated by no multiple of 90 degrees; rotate them first")
    return Orientation(True, b < 0, c < 0) if across > straight else Orientation(False, d < 0, a < 0)
