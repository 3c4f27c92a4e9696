"""A multimodal judge in this process, by vLLM: whatever it loads that takes a video.

What is said is the model's own chat template, and frames become tokens in the model's own processor. All questions of a
video are asked together, the video first: its beginning is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from transformers import AutoProcessor, Qwen3VLProcessor

from gigavideo_data.errors import RunError
from gigavideo_data.judges import asking
from gigavideo_data.judges.protocol import Answer
from gigavideo_data.judges.transformers import END, PAD, START
from gigavideo_data.llm.in_process import load, told_apart
from gigavideo_data.llm.together import Together

AT_ONCE = 8  # videos

Prompt = dict[str, Any]


class VllmJudge:
    """One multimodal model."""

    kind = "mllm"

    def __init__(self, engine: dict[str, Any]) -> None:
        """Load it.

        Args:
            engine: model, revision, frames and max_side_px; for the rest see `in_process.load`.

        Raises:
            RunError: it or its chat template has no place for a video, or it cannot say yes or no in one token.
        """
        self.settings, self.model, self.revision = engine, engine["model"], engine["revision"]
        self.processor: Any = AutoProcessor.from_pretrained(engine["load"], revision=engine["load_revision"])
        takes_video = hasattr(self.processor, "video_processor")
        if not takes_video or self._text("", [{"type": "video"}]) == self._text("", []):
            raise RunError("judge: the model, or its chat template, has no place for a video")
        self.spellings = asking.spellings(self.processor.tokenizer)
        self.together: Together[list[Prompt], list[Any]] = Together(self._load, AT_ONCE)

    def answer(self, frames_THWC: np.ndarray, fps: float, asked: list[str]) -> list[Answer]:
        """Answer questions about one clip.

        Raises:
            RowError, RunError: see `told_apart`.
        """
        wanted = self.settings["frames"]
        facts = {  # of the whole clip, and which of its frames are shown: models that are told times reckon by them
            "fps": fps,
            "total_num_frames": len(frames_THWC),
            "duration": len(frames_THWC) / fps,
            "frames_indices": asking.chosen(len(frames_THWC), wanted),
            "do_sample_frames": False,
        }
        video = (asking.shown(frames_THWC, wanted, self.settings["max_side_px"]), facts)
        prompts = [
            {"prompt": self._text(question, [{"type": "video"}]), "multi_modal_data": {"video": video}}
            for question in asked
        ]
        return [self._read(output) for output in self.together.ask(prompts)]

    def _text(self, question: str, media: list[dict[str, str]]) -> str:
        content = [*media, {"type": "text", "text": asking.text_of(question)}]
        said: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        if isinstance(self.processor, Qwen3VLProcessor):
            # It sets marks around each step; those of the template go, for the reason in judges.transformers.
            return said.replace(START + PAD + END, PAD)
        return said

    def _read(self, output: Any) -> Answer:
        (first_token,) = output.outputs[0].logprobs
        answer = asking.read((word, first_token[token].logprob) for token, word in self.spellings.items())
        return replace(answer, text=output.outputs[0].text)

    def _load(self) -> Callable[[list[list[Prompt]]], list[list[Any]]]:
        from vllm import SamplingParams

        llm = load(
            self.settings,
            limit_mm_per_prompt={"video": 1, "image": 0},
            enable_prefix_caching=True,
            mm_device_do_normalize=False,  # but by its own processor; else tiny models' answers were up to 6 % off
        )
        wish = SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=list(self.spellings))

        def answer(batch: list[list[Prompt]]) -> list[list[Any]]:
            with told_apart():
                outputs = iter(llm.generate([one for asked in batch for one in asked], wish, use_tqdm=False))
            return [list(islice(outputs, len(asked))) for asked in batch]

        return answer
