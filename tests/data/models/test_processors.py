"""What the judge in torch shows a model is what the model's own processor would; that needs torchvision."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor
from transformers.video_utils import VideoMetadata

from gigavideo_data.models.judges import asking
from gigavideo_data.models.judges.transformers_judge import END, PAD, START
from gigavideo_data.models.registry import judge_spec, load_engine
from gigavideo_data.recipe.recipe import Judge
from tests.support import qwen_vl

pytestmark = pytest.mark.vllm
FPS, NUM_FRAMES, SHOWN = 8.0, 9, 4
QUESTION = "Is there a cat?"


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("size_px", [(112, 168), (64, 96), (60, 100)])
def test_inputs_are_those_of_the_models_own_processor(tmp_path, kind, size_px):
    frames_THWC = np.random.default_rng(0).integers(0, 255, (NUM_FRAMES, *size_px, 3), dtype=np.uint8)
    folder = qwen_vl.build(kind, tmp_path)
    decides, location = judge_spec(Judge(backend="transformers", model=str(folder), frames=SHOWN))
    judge = load_engine("judge", decides | location)
    given = {}
    judge.network.register_forward_pre_hook(lambda _, __, inputs: given.update(inputs), with_kwargs=True)
    judge.answer(frames_THWC, FPS, [QUESTION])

    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "video"}, {"type": "text", "text": asking.text_of(QUESTION)}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    if kind == "qwen3_vl":  # theirs leaves the template's pair of marks around all steps
        text = text.replace(START + PAD + END, PAD)
    chosen = asking.even_indices(NUM_FRAMES, SHOWN)
    facts = VideoMetadata(
        total_num_frames=NUM_FRAMES, fps=FPS, duration=NUM_FRAMES / FPS, frames_indices=np.array(chosen)
    )
    videos = [torch.from_numpy(frames_THWC[chosen]).permute(0, 3, 1, 2)]
    theirs = processor(text=[text], videos=videos, video_metadata=[facts], do_sample_frames=False, return_tensors="pt")

    assert given["input_ids"].tolist() == theirs["input_ids"].tolist()
    assert given["video_grid_thw"].tolist() == theirs["video_grid_thw"].tolist()
    torch.testing.assert_close(given["pixel_values_videos"], theirs["pixel_values_videos"], rtol=0, atol=1e-5)
    if kind == "qwen2_5_vl":
        assert float(given["second_per_grid_ts"][0]) == pytest.approx(float(theirs["second_per_grid_ts"][0]))
