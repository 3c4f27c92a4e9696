"""A recipe: what to mend, with which models, and how much. It fails here, with file and line, or never.

A recipe file says only what differs from the defaults below, or from those of a file in recipes/shared that its `like`
names.

    recipe = load("quickstart", ["prompts.per_dimension=4"])
    recipe.generators[0].steps
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gigavideo_data.dimensions import catalogue
from gigavideo_data.errors import RecipeError
from gigavideo_data.hashing import canonical
from gigavideo_data.reasons import PixelFlaw
from gigavideo_data.typed_yaml import Document, override, read, suggest, upon, validate

# In a wheel the recipes lie in the package; in a checkout, beside it.
_FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parent.parent / "recipes")


def _known_dimension(name: str) -> str:
    if name not in catalogue.names():
        raise ValueError(f"unknown dimension {name!r}; {catalogue.hint(name)}")
    return name


def _base_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", text):
        raise ValueError("must be a base URL with its host and without a key, such as http://localhost:8000/v1")
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Model = Annotated[str, StringConstraints(min_length=1, max_length=512)]
DimensionName = Annotated[str, AfterValidator(_known_dimension)]
Endpoint = Annotated[str, AfterValidator(_base_url)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Vllm(_Part):
    """How vLLM runs a model here, in its own words. No row depends on it, so it is left out of the recipe's hash.

    A worker takes `gpu_memory_utilization` of the memory of its GPUs, over which one model is laid (see `Scale`).
    `max_model_len` is the longest conversation in tokens; null: the model's own, or what fits into that memory.
    """

    gpu_memory_utilization: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    max_model_len: Count | None = None
    enforce_eager: bool = False


class Writer(_Part):
    """The text model behind base prompts, their extension and the questions.

    `grammar` is that of the miniature and has no settings. `http` is any OpenAI-compatible `endpoint`, named by its
    base URL. `vllm` runs a `model` in the workers, by Hub id (with a `revision`) or folder.
    """

    backend: Literal["grammar", "http", "vllm"] = "grammar"
    model: Model = "Qwen/Qwen2.5-7B-Instruct"
    revision: Model | None = None
    endpoint: Endpoint | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7
    max_tokens: Count = 8192
    vllm: Vllm = Vllm()

    @model_validator(mode="after")
    def _fits_its_backend(self) -> Writer:
        if self.backend == "grammar" and self != Writer.model_construct():
            raise ValueError("backend: the grammar has no settings; name http or vllm, or take the others out")
        if self.revision is not None and self.backend != "vllm":
            raise ValueError("revision: goes with backend vllm and with no other; an endpoint loads what it loads")
        _only_with_vllm(self)
        if (self.backend == "http") != (self.endpoint is not None):
            raise ValueError("endpoint: goes with backend http and with no other, such as http://localhost:8000/v1")
        return self


class Prompts(_Part):
    """The synthetic prompts: `variants` of each of `per_dimension` base prompts.

    A language model is asked for `per_call` at once. Drafts that are like another prompt by `likeness` or more fall
    (from 0 to 1; null: only equal ones), and with `sift` those that nobody could film.
    """

    per_dimension: Count = 16
    variants: Count = 1
    per_call: Count = 100
    likeness: Share | None = None
    sift: bool = True


class Captions(_Part):
    """The captions of real clips: `count` of them (0: none), each with a generated twin, the real clip, or both.

    `table` is a CSV, TSV or Parquet `table` of captions and a folder of `clips` (see `gigavideo_data.captions`); clips
    longer than `max_seconds` or less suitable than `min_suitability` fall, in Koala-36M's scale.
    """

    source: Literal["miniature", "table"] = "miniature"
    count: Annotated[int, Field(ge=0)] = 0
    twins: bool = True
    real: bool = True
    table: Model | None = None
    clips: Model | None = None
    max_seconds: Annotated[float, Field(gt=0.0)] = 5.0
    min_suitability: float | None = None

    @model_validator(mode="after")
    def _fits_its_source(self) -> Captions:
        if (self.source == "table") != (self.table is not None) or (self.table is None) != (self.clips is None):
            raise ValueError("table and clips: both go with source table and with no other; give all three or none")
        return self


class Imported(_Part):
    """Videos that `model` made elsewhere, of whatever kind: a `table` of prompts, dimensions and names of `clips`.

    The columns are those of `gigavideo_data.captions`, and `dimension`. Several clips of one prompt are its samples.
    """

    model: Model
    table: Model
    clips: Model


class Generator(_Part):
    """One text-to-video model with its settings; `share` is its part of the videos, relative to the others' shares.

    `model` is a shipped name, a Hub id, or a folder written with a leading `/`, `./`, `../` or `~`; `adapter`, the
    folder of a LoRA on top. `steps` and `guidance` are the model's own where they are null. `profile` names a way to
    sample faster, which changes the videos: `first_block_cache` skips blocks whose input hardly changed.
    """

    backend: Literal["diffusers"] = "diffusers"
    model: Model = "miniature"
    revision: Model | None = None
    adapter: Model | None = None
    steps: Count | None = None
    guidance: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None
    negative_prompt: str = ""
    profile: Literal["default", "first_block_cache"] = "default"
    share: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0


class Judge(_Part):
    """Who answers them. `min_mass`: P(yes) + P(no) below it is no answer; `readout`: probabilities or hard text.

    A multimodal model is shown `frames` frames, none with a longer side than `max_side_px`. `transformers` and `vllm`
    run it in the workers. `http` is any OpenAI-compatible `endpoint`; `media` is how it takes them.
    """

    backend: Literal["miniature", "http", "transformers", "vllm"] = "miniature"
    model: Model = "miniature"
    revision: Model | None = None
    endpoint: Endpoint | None = None
    media: Literal["video", "images"] = "video"
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    max_side_px: Annotated[int, Field(ge=28, le=4096)] = 448
    min_mass: Share = 0.5
    readout: Literal["logits", "text"] = "logits"
    vllm: Vllm = Vllm()

    @model_validator(mode="after")
    def _fits_its_backend(self) -> Judge:
        _only_with_vllm(self)
        if (self.backend == "miniature") != (self.model == "miniature"):
            raise ValueError("model: 'miniature' goes with backend miniature and with no other; name the judge's model")
        if (self.backend == "http") != (self.endpoint is not None):
            raise ValueError("endpoint: goes with backend http and with no other, such as http://localhost:8000/v1")
        return self


def _only_with_vllm(part: Writer | Judge) -> None:
    if part.backend != "vllm" and part.vllm != Vllm():
        raise ValueError("vllm: goes with backend vllm and with no other; take it out")


class Counting(_Part):
    """An OWLv2 that counts, by Hub id or folder (`pip install 'gigavideo[counting]'`).

    Its `threshold` is the least score of a box, and `frames` how many frames are looked at.
    """

    backend: Literal["counting"] = "counting"
    model: Model = "google/owlv2-base-patch16-ensemble"
    revision: Model | None = None
    threshold: Share = 0.25
    frames: Count = 8


class Camera(_Part):
    """Camera motion by geometry; needs no model."""

    backend: Literal["camera"] = "camera"


class Specialists(_Part):
    """Who judges in the place of the judge, where a dimension's `scorer` says that they see better; null: nobody."""

    camera: Camera | None = None
    counting: Counting | None = None


