"""Copy the coded frames of a clip into an MP4 without encoding them again, for clips that fit already."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import av
from av.bitstream import BitStreamFilterContext

# Removes SEI units: titles, subtitles, and what a camera or an encoder wrote beside the coded frames.
WITHOUT_METADATA = "filter_units=remove_types=6"


def stream_copied(file: Path, *, height: int, width: int, fps: float, num_frames: int) -> bytes | None:
    """Copy the video of a file without audio and metadata.

    Args:
        file: of any container.
        height: px.
        width: px.
        fps: Hz.
        num_frames: at most.

    Returns:
        An MP4; None if the file is not H.264 in yuv420p of this size and rate, or has more frames. The caller must
        compare the frames: the file's container may have turned or cut them.
    """
    try:
        with av.open(str(file)) as source, TemporaryDirectory() as folder:
            stream = source.streams.video[0]
            codec, rate = stream.codec_context, float(stream.average_rate or 0)
            if (codec.name, codec.pix_fmt, codec.height, codec.width, rate) != ("h264", "yuv420p", height, width, fps):
                return None
            path, num_packets = Path(folder) / "clip.mp4", 0
            with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as target:
                copy = target.add_stream_from_template(stream)
                copy.set_display_rotation(0)  # a rotated clip is not copied: the caller sees other frames
                cleaned = BitStreamFilterContext(WITHOUT_METADATA, stream, copy)
                for packet in source.demux(stream):
                    num_packets += packet.size > 0
                    if num_packets > num_frames:
                        return None
                    for one in cleaned.filter(packet if packet.size else None):
                        one.stream = copy
                        target.mux(one)
            return path.read_bytes()
    except (av.error.FFmpegError, EOFError, IndexError):
        return None
