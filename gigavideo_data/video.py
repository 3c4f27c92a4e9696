"""Clips in and out of MP4: H.264, yuv420p, faststart, through PyAV.

OpenCV's wheels cannot write H.264, and torchcodec needs CUDA libraries; PyAV brings its own x264. One thread, so that
the same frames give the same bytes on one machine. PyAV and OpenCV are imported by the functions that need them, so
that the others work on a machine without them.
"""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, TypeVar

import numpy as np

from gigavideo_data.errors import DatasetError, RecipeError, RowError, RunError
from gigavideo_data.mp4 import num_samples
from gigavideo_data.reasons import Reason

Taken = TypeVar("Taken")

MAX_PIXELS = 4096 * 4096  # per frame
MAX_FRAMES = 4096
# What is decoded by others' wish is bounded: decoders hold up to 17 frames, in the format of the file.
MAX_FRAME_BYTES = MAX_PIXELS * 3 // 2  # of one of them: a yuv420p frame of MAX_PIXELS
MAX_CLIP_VARIABLE = "GIGAVIDEO_MAX_CLIP_GIB"  # of all frames of one clip as uint8 RGB; 1 where it is not set
MAX_PACKETS = 100_000  # of one file
MAX_DECODE_S = 60  # of one core, for one clip
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # numbers of ITU-T H.273
BT2020 = 9  # primaries, there
MAX_CUT = 8  # how much longer than the target, for their height or width, pictures may be
STAMP_S = 1e-3  # containers round time stamps to this
SEEK_MARGIN_S = 1.0  # key frames are found by the order of decoding, which runs before that of showing
# Macroblock-tree rate control reads past the end of small pictures: the same 48 px frames gave 13 different files in 40
# tries with it, and one without.
X264 = {"preset": "medium", "x264-params": "mbtree=0"}
CODECS = ("h264", "hevc", "av1", "vp9")


@dataclass(frozen=True)
class Clip:
    """A decoded clip: frames_THWC uint8 RGB, fps in Hz."""

    frames_THWC: np.ndarray
    fps: float


@dataclass(frozen=True)
class Measured:
    """What is known of a clip whose frames were decoded and not kept: size in px, fps in Hz."""

    num_frames: int
    height: int
    width: int
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
    """Decode every frame of an MP4 into memory.

    Args:
        data: the file's bytes.
        where: name used in messages.

    Raises:
        DatasetError: not a video, truncated, no frames, a codec outside `CODECS`, or above one of the limits.
        RecipeError: `MAX_CLIP_VARIABLE` is set to something else than a size.
    """
    frames, fps = _decoded(data, where, _Frame.pixels)
    frames_THWC = np.empty((len(frames), *frames[0].shape), np.uint8)
    for number in reversed(range(len(frames))):
        frames_THWC[number] = frames.pop()  # so that no more than one frame is held twice
    return Clip(frames_THWC, fps)


def measure(data: bytes | IO[bytes], where: str = "clip") -> Measured:
    """Decode every frame of an MP4, or of an open file, and keep none; raises what `decode` raises."""
    sizes, fps = _decoded(data, where, lambda frame: frame.size)
    return Measured(len(sizes), *sizes[0], fps)


def max_clip_bytes() -> int:
    """How large the decoded frames of one clip may be together, as uint8 RGB.

    Raises:
        RecipeError: the variable does not hold a number above 0.
    """
    text = os.environ.get(MAX_CLIP_VARIABLE, "1")
    try:
        gib = float(text)
    except ValueError:
        gib = math.nan
    if not 0 < gib < math.inf:
        raise RecipeError(f"{MAX_CLIP_VARIABLE}={text}: must be a number of GiB above 0, such as 2")
    return int(gib * 2**30)