AnyJudge = Judge | Camera | Counting


class Check(_Part):
    """The judge check: how many videos of each dimension are asked foreign and negated questions."""

    videos: Annotated[int, Field(ge=0)] = 50


class EvalPrompts(_Part):
    """The evaluation prompts of each dimension and split, and how many seeds each is to be sampled with."""

    per_dimension: Annotated[int, Field(ge=0)] = 8
    seeds: Count = 2


class Place(_Part):
    """Where one kind of model runs: `replicas` workers that hold it, each with `gpus` GPUs.

    Null is one GPU each where there are any, and as many workers as they or the cores allow. Half a GPU lets two
    workers share one, so that it is busy while the other one reads or writes a video; several serve one model of `vllm`
    together.
    """

    replicas: Count | None = None
    gpus: Annotated[float, Field(gt=0.0, le=64.0)] | None = None

    @model_validator(mode="after")
    def _can_be_given(self) -> Place:
        if self.gpus and self.gpus > 1 and self.gpus % 1:
            raise ValueError("gpus: above one, a whole number")
        return self


class Scale(_Part):
    """Where the models run; `compile`: whether the generator's blocks are compiled, which takes minutes at the start.

    No row depends on these, so they are left out of the recipe's hash.
    """

    writer: Place = Place()
    generator: Place = Place()
    judge: Place = Place()
    compile: bool = False


