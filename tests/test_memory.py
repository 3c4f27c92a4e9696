from gigavideo_train import config
from gigavideo_train.memory import PRESETS, fitting


def test_the_largest_preset_that_fits_is_taken() -> None:
    assert [fitting(size * 10**9) for size in (16, 24, 47, 48, 79, 80, 140, 141, 192)] == [
        24, 24, 24, 48, 48, 80, 80, 141, 141,
    ]  # fmt: skip


def test_every_preset_is_a_run_and_what_is_set_by_hand_comes_on_top() -> None:
    for preset in PRESETS.values():
        assert config.load("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", None, [], preset).model_dump().items() >= preset.items()
    assert config.load("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", None, ["tune=full"], PRESETS[24]).tune == "full"
