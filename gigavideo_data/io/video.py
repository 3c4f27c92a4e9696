"""Encode and decode the clips of a dataset: MP4, written as H.264, yuv420p, faststart, through PyAV.

OpenCV's wheels cannot write H.264, and torchcodec needs CUDA libraries; PyAV contains x264. One thread, so that equal
frames give equal bytes on one machine. PyAV is imported by the functions that need it, so that the others work without.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, TypeVar

import numpy as np

from gigavideo_data.errors import DatasetError, RecipeError, RowError, RunError
from gigavideo_data.io.video_frames import MAX_PIXELS, Frame, frames, open_mp4
from gigavideo_data.reasons import Reason

Taken = TypeVar("Taken")

MAX_FRAMES = 4096
MAX_FRAME_BYTES = MAX_PIXELS * 3 // 2  # a yuv420p frame of MAX_PIXELS; a decoder holds up to 17 frames
MAX_CLIP_VARIABLE = "GIGAVIDEO_MAX_CLIP_GIB"  # of all frames of one clip as uint8 RGB; default 1
# Macroblock-tree rate control reads past the end of small pictures: the same 48 px frames gave 13 different files in 40
# runs with it, and one without.
X264 = {"preset": "medium", "x264-params": "mbtree=0"}
CODECS = ("h264", "hevc", "av1", "vp9")


@dataclass(frozen=True)
class Clip:
    """A decoded clip: frames_THWC uint8 RGB, fps in Hz."""

    frames_THWC: np.ndarray
    fps: float


@dataclass(frozen=True)
class Measured:
    """The facts about a decoded clip without its frames: size in px, fps in Hz."""

    num_frames: int
    height: int
    width: int
    fps: float


def encode(frames_THWC: np.ndarray, fps: float, *, crf: int = 17) -> bytes:
    """Encode frames as an MP4 that browsers and the Hub's viewer play.

    Args:
        frames_THWC: uint8 RGB, (T, H, W, 3), H and W even.
        fps: frames per second.
        crf: x264 quality, lower is better; 17 is visually lossless.

    Raises:
        ValueError: no frames, frames of another dtype or shape, an odd height or width, or an invalid rate.
    """
    if frames_THWC.dtype != np.uint8 or frames_THWC.ndim != 4 or frames_THWC.shape[3] != 3:
        raise ValueError(f"frames must be uint8 (T, H, W, 3), got {frames_THWC.dtype} {frames_THWC.shape}")
    num_frames, height, width, _ = frames_THWC.shape
    if not num_frames or not height or not width:
        raise ValueError(f"nothing to encode: the frames are {frames_THWC.shape}")
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"the frame rate must be a positive number of Hz, got {fps}")
    if height % 2 or width % 2:
        raise ValueError(f"H.264 needs an even height and width, got {height} x {width}: crop or pad the frames")
    with TemporaryDirectory() as folder:  # faststart moves the index to the front, and reopens the file for it
        path = Path(folder) / "clip.mp4"
        _write(path, frames_THWC, fps, crf)
        return path.read_bytes()


def _write(path: Path, frames_THWC: np.ndarray, fps: float, crf: int) -> None:
    import av

    _, height, width, _ = frames_THWC.shape
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("h264", rate=rate, options=X264 | {"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame_HWC in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")))
        container.mux(stream.encode())


def decode(data: bytes, where: str = "clip") -> Clip:
    """Decode every frame of an MP4 into memory.

    Args:
        data: the file's bytes.
        where: its name in messages.

    Raises:
        DatasetError: not a video, truncated, no frames, a codec outside `CODECS`, or above one of the limits.
        RecipeError: `MAX_CLIP_VARIABLE` is not a size.
    """
    pixels, fps = _decoded(data, where, Frame.pixels)
    frames_THWC = np.empty((len(pixels), *pixels[0].shape), np.uint8)
    for number in reversed(range(len(pixels))):
        frames_THWC[number] = pixels.pop()  # so that only one frame at a time is in memory twice
    return Clip(frames_THWC, fps)


def measure(data: bytes | IO[bytes], where: str = "clip") -> Measured:
    """Decode every frame of an MP4, or of an open file, without keeping any; raises what `decode` raises."""
    sizes, fps = _decoded(data, where, lambda frame: frame.size)
    return Measured(len(sizes), *sizes[0], fps)


def max_clip_bytes() -> int:
    """The largest number of bytes of all decoded frames of one clip, as uint8 RGB.

    Raises:
        RecipeError: the variable is not a number above 0.
    """
    text = os.environ.get(MAX_CLIP_VARIABLE, "1")
    try:
        gib = float(text)
    except ValueError:
        gib = math.nan
    if not 0 < gib < math.inf:
        raise RecipeError(f"{MAX_CLIP_VARIABLE}={text}: must be a number of GiB above 0, such as 2")
    return int(gib * 2**30)


def _decoded(data: bytes | IO[bytes], where: str, take: Callable[[Frame], Taken]) -> tuple[list[Taken], float]:
    """The results of `take` for all frames of an MP4 of unknown origin, and its frame rate (Hz)."""
    max_bytes = max_clip_bytes()
    taken: list[Taken] = []
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        with open_mp4(file) as (container, stream):
            expected, fps = stream.frames, float(stream.average_rate or 0)
            _check_stream(stream)
            _check_size(expected or 1, stream.codec_context, max_bytes)
            zero_s: float | None = None
            for frame in frames(container, stream):
                _check_size(len(taken) + 1, frame.decoded, max_bytes)
                if frame.decoded.time is not None and fps:
                    zero_s = frame.decoded.time if zero_s is None else zero_s
                    _check_time(len(taken), frame.decoded.time - zero_s, fps)
                taken.append(take(frame))
        if not taken or (expected and len(taken) != expected):
            raise RowError(Reason.BROKEN_CLIP, f"{len(taken)} of {expected} frames decode, the file is truncated")
    except RowError as error:
        raise DatasetError(f"{where}: {error.detail}. Create the clip again.") from error
    return taken, fps


def _check_stream(stream: Any) -> None:
    codec = stream.codec_context
    if codec.name not in CODECS:
        raise RowError(Reason.BROKEN_CLIP, f"codec {codec.name} is not accepted, only {', '.join(CODECS)}")
    frame_bytes = codec.width * codec.height * (codec.format.padded_bits_per_pixel if codec.format else 12) // 8
    if frame_bytes > MAX_FRAME_BYTES:
        what = f"frames of {codec.width} x {codec.height} px in {codec.pix_fmt}"
        allowed = f"{frame_bytes >> 20} MiB each in the decoder, at most {MAX_FRAME_BYTES >> 20} are"
        raise RowError(Reason.BROKEN_CLIP, f"{what} are not accepted: {allowed}")


def _check_size(num_frames: int, size: Any, max_bytes: int) -> None:
    """Refuse a clip with too many frames, or too many bytes by `size`, the size of its stream or of one frame."""
    num_bytes = num_frames * size.width * size.height * 3
    what = f"{num_frames} frames of {size.width} x {size.height} px"
    if num_frames > MAX_FRAMES:
        raise RowError(Reason.BROKEN_CLIP, f"{what} are not accepted, at most {MAX_FRAMES} frames are")
    if num_bytes > max_bytes:
        allowed = f"{num_bytes / 2**30:.3g} GiB decoded, {MAX_CLIP_VARIABLE} allows {max_bytes / 2**30:.3g}"
        raise RowError(Reason.BROKEN_CLIP, f"{what} are not accepted: {allowed}")


def _check_time(number: int, at_s: float, fps: float) -> None:
    """Refuse a frame that is shown more than half a frame away from the time of its number."""
    if abs(at_s - number / fps) > 0.5 / fps:
        times = f"frame {number} is shown at {at_s:.3g} s, at {fps:g} Hz it would be at {number / fps:.3g} s"
        raise RowError(Reason.BROKEN_CLIP, f"its frames are not shown at a constant rate: {times}")


def check_installed(what: str) -> None:
    """Check that clips can be read and written on this machine.

    Args:
        what: the work that needs it, as the start of a sentence.

    Raises:
        RunError: PyAV or OpenCV is not installed.
    """
    packages = {"av": "av", "cv2": "opencv-python-headless"}
    missing = " and ".join(package for module, package in packages.items() if find_spec(module) is None)
    if missing:
        raise RunError(f"{what} needs {missing}, not installed here; pip install {missing.replace(' and ', ' ')}")
