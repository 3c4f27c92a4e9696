"""Read a part of any video file at another frame rate and size. PyAV and OpenCV are imported where they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gigavideo_data.errors import RowError
from gigavideo_data.io import video
from gigavideo_data.io.video_frames import Frame, frames, open_video
from gigavideo_data.reasons import Reason

Shown = TypeVar("Shown")

MAX_ASPECT = 8  # of the file's aspect ratio over the target's, or the other way round
MAX_FPS, USUAL_FPS = 240.0, 25.0  # Hz; a file that states more, or none, is read at the usual rate
STAMP_S = 1e-3  # containers round time stamps to this
SEEK_MARGIN_S = 1.0  # a seek goes by decoding time, which is earlier than the time of showing


def read(
    file: Path,
    *,
    height: int,
    width: int,
    fps: float,
    num_frames: int,
    start_s: float = 0.0,
    end_s: float = math.inf,
) -> np.ndarray:
    """Read a part of a local video file of any container at another frame rate and size.

    Frames are decoded one by one, so memory use is little more than the result.

    Args:
        file: one of the user's own; a file of others goes through `video.decode`.
        height: of the frames returned, in px.
        width: of the frames returned, in px.
        fps: of the frames returned, in Hz.
        num_frames: the largest number of frames returned.
        start_s: first moment, counted from the start that a player shows.
        end_s: last moment, exclusive.

    Returns:
        frames_THWC, uint8 RGB: for each moment the frame that a player shows then.

    Raises:
        RowError: HDR (hdr), of changing size (size_changes), not a video, without frames in that part, or above one of
            the limits (broken_clip).
    """
    frames_THWC = np.empty((num_frames, height, width, 3), np.uint8)
    count, last = 0, None
    try:
        for shown in islice(at_rate(_shown(file, start_s, end_s), fps), num_frames):
            frames_THWC[count] = frames_THWC[count - 1] if shown is last else _resized(shown, height, width)
            count, last = count + 1, shown
    except RowError as error:
        raise RowError(error.reason, f"{file.name}: {error.detail}") from error
    if not count:
        raise RowError(Reason.BROKEN_CLIP, f"{file.name}: no frames from {start_s:g} s to {end_s:g} s")
    return frames_THWC[:count]


def as_shown(file: Path) -> tuple[np.ndarray, float]:
    """Read a whole local video file of any container at its own size and mean frame rate.

    Args:
        file: one of the user's own.

    Returns:
        frames_THWC, uint8 RGB, with even height and width (an odd line is cut off); fps in Hz.

    Raises:
        RowError: as `read`; more frames than one clip may have are broken_clip too.
    """
    with open_video(str(file)) as (_, stream):
        fps = float(stream.average_rate or stream.guessed_rate or 0)
    fps = fps if 0 < fps <= MAX_FPS else USUAL_FPS
    frames_THWC, count, last = np.empty((0, 2, 2, 3), np.uint8), 0, None
    try:
        for shown in at_rate(_shown(file, 0.0, math.inf), fps):
            if not count:
                height, width = shown.size[0] // 2 * 2, round(shown.size[1] * shown.aspect) // 2 * 2
                frames_THWC = np.empty((_most_frames(height, width), height, width, 3), np.uint8)
            if count == len(frames_THWC):
                what = f"more than {count} frames of {width} x {height} px"
                raise RowError(Reason.BROKEN_CLIP, f"{what} are not accepted; {video.MAX_CLIP_VARIABLE} sets the limit")
            frames_THWC[count] = frames_THWC[count - 1] if shown is last else _resized(shown, height, width)
            count, last = count + 1, shown
    except RowError as error:
        raise RowError(error.reason, f"{file.name}: {error.detail}") from error
    if not count:
        raise RowError(Reason.BROKEN_CLIP, f"{file.name}: it shows no frames")
    return frames_THWC[:count], fps


def _most_frames(height: int, width: int) -> int:
    if min(height, width) < 2:
        raise RowError(Reason.BROKEN_CLIP, f"its pictures are smaller than 2 px: {width} x {height}")
    return min(video.MAX_FRAMES, video.max_clip_bytes() // (height * width * 3))


def at_rate(spans: Iterable[tuple[float, float, Shown]], fps: float) -> Iterator[Shown]:
    """Give what is shown at each moment of a frame rate.

    Args:
        spans: from when until when (s), and what is shown then, one after the other. The first moment is the start of
            the first span; the last moment's span lasts for at least half a frame after it.
        fps: moments per second.
    """
    start_s: float | None = None
    pending: list[Shown] = []  # shown at moments that may be too near the end
    count = 0
    for begin_s, until_s, what in spans:
        start_s = begin_s if start_s is None else start_s
        while start_s + (count + len(pending)) / fps < until_s - STAMP_S:
            pending.append(what)
        while pending and start_s + (count + 0.5) / fps <= until_s + STAMP_S:
            yield pending.pop(0)
            count += 1


def valid_num_frames(num_frames: int, stride: int) -> int:
    """The largest number of frames up to `num_frames` that is one more than a multiple of `stride`."""
    return (num_frames - 1) // stride * stride + 1


def resize_and_crop(frames_THWC: np.ndarray, height: int, width: int, aspect: float = 1.0) -> np.ndarray:
    """Scale frames until they cover another size, and crop them around their centre.

    Args:
        frames_THWC: uint8 RGB, (T, H, W, 3).
        height: of the result, in px.
        width: of the result, in px.
        aspect: width of the given pixels over their height.

    Returns:
        uint8 RGB, (T, height, width, 3).
    """
    import cv2

    shown_height, shown_width = frames_THWC.shape[1], frames_THWC.shape[2] * aspect
    scale = max(height / shown_height, width / shown_width)
    size = (max(width, round(shown_width * scale)), max(height, round(shown_height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled_THWC = np.stack([cv2.resize(frame_HWC, size, interpolation=how) for frame_HWC in frames_THWC])
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return scaled_THWC[:, top : top + height, left : left + width]


def _resized(frame: Frame, height: int, width: int) -> np.ndarray:
    """The pixels of a frame as it is shown, at another size (px)."""
    own_height, own_width = frame.size
    ratio = own_width * frame.aspect / own_height / (width / height)
    if not 1 / MAX_ASPECT <= ratio <= MAX_ASPECT:
        size = f"pictures of {own_width} x {own_height} px"
        raise RowError(Reason.BROKEN_CLIP, f"of {size}, less than 1/{MAX_ASPECT} would fit {width} x {height} px")
    return resize_and_crop(frame.pixels()[None], height, width, frame.aspect)[0]


def _shown(file: Path, start_s: float, end_s: float) -> Iterator[tuple[float, float, Frame]]:
    """The frames that a player shows from `start_s` until `end_s`: from when until when (s), and the frame."""
    for seek in (True, False) if start_s > SEEK_MARGIN_S else (False,):
        with open_video(str(file)) as (container, stream):
            if seek and not _seek(container, start_s):
                continue
            spans = _spans(container, stream)
            first = next(spans, None)
            if first is None or (seek and first[0] > start_s + STAMP_S):
                continue  # the file has no index, or a wrong one: decode it from its start
            for begin_s, until_s, frame in chain([first], spans):
                if begin_s >= end_s - STAMP_S:
                    return
                if until_s > start_s + STAMP_S:
                    yield max(begin_s, start_s), min(until_s, end_s), frame
            return


def _seek(container: Any, start_s: float) -> bool:
    """Go to the key frame before a moment; returns whether the file allows it."""
    import av

    try:
        container.seek(int((_zero_s(container) + start_s - SEEK_MARGIN_S) * 1e6))
    except av.error.FFmpegError:
        return False
    return True


def _spans(container: Any, stream: Any) -> Iterator[tuple[float, float, Frame]]:
    """From when until when each frame is shown (s), by the time stamps, and the frame."""
    zero_s = _zero_s(container)
    usual_s = 1 / float(stream.average_rate or stream.guessed_rate or 25)
    waiting: tuple[float, Frame] | None = None  # the frame whose end is not known yet
    for frame in frames(container, stream):
        at_s = frame.decoded.time
        begin_s = at_s - zero_s if at_s is not None else waiting[0] + usual_s if waiting else 0.0
        if waiting:
            if begin_s < waiting[0] - STAMP_S:
                stamps = f"the time stamps go back from {waiting[0]:g} s to {begin_s:g} s"
                raise RowError(Reason.BROKEN_CLIP, f"{stamps}; write the video again with increasing time stamps")
            usual_s = begin_s - waiting[0]
            yield waiting[0], begin_s, waiting[1]
        waiting = begin_s, frame
    if waiting:
        begin_s, frame = waiting
        last = frame.decoded
        yield begin_s, begin_s + (float(last.duration * last.time_base) if last.duration else usual_s), frame


def _zero_s(container: Any) -> float:
    """The time stamp that a player shows as 0 s; audio that begins before the picture does not count."""
    return max(0, container.start_time or 0) / 1e6