def _decoded(data: bytes | IO[bytes], where: str, take: Callable[[_Frame], Taken]) -> tuple[list[Taken], float]:
    """What `take` returns for each frame of an MP4, and its frame rate (Hz), of a file from anywhere."""
    max_bytes = max_clip_bytes()
    taken: list[Taken] = []
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        if num_samples(file, MAX_PACKETS) > MAX_PACKETS:
            raise RowError(
                Reason.BROKEN_CLIP, f"its index promises more than {MAX_PACKETS} packets or cannot be counted"
            )
        with _opened(file, format="mp4") as (container, stream):
            promised, fps = stream.frames, float(stream.average_rate or 0)
            _check_stream(stream)
            _check_size(promised or 1, stream.codec_context, max_bytes)
            zero_s: float | None = None
            for frame in _frames(container, stream):
                _check_size(len(taken) + 1, frame.decoded, max_bytes)
                if frame.decoded.time is not None and fps:
                    zero_s = frame.decoded.time if zero_s is None else zero_s
                    _check_time(len(taken), frame.decoded.time - zero_s, fps)
                taken.append(take(frame))
        if not taken or (promised and len(taken) != promised):
            raise RowError(Reason.BROKEN_CLIP, f"{len(taken)} of {promised} frames decode, the file is truncated")
    except RowError as error:
        raise DatasetError(f"{where}: {error.detail}. Make the clip again.") from error
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
    """Refuse a clip by its number of frames and their `size`, the stream's or that of one of them."""
    num_bytes = num_frames * size.width * size.height * 3
    what = f"{num_frames} frames of {size.width} x {size.height} px"
    if num_frames > MAX_FRAMES:
        raise RowError(Reason.BROKEN_CLIP, f"{what} are not accepted, at most {MAX_FRAMES} frames are")
    if num_bytes > max_bytes:
        allowed = f"{num_bytes / 2**30:.3g} GiB decoded, {MAX_CLIP_VARIABLE} allows {max_bytes / 2**30:.3g}"
        raise RowError(Reason.BROKEN_CLIP, f"{what} are not accepted: {allowed}")


def _check_time(number: int, at_s: float, fps: float) -> None:
    """Refuse a frame that a player shows more than half a frame from where its number says it stands."""
    if abs(at_s - number / fps) > 0.5 / fps:
        told = f"frame {number} is shown at {at_s:.3g} s, at {fps:g} Hz it would be at {number / fps:.3g} s"
        raise RowError(Reason.BROKEN_CLIP, f"its frames are not shown at a constant rate: {told}")


@dataclass(frozen=True)
class _Turn:
    """How a frame is to be turned before it is shown: rows and columns exchanged, then rows, then columns reversed."""

    exchanged: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False


