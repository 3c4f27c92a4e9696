"""Counting: the objects that a text counts, the rule on given boxes, and a genuine detector with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest

from gigavideo_data import heartbeat
from gigavideo_data.models.judges.base import Answer
from gigavideo_data.models.judges.boxes import Box
from gigavideo_data.models.judges.counting import (
    CountingJudge,
    CountingQuestions,
    accuracy,
    counted_objects,
    counts,
    distinct,
)

SETTINGS = {"model": "given", "revision": None, "frames": 4}


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("Three red gulls land on a pier.", {"gull": 3}),
        ("2 boxes and four small wolves", {"box": 2, "wolf": 4}),
        ("two children feed five geese", {"child": 2, "goose": 5}),
        ("a dozen berries in a dish", {"berry": 12}),
        ("one dog chases a bus", {}),
        ("two glass bus windows", {"window": 2}),
        ("in two of the many far away and faint hills", {}),  # too far from its number
        ("a gull", {}),
    ],
)
def test_a_text_counts_plurals_behind_numbers(text, counted):
    assert counted_objects(text) == counted


def box(x, label="gull", score=0.5, size=10.0):
    return Box(label, score, x, 0.0, x + size, size)


def test_boxes_within_surer_ones_show_the_same_thing():
    whole, part, other = box(0, score=0.9, size=20), box(2, score=0.4), box(16, score=0.3)
    assert distinct([part, other, whole]) == [whole, other]
    assert distinct([whole, box(2, "boat")]) == [whole, box(2, "boat")]  # another kind is another thing
    assert distinct([Box("gull", 1.0, 5, 5, 5, 9)]) == []


def test_the_median_count_decides():
    frames = [[box(0), box(20)], [box(0)], [box(0), box(20), box(40)], [box(0), box(20), box(21)]]
    assert counts(frames, "gull") == [2, 1, 3, 2]
    assert counts(frames, "boat") == [0, 0, 0, 0]
    assert accuracy({"gull": [5, 5, 6, 3]}, {"gull": 5}) == 1.0  # a detector flickers, the clip is right
    assert accuracy({"gull": [5, 5, 6, 3]}, {"gull": 6}) == 0.0
    assert accuracy({"gull": [3, 3, 4, 4]}, {"gull": 3}) == 0.5  # one leaves half-way
    assert accuracy({"gull": [1, 2, 9]}, {"gull": 2}) == 1.0
    assert accuracy({"gull": [2, 1, 3, 2], "boat": [0, 2, 1, 0]}, {"gull": 2, "boat": 1}) == 0.75


class Given:
    """A detector that finds a given number of objects in each frame."""

    def __init__(self, *numbers):
        self.numbers, self.asked = numbers, []

    def detect(self, frames_THWC, labels):
        self.asked.append((len(frames_THWC), labels))
        return [[box(20 * at, label) for at in range(number) for label in labels] for number in self.numbers]


def test_the_judge_answers_its_own_questions_and_no_others():
    detector = Given(3, 3, 3, 2)
    judge = CountingJudge(SETTINGS, detector)
    (asked,) = CountingQuestions({}).questions(prompt="Three gulls land on a pier.")["questions"]
    texts = [asked["question"], asked["negated"], "Is there a gull?"]
    answers = judge.answer(np.zeros((9, 8, 8, 3), np.uint8), 8.0, texts)
    assert answers[0] == Answer(1.0, 0.0, {"count of gull": [3, 3, 3, 2], "spread of gull": [1]})
    assert answers[1] == answers[0].negated
    assert (answers[2].p_yes, answers[2].p_no) == (0, 0)
    assert detector.asked == [(4, ["gull"])]  # one pass for all questions
    assert CountingQuestions({}).questions(prompt="A gull lands.") == {"questions": []}


# --- a genuine detector ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def owl(tmp_path_factory) -> Path:
    """A tiny OWLv2 with random weights and a vocabulary of letters, built on disk."""
    import torch
    from transformers import (
        CLIPTokenizer,
        Owlv2Config,
        Owlv2ForObjectDetection,
        Owlv2ImageProcessor,
        Owlv2Processor,
    )

    folder = tmp_path_factory.mktemp("owl")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config={**sizes, "vocab_size": len(tokens), "max_position_embeddings": 16, "pad_token_id": 53},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    processor = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    Owlv2Processor(processor, tokenizer).save_pretrained(folder)
    return folder


def test_boxes_are_those_of_the_detectors_own_post_processing(owl):
    import torch
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    from gigavideo_data.models.judges.detector import TransformersDetector

    frames_THWC = np.random.default_rng(0).integers(0, 255, (9, 24, 40, 3), dtype=np.uint8)
    labels = ["gull", "boat"]
    beats: list[int] = []
    with heartbeat.listening(lambda: beats.append(1)):
        found = TransformersDetector(str(owl), None, 0.3).detect(frames_THWC, labels)
    assert len(beats) == 2, "nine frames are two batches"
    assert len(found) == 9
    assert any(found), "a threshold that leaves nothing proves nothing"

    processor, model = AutoProcessor.from_pretrained(owl), AutoModelForZeroShotObjectDetection.from_pretrained(owl)
    texts = [[f"a photo of a {label}" for label in labels]]
    for frame_HWC, boxes in zip(frames_THWC, found, strict=True):
        with torch.inference_mode():
            outputs = model(**processor(text=texts, images=[frame_HWC], return_tensors="pt"))
        (own,) = processor.post_process_grounded_object_detection(outputs, threshold=0.3, target_sizes=[(24, 40)])
        assert [box.label for box in boxes] == [labels[number] for number in own["labels"]]
        assert [box.score for box in boxes] == pytest.approx(own["scores"].tolist(), abs=1e-5)
        corners = [[box.x0, box.y0, box.x1, box.y1] for box in boxes]
        np.testing.assert_allclose(corners, own["boxes"], atol=1e-3)
