"""Which class stands behind each backend a recipe can name: literal tables, imported only where needed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from gigavideo_data.api_keys import shared_key_warning
from gigavideo_data.errors import RecipeError
from gigavideo_data.generators.models import folder_revision
from gigavideo_data.recipe import AnyJudge, Recipe, Writer, published_name

ENGINES: dict[str, dict[str, tuple[str, str]]] = {
    "writer": {
        "grammar": ("gigavideo_data.miniature.writer", "GrammarWriter"),
        "http": ("gigavideo_data.llm.writer", "LanguageWriter"),
        "vllm": ("gigavideo_data.llm.writer", "LanguageWriter"),
        "camera": ("gigavideo_data.judges.camera", "CameraQuestions"),
        "counting": ("gigavideo_data.judges.counting", "CountingQuestions"),
    },
    "captions": {
        "miniature": ("gigavideo_data.miniature.clips", "RenderedClips"),
        "table": ("gigavideo_data.folder_clips", "FolderClips"),
    },
    "generator": {"diffusers": ("gigavideo_data.generators.diffusers", "DiffusersGenerator")},
    "judge": {
        "miniature": ("gigavideo_data.miniature.judge", "MiniatureJudge"),
        "http": ("gigavideo_data.judges.http", "HttpJudge"),
        "transformers": ("gigavideo_data.judges.transformers", "TransformersJudge"),
        "vllm": ("gigavideo_data.judges.vllm", "VllmJudge"),
        "camera": ("gigavideo_data.judges.camera", "CameraJudge"),
        "counting": ("gigavideo_data.judges.counting", "CountingJudge"),
    },
    "soft judge": {  # those that gradients flow through
        "miniature": ("gigavideo_data.miniature.soft_judge", "SoftMiniatureJudge"),
        "transformers": ("gigavideo_data.judges.transformers", "TransformersJudge"),
    },
}

# Too heavy to be loaded by whichever process comes along: these get a pool of workers that hold them.
RESIDENT = {
    ("generator", "diffusers"),
    ("judge", "counting"),
    ("judge", "transformers"),
    ("judge", "vllm"),
    ("writer", "vllm"),
}

# Those that answer several rows at once, and how many.
CONCURRENT: dict[tuple[str | None, str | None], int] = {
    ("writer", "http"): 32,
    ("writer", "vllm"): 64,
    ("judge", "http"): 8,
    ("judge", "vllm"): 8,
}

# What a writer can write about, where that is not everything: the keys of a mapping.
SUBJECTS: dict[str, tuple[str, str]] = {"grammar": ("gigavideo_data.miniature.questions", "ASK")}


def check_subjects(recipe: Recipe) -> None:
    """Refuse dimensions that the recipe's writer cannot write about, before anything is made.

    Raises:
        RecipeError: naming the dimension, and those that it could be.
    """
    backend = recipe.writer.backend
    if backend not in SUBJECTS:
        return
    module, name = SUBJECTS[backend]
    known = sorted(getattr(importlib.import_module(module), name))
    for dimension in recipe.dimensions:
        if dimension not in known:
            raise RecipeError(
                f"dimensions: the writer {backend!r} cannot write about {dimension!r}, only about {', '.join(known)}"
            )


def key_warning(recipe: Recipe) -> str | None:
    """What to say where one key of the environment goes to the endpoints of several hosts."""
    return shared_key_warning({"writer": recipe.writer.endpoint, "judge": recipe.judge.endpoint})


def load_engine(kind: str, engine: dict[str, Any]) -> Any:
    """Make the engine of a kind that `engine["backend"]` names; `engine` holds its settings."""
    module, name = ENGINES[kind][engine["backend"]]
    return getattr(importlib.import_module(module), name)(engine)


def writer_engine(writer: Writer) -> tuple[dict[str, Any], dict[str, Any]]:
    """A writer as a recipe names it: what decides its texts, and what is only where it is found."""
    if writer.backend == "grammar":
        return {"backend": "grammar"}, {}
    from gigavideo_data.llm.writer import TEMPLATES

    if writer.backend == "http":
        settings = writer.model_dump(mode="json", exclude={"endpoint", "revision", "vllm"})
        return settings | {"templates": TEMPLATES}, {"endpoint": writer.endpoint}
    settings, found_at = _found(writer.model, writer.model_dump(mode="json", exclude={"endpoint", "vllm"}))
    return settings | {"templates": TEMPLATES}, found_at | {"vllm": writer.vllm.model_dump()}


def judge_engine(judge: AnyJudge) -> tuple[dict[str, Any], dict[str, Any]]:
    """A judge as a recipe names it: what decides its answers, and what is only where it is found.

    The revision of an endpoint is what the recipe says: nobody else can know.
    """
    if judge.backend == "miniature":
        module, _ = ENGINES["judge"]["miniature"]
        revision = importlib.import_module(module).REVISION
        return {"backend": judge.backend, "model": judge.model, "revision": revision}, {}
    if judge.backend == "camera":
        from gigavideo_data.judges import camera

        return {"backend": judge.backend, "model": "opencv", "revision": camera.RULE}, {}
    if judge.backend == "counting":
        from gigavideo_data.judges import counting

        return _found(judge.model, judge.model_dump(mode="json") | {"rule": counting.RULE})
    from gigavideo_data.judges.asking import HTTP_TEMPLATES, TEMPLATE

    if judge.backend == "http":
        settings = judge.model_dump(mode="json", exclude={"endpoint", "min_mass", "vllm"})
        return settings | {"template": HTTP_TEMPLATES[judge.media]}, {
            "endpoint": judge.endpoint,
            "min_mass": judge.min_mass,
        }
    settings = judge.model_dump(mode="json", exclude={"endpoint", "min_mass", "media", "readout", "vllm"})
    settings, found_at = _found(judge.model, settings | {"template": TEMPLATE})
    found_at |= {"min_mass": judge.min_mass}
    return settings, found_at | ({"vllm": judge.vllm.model_dump()} if judge.backend == "vllm" else {})


def _found(model: str, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of a model that is loaded here, and from where: a folder is what it holds, a Hub id its revision."""
    name = published_name(model)
    if name == model:
        return settings, {"load": model, "load_revision": settings["revision"]}
    folder = Path(model).expanduser()
    return settings | {"model": name, "revision": folder_revision(folder)}, {"load": str(folder), "load_revision": None}
