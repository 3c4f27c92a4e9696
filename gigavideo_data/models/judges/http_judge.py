"""A multimodal judge behind an OpenAI-compatible endpoint, such as vLLM's server.

Frames are sent as JPEG, either as one video (`media: video`, which vLLM's server takes) or as pictures (`images`, which
most endpoints take). Their times are sent too: in vLLM's `media_io_kwargs`, or as a line of text.
"""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from gigavideo_data.errors import RunError
from gigavideo_data.models.judges import asking
from gigavideo_data.models.judges.base import Answer
from gigavideo_data.models.llm.openai_client import Endpoint

JPEG_QUALITY = 95
TEXT_TOKENS = 1024  # of a text answer: one word, but reasoning may come before it
TOP_LOGPROBS = 20  # candidates for the first token; servers refuse more


class HttpJudge:
    """One multimodal model of one endpoint."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Take model, frames, max_side_px, media, readout and endpoint (a base URL) from `engine`."""
        self.settings = engine
        self.endpoint = Endpoint(engine["endpoint"], engine["model"], "judge")

    def answer(self, frames_THWC: np.ndarray, fps: float, questions: list[str]) -> list[Answer]:
        """Answer questions about one clip (see `Judge`), one request after the other: the server caches their prefix.

        Raises:
            RunError: the endpoint returns no probabilities, or see `Endpoint.chat`.
            RowError: a log-probability is not one (bad_answer), or see `Endpoint.chat`.
            TimeoutError: see `Endpoint.chat`.
        """
        max_frames, num_frames = self.settings["frames"], len(frames_THWC)
        shown_THWC = asking.select_frames(frames_THWC, max_frames, self.settings["max_side_px"])
        media = _media([_jpeg(frame_HWC) for frame_HWC in shown_THWC], self.settings["media"])
        if self.settings["media"] == "video":
            texts = [asking.text_of(question) for question in questions]
            indices = asking.even_indices(num_frames, max_frames)
            extra = {"media_io_kwargs": {"video": _video_metadata(num_frames, fps, indices)}}
        else:
            texts = [asking.timed_text_of(question, num_frames, fps, max_frames) for question in questions]
            extra = {}
        return [self._ask([*media, {"type": "text", "text": text}], extra) for text in texts]

    def _ask(self, content: list[dict[str, Any]], extra: dict[str, Any]) -> Answer:
        as_text = self.settings["readout"] == "text"
        options: dict[str, Any] = (
            {"max_tokens": TEXT_TOKENS}
            if as_text
            else {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
        )
        messages = [{"role": "user", "content": content}]
        choice = self.endpoint.chat(messages, temperature=0.0, seed=0, extra_body=extra, **options).choices[0]
        if as_text:
            return asking.read_text(choice.message.content or "")
        first_token = choice.logprobs.content[0] if choice.logprobs and choice.logprobs.content else None
        if first_token is None or not first_token.top_logprobs:
            raise RunError(
                "the endpoint returns no probabilities; set judge.readout=text, which is recorded in every row"
            )
        return asking.read_logprobs((token.token, token.logprob) for token in first_token.top_logprobs)


def _video_metadata(num_frames: int, fps: float, indices: list[int]) -> dict[str, Any]:
    """Which frames of the clip are sent, in the form of vLLM's server; its default is 1 Hz."""
    return {
        "num_frames": len(indices),  # overrides the server's own limit
        "fps": fps,
        "frames_indices": indices,
        "total_num_frames": num_frames,
        "duration": num_frames / fps,
    }


def _jpeg(frame_HWC: np.ndarray) -> str:
    bgr_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return base64.b64encode(data.tobytes()).decode()


def _media(frames: list[str], kind: str) -> list[dict[str, Any]]:
    if kind == "video":
        return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(frames)}"}}]
    return [{"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{frame}"}} for frame in frames]
