"""Put on PYTHONPATH by `benchmarks.scale`: swaps the engines of a build for fakes, in the build and its Ray workers.

Python imports this module at start-up, so the code that is measured needs no switch.
"""

from dataclasses import replace

from gigavideo_data.io import video
from gigavideo_data.models.generators.profile_table import PROFILES
from gigavideo_data.recipe.engines import ENGINES

FAKES = "benchmarks.scale_fakes.fakes"
ENGINES["writer"]["grammar"] = replace(
    ENGINES["writer"]["grammar"], cls=(FAKES, "FakeWriter"), subjects=None, held_out=None
)
ENGINES["generator"]["diffusers"] = replace(ENGINES["generator"]["diffusers"], cls=(FAKES, "FakeGenerator"))
ENGINES["judge"]["miniature"] = replace(ENGINES["judge"]["miniature"], cls=(FAKES, "FakeJudge"))
PROFILES["miniature"] = replace(PROFILES["miniature"], height=16, width=16, num_frames=5, batch_size=16)

_encode = video.encode


def _constant_clip(frames_THWC, fps, *, crf=17):
    """One clip for all frames, with a box that makes its bytes unique: encoding is the work of x264, not of ours."""
    from benchmarks.scale_fakes import fakes

    return fakes.unique(fakes.constant_clip(_encode, frames_THWC.shape, fps, crf), frames_THWC)


video.encode = _constant_clip
