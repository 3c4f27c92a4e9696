import pytest

from gigavideo_train import config
from gigavideo_train.presets import FULL, LORA, MEMORY_PRESETS, SELECTIVE, memory_preset, memory_settings


@pytest.mark.parametrize(
    ("gigabytes", "preset"),
    [(16, 24), (25.3, 24), (42.4, 24), (47.7, 48), (79.9, 80), (85.0, 80), (100, 80), (150, 141), (192, 141)],
)
def test_the_largest_preset_that_fits_is_taken(gigabytes: float, preset: int) -> None:
    """Cards report a little less or more than their names say: "48 GB" is 47.7 with error correction."""
    assert memory_preset(round(gigabytes * 10**9)) == preset


def test_every_preset_is_a_run_and_what_is_set_by_hand_comes_on_top() -> None:
    for model, rows in MEMORY_PRESETS.items():
        for (memory, processes), preset in rows.items():
            assert config.load(model, None, [], memory, processes).model_dump().items() >= preset.items()
    assert config.load("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", None, ["tune=full"], 24).tune == "full"


def test_a_preset_depends_on_the_model_and_on_the_number_of_processes() -> None:
    small, large = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan-AI/Wan2.1-T2V-14B-Diffusers"
    assert memory_settings(small, 80, 1) == memory_settings(small, 141, 8) == SELECTIVE
    assert memory_settings(large, 80, 8) == FULL
    assert memory_settings(large, 141, 1) == LORA
    assert memory_settings(large, 141, 16) == SELECTIVE
    assert memory_settings(large, 24, 8) == {}
    assert memory_settings(large, None, 8) == {}
