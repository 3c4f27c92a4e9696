"""A clip's coded frames as they are, in an MP4 of their own: for clips that need not be made to fit."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import av
from av.bitstream import BitStreamFilterContext

# What beside the coded frames stands in a stream: titles, subtitles, whatever a camera or an encoder wrote there.
WITHOUT_NOTES = "filter_units=remove_types=6"


def stream_copied(file: Path, *, height: int, width: int, fps: float, num_frames: int) -> bytes | None:
    """The video of a file without sound and metadata, not coded again.

    Args:
        file: of any container.
        height: px.
        width: px.
        fps: Hz.
        num_frames: at most.

    Returns:
        An MP4; None if the file is not H.264 in yuv420p, of that size and rate, and no longer. Whether the MP4 shows
        what is wanted is for the caller to look at: the file may have been meant to be turned or cut.
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
                copy.set_display_rotation(0)  # shown as it is coded, or coded anew
                cleaned = BitStreamFilterContext(WITHOUT_NOTES, stream, copy)
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
