"""A recipe: which dimensions to improve, with which models, and how many rows. Every key, its type and its default.

A recipe file contains only what differs from these defaults (see `gigavideo_data.recipe.loading`).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import floor
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    field_validator,
    model_serializer,
    model_validator,
)

from gigavideo_data.errors import RecipeError
from gigavideo_data.io.hashing import content_key, sha256_of
from gigavideo_data.reasons import PixelFlaw
from gigavideo_data.recipe import plugins
from gigavideo_data.recipe.dimensions import catalogue
from gigavideo_data.recipe.engines import ENGINES
from gigavideo_data.recipe.yaml_config import StrictModel, suggest

# Keys that had another name in the manifests of format 1.0: (part, old name) -> name.
RENAMED_KEYS = {("prompts", "likeness"): "dedup_threshold", ("prompts", "sift"): "drop_infeasible"}


def _known_dimension(name: str) -> str:
    if name not in catalogue.names():
        raise ValueError(f"unknown dimension {name!r}; {catalogue.suggest_dimension(name)}")
    return name


def _base_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", text):
        raise ValueError("must be a base URL with its host and without a key, such as http://localhost:8000/v1")
    return text


MAX_NAME = 64  # letters
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=MAX_NAME)]
Model = Annotated[str, StringConstraints(min_length=1, max_length=512)]
DimensionName = Annotated[str, AfterValidator(_known_dimension)]
Endpoint = Annotated[str, AfterValidator(_base_url)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Guidance = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class PluginSettings(BaseModel):
    """Free settings of a plug-in, its keyword arguments. A dataset publishes them, so they must not hold API keys."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, JsonValue]


class _Pluggable(StrictModel):
    """A part whose `backend` is in the table of engines, or a plug-in: a judge or a generator of another package.

    A plug-in takes what it needs from `settings`. Its `model` is a label for tables and cards, by default its backend.
    """

    kind: ClassVar[Literal["judge", "generator"]]
    reserved: ClassVar[tuple[str, ...]]  # other backends in the rows of a dataset; no plug-in may be named like them
    plugin_keys: ClassVar[tuple[str, ...]]

    settings: PluginSettings | None = Field(default=None, exclude_if=lambda settings: settings is None)

    @model_validator(mode="before")
    @classmethod
    def _label_plugin(cls, data: Any) -> Any:
        named = isinstance(data, dict) and isinstance(data.get("backend"), str) and cls.is_plugin(data)
        return {"model": data["backend"], **data} if named else data

    @classmethod
    def is_plugin(cls, data: Mapping[str, Any]) -> bool:
        """Whether a part of a recipe, as plain values, names a plug-in. Of a manifest, it must not be loaded."""
        return data.get("backend", cls.model_fields["backend"].default) not in cls.built_in()

    @classmethod
    def built_in(cls) -> list[str]:
        """The backends of this part that are no plug-ins."""
        return [name for name in ENGINES[cls.kind] if name not in cls.reserved]

    @classmethod
    def refusal(cls, dataset: object, parts: Sequence[Mapping[str, Any]]) -> RecipeError:
        """The error where the manifest of a dataset names plug-ins; it says which option selects them.

        Args:
            dataset: its name, for the message.
            parts: of its recipe, as plain values; one judge, or the generators.
        """
        plain = [{name: part[name] for name in cls.plugin_keys if name in part} for part in parts]
        option = f"judge={json.dumps(plain[0])}" if cls.kind == "judge" else f"generators={json.dumps(plain)}"
        return RecipeError(
            f"{dataset}: its {cls.kind} is the plug-in {parts[0]['backend']!r}. A plug-in is code that runs on this "
            f"machine, and a dataset cannot select it. If you trust it, add --set {shlex.quote(option)}"
        )

    @field_validator("backend", check_fields=False)
    @classmethod
    def _is_known(cls, backend: str) -> str:
        if backend in cls.built_in():
            return backend
        known = plugins.installed(cls.kind).keys() - set(cls.reserved)
        if backend not in known:
            raise ValueError(
                f"{backend!r} is neither built in nor installed as a plug-in (entry-point group "
                f"{plugins.GROUPS[cls.kind]}); {suggest(backend, [*cls.built_in(), *known])}"
            )
        return backend

    @model_validator(mode="after")
    def _settings_go_with_plugins(self) -> Self:
        values = dict(self)
        if not self.is_plugin(values):
            if self.settings is not None:
                raise ValueError(f"settings: goes with a plug-in; {values['backend']} is built in, take it out")
            return self
        for name, field in type(self).model_fields.items():
            if name not in self.plugin_keys and values[name] != field.default:
                raise ValueError(f"{name}: the plug-in {values['backend']} does not take it; use `settings`")
        return self


