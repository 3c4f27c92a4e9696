"""A multimodal judge in this process, by transformers: Qwen2.5-VL and Qwen3-VL.

Frames become patches in torch here and not in the model's own processor: this needs no torchvision, lets us choose the
frames, and keeps gradients. The prompt is the model's own chat template.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from gigavideo_data import heartbeat
from gigavideo_data.errors import RunError
from gigavideo_data.models.judges import asking
from gigavideo_data.models.judges.base import Answer

START, PAD, END = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>"
VIDEO_TOKEN = 2  # the models' token type id of video


@dataclass(frozen=True)
class VisionFamily:
    """How a family of models takes frames.

    Attributes:
        mean: of RGB in [0, 1], subtracted.
        std: of RGB in [0, 1], divided by.
        timed: whether the prompt has the time of each pair of frames.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    timed: bool


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VISION_FAMILIES = {  # by the model type in a model's configuration
    "qwen2_5_vl": VisionFamily(CLIP_MEAN, CLIP_STD, timed=False),
    "qwen3_vl": VisionFamily((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), timed=True),
}


class TransformersJudge:
    """One model, on the first accelerator if there is one."""

    def __init__(self, engine: dict[str, Any]) -> None:
        """Load it.

        Args:
            engine: model, revision, frames, max_side_px; `load` and `load_revision`, its Hub id and commit, or its
                folder and None.

        Raises:
            RunError: the model is of another family, or yes and no are not single tokens of its vocabulary.
        """
        self.settings = engine
        revision = {"revision": engine["load_revision"]}
        config = AutoConfig.from_pretrained(engine["load"], **revision)
        if config.model_type not in VISION_FAMILIES:
            raise RunError(
                f"judge: {config.model_type!r} is not in {', '.join(VISION_FAMILIES)}; use backend vllm or http"
            )
        self.family = VISION_FAMILIES[config.model_type]
        self.vision = config.vision_config
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        self.tokenizer: Any = AutoTokenizer.from_pretrained(engine["load"], **revision)
        network = AutoModelForImageTextToText.from_pretrained(
            engine["load"], dtype=dtype, use_safetensors=True, **revision
        )
        self.network: Any = network.eval().requires_grad_(False).to(self.device)
        self.pad_id = self.tokenizer.convert_tokens_to_ids(PAD)
        self.spellings = asking.spellings(self.tokenizer)

    @torch.inference_mode()
    def answer(self, frames_THWC: np.ndarray, fps: float, questions: list[str]) -> list[Answer]:
        """Answer questions about one clip (see `Judge`); its patches are computed once."""
        shown_THWC = asking.select_frames(frames_THWC, self.settings["frames"], self.settings["max_side_px"])
        p_Q2 = self._ask(torch.from_numpy(shown_THWC).to(self.device), len(frames_THWC), fps, questions)
        return [Answer(p_yes, p_no) for p_yes, p_no in p_Q2.tolist()]

    def probabilities(self, frames_THWC: torch.Tensor, fps: float, questions: list[str]) -> torch.Tensor:
        """The same, differentiable (see `SoftJudge`). `answer` rounds shrunk frames to whole levels; this does not.

        For gradients, the activations of one forward pass per question are kept.
        """
        num_frames, height, width, _ = frames_THWC.shape
        selected_THWC = frames_THWC[asking.even_indices(num_frames, self.settings["frames"])].to(self.device)
        shown_THWC = shrink(selected_THWC, *asking.fit_within(height, width, self.settings["max_side_px"]))
        return self._ask(shown_THWC, num_frames, fps, questions)

    def _ask(self, shown_THWC: torch.Tensor, num_frames: int, fps: float, questions: list[str]) -> torch.Tensor:
        """P(yes) and P(no), (Q, 2), from the frames shown of a clip of `num_frames`."""
        indices = asking.even_indices(num_frames, self.settings["frames"])
        patches_ND, grid = to_patches(shown_THWC, self.vision, self.family)
        inputs: dict[str, Any] = {
            "pixel_values_videos": patches_ND.to(self.network.dtype),
            "video_grid_thw": torch.tensor([grid], device=self.device),
        }
        times_s = [frame / fps for frame in indices]
        if not self.family.timed:
            seconds_per_patch = self.vision.temporal_patch_size * num_frames / fps / len(indices)
            inputs["second_per_grid_ts"] = torch.tensor([seconds_per_patch], device=self.device)
        return torch.stack([self._read(self._text(question, grid, times_s), inputs) for question in questions])

    def _text(self, question: str, grid: tuple[int, int, int], times_s: list[float]) -> str:
        """The whole prompt, with one placeholder per token of the video."""
        content = [{"type": "video"}, {"type": "text", "text": asking.text_of(question)}]
        text: str = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        placeholder = START + PAD + END
        if text.count(placeholder) != 1:
            raise RunError("judge: the model's chat template takes no video; use backend vllm or http")
        steps, height, width = grid
        pads = PAD * (height * width // self.vision.spatial_merge_size**2)
        if not self.family.timed:
            return text.replace(placeholder, START + pads * steps + END)
        # Each pair of frames is one step, with the time of its middle. The template's own pair of marks is removed, as
        # the processors of transformers before 5.10 do; newer ones leave it around the whole video.
        pairs = list(pairwise(times_s))[::2]
        return text.replace(placeholder, "".join(f"<{(a + b) / 2:.1f} seconds>{START}{pads}{END}" for a, b in pairs))

    def _read(self, text: str, inputs: dict[str, Any]) -> torch.Tensor:
        """P(yes) and P(no) of the first token of the answer, (2,), summed over the spellings of the words."""
        tokens_1L = torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"]], device=self.device)
        types_1L = (tokens_1L == self.pad_id).int() * VIDEO_TOKEN
        outputs = self.network(input_ids=tokens_1L, mm_token_type_ids=types_1L, logits_to_keep=1, **inputs)
        heartbeat.beat()
        p_V = torch.softmax(outputs.logits[0, -1].float(), -1)
        tokens_by_word = ([token for token, word in self.spellings.items() if word == each] for each in asking.WORDS)
        return torch.stack([p_V[tokens].sum() for tokens in tokens_by_word]).clamp(max=1)


def shrink(frames_THWC: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Frames of a smaller size, each pixel the mean over the area that it covers: OpenCV's INTER_AREA, not rounded."""
    for axis, size in ((1, height), (2, width)):
        if size != frames_THWC.shape[axis]:
            old = torch.arange(frames_THWC.shape[axis], dtype=torch.float64, device=frames_THWC.device)
            new = torch.arange(size, dtype=torch.float64, device=frames_THWC.device)[:, None]
            scale = len(old) / size
            overlap_NO = torch.minimum((new + 1) * scale, old + 1) - torch.maximum(new * scale, old)
            share_NO = overlap_NO.clamp(min=0) / scale
            frames_THWC = torch.tensordot(share_NO.to(frames_THWC), frames_THWC, ([1], [axis])).movedim(0, axis)
    return frames_THWC


def to_patches(
    frames_THWC: torch.Tensor, vision: Any, family: VisionFamily
) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Frames as the vision tower takes them.

    Args:
        frames_THWC: uint8 or float RGB from 0 to 255, an even number of them.
        vision: patch_size, spatial_merge_size and temporal_patch_size of the model.
        family: for mean and standard deviation of RGB.

    Returns:
        patches_ND float32, one row per patch in the order of the model (merged squares together), and the grid (steps,
        rows, columns) of patches.
    """
    size, merge, pair = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    frames_TCHW = frames_THWC.permute(0, 3, 1, 2)
    unit = size * merge
    height, width = (max(1, round(side / unit)) * unit for side in frames_TCHW.shape[2:])
    if (height, width) != tuple(frames_TCHW.shape[2:]):  # whole levels stay whole, as in the models' own processors
        if frames_TCHW.dtype == torch.uint8 and frames_TCHW.device.type != "cpu":
            frames_TCHW = resize_bytes(frames_TCHW, height, width)
        else:
            frames_TCHW = functional.interpolate(frames_TCHW, (height, width), mode="bicubic", antialias=True)
    mean, std = (
        torch.tensor(values, device=frames_TCHW.device).view(1, 3, 1, 1) for values in (family.mean, family.std)
    )
    frames_TCHW = (frames_TCHW.clamp(0, 255) / 255 - mean) / std
    steps, rows, columns = len(frames_TCHW) // pair, height // size, width // size
    split = frames_TCHW.view(steps, pair, 3, rows // merge, merge, size, columns // merge, merge, size)
    patches_ND = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(steps * rows * columns, 3 * pair * size * size)
    return patches_ND, (steps, rows, columns)


def resize_bytes(frames_TCHW: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Frames of another size, bicubic, by float arithmetic: torch's kernel for uint8 is there for CPUs only.

    Args:
        frames_TCHW: uint8, on any device.
        height: px.
        width: px.

    Returns:
        Whole levels from 0 to 255 as float32, within one level of that kernel, which rounds after each direction too.
    """
    for size in ((frames_TCHW.shape[2], width), (height, width)):
        resized_TCHW = functional.interpolate(frames_TCHW.float(), size, mode="bicubic", antialias=True)
        frames_TCHW = resized_TCHW.round().clamp(0, 255)
    return frames_TCHW