@dataclass(frozen=True)
class _Frame:
    """A decoded frame of PyAV, how it is to be turned, and the width of its pixels over their height as shown."""

    decoded: Any
    turn: _Turn
    aspect: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width (px) as shown."""
        height, width = self.decoded.height, self.decoded.width
        return (width, height) if self.turn.exchanged else (height, width)

    def pixels(self) -> np.ndarray:
        """The frame as it is shown, uint8 RGB (H, W, 3)."""
        frame_HWC, turn = self.decoded.to_ndarray(format="rgb24"), self.turn
        if turn.exchanged:
            frame_HWC = frame_HWC.swapaxes(0, 1)
        rows, columns = (slice(None, None, -1 if back else 1) for back in (turn.rows_reversed, turn.columns_reversed))
        return np.ascontiguousarray(frame_HWC[rows, columns])


def _turn(frame: Any) -> _Turn:
    """What the container says about how its pictures are turned, as it stands beside a decoded one.

    Raises:
        RowError: they are to be shown askew.
    """
    from av.sidedata.sidedata import Type

    # PyAV keeps a frame whose side data were looked at until the garbage collector runs: a small copy, therefore.
    side = frame.reformat(width=2, height=2).side_data.get(Type.DISPLAYMATRIX)
    if side is None:
        return _Turn()
    # A picture's x and y become a x + c y and b x + d y, both with y downwards.
    (a, b, _), (c, d, _), _ = np.frombuffer(bytes(side), np.int32).reshape(3, 3).astype(float)
    straight, across = max(abs(a), abs(d)), max(abs(b), abs(c))
    if min(straight, across) > 0.01 * max(straight, across):
        raise RowError(
            Reason.BROKEN_CLIP, "its pictures are to be turned by no multiple of 90 degrees; turn them first"
        )
    return _Turn(True, b < 0, c < 0) if across > straight else _Turn(False, d < 0, a < 0)


def _check_colours(frame: Any) -> None:
    """Refuse what would come out pale: colours that a screen of the usual range cannot show are not mapped here."""
    if frame.color_trc in HDR_TRANSFERS or frame.color_primaries == BT2020:
        transfer = HDR_TRANSFERS.get(frame.color_trc, "BT.2020 colours")
        raise RowError(Reason.HDR, f"the video is HDR ({transfer}); map it to BT.709 first, as ffmpeg's tonemap does")


@contextmanager
def _opened(source: Any, **how: Any) -> Iterator[tuple[Any, Any]]:
    """A video file and its video stream, to be decoded by one thread.

    Raises:
        RowError: it is no video, or it cannot be decoded.
    """
    import av

    limits = {"max_pixels": str(MAX_PIXELS)}  # the decoder's own, also for what the container does not tell
    try:
        with av.open(source, options=limits, **how) as container:
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
        raise RowError(Reason.BROKEN_CLIP, f"cannot be decoded ({error}), the file is broken") from error


def _frames(container: Any, stream: Any) -> Iterator[_Frame]:
    """The frames of a stream, in the order in which they are shown.

    Raises:
        RowError: they are HDR or change their size, or take more packets or time than one clip may take.
    """
    end_s = time.thread_time() + MAX_DECODE_S
    aspect, turn, look = float(stream.sample_aspect_ratio or 1), _Turn(), ""
    for number, packet in enumerate(container.demux()):  # of all streams: those of others take time too
        if number >= MAX_PACKETS:
            raise RowError(Reason.BROKEN_CLIP, f"more than {MAX_PACKETS} packets, which one clip may not have")
        for frame in packet.decode() if packet.stream_index == stream.index else ():
            _check_colours(frame)
            here = f"{frame.width} x {frame.height} px" + (f", turned by {frame.rotation}" if frame.rotation else "")
            if not look:
                turn, look = _turn(frame), here
            if here != look:
                told = f"its pictures change from {look} to {here}"
                raise RowError(Reason.SIZE_CHANGES, f"{told}; cut the video where they change")
            yield _Frame(frame, turn, 1 / aspect if turn.exchanged else aspect)
        if time.thread_time() > end_s:
            raise RowError(Reason.BROKEN_CLIP, f"decoding takes more than the {MAX_DECODE_S} s that one clip may take")


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
    """A part of a local video file of any container at another frame rate and size.

    It is decoded frame by frame, so that memory holds what is returned and little more.

    Args:
        file: one of the user's own; what comes from others goes through `decode`.
        height: of the frames returned, in px.
        width: of the frames returned, in px.
        fps: of the frames returned, in Hz.
        num_frames: at most so many are returned.
        start_s: first moment, counted from the start that a player shows.
        end_s: last moment, left out.

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
            frames_THWC[count] = frames_THWC[count - 1] if shown is last else _filled(shown, height, width)
            count, last = count + 1, shown
    except RowError as error:
        raise RowError(error.reason, f"{file.name}: {error.detail}") from error
    if not count:
        raise RowError(Reason.BROKEN_CLIP, f"{file.name}: no frames from {start_s:g} s to {end_s:g} s")
    return frames_THWC[:count]


def _filled(frame: _Frame, height: int, width: int) -> np.ndarray:
    """The pixels of a frame as it is shown, of another size (px)."""
    own_height, own_width = frame.size
    ratio = own_width * frame.aspect / own_height / (width / height)
    if not 1 / MAX_CUT <= ratio <= MAX_CUT:
        told = f"of pictures of {own_width} x {own_height} px"
        raise RowError(Reason.BROKEN_CLIP, f"{told}, less than 1/{MAX_CUT} would fit {width} x {height} px")
    return filling(frame.pixels()[None], height, width, frame.aspect)[0]


