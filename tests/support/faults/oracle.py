"""A generator that draws what the prompt says, fails now and then on purpose, and keeps count of its videos.

GV_CALLS       file that gets one line per video
GV_KILL_WORD   a prompt with this word kills the worker, as the out-of-memory killer would
GV_OTHER_WORD  a prompt with this word is drawn otherwise, as on another machine
GV_SLEEP_S     time per video
GV_FILE_LIMIT  from the first video on, the worker can write no larger file: what a full disk looks like
"""

import hashlib
import os
import resource
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gigavideo_data.miniature.grammar import parse
from gigavideo_data.miniature.world import FPS, render
from gigavideo_data.models.generators.base import Generated


class OracleGenerator:
    """Every third clip shows another colour than asked."""

    def __init__(self, generator: dict) -> None:
        del generator

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        return [self._video(*row) for row in zip(prompts, seeds, strict=True)]

    def _video(self, prompt: str, seed: int) -> Generated:
        with Path(os.environ["GV_CALLS"]).open("a") as calls:
            calls.write(prompt + "\n")
        if os.environ.get("GV_KILL_WORD", "\0") in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if "GV_FILE_LIMIT" in os.environ:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["GV_FILE_LIMIT"]), resource.RLIM_INFINITY))
        time.sleep(float(os.environ.get("GV_SLEEP_S", "0")))
        scene = parse(prompt)
        assert scene is not None, prompt
        other_machine = os.environ.get("GV_OTHER_WORD", "\0") in prompt
        digest = hashlib.sha256(f"{prompt}{seed}{'!' * other_machine}".encode()).digest()
        if digest[0] % 3 == 0:
            other = "cyan" if scene.things[0].color != "cyan" else "red"
            scene = replace(scene, things=(replace(scene.things[0], color=other), *scene.things[1:]))
        frames_THWC = render(scene, np.random.default_rng(list(digest[:8])))
        return Generated(frames_THWC, FPS, torch.zeros(8, 5, 12, 12))
