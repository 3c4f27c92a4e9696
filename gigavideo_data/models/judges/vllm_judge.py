"""A multimodal judge in this process, by vLLM: any model that vLLM loads and that takes a video.

The prompt is the model's own chat template, and the model's own processor turns frames into tokens. All questions of a
video are sent together, the video first, so that the prefix cache computes the video once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from transformers import AutoProcessor, Qwen3VLProcessor

from gigavideo_data.errors import RunError
from gigavideo_data.io.hashing import content_key
from gigavideo_data.models.judges import asking
from gigavideo_data.models.judges.base import Answer
from gigavideo_data.models.judges.transformers_judge import END, PAD, START
from gigavideo_data.models.llm.batcher import DynamicBatcher
from gigavideo_data.models.llm.vllm_engine import load, translate_errors

MAX_VIDEOS = 8  # in one batch

Prompt = dict[str, Any]


def media_id(shown_THWC: np.ndarray, metadata: dict[str, Any]) -> str:
    """The name of a video for the caches of vLLM: a hash of everything that decides its tokens.

    Args:
        shown_THWC: the frames that the model is shown, uint8 RGB.
        metadata: their times.
    """
    frames = hashlib.sha256(np.ascontiguousarray(shown_THWC).data).hexdigest()
    return content_key([frames, shown_THWC.shape, metadata])


class VllmJudge:
    """One multimodal model."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Load it.

        Args:
            engine: model, revision, frames and max_side_px; for the rest see `vllm_engine.load`.

        Raises:
            RunError: the model or its chat template takes no video, or yes and no are not single tokens.
        """
        self.settings = engine
        self.processor: Any = AutoProcessor.from_pretrained(engine["load"], revision=engine["load_revision"])
        takes_video = hasattr(self.processor, "video_processor")
        if not takes_video or self._text("", [{"type": "video"}]) == self._text("", []):
            raise RunError("judge: the model, or its chat template, takes no video; name another model")
        self.spellings = asking.spellings(self.processor.tokenizer)
        self.batcher: DynamicBatcher[list[Prompt], list[Any]] = DynamicBatcher(self._load, MAX_VIDEOS)

    def answer(self, frames_THWC: np.ndarray, fps: float, questions: list[str]) -> list[Answer]:
        """Answer questions about one clip (see `Judge`).

        Raises:
            RowError, RunError: see `translate_errors`.
        """
        max_frames = self.settings["frames"]
        metadata = {  # some models are given the times of the frames, and compute them from this
            "fps": fps,
            "total_num_frames": len(frames_THWC),
            "duration": len(frames_THWC) / fps,
            "frames_indices": asking.even_indices(len(frames_THWC), max_frames),
            "do_sample_frames": False,
        }
        shown_THWC = asking.select_frames(frames_THWC, max_frames, self.settings["max_side_px"])
        video = {
            "multi_modal_data": {"video": (shown_THWC, metadata)},
            "multi_modal_uuids": {"video": media_id(shown_THWC, metadata)},  # else vLLM hashes it for each question
        }
        prompts = [{"prompt": self._text(question, [{"type": "video"}]), **video} for question in questions]
        return [self._read(output) for output in self.batcher.submit(prompts)]

    def _text(self, question: str, media: list[dict[str, str]]) -> str:
        content = [*media, {"type": "text", "text": asking.text_of(question)}]
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        if isinstance(self.processor, Qwen3VLProcessor):
            # It adds marks around each step; those of the template are removed, as in judges.transformers.
            return text.replace(START + PAD + END, PAD)
        return text

    def _read(self, output: Any) -> Answer:
        (first_token,) = output.outputs[0].logprobs
        answer = asking.read_logprobs((word, first_token[token].logprob) for token, word in self.spellings.items())
        return replace(answer, text=output.outputs[0].text)

    def _load(self) -> Callable[[list[list[Prompt]]], list[list[Any]]]:
        from vllm import SamplingParams

        llm = load(
            self.settings,
            limit_mm_per_prompt={"video": 1, "image": 0},
            enable_prefix_caching=True,
            mm_device_do_normalize=False,  # on the device, answers of tiny models differed by up to 6 %
        )
        sampling = SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=list(self.spellings))

        def answer(batch: list[list[Prompt]]) -> list[list[Any]]:
            with translate_errors():
                outputs = iter(llm.generate([one for prompts in batch for one in prompts], sampling, use_tqdm=False))
            return [list(islice(outputs, len(prompts))) for prompts in batch]

        return answer