class Vllm(StrictModel):
    """Options of vLLM, under vLLM's own names. No row depends on them, so the recipe's hash leaves them out.

    `gpu_memory_utilization` is the fraction of GPU memory that a worker uses; a worker with several GPUs shards the
    model over them (see `Scale`). `max_model_len` is the longest conversation in tokens; null means the model's own
    maximum, or what fits into that memory.
    """

    gpu_memory_utilization: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    max_model_len: Count | None = None
    enforce_eager: bool = False


class Writer(StrictModel):
    """The text model that writes base prompts, extends them, and writes the questions.

    `grammar` is the rule-based writer of the miniature and has no settings. `http` calls an OpenAI-compatible
    `endpoint`, given by its base URL. `vllm` runs `model` in the workers: a Hub id (with a `revision`) or a folder.
    """

    kind: ClassVar[Literal["writer"]] = "writer"

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
            raise ValueError("backend: the grammar has no settings; set http or vllm, or remove the other keys")
        if self.revision is not None and self.backend != "vllm":
            raise ValueError("revision: only for backend vllm; an endpoint chooses its own revision")
        _check_backend(self)
        return self


class Prompts(StrictModel):
    """The synthetic prompts: `variants` of each of `per_dimension` base prompts.

    A language model writes `per_call` prompts per call. A prompt is rejected as a duplicate if its similarity to
    another one is `dedup_threshold` or more (0 to 1; null rejects only equal prompts). `drop_infeasible` asks the model
    which prompts cannot be filmed, and rejects these. `used` are folders of datasets, whose training prompts are taken
    only where the writer has no others left.
    """

    per_dimension: Count = 16
    variants: Count = 1
    per_call: Count = 100
    dedup_threshold: Share | None = None
    drop_infeasible: bool = True
    used: Annotated[tuple[Model, ...], Field(strict=False, exclude_if=lambda used: not used)] = ()


class SamplesPerPrompt(StrictModel):
    """The number of videos of each synthetic prompt; a recipe writes an integer where it is the same for all prompts.

    A build makes the `first` videos of all prompts and scores them. It makes `more` videos of those base prompts whose
    rewards, of all variants, differ: not those that are always right or always wrong (see `scoring.groups`). With
    `more: 0` it is an integer.
    """

    first: Count
    more: Annotated[int, Field(ge=0)]

    @model_validator(mode="before")
    @classmethod
    def _same_for_all(cls, data: Any) -> Any:
        if isinstance(data, dict | cls):
            return data
        if not isinstance(data, int) or isinstance(data, bool) or data < 1:
            raise ValueError(f"must be an integer of 1 or more, or first and more: {{first: 2, more: 6}}; not {data!r}")
        return {"first": data, "more": 0}

    @model_serializer
    def _as_written(self) -> int | dict[str, int]:
        return {"first": self.first, "more": self.more} if self.more else self.first


class Others(StrictModel):
    """Dimensions that are not to be improved but must not get worse.

    `prompts` base prompts of each are trained on, and each has as many evaluation prompts as a target dimension.
    """

    dimensions: Annotated[tuple[DimensionName, ...], Field(strict=False)] = ()
    prompts: Annotated[int, Field(ge=0)] = 0