class Limits(_Part):
    """What a run may cost. No row depends on these, so they are left out of the recipe's hash."""

    max_rejected: Share = 0.05
    attempts: Count = 3
    replicas: Count | None = None


class Recipe(_Part):
    """A whole recipe; see the parts.

    `reject_videos` names kinds of generated videos that are rejected: `black`, `frozen`. They are counted in any case.
    """

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    target: Model = "miniature"
    dimensions: Annotated[tuple[DimensionName, ...], Field(strict=False, min_length=1)]
    license: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "apache-2.0"
    writer: Writer = Writer()
    prompts: Prompts = Prompts()
    blocklists: Annotated[tuple[Model, ...], Field(strict=False)] = ()
    captions: Captions = Captions()
    generators: Annotated[tuple[Generator, ...], Field(strict=False, min_length=1)] = (Generator(),)
    imports: Annotated[tuple[Imported, ...], Field(strict=False)] = ()
    samples_per_prompt: Count = 1
    synthetic: bool = True
    reject_videos: Annotated[tuple[PixelFlaw, ...], Field(strict=False)] = ()
    judge: Judge = Judge()
    specialists: Specialists = Specialists()
    check: Check = Check()
    eval_prompts: EvalPrompts = EvalPrompts()
    validation_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    scale: Scale = Scale()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _makes_sense(self) -> Recipe:
        if len(set(self.dimensions)) != len(self.dimensions):
            twice = next(name for name in self.dimensions if self.dimensions.count(name) > 1)
            raise ValueError(f"dimensions: {twice!r} is given twice; keep one")
        if not self.synthetic and self.captions.count == 0 and not self.imports:
            raise ValueError("synthetic is false, captions.count is 0, no imports: nothing to make; change one of them")
        if self.captions.count > 0 and not self.captions.twins:
            raise ValueError(
                "captions.twins: must be true while captions.count is not 0: a real clip has no reward of its own"
                " and is kept or dropped with its twin"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """Return the recipe with its defaults filled in, as plain JSON values fit to be published.

        Model folders are named by their last part: where they lie on this machine is nobody's business. Neither is the
        host of an endpoint. A block-list is its name and its content's sha256.

        Raises:
            RecipeError: a block-list or a table cannot be read.
        """
        plain = self.model_dump(mode="json")
        for part in (plain["writer"], plain["judge"]):
            if part["endpoint"]:
                part["endpoint"] = urlsplit(part["endpoint"]).path
        if plain["captions"]["table"]:
            plain["captions"]["table"] = _with_sha256(plain["captions"]["table"], "captions.table")
            plain["captions"]["clips"] = published_name(plain["captions"]["clips"])
        for part in plain["imports"]:
            part["table"] = _with_sha256(part["table"], "imports.table")
            part["clips"] = published_name(part["clips"])
        plain["blocklists"] = [_with_sha256(path, "blocklists") for path in plain["blocklists"]]
        plain["target"] = published_name(plain["target"])
        for part in (
            plain["writer"],
            plain["judge"],
            *plain["generators"],
            *filter(None, [plain["specialists"]["counting"]]),
        ):
            part["model"] = published_name(part["model"])
        for part in plain["generators"]:
            part["adapter"] = part["adapter"] and published_name(part["adapter"])
        return plain

    @cached_property
    def hash(self) -> str:
        """16 hex digits that name everything the rows depend on."""
        return hash_of(self.resolved())


def hash_of(resolved: dict[str, Any]) -> str:
    """The hash of a resolved recipe, as a manifest holds it."""
    plain = {key: value for key, value in resolved.items() if key not in ("limits", "scale")}
    plain |= {
        name: {k: v for k, v in plain[name].items() if k != "vllm"} for name in ("writer", "judge") if name in plain
    }
    return hashlib.sha256(canonical(plain)).hexdigest()[:16]


def judge_of(dimension: str, judge: Judge, specialists: Specialists) -> AnyJudge:
    """Who judges a dimension: the specialist that its scorer names if there is one, else the judge."""
    special: Camera | Counting | None = getattr(specialists, catalogue.load_dimension(dimension).scorer, None)
    return special or judge


def readout_of(judge: AnyJudge) -> str:
    """How a judge's answers are read; perception has shares, which count as probabilities."""
    return judge.readout if isinstance(judge, Judge) else "logits"


def load(path_or_name: str, overrides: Sequence[str] = (), dimensions: Sequence[str] | None = None) -> Recipe:
    """Read a recipe, and take dimensions from a folder `dimensions` beside it from now on.

    Args:
        path_or_name: a YAML file, or the name of a shipped recipe.
        overrides: "a.b=c", later ones win; a number in the key is an index into a list. "like=small" exchanges the
            shared defaults.
        dimensions: those of a dataset that is there already; the recipe needs neither dimensions nor a name then.

    Raises:
        RecipeError: there is none, or something in it is wrong; the message names file and line, or the override.
    """
    path = _find(path_or_name)
    document = read(path)
    catalogue.look_beside(path)
    shared = [text for text in overrides if text.partition("=")[0].strip() == "like"]
    for text in shared:
        document = override(document, text)
    document = _upon_shared(document)
    if dimensions is not None:
        document = upon(Document({"name": "dataset", "dimensions": list(dimensions)}, document.source), document)
    for text in overrides:
        document = document if text in shared else override(document, text)
    return validate(Recipe, document)


def running(dimensions: Sequence[str], overrides: Sequence[str]) -> Recipe:
    """A recipe for work on a dataset that is there already: its dimensions, and where and within what limits it runs.

    Raises:
        RecipeError: an override makes no sense.
    """
    document = Document({"name": "dataset", "dimensions": list(dimensions)}, "--set")
    for text in overrides:
        document = override(document, text)
    return validate(Recipe, document)


def shipped() -> dict[str, Path]:
    """Return the recipes that come with the project, by name."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def _upon_shared(document: Document) -> Document:
    """A document upon the shared defaults that its `like` names, if it names any; those may name others."""
    if not isinstance(document.data, dict) or "like" not in document.data:
        return document
    name, place = document.data["like"], document.where(("like",))
    own = Document(
        {key: value for key, value in document.data.items() if key != "like"}, document.source, document.origins
    )
    if name is None:
        return own
    defaults = {path.stem: path for folder in _FOLDERS for path in sorted((folder / "shared").glob("*.yaml"))}
    if name not in defaults:
        raise RecipeError(f"{place}: like: no shared defaults {name!r}; {suggest(str(name), defaults)}")
    return upon(_upon_shared(read(defaults[name])), own)


def _find(path_or_name: str) -> Path:
    if "/" in path_or_name or path_or_name.endswith((".yaml", ".yml")):
        return Path(path_or_name).expanduser()
    recipes = shipped()
    if path_or_name not in recipes:
        raise RecipeError(
            f"no shipped recipe {path_or_name!r} (a recipe of your own is named by its path: ./{path_or_name}.yaml); "
            f"{suggest(path_or_name, recipes)}"
        )
    return recipes[path_or_name]


def _with_sha256(file: str, key: str) -> str:
    path = Path(file).expanduser()
    try:
        with path.open("rb") as opened:
            return f"{path.name}@{hashlib.file_digest(opened, 'sha256').hexdigest()[:16]}"
    except OSError as error:
        raise RecipeError(f"{key}: {path}: cannot be read ({error.strerror}); check the path") from error


def published_name(model: str) -> str:
    """A model's name without where it lies on this machine."""
    return PurePath(model).name if model.startswith(("/", "./", "../", "~")) else model


def on_the_hub(model: str) -> bool:
    """Whether a model is named by its Hub id."""
    return "/" in model and published_name(model) == model
