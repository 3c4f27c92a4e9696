"""Makes the engines of a recipe: those of the table `recipe.engines`, or plug-ins. Each is imported only where needed.

spec = judge_spec(recipe.judge)
judge = load_engine("judge", spec.settings)
"""

from __future__ import annotations

import importlib
from typing import Any, cast

from gigavideo_data.dataset.schema import ROW_SCHEMA
from gigavideo_data.errors import RecipeError
from gigavideo_data.io.hashing import content_key
from gigavideo_data.models.llm.api_keys import shared_key_warning
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.recipe import plugins
from gigavideo_data.recipe.engines import ENGINES, QUIET_S, Kind, Name
from gigavideo_data.recipe.features import Features
from gigavideo_data.recipe.recipe import AnyJudge, Captions, Generator, Judge, Recipe, Writer, published_name


def writer_spec(writer: Writer) -> EngineSpec:
    """A recipe's writer."""
    return _built_in_spec("writer", writer.backend, writer)


def captions_spec(captions: Captions) -> EngineSpec:
    """The captioned clips of a recipe that names no table; the stage names the settings of a table itself."""
    return _built_in_spec("captions", captions.source, captions)


def generator_spec(generator: Generator) -> EngineSpec:
    """A recipe's generator; its identity holds the `generator` column of the contract, less the seed and the prompt.

    Raises:
        HubError: the Hub does not give the configuration that is read.
        RecipeError: the model is not known, or the plug-in is not installed.
    """
    return _spec("generator", generator)


def judge_spec(judge: AnyJudge) -> EngineSpec:
    """A recipe's judge.

    Raises:
        RecipeError: the plug-in is not installed.
    """
    return _spec("judge", judge)


def features_spec(features: Features) -> EngineSpec:
    """What measures the features of clips.

    Raises:
        HubError: the Hub does not give its files.
        RecipeError: the model is not on this machine, or of another family.
    """
    return _built_in_spec("features", features.backend, features)


def load_engine(kind: Kind, settings: dict[str, Any]) -> Any:
    """Make the engine that `settings["backend"]` names.

    Args:
        kind: of the engine.
        settings: of its `EngineSpec`, and those that depend on the worker: `gpus`, `compile`.
    """
    backend = settings["backend"]
    if backend in ENGINES[kind]:
        engine = ENGINES[kind][backend]
        cls = engine.split_cls if engine.split_cls and settings.get("gpus", 0) > 1 else engine.cls
        return _named(cls)(settings)
    return plugins.load(cast("plugins.Kind", kind), backend, settings["settings"])


def rows_at_once(kind: Kind, backend: str) -> int:
    """How many rows an engine answers in parallel; a plug-in, one."""
    return ENGINES[kind][backend].rows_at_once if backend in ENGINES[kind] else 1


def needs_actor_pool(kind: Kind, backend: str) -> bool:
    """Whether an engine is held by workers of its own, as every plug-in is."""
    return ENGINES[kind][backend].actor_pool if backend in ENGINES[kind] else True


def is_remote(kind: Kind, backend: str) -> bool:
    """Whether a service does an engine's work; of a plug-in that is not known, and its worker's time counts."""
    return ENGINES[kind][backend].remote if backend in ENGINES[kind] else False


def quiet_s(kind: Kind, backend: str) -> float:
    """How long an engine may send no heartbeat, by design, in seconds."""
    return ENGINES[kind][backend].quiet_s if backend in ENGINES[kind] else QUIET_S


def check_subjects(recipe: Recipe) -> None:
    """Refuse dimensions that the recipe's writer cannot write about, before anything is made.

    Raises:
        RecipeError: naming the dimension, and those that it could be.
    """
    backend = recipe.writer.backend
    subjects = ENGINES["writer"][backend].subjects
    if subjects is None:
        return
    known = sorted(_named(subjects))
    for dimension in recipe.all_dimensions:
        if dimension not in known:
            raise RecipeError(
                f"dimensions: the writer {backend!r} cannot write about {dimension!r}, only about {', '.join(known)}"
            )


def held_out(writer: Writer, prompt: str) -> str | None:
    """The split, in words, of a recipe's writer that contains a prompt and is kept for evaluation; else None."""
    function = ENGINES["writer"][writer.backend].held_out
    split: str | None = _named(function)(prompt) if function else None
    return split


def key_warning(recipe: Recipe) -> str | None:
    """A warning where one key of the environment is sent to the endpoints of several hosts."""
    return shared_key_warning({"writer": recipe.writer.endpoint, "judge": recipe.judge.endpoint})


def _spec(kind: Kind, part: Generator | AnyJudge) -> EngineSpec:
    if part.backend not in ENGINES[kind]:
        assert isinstance(part, Generator | Judge)
        return _plugin_spec(part)
    return _built_in_spec(kind, part.backend, part)


def _built_in_spec(kind: Kind, backend: str, part: Writer | Captions | Generator | AnyJudge | Features) -> EngineSpec:
    function = ENGINES[kind][backend].spec
    assert function is not None
    return _named(function)(part)


def _plugin_spec(part: Generator | Judge) -> EngineSpec:
    """A plug-in is identified by the version of its distribution and a hash of its settings."""
    settings = part.settings.model_dump(mode="json") if part.settings else {}
    version = plugins.version_of(part.kind, part.backend)
    revision = f"{version}+{content_key(settings)[:8]}" if settings else version
    identity: dict[str, Any] = {"backend": part.backend, "model": published_name(part.model), "revision": revision}
    if isinstance(part, Generator):
        columns = (name for name in ROW_SCHEMA.field("generator").type.names if name not in ("prompt", "seed"))
        identity = dict.fromkeys(columns) | identity
    return EngineSpec(identity, {"settings": settings})


def _named(name: Name) -> Any:
    return getattr(importlib.import_module(name[0]), name[1])