class Captions(StrictModel):
    """Captions of real clips: `count` of them (0: none), each with a twin, the real clip, or both.

    A twin is the generated counterpart of a real clip: a video generated from its caption. Source `table` reads a CSV,
    TSV or Parquet `table` of captions and a folder of `clips` (see `pipeline.sources.caption_table`). Clips longer than
    `max_seconds`, or with a training suitability below `min_suitability` (Koala-36M's scale), are rejected.
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
            raise ValueError("table and clips: both are required for source table, and not allowed for others")
        return self


class Imported(StrictModel):
    """Videos that `model`, any program, made elsewhere: a `table` of prompts, dimensions and names of `clips`.

    The columns are those of `pipeline.sources.caption_table`, and `dimension`. Several clips of one prompt are its
    samples.
    """

    model: Model
    table: Model
    clips: Model


class Generator(_Pluggable):
    """One text-to-video model and its settings; `share` is its share of the videos, relative to the other generators.

    `model` is a shipped name, a Hub id, or a folder written with a leading `/`, `./`, `../` or `~`; `adapter` is the
    folder of a LoRA. Null `steps` and `guidance` mean the model's own defaults. `profile: first_block_cache` samples
    faster and changes the videos: it skips transformer blocks while the first block's output hardly changes. `profile:
    paper` samples as the model's authors advise, where that differs: guidance, shift, and their negative prompt unless
    `negative_prompt` is given.
    """

    kind = "generator"
    reserved = ("files",)
    plugin_keys = ("backend", "model", "settings", "share")

    backend: str = "diffusers"
    model: Model = "miniature"
    revision: Model | None = None
    adapter: Model | None = None
    steps: Count | None = None
    guidance: Guidance | None = None
    negative_prompt: str = ""
    profile: Literal["default", "first_block_cache", "paper"] = "default"
    share: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0


class Judge(_Pluggable):
    """The model that answers the questions about a video.

    `min_mass`: an answer with a smaller P(yes) + P(no) is unusable. `readout`: `logits` reads the probabilities of yes
    and no, `text` the generated word. The model sees `frames` frames, their longer side at most `max_side_px`.
    `transformers` and `vllm` run it in the workers. `http` calls an OpenAI-compatible `endpoint`, which gets the frames
    as `media`.
    """

    kind = "judge"
    reserved = ("camera", "counting", "pixels")
    plugin_keys = ("backend", "model", "settings", "min_mass", "readout")

    backend: str = "miniature"
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
        if (self.backend == "miniature") != (self.model == "miniature"):
            raise ValueError("model: 'miniature' is the only model of backend miniature; name the judge's model")
        _check_backend(self)
        return self


def _check_backend(part: Writer | Judge) -> None:
    if part.backend != "vllm" and part.vllm != Vllm():
        raise ValueError("vllm: only for backend vllm; remove it")
    if (part.backend == "http") != (part.endpoint is not None):
        raise ValueError("endpoint: only for backend http, which needs one, such as http://localhost:8000/v1")


class Counting(StrictModel):
    """Counts things with an OWLv2 detector, a Hub id or a folder (`pip install 'gigavideo[counting]'`).

    `threshold` is the lowest accepted score of a box; `frames` is the number of frames that are examined.
    """

    kind: ClassVar[Literal["judge"]] = "judge"

    backend: Literal["counting"] = "counting"
    model: Model = "google/owlv2-base-patch16-ensemble"
    revision: Model | None = None
    threshold: Share = 0.25
    frames: Count = 8


class Camera(StrictModel):
    """Measures camera motion by geometry; needs no model."""

    backend: Literal["camera"] = "camera"


class Specialists(StrictModel):
    """Judges that replace the multimodal judge for the dimensions whose `scorer` names them; null: not used."""

    camera: Camera | None = None
    counting: Counting | None = None


AnyJudge = Judge | Camera | Counting


class Check(StrictModel):
    """The judge sanity check: the number of videos per dimension that get unrelated and negated questions too."""

    videos: Annotated[int, Field(ge=0)] = 50


class EvalPrompts(StrictModel):
    """The held-out evaluation prompts per dimension and split, and the number of seeds to sample each with.

    `guidance` replaces that of the first generator in evaluations: clips to train on may be sampled without guidance.
    """

    per_dimension: Annotated[int, Field(ge=0)] = 8
    seeds: Count = 2
    guidance: Guidance | None = Field(default=None, exclude_if=lambda guidance: guidance is None)


class Placement(StrictModel):
    """Where one kind of model runs: `replicas` workers, each with `gpus` GPUs.

    Null means one GPU per worker if the machine has GPUs, and as many workers as GPUs or cores allow. With 0.5, two
    workers share a GPU: one computes while the other reads a video. With more than one, `vllm` shards one model over
    them. Models of different backends never share a GPU: their workers run one after the other.
    """

    replicas: Count | None = None
    gpus: Annotated[float, Field(gt=0.0, le=64.0)] | None = None

    @model_validator(mode="after")
    def _can_be_given(self) -> Placement:
        if self.gpus and self.gpus > 1 and self.gpus % 1:
            raise ValueError("gpus: must be a whole number if it is above one")
        return self


class Scale(StrictModel):
    """Where the models run; `compile`: compile the generator's blocks at the start.

    Null compiles them where the generator has a GPU. No row depends on these, so the recipe's hash leaves them out.
    """

    writer: Placement = Placement()
    generator: Placement = Placement()
    judge: Placement = Placement()
    compile: bool | None = Field(default=None, exclude_if=lambda compiled: compiled is None)


def check_shares(scale: Scale, parts: Iterable[Writer | Judge]) -> None:
    """Check that workers of vLLM that share a GPU fit into its memory: each takes its share when it starts.

    Raises:
        ValueError: together they take more than the GPU has.
    """
    for part in parts:
        place: Placement = getattr(scale, part.kind)
        if part.backend != "vllm" or place.gpus is None or place.gpus >= 1:
            continue
        per_gpu = int(1 / place.gpus)
        if place.replicas:
            per_gpu = min(per_gpu, place.replicas)
        share, largest = part.vllm.gpu_memory_utilization, floor(100 / per_gpu) / 100
        if per_gpu * share > 1:
            raise ValueError(
                f"scale.{part.kind}.gpus: with {place.gpus:g}, {per_gpu} workers share a GPU, and each takes {share:g} "
                f"of its memory; set {part.kind}.vllm.gpu_memory_utilization to {largest:g} or less, or remove gpus"
            )


class Limits(StrictModel):
    """The largest share of rejected rows, attempts per row, and workers. The recipe's hash leaves them out.

    `stall_s` is the number of seconds after which a row without a heartbeat may be stuck: after 20 times the median
    time between two heartbeats of its stage, but never earlier than that.
    """

    max_rejected: Share = 0.05
    attempts: Count = 3
    replicas: Count | None = None
    stall_s: Count = 300


class Recipe(StrictModel):
    """A complete recipe.

    `target` is the model to be improved, on `dimensions`, `blocklists` are files of prompts that must not be trained
    on, and `samples_per_prompt` is the number of videos of each variant of a synthetic prompt. `synthetic: false` makes
    no synthetic prompts. `reject_videos` lists flaws for which generated videos are rejected: `black`, `frozen`. The
    flaws are counted in any case. `video_seed`, if given, replaces `seed` for the videos alone, so the prompts stay the
    same.
    """

    name: Name
    seed: Seed = 0
    video_seed: Seed | None = Field(default=None, exclude_if=lambda seed: seed is None)
    target: Model = "miniature"
    dimensions: Annotated[
        tuple[DimensionName, ...],
        Field(strict=False, min_length=1, description="add them, or give --dimensions, such as mechanics,material"),
    ]
    others: Others = Field(default=Others(), exclude_if=lambda others: not others.dimensions)
    license: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "apache-2.0"
    writer: Writer = Writer()
    prompts: Prompts = Prompts()
    blocklists: Annotated[tuple[Model, ...], Field(strict=False)] = ()
    captions: Captions = Captions()
    generators: Annotated[tuple[Generator, ...], Field(strict=False, min_length=1)] = (Generator(),)
    imports: Annotated[tuple[Imported, ...], Field(strict=False)] = ()
    samples_per_prompt: SamplesPerPrompt = SamplesPerPrompt(first=1, more=0)
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
        for key, names in (("dimensions", self.dimensions), ("others.dimensions", self.others.dimensions)):
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{key}: {twice!r} is listed twice; keep one")
        for name in self.others.dimensions:
            if name in self.dimensions:
                raise ValueError(f"others.dimensions: {name!r} is in dimensions too; remove it from one of them")
        if not self.synthetic and self.captions.count == 0 and not self.imports:
            raise ValueError("synthetic is false, captions.count is 0, no imports: no rows to make; change one of them")
        if self.samples_per_prompt.more and self.samples_per_prompt.first * self.prompts.variants == 1:
            raise ValueError(
                "samples_per_prompt.first: the rewards of one video cannot differ, so more would never be made; set it "
                "to 2 or more"
            )
        if self.captions.count > 0 and not self.captions.twins:
            raise ValueError(
                "captions.twins: must be true unless captions.count is 0: a real clip has no reward of its own and is"
                " kept or dropped together with its twin"
            )
        check_shares(self.scale, (self.writer, self.judge))
        return self

    @property
    def all_dimensions(self) -> tuple[str, ...]:
        """The target dimensions, then the others."""
        return (*self.dimensions, *self.others.dimensions)

    @property
    def num_prompts(self) -> dict[str, int]:
        """The number of base prompts to train on, of each dimension."""
        wanted = dict.fromkeys(self.dimensions, self.prompts.per_dimension)
        wanted |= dict.fromkeys(self.others.dimensions, self.others.prompts)
        return {name: count * self.synthetic for name, count in wanted.items()}

    def resolved(self) -> dict[str, Any]:
        """Return the recipe with all defaults, as JSON values that may be published.

        A folder becomes its last part and an endpoint loses its host, as both are private to this machine. A block-list
        or table becomes its name and the sha256 of its content, a dataset its name and the sha256 of its manifest. The
        keys `others` and `prompts.used` are left out where they are empty, so older recipes keep their hashes.

        Raises:
            RecipeError: a block-list, a table or a dataset cannot be read.
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
        if self.prompts.used:
            plain["prompts"]["used"] = [_dataset_with_sha256(folder) for folder in self.prompts.used]
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
        """16 hex digits that identify everything the rows depend on."""
        return hash_of(self.resolved())


def hash_of(resolved: Mapping[str, Any]) -> str:
    """The hash of a resolved recipe, as in a manifest; keys have their original names, so that no hash ever changes."""
    plain = {key: value for key, value in original_keys(resolved).items() if key not in ("limits", "scale")}
    plain |= {
        name: {k: v for k, v in plain[name].items() if k != "vllm"} for name in ("writer", "judge") if name in plain
    }
    return content_key(plain)[:16]


def current_keys(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a manifest of any format, under today's keys."""
    return _renamed(plain, RENAMED_KEYS)


def original_keys(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe under the keys of format 1.0, which hashes and the keys of stored results are made from."""
    return _renamed(plain, {(part, new): old for (part, old), new in RENAMED_KEYS.items()})


def _renamed(plain: Mapping[str, Any], names: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    return {
        part: {names.get((part, key), key): value for key, value in held.items()} if isinstance(held, dict) else held
        for part, held in plain.items()
    }


def judge_of(dimension: str, judge: Judge, specialists: Specialists) -> AnyJudge:
    """The judge of a dimension: the specialist that its `scorer` names if the recipe has it, else the judge."""
    special: Camera | Counting | None = getattr(specialists, catalogue.load_dimension(dimension).scorer, None)
    return special or judge


def readout_of(judge: AnyJudge) -> str:
    """How the answers of a judge are read; specialists return shares, which count as probabilities."""
    return judge.readout if isinstance(judge, Judge) else "logits"


def _with_sha256(file: str, key: str) -> str:
    path = Path(file).expanduser()
    try:
        return f"{path.name}@{sha256_of(path)[:16]}"
    except OSError as error:
        raise RecipeError(f"{key}: {path}: cannot be read ({error.strerror}); check the path") from error


def _dataset_with_sha256(folder: str) -> str:
    path = Path(folder).expanduser() / "manifest.json"
    try:
        return f"{json.loads(path.read_bytes())['name']}@{sha256_of(path)[:16]}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"prompts.used: {path.parent}: no finished dataset; name a folder that `gv-data build` wrote"
        ) from error


def published_name(model: str) -> str:
    """The name of a model without its folder on this machine."""
    return PurePath(model).name if model.startswith(("/", "./", "../", "~")) else model


def on_the_hub(model: str) -> bool:
    """Whether a model is given by its Hub id."""
    return "/" in model and published_name(model) == model
