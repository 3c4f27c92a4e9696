"""A multimodal judge behind an OpenAI-compatible endpoint, such as vLLM's server.

Frames are sent as JPEG, as one video (`media: video`, which vLLM's server takes) or as so many pictures (`images`,
which most endpoints take). When each frame is shown goes along: in vLLM's `media_io_kwargs`, or as a line of text.
"""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from gigavideo_data.errors import RunError
from gigavideo_data.judges import asking
from gigavideo_data.judges.protocol import Answer
from gigavideo_data.llm.endpoint import Endpoint

JPEG_QUALITY = 95
TEXT_TOKENS = 1024  # of a written answer; one word, but thoughts come before it
TOP = 20  # candidates for the first token; more than this, servers refuse


class HttpJudge:
    """One multimodal model of one endpoint."""

    kind = "mllm"

    def __init__(self, engine: dict[str, Any]) -> None:
        """Prepare the client.

        Args:
            engine: model, revision, frames, max_side_px, media and readout; `endpoint`, its base URL.
        """
        self.settings, self.model, self.revision = engine, engine["model"], engine["revision"]
        self.endpoint = Endpoint(engine["endpoint"], self.model, "judge")

    def answer(self, frames_THWC: np.ndarray, fps: float, asked: list[str]) -> list[Answer]:
        """Answer questions about one clip, one request each, one after the other: the server keeps what they share.

        Raises:
            RunError: the endpoint tells no probabilities, or see `Endpoint.chat`.
            RowError: a log-probability is not one (bad_answer), or see `Endpoint.chat`.
            TimeoutError: see `Endpoint.chat`.
        """
        wanted, num_frames = self.settings["frames"], len(frames_THWC)
        shown_THWC = asking.shown(frames_THWC, wanted, self.settings["max_side_px"])
        media = _media([_jpeg(frame_HWC) for frame_HWC in shown_THWC], self.settings["media"])
        if self.settings["media"] == "video":
            texts = [asking.text_of(question) for question in asked]
            extra = {"media_io_kwargs": {"video": _video_facts(num_frames, fps, asking.chosen(num_frames, wanted))}}
        else:
            texts = [asking.timed_text_of(question, num_frames, fps, wanted) for question in asked]
            extra = {}
        return [self._ask([*media, {"type": "text", "text": text}], extra) for text in texts]

    def _ask(self, content: list[dict[str, Any]], extra: dict[str, Any]) -> Answer:
        hard = self.settings["readout"] == "text"
        wish: dict[str, Any] = (
            {"max_tokens": TEXT_TOKENS} if hard else {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP}
        )
        messages = [{"role": "user", "content": content}]
        choice = self.endpoint.chat(messages, temperature=0.0, seed=0, extra_body=extra, **wish).choices[0]
        if hard:
            return asking.written(choice.message.content or "")
        first_token = choice.logprobs.content[0] if choice.logprobs and choice.logprobs.content else None
        if first_token is None or not first_token.top_logprobs:
            raise RunError(
                "the endpoint tells no probabilities; set judge.readout=text, which is recorded in every row"
            )
        return asking.read((token.token, token.logprob) for token in first_token.top_logprobs)


def _video_facts(num_frames: int, fps: float, chosen: list[int]) -> dict[str, Any]:
    """The whole clip and which of its frames are sent, in the words of vLLM's server, which else takes 1 Hz."""
    return {
        "num_frames": len(chosen),  # more than its own limit, it would cut off
        "fps": fps,
        "frames_indices": chosen,
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
