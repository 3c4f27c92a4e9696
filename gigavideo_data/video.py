"""Clips in and out of MP4: H.264, yuv420p, faststart, through PyAV.

OpenCV's wheels cannot write H.264, and torchcodec needs CUDA libraries; PyAV brings its own x264. One thread, so that
the same frames give the same bytes on one machine. PyAV and OpenCV are imported by the functions that need them, so
that the others work on a machine without them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gigavideo_data.errors import DatasetError, RunError

MAX_PIXELS = 4096 * 4096  # per frame
MAX_FRAMES = 4096
# Macroblock-tree rate control reads past the end of small pictures: the same 48 px frames gave 13 different files in 40
# tries with it, and one without.
X264 = {"preset": "medium", "x264-params": "mbtree=0"}
CODECS = ("h264", "hevc", "av1", "vp9")


@dataclass(frozen=True)
class Clip:
    """A decoded clip: frames_THWC uint8 RGB, fps in Hz."""

    frames_THWC: np.ndarray
    fps: float


def encode(frames_THWC: np.ndarray, fps: float, *, crf: int = 17) -> bytes:
    """Write frames as an MP4 that browsers and the Hub's viewer play.

    Args:
        frames_THWC: uint8 RGB, (T, H, W, 3), H and W even.
        fps: frames per second.
        crf: x264 quality, lower is better; 17 is visually lossless.

    Raises:
        ValueError: no frames, frames of another dtype or shape, an odd height or width, or a rate that is none.
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
    with TemporaryDirectory() as folder:  # faststart moves the index to the front by opening the file once more
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
    """Decode every frame of an MP4.

    Args:
        data: the file's bytes.
        where: name used in messages.

    Raises:
        DatasetError: not a video, truncated, no frames, a codec outside `CODECS`, or larger than the caps.
    """
    import av

    try:
        with av.open(io.BytesIO(data), format="mp4") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise DatasetError(f"{where}: no video stream in the file. Make the clip again.")
            codec = stream.codec_context
            if codec.name not in CODECS or codec.width * codec.height > MAX_PIXELS or stream.frames > MAX_FRAMES:
                raise DatasetError(
                    f"{where}: {codec.name} {codec.width} x {codec.height}, {stream.frames} frames is not accepted "
                    f"(codecs {', '.join(CODECS)}; at most {MAX_PIXELS} px and {MAX_FRAMES} frames)."
                )
            codec.thread_count = 1
            promised, fps = stream.frames, float(stream.average_rate or 0)
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    except (av.error.FFmpegError, EOFError) as error:
        raise DatasetError(f"{where}: cannot be decoded ({error}). The file is broken; make the clip again.") from error
    if not frames or (promised and len(frames) != promised):
        raise DatasetError(f"{where}: {len(frames)} of {promised} frames decode. The file is truncated; make it again.")
    return Clip(np.stack(frames), fps)


def read(file: Path, start_s: float = 0.0, end_s: float = float("inf")) -> Clip:
    """Decode a part of a local video file of any container.

    Args:
        file: one of the user's own; what comes from others goes through `decode`.
        start_s: first moment.
        end_s: last moment, left out.

    Raises:
        DatasetError: not a video, no frames in that part, or larger than the caps.
    """
    import av

    try:
        with av.open(str(file)) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise DatasetError(f"{file.name}: no video stream in the file")
            if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
                raise DatasetError(f"{file.name}: frames of more than {MAX_PIXELS} px are not accepted")
            stream.codec_context.thread_count = 1
            fps = float(stream.average_rate or 0)
            if start_s > 0:
                container.seek(int(start_s * av.time_base))  # to the key frame before it
            frames: list[np.ndarray] = []
            for frame in container.decode(stream):
                at_s = frame.time or 0.0
                if at_s >= end_s or len(frames) == MAX_FRAMES:
                    break
                if at_s >= start_s:
                    frames.append(frame.to_ndarray(format="rgb24"))
    except (av.error.FFmpegError, EOFError) as error:
        raise DatasetError(f"{file.name}: cannot be decoded ({error})") from error
    if not frames or not fps:
        raise DatasetError(f"{file.name}: no frames from {start_s:g} s to {end_s:g} s")
    return Clip(np.stack(frames), fps)


def at_rate(frames_THWC: np.ndarray, fps: float, wanted: float) -> np.ndarray:
    """The same seconds at another frame rate (Hz), each moment by the frame that is shown then."""
    moments_T = np.arange(max(1, round(len(frames_THWC) * wanted / fps))) / wanted
    return frames_THWC[np.minimum((moments_T * fps + 1e-6).astype(int), len(frames_THWC) - 1)]


def fitting(num_frames: int, stride: int) -> int:
    """The largest number of frames up to `num_frames` that is one more than a multiple of `stride`."""
    return (num_frames - 1) // stride * stride + 1


def filling(frames_THWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames of another size (px): scaled until they fill it, and cut at the middle of what juts out."""
    import cv2

    scale = max(height / frames_THWC.shape[1], width / frames_THWC.shape[2])
    size = (max(width, round(frames_THWC.shape[2] * scale)), max(height, round(frames_THWC.shape[1] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled_THWC = np.stack([cv2.resize(frame_HWC, size, interpolation=how) for frame_HWC in frames_THWC])
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return scaled_THWC[:, top : top + height, left : left + width]


def poster(frames_THWC: np.ndarray, *, quality: int = 85) -> bytes:
    """The middle frame as JPEG bytes."""
    import cv2

    middle = frames_THWC[len(frames_THWC) // 2]
    ok, buffer = cv2.imencode(".jpg", cv2.cvtColor(middle, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return buffer.tobytes()


def check_installed(what: str) -> None:
    """Find out whether clips can be read and written here.

    Args:
        what: asks for it, as the start of a sentence.

    Raises:
        RunError: PyAV or OpenCV is not installed.
    """
    packages = {"av": "av", "cv2": "opencv-python-headless"}
    missing = " and ".join(package for module, package in packages.items() if find_spec(module) is None)
    if missing:
        raise RunError(f"{what} needs {missing}, not installed here; pip install {missing.replace(' and ', ' ')}")
