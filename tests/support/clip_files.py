"""Write video files as other programs do."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np

from gigavideo_data.io.video import X264


def written(
    frames_THWC: np.ndarray,
    container: str,
    *,
    pts: Sequence[int] | None = None,
    rate: int = 8,
    codec: str = "h264",
    codec_options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    rotation: dict[str, int] | None = None,
    aspect: int = 1,
    **options: str,
) -> bytes:
    """Frames in a container, with time stamps in units of 1/rate s; `options` are the container's.

    `rotation` is what PyAV's set_display_rotation takes, `aspect` the width of the pixels over their height.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate, options=codec_options or (X264 | {"bf": "0"}))
        stream.height, stream.width, stream.pix_fmt = *frames_THWC.shape[1:3], pix_fmt
        stream.codec_context.thread_count = 1
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(**rotation)
        for number, frame_HWC in enumerate(frames_THWC):
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            frame.pts = pts[number] if pts else number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return buffer.getvalue()


def numbered(num_frames: int, height=48, width=64) -> np.ndarray:
    """Frames whose grey level encodes their number."""
    return np.stack([np.full((height, width, 3), 20 + 6 * number, np.uint8) for number in range(num_frames)])


def numbers(frames_THWC: np.ndarray) -> list[int]:
    return [round((float(frame.mean()) - 20) / 6) for frame in frames_THWC]
