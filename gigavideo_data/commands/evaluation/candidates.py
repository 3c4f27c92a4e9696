"""The two models that `gv-data eval` compares: the tuned one and its base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gigavideo_data.commands.evaluation.setting import Setting
from gigavideo_data.errors import RecipeError
from gigavideo_data.models.generators.profile_table import Profile
from gigavideo_data.models.generators.profiles import (
    MODEL_INFO_FILE,
    base_of,
    has_public_name,
    lineage_of,
    model_folder,
    named,
    profile_of,
    recorded_base,
)
from gigavideo_data.recipe.recipe import on_the_hub, published_name


@dataclass(frozen=True)
class Candidate:
    """One model: a shipped name, a Hub id with its commit, or a folder; with or without a LoRA."""

    model: str
    adapter: Path | None = None
    commit: str | None = None

    @property
    def folder(self) -> Path:
        """Where the model is; one of the Hub is downloaded first."""
        return model_folder(self.model, self.commit)

    @property
    def name(self) -> str:
        """The name to show: of a folder its last part, or the run's name where gv-train wrote it."""
        folder = Path(self.model)
        shown = self.model
        if folder.is_dir():
            shown = folder.resolve().parent.name if folder.name == "model" else folder.resolve().name
        return shown + (f" + {self.adapter.name}" if self.adapter else "")


def candidates(base: str | None, tuned: str, adapter: Path | None, setting: Setting) -> tuple[Candidate, Candidate]:
    """The two models of a comparison, base first; models of the Hub with their commits.

    Args:
        base: name, Hub id or folder; None for the dataset's target, or else the base that the tuned model records.
        tuned: name, Hub id or folder of the tuned model.
        adapter: folder of a LoRA on top of it.
        setting: what they are compared on.

    Raises:
        RecipeError: a model or the base is not known, or the two are of different families or sizes.
        HubError: the Hub does not have one of them.
    """
    second = replace(_candidate(tuned, setting, "--tuned"), adapter=adapter)
    profile = profile_of(second.model)
    name, origin = (base, "") if base else _default_base(second, setting)
    first = _candidate(name, setting, "--base")
    other = profile_of(first.model)
    if other != profile:
        raise RecipeError(
            f"--base {first.name}{origin} is {_described(other)}; --tuned {second.name} is {_described(profile)}. "
            "A tuned model is compared with a base of its own family and size: name it with --base"
        )
    return first, second


def base_note(base: Candidate, tuned: Candidate) -> str | None:
    """A remark if the tuned model does not descend from the base that it is compared with, as far as it is recorded."""
    lineage = lineage_of(tuned.adapter or Path(tuned.model))
    if not lineage or _at(published_name(base.model), base.commit) in lineage:
        return None
    used = _at(base.name, base.commit)
    return f"{tuned.name} was tuned from {lineage[0]} and is compared with {used}; --base names another model."


def _at(model: str, commit: str | None) -> str:
    return f"{model}@{commit}" if commit else model


def _candidate(model: str, setting: Setting, option: str) -> Candidate:
    """A model at the commit that is given with it, or else at that of the dataset's generator."""
    sampled = setting.generator
    if on_the_hub(model) and named(model) == sampled.model:
        model = _at(model, sampled.revision)
    found = base_of(model, setting.manifest or {"recipe": {}}, option)
    return Candidate(found.model, commit=found.commit)


def _default_base(tuned: Candidate, setting: Setting) -> tuple[str, str]:
    """The base if none is given, and a remark where its name comes from."""
    if setting.manifest and has_public_name(setting.manifest["target_model"]):
        return setting.manifest["target_model"], " (the dataset's target model)"
    if tuned.adapter:
        return _at(tuned.model, tuned.commit), " (the model without its adapter)"
    recorded = recorded_base(Path(tuned.model))
    if recorded and has_public_name(recorded.model):
        return _at(recorded.model, recorded.commit), f" (the base that {MODEL_INFO_FILE} of {tuned.name} names)"
    raise RecipeError(
        f"--base is missing: nothing names the model that {tuned.name} was tuned from. Give its Hub id or folder"
    )


def _described(profile: Profile) -> str:
    return f"a {profile.name} ({profile.num_frames} frames of {profile.width}x{profile.height} at {profile.fps:g} Hz)"
