"""What rounding to bfloat16 leaves of a fine-tune."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from gigavideo_data.commands.evaluation.output import rounding_note
from gigavideo_data.models.generators.stored_weights import rounding, stored_in_float32


def stored(folder: Path, *files: dict[str, torch.Tensor]) -> Path:
    """A pipeline folder whose transformer has its weights in these files."""
    (folder / "transformer").mkdir(parents=True)
    for number, tensors in enumerate(files):
        save_file(tensors, folder / "transformer" / f"model-{number}.safetensors")
    return folder


def test_the_share_of_changed_weights_that_survives_rounding_is_counted(tmp_path: Path) -> None:
    one, step = torch.ones(10), torch.zeros(10)
    step[:4], step[4:5] = 2**-12, 2**-6  # four changes that bfloat16 loses near 1, and one that it keeps
    base = stored(tmp_path / "base", {"a": one.bfloat16(), "b": torch.ones(3, dtype=torch.bfloat16)})
    tuned = stored(tmp_path / "tuned", {"a": one + step}, {"b": torch.ones(3)})
    assert rounding(base, tuned) == {"weights": 13, "changed": 5, "kept": 1}
    note = rounding_note(rounding(base, tuned))
    assert note is not None
    assert "in 38.5% of the weights. Rounded to bfloat16, 20.0% of these still differ" in note
    assert rounding_note(rounding(tuned, tuned)) is None
    assert rounding_note(None) is None


def test_models_with_other_weights_are_not_compared(tmp_path: Path) -> None:
    base = stored(tmp_path / "base", {"a": torch.ones(2)})
    assert rounding(base, stored(tmp_path / "names", {"b": torch.ones(2)})) is None
    assert rounding(base, stored(tmp_path / "shapes", {"a": torch.ones(3)})) is None


def test_weights_are_float32_if_all_are(tmp_path: Path) -> None:
    assert stored_in_float32(stored(tmp_path / "all", {"a": torch.ones(2)}, {"b": torch.ones(2)}))
    mixed = stored(tmp_path / "mixed", {"a": torch.ones(2)}, {"b": torch.ones(2, dtype=torch.bfloat16)})
    assert not stored_in_float32(mixed)
    assert not stored_in_float32(tmp_path / "none")
