"""The embedded world: language, renderer and judge, each against the others."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks.miniature_trials import judged, trial
from gigavideo_data.io import video
from gigavideo_data.io.hashing import content_key
from gigavideo_data.miniature import clips, world, writer
from gigavideo_data.miniature.clips import RenderedClips
from gigavideo_data.miniature.grammar import SKILLS, describe, parse, sample_scene, split_of
from gigavideo_data.miniature.judge import REVISION, MiniatureJudge
from gigavideo_data.miniature.mixture import MIXTURE
from gigavideo_data.miniature.questions import ASK, ask_plain
from gigavideo_data.miniature.writer import GrammarWriter
from gigavideo_data.models.judges.base import negate

CASES = 100


@pytest.mark.parametrize("skill", SKILLS)
def test_a_caption_says_all_of_its_scene(skill):
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = sample_scene(skill, rng, "tune")
        assert parse(describe(scene, full=True)) == scene


@pytest.mark.parametrize("text", ["", "a dog runs", "a red circle moves left and then", "red circle", "a red circle\n"])
def test_text_of_another_world_is_not_parsed(text):
    assert parse(text) is None or text.strip() != text


def texts(written):
    return [draft["prompt"] for draft in written["prompts"]]


@pytest.mark.parametrize(("split", "of_miniature"), [("train", "tune"), ("dev", "dev"), ("test", "test")])
def test_prompts_of_a_split_are_of_its_combinations_alone(split, of_miniature):
    for dimension in ASK:
        prompts = texts(GrammarWriter({}).prompts(dimension, 10, 0, split))
        assert len(prompts) == 10
        assert {split_of(scene) for scene in map(parse, prompts) if scene} == {of_miniature}


def test_real_clips_show_combinations_that_the_base_was_pretrained_on():
    captions = [RenderedClips({}).clip(index, 0)[0] for index in range(30)]
    assert {split_of(scene) for scene in map(parse, captions) if scene} == {"pretrain"}


def test_ground_never_moves_a_scene_to_another_split_and_size_may():
    rng = np.random.default_rng(1)
    for skill in SKILLS:
        scene = sample_scene(skill, rng, "dev")
        assert {split_of(replace(scene, ground=ground)) for ground in world.GROUNDS} == {"dev"}
    sizes = [replace(scene, things=(replace(scene.things[0], size=size), *scene.things[1:])) for size in world.SIZES]
    assert len({split_of(sized) for sized in sizes}) > 1


def test_a_writer_finds_all_prompts_of_a_split():
    prompts = texts(GrammarWriter({}).prompts("motion_order_understanding", 1000, 0, "train"))
    assert len(prompts) == len(set(prompts)) == 204


def test_other_prompts_or_captions_need_another_revision():
    """Where this fails, raise the number in `REVISION` of the writer or of the clips, and write down the new hash."""
    prompts = [
        texts(GrammarWriter({}).prompts(dimension, 5, 0, split))
        for dimension in ASK
        for split in writer.MINIATURE_SPLIT
    ]
    extended = [GrammarWriter({}).extend(text, 0, 0)["prompt"] for of_split in prompts for text in of_split]
    captions = [RenderedClips({}).clip(index, 0)[0] for index in range(20)]
    assert (writer.REVISION, content_key({"prompts": prompts, "extended": extended})[:8]) == ("grammar-2", "11715437")
    assert (clips.REVISION, content_key({"captions": captions})[:8]) == ("rendered-2", "5b3d33fc")


@pytest.mark.parametrize(("shorter", "longer"), [(5, 12), (10, 1000)])
def test_a_longer_prompt_list_begins_with_the_shorter_one(shorter, longer):
    first, second = (texts(GrammarWriter({}).prompts("mechanics", n, 3, "train")) for n in (shorter, longer))
    assert len(first) == shorter < len(second)
    assert second[:shorter] == first


@pytest.mark.parametrize(("count", "num_fresh"), [(5, 5), (30, 25), (35, 25)])
def test_used_prompts_come_after_fresh_ones_in_the_order_in_which_they_are_drawn(count, num_fresh):
    drawn = texts(GrammarWriter({}).prompts("mechanics", 35, 0, "train"))  # all that there are
    used = [*drawn[20:30], "a prompt of another writer"]
    fresh = drawn[:20] + drawn[30:]
    written = texts(GrammarWriter({}).prompts("mechanics", count, 0, "train", used=used))
    assert written == [*fresh, *drawn[20:30]][:count]
    assert set(written[:num_fresh]).isdisjoint(used)
    assert set(written[num_fresh:]) <= set(used)


def test_extension_keeps_the_facts_and_adds_camera_and_ground():
    assert GrammarWriter({}).extend("two red bars", 0, 0)["prompt"].startswith("two red bars, static camera, ")
    with pytest.raises(ValueError, match="not a prompt"):
        GrammarWriter({}).extend("a dog runs", 0, 0)


def test_the_same_seed_renders_the_same_clip():
    scene = sample_scene("camera_motion", np.random.default_rng(0), "tune")
    first, second = (world.render(scene, np.random.default_rng(5)) for _ in range(2))
    assert first.shape == (world.NUM_FRAMES, world.SIZE, world.SIZE, 3)
    assert first.dtype == np.uint8
    assert (first == second).all()


@pytest.mark.parametrize("dimension", ASK)
def test_judge_accepts_right_scenes_and_refuses_minimally_wrong_ones(dimension):
    judge = MiniatureJudge({})
    right = [judged(judge, dimension, *trial(dimension, n, right=True)) for n in range(CASES)]
    wrong = [judged(judge, dimension, *trial(dimension, n, right=False)) for n in range(CASES)]
    assert np.mean([value is not None and value > 0.9 for value in right]) >= 0.98
    assert np.mean([value is not None and value < 0.1 for value in wrong]) >= 0.98


def test_judge_sees_plain_scenes_through_h264():
    judge, rng = MiniatureJudge({}), np.random.default_rng(2)
    kept = []
    for _ in range(20):
        scene = sample_scene("plain", rng, "tune")
        clip = video.decode(video.encode(world.render(scene, rng), world.FPS))
        answers = judge.answer(clip.frames_THWC, clip.fps, [q.text for q in ask_plain(scene)])
        kept.append(min(a.p_yes for a in answers) > 0.9)
    assert sum(kept) >= 19


def test_judge_answers_a_negated_question_the_other_way():
    frames_THWC = world.render(sample_scene("mechanics", np.random.default_rng(0), "tune"), np.random.default_rng(0))
    question = "Does the red circle bounce back up off the floor?"
    plain, negated = MiniatureJudge({}).answer(frames_THWC, world.FPS, [question, negate(question)])
    assert (plain.p_yes, plain.p_no) == (negated.p_no, negated.p_yes)


@pytest.mark.parametrize("number", range(8))
def test_a_thing_that_hangs_in_the_air_obeys_no_law(number):
    asked, frames_THWC = trial("mechanics", number, right=True)
    hanging = np.repeat(frames_THWC[:1], len(frames_THWC), axis=0)
    value = judged(MiniatureJudge({}), "mechanics", asked, hanging)
    assert value is not None
    assert value < 0.1


def test_judge_gives_no_mass_to_what_it_cannot_read():
    black = np.zeros((17, 48, 48, 3), np.uint8)
    (answer,) = MiniatureJudge({}).answer(black, 8.0, ["What is the meaning of life?"])
    assert answer.p_yes + answer.p_no < 0.5


def test_judge_is_certain_of_nothing_on_an_empty_clip():
    noise = np.random.default_rng(0).integers(0, 255, (17, 48, 48, 3), np.uint8)
    for frames_THWC in (np.zeros_like(noise), noise):
        for dimension in ASK:
            asked, _ = trial(dimension, 0, right=True)
            value = judged(MiniatureJudge({}), dimension, asked, frames_THWC)
            assert value is None or value < 0.5


def test_another_answer_needs_another_revision():
    """Where this fails, raise the number in `REVISION`, and write down the new numbers."""
    frames_THWC = np.full((17, 48, 48, 3), 110, np.uint8)
    frames_THWC[:, 40:] = 70  # the floor
    for t, frame_HWC in enumerate(frames_THWC):
        cv2.circle(frame_HWC, (10 + t, min(10 + 2 * t, 34)), 5, world.COLORS["red"], -1, cv2.LINE_AA)
    questions = [
        "Is there a small red circle in the video?",
        "Is there exactly one red circle in every frame?",
        "Does the red circle move down?",
        "Does the red circle stay on the floor once it has landed?",
        "Is the camera static?",
    ]
    answers = MiniatureJudge({}).answer(frames_THWC, world.FPS, questions)
    assert REVISION == "miniature-2"
    np.testing.assert_allclose([answer.p_yes for answer in answers], [0.769, 0.995, 0.182, 0.995, 0.9], atol=0.01)


def test_mixture_is_a_distribution_over_all_skills():
    assert MIXTURE.keys() == SKILLS.keys()
    assert sum(MIXTURE.values()) == pytest.approx(1.0)
