"""A judge of the shape of Qwen2.5-VL-7B by transformers: one clip of 16 frames, eight questions.

As the judge class asks (each question with the whole video before it), and with the video's keys and values computed
once and shared by the questions, which is what a server's prefix cache does.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.gpu import models
from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import compared, timed
from gigavideo_data.models.judges import asking
from gigavideo_data.models.judges import transformers_judge as judges

FRAMES, SIDE_PX = 16, 448
QUESTIONS = [f"Does object {number} move before the camera turns to the left?" for number in range(8)]
TEXT: dict[str, Any] = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152_064,
}
VISION: dict[str, Any] = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3420,
    "out_hidden_size": 3584,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
TINY_TEXT = TEXT | {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY_TEXT |= {"num_key_value_heads": 1, "vocab_size": 512}
TINY_VISION = VISION | {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 64}
TINY_VISION |= {"window_size": 56, "fullatt_block_indexes": [1]}


def _config(tokenizer: Any, *, tiny: bool) -> Any:
    from transformers import Qwen2_5_VLConfig

    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{text}|>")
        for name, text in (
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
            ("image", "image_pad"),
            ("video", "video_pad"),
        )
    }
    sections = [4, 6, 6] if tiny else [16, 24, 24]
    rope = {"rope_type": "default", "mrope_section": sections, "rope_theta": 1e6}
    vision = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3}
    vision |= {"tokens_per_second": 2} | (TINY_VISION if tiny else VISION)
    text = (TINY_TEXT if tiny else TEXT) | {"rope_parameters": rope, "max_position_embeddings": 128_000}
    text |= {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)


def run(job: Job) -> None:
    from transformers import AutoModelForImageTextToText, Qwen2_5_VLForConditionalGeneration

    from tests.support.qwen_vl import tokenizer as small_tokenizer

    tokenizer = small_tokenizer()
    config = _config(tokenizer, tiny=job.tiny)
    dtype = torch.bfloat16 if job.device.type == "cuda" else torch.float32
    network = models.build(lambda: Qwen2_5_VLForConditionalGeneration(config), job.device, dtype)
    tokenizer.save_pretrained(job.scratch)
    config.save_pretrained(job.scratch)
    engine = {"model": "benchmark", "revision": None, "frames": FRAMES, "max_side_px": 56 if job.tiny else SIDE_PX}
    # The weights are on the device already: writing and reading 16 GB would take longer than the measurement.
    with mock.patch.object(AutoModelForImageTextToText, "from_pretrained", return_value=network):
        judge = judges.TransformersJudge(engine | {"load": str(job.scratch), "load_revision": None})
    frames, height, width = (FRAMES, 32, 56) if job.tiny else (81, 256, SIDE_PX)
    frames_THWC = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)
    job.free_memory()
    answers = judge.answer(frames_THWC, 16.0, QUESTIONS)
    whole = timed(lambda: judge.answer(frames_THWC, 16.0, QUESTIONS), job.device, 3, 10.0).steady_s
    job.record.figure(f"one clip, {len(QUESTIONS)} questions", whole, "s")
    if (memory := job.peak_gb()) is not None:
        job.record.figure("peak memory", memory, "GB")
    shared = _Shared(judge, frames_THWC, 16.0)
    apart = max(abs(ours - answer.p_yes) for ours, answer in zip(shared.p_yes(QUESTIONS), answers, strict=True))
    seconds = timed(lambda: shared.p_yes(QUESTIONS), job.device, 3, 5.0).steady_s
    ratio, control = compared(
        lambda: shared.p_yes(QUESTIONS), lambda: judge.answer(frames_THWC, 16.0, QUESTIONS), job.device, 3
    )
    job.record.figure(
        f"one clip, {len(QUESTIONS)} questions, video shared",
        seconds,
        "s",
        tokens_of_video=shared.num_shared,
        largest_difference_of_p_yes=apart,
    )
    job.record.figure("video shared over not shared", ratio, "")
    job.record.figure("not shared over not shared (control)", control, "")


class _Shared:
    """Answers with the keys and values of the common beginning of all questions computed once a clip."""

    def __init__(self, judge: judges.TransformersJudge, frames_THWC: np.ndarray, fps: float) -> None:
        self.judge = judge
        chosen = asking.even_indices(len(frames_THWC), FRAMES)
        shown = asking.select_frames(frames_THWC, FRAMES, judge.settings["max_side_px"])
        patches_ND, grid = judges.to_patches(torch.from_numpy(shown).to(judge.device), judge.vision, judge.family)
        per_patch_s = judge.vision.temporal_patch_size * len(frames_THWC) / fps / len(chosen)
        self.media = {
            "pixel_values_videos": patches_ND.to(judge.network.dtype),
            "video_grid_thw": torch.tensor([grid], device=judge.device),
            "second_per_grid_ts": torch.tensor([per_patch_s], device=judge.device),
        }
        self.texts = [judge._text(question, grid, [frame / fps for frame in chosen]) for question in QUESTIONS]
        tokens = [judge.tokenizer(text, add_special_tokens=False)["input_ids"] for text in self.texts]
        self.tokens = [torch.tensor([each], device=judge.device) for each in tokens]
        together = zip(*tokens, strict=False)
        self.num_shared = next(at for at, column in enumerate(together) if len(set(column)) > 1)

    @torch.inference_mode()
    def p_yes(self, _questions: list[str]) -> list[float]:
        network, shared = self.judge.network, self.tokens[0][:, : self.num_shared]
        kinds = (shared == self.judge.pad_id).int() * judges.VIDEO_TOKEN
        cache = network(
            input_ids=shared, mm_token_type_ids=kinds, use_cache=True, logits_to_keep=1, **self.media
        ).past_key_values
        yes = [token for token, word in self.judge.spellings.items() if word == "yes"]
        found = []
        for tokens in self.tokens:
            output = network(input_ids=tokens[:, self.num_shared :], past_key_values=cache, logits_to_keep=1)
            p_V = torch.softmax(output.logits[0, -1].float(), -1)
            found.append(p_V[yes].sum().clamp(max=1))
            cache.crop(self.num_shared - tokens.shape[1])  # negative: so many tokens are removed
        return torch.stack(found).tolist()
