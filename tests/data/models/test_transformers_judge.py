"""The judge in this process: genuine architectures, random weights; what it is shown, and what it reads."""

import hashlib
from math import log
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from gigavideo_data import heartbeat
from gigavideo_data.errors import RunError
from gigavideo_data.io import video
from gigavideo_data.models.judges import asking
from gigavideo_data.models.judges.transformers_judge import (
    VISION_FAMILIES,
    TransformersJudge,
    resize_bytes,
    shrink,
    to_patches,
)
from gigavideo_data.models.registry import judge_spec, load_engine
from gigavideo_data.pipeline.execution.row_adapter import run_row
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Judge
from tests.support import qwen_vl

KINDS = ("qwen2_5_vl", "qwen3_vl")
FRAMES_THWC = np.random.default_rng(0).integers(0, 255, (9, 56, 84, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    return qwen_vl.build(request.param, tmp_path_factory.mktemp(request.param))


def judge(folder, **settings) -> TransformersJudge:
    settings_of, location = judge_spec(Judge(backend="transformers", model=str(folder), frames=4, **settings))
    made: TransformersJudge = load_engine("judge", settings_of | location)
    return made


def test_answers_are_probabilities_of_the_first_token(model):
    one = judge(model)
    beats: list[int] = []
    with heartbeat.listening(lambda: beats.append(1)):
        answers = one.answer(FRAMES_THWC, 8.0, ["Is there a cat?", "Is there a dog?"])
    assert len(beats) == 2
    assert all(0 < answer.p_yes < 1 and 0 < answer.p_no < 1 and answer.p_yes + answer.p_no < 1 for answer in answers)
    assert answers[0] != answers[1]
    assert one.answer(FRAMES_THWC, 8.0, ["Is there a dog?"]) == [answers[1]]


def test_the_frames_and_their_order_matter(model):
    one, asked = judge(model), ["Is there a cat?"]
    (there,), (back,) = one.answer(FRAMES_THWC, 8.0, asked), one.answer(FRAMES_THWC[::-1].copy(), 8.0, asked)
    assert there != back
    assert one.answer(FRAMES_THWC, 2.0, asked) != [there]  # the prompt has seconds, not only frames


def test_p_yes_is_what_the_model_would_say(model):
    """Against the model's own generation, with its scores: nothing of the reading is shared."""
    one, question = judge(model), "Is there a cat?"
    given = {}
    one.network.register_forward_pre_hook(lambda _, __, inputs: given.update(inputs), with_kwargs=True)
    (answer,) = one.answer(FRAMES_THWC, 8.0, [question])
    inputs = {name: value for name, value in given.items() if name != "logits_to_keep"}
    made = one.network.generate(
        **inputs, max_new_tokens=1, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    probabilities = torch.softmax(made.scores[0][0].float(), -1)
    words = {"yes": 0.0, "no": 0.0}
    for token in range(len(one.tokenizer)):
        text = one.tokenizer.decode([token]).strip().casefold()
        if text in words:
            words[text] += float(probabilities[token])
    assert answer.p_yes == pytest.approx(words["yes"], rel=1e-4)
    assert answer.p_no == pytest.approx(words["no"], rel=1e-4)


def test_patches_can_be_put_together_again():
    vision = SimpleNamespace(patch_size=4, spatial_merge_size=2, temporal_patch_size=2)
    frames_THWC = torch.from_numpy(FRAMES_THWC[:4, :16, :24])
    patches_ND, (steps, rows, columns) = to_patches(frames_THWC, vision, VISION_FAMILIES["qwen3_vl"])
    assert (steps, rows, columns) == (2, 4, 6)
    whole = torch.empty(4, 16, 24, 3)
    at = 0
    for step in range(steps):
        for top in range(0, rows, 2):
            for left in range(0, columns, 2):
                for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                    patch = patches_ND[at].view(3, 2, 4, 4).permute(1, 2, 3, 0)
                    whole[2 * step : 2 * step + 2, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = patch
                    at += 1
    torch.testing.assert_close((whole * 0.5 + 0.5) * 255, frames_THWC.float())


def test_other_sizes_are_rounded_to_whole_merged_patches():
    vision = SimpleNamespace(patch_size=14, spatial_merge_size=2, temporal_patch_size=2)
    _, grid = to_patches(torch.from_numpy(FRAMES_THWC[:2, :50, :70]), vision, VISION_FAMILIES["qwen2_5_vl"])
    assert grid == (1, 4, 4)  # 50 px are nearest to two squares of 28, and so are 70


def test_bytes_are_resized_as_torchs_kernel_for_cpus_does():
    frames_TCHW = torch.from_numpy(FRAMES_THWC[:2, :50, :70]).permute(0, 3, 1, 2)
    for height, width in ((28, 56), (56, 84)):
        expected_TCHW = torch.nn.functional.interpolate(frames_TCHW, (height, width), mode="bicubic", antialias=True)
        resized_TCHW = resize_bytes(frames_TCHW, height, width)
        assert (resized_TCHW - expected_TCHW.float()).abs().max() <= 1
        assert resized_TCHW.equal(resized_TCHW.round())


def test_gradients_reach_the_frames():
    vision = SimpleNamespace(patch_size=14, spatial_merge_size=2, temporal_patch_size=2)
    frames_THWC = torch.from_numpy(FRAMES_THWC[:2]).float().requires_grad_()
    to_patches(frames_THWC, vision, VISION_FAMILIES["qwen2_5_vl"])[0].sum().backward()
    assert frames_THWC.grad is not None
    assert (frames_THWC.grad != 0).all()


def test_an_unknown_family_is_refused_with_a_way_out(tmp_path):
    from transformers import Qwen2Config

    Qwen2Config().save_pretrained(tmp_path)
    with pytest.raises(RunError, match="use backend vllm or http"):
        judge(tmp_path)


def test_a_vocabulary_without_the_words_is_refused(model, monkeypatch):
    monkeypatch.setattr(asking, "SPELLINGS", {"yes": ("affirmative",), "no": ("no",)})
    with pytest.raises(RunError, match="not single tokens"):
        judge(model)


def test_less_mass_is_left_by_fewer_spellings(model, monkeypatch):
    (all_of_them,) = judge(model).answer(FRAMES_THWC, 8.0, ["Is there a cat?"])
    monkeypatch.setattr(asking, "SPELLINGS", {"yes": ("yes",), "no": ("no",)})
    (some,) = judge(model).answer(FRAMES_THWC, 8.0, ["Is there a cat?"])
    assert log(some.p_yes) < log(all_of_them.p_yes)


def test_the_stage_keeps_what_the_model_answers_about_the_decoded_clip(model, tmp_path):
    one, asked, store = judge(model), ["Is there a cat?", "Is there a dog?"], Store(tmp_path)
    data = video.encode(FRAMES_THWC, 8.0)
    name = hashlib.sha256(data).hexdigest()
    store.put("synthesize", "clip", {"video_sha256": name}, {"video.mp4": data})
    assert run_row("judge", "key", one, {"video_sha256": name, "questions": asked}, store, "run", 3) == "done"
    record = store.get("judge", "key")
    assert record is not None
    clip = video.decode(data)
    answers = [
        {"p_yes": a.p_yes, "p_no": a.p_no, "readings": {}} for a in one.answer(clip.frames_THWC, clip.fps, asked)
    ]
    assert record["answers"] == answers


@pytest.mark.parametrize("size", [(241, 417), (28, 42), (14, 21), (27, 41), (20, 84), (1, 1)])
def test_frames_are_shrunk_as_opencv_shrinks_them(size):
    height, width = size
    frames_THWC = np.random.default_rng(1).integers(0, 256, (2, 480, 832, 3) if height > 200 else (2, 56, 84, 3))
    there = [cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames_THWC.astype(np.float32)]
    here = shrink(torch.from_numpy(frames_THWC).float(), height, width)
    torch.testing.assert_close(here, torch.from_numpy(np.stack(there)), rtol=0, atol=2e-3)  # of 255 levels


def test_what_flows_through_torch_is_the_answer(model):
    asked = ["Is there a cat?", "Is there a dog?"]
    fits, too_large = FRAMES_THWC[:, :, :56], np.random.default_rng(1).integers(0, 255, (9, 96, 128, 3), np.uint8)
    fits = fits if "qwen2_5" in model.name else np.pad(fits, ((0, 0), (4, 4), (4, 4), (0, 0)))  # whole merged patches
    for frames_THWC, tolerance in ((fits, 1e-6), (too_large, 2e-5)):  # what is shrunk is rounded for `answer` alone
        one = judge(model, max_side_px=72)
        answers = one.answer(frames_THWC, 8.0, asked)
        p_Q2 = one.probabilities(torch.from_numpy(frames_THWC.copy()).float(), 8.0, asked)
        torch.testing.assert_close(p_Q2, torch.tensor([(a.p_yes, a.p_no) for a in answers]), rtol=0, atol=tolerance)


def test_gradients_reach_the_frames_from_the_answer(model):
    """Against a central difference along the gradient, in float64, through shrinking and rounding to patches."""
    one = judge(model, max_side_px=72)
    one.network.double()
    generator = torch.Generator().manual_seed(0)
    frames_THWC = (255 * torch.rand(9, 96, 128, 3, generator=generator, dtype=torch.float64)).requires_grad_()

    def log_odds(frames_THWC):
        p_yes, p_no = one.probabilities(frames_THWC, 8.0, ["Is there a cat?"])[0]
        return torch.log(p_yes / p_no)

    (slope_THWC,) = torch.autograd.grad(log_odds(frames_THWC), frames_THWC)
    assert slope_THWC.isfinite().all()
    looked_at = slope_THWC[asking.even_indices(9, 4)]
    assert (looked_at != 0).float().mean() > 0.9
    along = slope_THWC / slope_THWC.norm()
    with torch.no_grad():
        rise = log_odds(frames_THWC + 5 * along) - log_odds(frames_THWC - 5 * along)
    assert rise.item() / 10 == pytest.approx(slope_THWC.norm().item(), rel=0.01)
