"""What is known of text-to-video models without loading them."""

import pytest

from gigavideo_data.errors import RecipeError
from gigavideo_data.models.generators.profiles import family_of, warnings_for


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("miniature", "wan"),
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "wan"),
        ("hunyuanvideo-community/HunyuanVideo", "hunyuan"),
        ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", "wan"),
        ("hunyuanvideo-community/HunyuanVideo-1.5-480p_t2v", "hunyuan"),
        ("zai-org/CogVideoX1.5-5B", "cogvideox"),
        ("Lightricks/LTX-2", "ltx"),
        ("Lightricks/LTX-Video", "ltx"),
        ("/models/wan/my-ltx", "ltx"),  # the last part names it
    ],
)
def test_the_family_follows_from_the_name(model, family):
    assert family_of(model) == family


def test_an_unknown_family_is_refused_with_those_that_are_known():
    with pytest.raises(RecipeError, match=r"target: .*'mine' is not known; .*wan"):
        family_of("org/mine")


def test_terms_that_forbid_training_are_warned_of_unless_it_is_the_model_itself():
    hunyuan, wan = "hunyuanvideo-community/HunyuanVideo", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    (warning,) = warnings_for([hunyuan, wan, hunyuan], wan)
    assert warning.startswith("HunyuanVideo: the Tencent Hunyuan Community License")
    assert "Wan2.1-T2V-1.3B-Diffusers must not be trained" in warning
    assert warnings_for([hunyuan], hunyuan) == []
    assert warnings_for([wan, "miniature"], "miniature") == []


def test_terms_that_a_tuned_model_inherits_are_warned_of():
    (warning,) = warnings_for(["Lightricks/LTX-2"], "Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    assert warning.startswith("LTX-2: its licence counts a model that is trained on its videos as a derivative")
    assert "Wan2.1-T2V-1.3B-Diffusers that is trained on its videos must be published under it" in warning
    assert warnings_for(["Lightricks/LTX-2"], "Lightricks/LTX-Video") == []
