"""The models of a loop, and the arguments of the commands of a round."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigavideo_data.errors import RunError
from gigavideo_data.io.hashing import seed_of
from gigavideo_data.models.spec import folder_revision
from gigavideo_data.recipe.recipe import Judge, on_the_hub, published_name
from gigavideo_loop.setting import Setting


@dataclass(frozen=True)
class Model:
    """A model of the loop: a shipped name, a Hub id with or without @commit, or a folder; with or without a LoRA."""

    name: str
    adapter: Path | None = None


def first_model(setting: Setting, manifest: Mapping[str, Any] | None = None) -> Model:
    """The model that the loop starts from; of the Hub, with the commit that the first round's manifest names."""
    (generator,) = setting.recipe.generators
    if not on_the_hub(generator.model):
        local = published_name(generator.model) != generator.model
        return Model(str(Path(generator.model).expanduser().absolute()) if local else generator.model)
    revision = manifest["recipe"]["generators"][0]["revision"] if manifest else generator.revision
    return Model(f"{generator.model}@{revision}" if revision else generator.model)


def tuned_model(folder: Path, first: Model, recorded_hash: str) -> Model:
    """The model in the folder that gv-train wrote, a whole pipeline or an adapter of the first model.

    Raises:
        RunError: it is not the one that the loop recorded.
    """
    found = folder_revision(folder)
    if found != recorded_hash:
        raise RunError(
            f"{folder}: its content hash is {found}, and the loop recorded {recorded_hash}; the model was changed. "
            "Restore it, or begin a loop in another --out"
        )
    folder = folder.absolute()
    return Model(str(folder)) if (folder / "model_index.json").is_file() else Model(first.name, folder)


def build(setting: Setting, number: int, model: Model, out: Path, used: Sequence[Path], held_out: Path) -> list[str]:
    """Arguments of gv-data build in a round.

    Args:
        setting: of the loop.
        number: of the round.
        model: generates the videos.
        out: folder of the dataset.
        used: datasets of earlier rounds.
        held_out: file of the evaluation prompts, which a language model might write again.
    """
    recipe = setting.recipe
    changes: dict[str, Any] = {}
    if number > 1:
        seed = seed_of(["round", recipe.seed, number])
        changes = {"eval_prompts.per_dimension": 0, "video_seed" if setting.same_prompts else "seed": seed}
        if not setting.same_prompts:
            changes["prompts.used"] = [*recipe.prompts.used, *(str(folder.absolute()) for folder in used)]
            if recipe.writer.backend != "grammar":  # whose splits have no prompt in common
                changes["blocklists"] = [*recipe.blocklists, str(held_out.absolute())]
        name, _, commit = model.name.partition("@") if on_the_hub(model.name) else (model.name, "", "")
        changes |= {"generators.0.model": name, "generators.0.revision": commit or None}
        changes |= {"generators.0.adapter": str(model.adapter)} if model.adapter else {}
    return [
        *("build", "--recipe", setting.recipe_name, "--out", str(out), "--store", str(setting.store)),
        *_sets(setting.overrides),
        *_sets(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()),
    ]


def train(setting: Setting, number: int, model: Model, first: Model, dataset: Path, out: Path) -> list[str]:
    """Arguments of gv-train in a round, which starts from `model`; a run that is there already is continued."""
    settings = []
    if setting.strategy == "nft":
        settings.append(f"nft_kappa={setting.kappa}")
        if number > 1 and setting.kappa and not model.adapter:  # of an adapter, the first model is the one below it
            settings.append(f"anchor_model={json.dumps(first.name, ensure_ascii=False)}")
    return [
        *("--dataset", str(dataset), "--out", str(out), "--strategy", setting.strategy, "--resume"),
        *("--model", model.name, *(["--adapter", str(model.adapter)] if model.adapter else [])),
        *(["--processes", str(setting.processes)] if setting.processes else []),
        *_sets([*settings, *setting.train_settings]),
    ]


def evaluate(setting: Setting, tuned: Model, first: Model, prompts: Path, out: Path) -> list[str]:
    """Arguments of gv-data eval in a round: on the dev prompts of `prompts`, the first round's dataset."""
    return [
        *("eval", "--tuned", tuned.name, *(["--adapter", str(tuned.adapter)] if tuned.adapter else [])),
        *("--base", first.name, "--prompts", str(prompts), "--split", "dev", "--out", str(out)),
        *("--store", str(setting.store), *_judge(setting)),
        *(part for text in setting.second_judge for part in ("--second-judge", text)),
    ]


def _judge(setting: Setting) -> list[str]:
    """What a dataset does not name of its judges, as it is private to this machine or code: it is in the recipe."""
    recipe = setting.recipe
    judge = recipe.judge.model_dump(mode="json")
    changes: dict[str, Any] = {}
    if Judge.is_plugin(judge):
        changes["judge"] = {name: judge[name] for name in Judge.plugin_keys if name in judge}
    elif published_name(recipe.judge.model) != recipe.judge.model:
        changes["judge.model"] = recipe.judge.model
    counting = recipe.specialists.counting
    if counting and published_name(counting.model) != counting.model:
        changes["specialists.counting.model"] = counting.model
    if scale := recipe.scale.model_dump(mode="json", exclude_defaults=True):
        changes["scale"] = scale
    endpoint = ["--judge-endpoint", recipe.judge.endpoint] if recipe.judge.endpoint else []
    return [*endpoint, *_sets(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items())]


def _sets(texts: Iterable[str]) -> list[str]:
    return [part for text in texts for part in ("--set", text)]