def _shown(file: Path, start_s: float, end_s: float) -> Iterator[tuple[float, float, _Frame]]:
    """The frames that a player shows from `start_s` until `end_s`: from when until when (s), and the frame."""
    for seek in (True, False) if start_s > SEEK_MARGIN_S else (False,):
        with _opened(str(file)) as (container, stream):
            if seek and not _seek(container, start_s):
                continue
            spans = _spans(container, stream)
            first = next(spans, None)
            if first is None or (seek and first[0] > start_s + STAMP_S):
                continue  # the file has no index, or a wrong one: everything before is decoded too
            for begin_s, until_s, frame in chain([first], spans):
                if begin_s >= end_s - STAMP_S:
                    return
                if until_s > start_s + STAMP_S:
                    yield max(begin_s, start_s), min(until_s, end_s), frame
            return


def _seek(container: Any, start_s: float) -> bool:
    """Go to the key frame before a moment; whether the file allows it."""
    import av

    try:
        container.seek(int((_zero_s(container) + start_s - SEEK_MARGIN_S) * 1e6))
    except av.error.FFmpegError:
        return False
    return True


def _spans(container: Any, stream: Any) -> Iterator[tuple[float, float, _Frame]]:
    """From when until when each frame is shown (s), by the time stamps, and the frame."""
    zero_s = _zero_s(container)
    usual_s = 1 / float(stream.average_rate or stream.guessed_rate or 25)
    waiting: tuple[float, _Frame] | None = None  # the frame whose end is not known yet
    for frame in _frames(container, stream):
        at_s = frame.decoded.time
        begin_s = at_s - zero_s if at_s is not None else waiting[0] + usual_s if waiting else 0.0
        if waiting:
            if begin_s < waiting[0] - STAMP_S:
                told = f"the time stamps go back from {waiting[0]:g} s to {begin_s:g} s"
                raise RowError(Reason.BROKEN_CLIP, f"{told}; write the video again with stamps that grow")
            usual_s = begin_s - waiting[0]
            yield waiting[0], begin_s, waiting[1]
        waiting = begin_s, frame
    if waiting:
        begin_s, frame = waiting
        last = frame.decoded
        yield begin_s, begin_s + (float(last.duration * last.time_base) if last.duration else usual_s), frame


def _zero_s(container: Any) -> float:
    """What a player shows as 0 s; a sound that begins before the picture does not count."""
    return max(0, container.start_time or 0) / 1e6


def at_rate(spans: Iterable[tuple[float, float, Taken]], fps: float) -> Iterator[Taken]:
    """What is shown at each moment of a frame rate (Hz).

    Args:
        spans: from when until when (s), and what is shown then, one after the other. The first moment is the first
            span's beginning; the last one is shown for half of its time at least.
        fps: moments per second.
    """
    start_s: float | None = None
    known: list[Taken] = []  # what is shown at moments that may lie too near the end
    count = 0
    for begin_s, until_s, what in spans:
        start_s = begin_s if start_s is None else start_s
        while start_s + (count + len(known)) / fps < until_s - STAMP_S:
            known.append(what)
        while known and start_s + (count + 0.5) / fps <= until_s + STAMP_S:
            yield known.pop(0)
            count += 1


def fitting(num_frames: int, stride: int) -> int:
    """The largest number of frames up to `num_frames` that is one more than a multiple of `stride`."""
    return (num_frames - 1) // stride * stride + 1


def filling(frames_THWC: np.ndarray, height: int, width: int, aspect: float = 1.0) -> np.ndarray:
    """Frames of another size (px): scaled until they fill it, and cut at the middle of what juts out.

    `aspect` is the width of their pixels over their height, where these are no squares.
    """
    import cv2

    shown_height, shown_width = frames_THWC.shape[1], frames_THWC.shape[2] * aspect
    scale = max(height / shown_height, width / shown_width)
    size = (max(width, round(shown_width * scale)), max(height, round(shown_height * scale)))
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
