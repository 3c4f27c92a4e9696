"""What `gv-data eval` compares two models on: held-out prompts, how videos are sampled, who judges them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from gigavideo_data.dataset.manifest import Manifest
from gigavideo_data.dataset.reader import read_manifest, read_rows
from gigavideo_data.dataset.schema import EVAL_PROMPTS
from gigavideo_data.dataset.table_check import check_table
from gigavideo_data.errors import DatasetError, RecipeError
from gigavideo_data.hub.pin import pinned_part
from gigavideo_data.models.generators.profiles import named
from gigavideo_data.models.registry import features_spec
from gigavideo_data.pipeline.panel import Panel
from gigavideo_data.pipeline.stages import Record
from gigavideo_data.recipe.features import Features
from gigavideo_data.recipe.recipe import Generator, Judge, Scale, Specialists, check_shares
from gigavideo_data.recipe.yaml_config import Document, StrictModel, override, validate
from gigavideo_data.rows import EvalPrompt
from gigavideo_data.scoring import eval_reward
from gigavideo_data.scoring.eval_reward import own_questions
from gigavideo_data.scoring.rewards import rules_of

ENDPOINT_VARIABLE = "GIGAVIDEO_JUDGE_ENDPOINT"  # base URL of a judge with the backend http


@dataclass(frozen=True)
class Judging:
    """Who judges the videos, and how answers become rewards.

    Attributes:
        judge, specialists: who judges.
        dimensions: of the prompts.
        combine: rule per dimension, where the dataset's rewards do not follow the dimension's own.
    """

    judge: Judge
    specialists: Specialists
    dimensions: tuple[str, ...]
    combine: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def panel(self) -> Panel:
        """The judges."""
        return Panel(self.judge, self.specialists, self.dimensions)

    def reward_of(self, prompt: EvalPrompt, record: Record) -> float | None:
        """The reward of a judge's record on the dimension of its prompt; None if it cannot be determined."""
        if "rejected" in record:
            return None
        judge = self.panel.judge_of(prompt["dimension"])
        return eval_reward.reward_of(prompt, record["answers"], judge, self.judge.min_mass, self.combine).value


@dataclass(frozen=True)
class Setting:
    """What both models are compared on.

    Attributes:
        prompts: held-out prompts with only their own questions.
        generator: how videos are sampled; its model is replaced by that of a candidate.
        judging: who judges the videos.
        judges_of_training: ids of the judges whose rewards the dataset holds.
        scale: where the models run.
        dataset: folder of the dataset; None for a Parquet file of prompts.
        manifest: of the dataset.
        second: who judges the same videos once more.
        measures: whether realism, motion and spread are measured.
        network: what gives the features of clips; None for the autoencoder of the base.
    """

    prompts: list[EvalPrompt]
    generator: Generator
    judging: Judging
    judges_of_training: frozenset[str]
    scale: Scale
    dataset: Path | None = None
    manifest: Manifest | None = None
    second: Judging | None = None
    measures: bool = True
    network: Features | None = None

    @property
    def judge(self) -> Judge:
        """The judge of all dimensions without a specialist."""
        return self.judging.judge

    def reward_of(self, prompt: EvalPrompt, record: Record) -> float | None:
        """The reward of a judge's record on the dimension of its prompt; None if it cannot be determined."""
        return self.judging.reward_of(prompt, record)


class EvalConfig(StrictModel):
    """The parts of a recipe that decide a comparison, and where it runs; the first generator is used."""

    generators: Annotated[tuple[Generator, ...], Field(strict=False, min_length=1)] = (Generator(),)
    judge: Judge = Judge()
    specialists: Specialists = Specialists()
    scale: Scale = Scale()

    @model_validator(mode="after")
    def _fits_the_gpus(self) -> EvalConfig:
        check_shares(self.scale, [self.judge])
        return self


def read_setting(
    source: Path,
    split: str,
    overrides: Sequence[str] = (),
    *,
    judge_endpoint: str | None = None,
    second_judge: Sequence[str] = (),
    measures: bool = True,
    features: str = "vae",
) -> Setting:
    """Read the held-out prompts of a dataset, sampled and judged by its recipe; or of a Parquet file, by defaults.

    Args:
        source: folder of a dataset, or Parquet file of eval_prompts.
        split: dev or test.
        overrides: "key=value", such as "judge.readout=text" or "generators.0.steps=10".
        judge_endpoint: base URL of a judge with the backend http; by default that of the environment.
        second_judge: "key=value" of the judge that judges the videos once more, such as "readout=text"; none if empty.
        measures: whether realism, motion and spread are measured.
        features: "vae", the autoencoder of the base; or Hub id[@revision] or folder of an encoder of transformers.

    Raises:
        DatasetError: there are none, or they break the contract.
        HubError: the encoder or its commit cannot be found on the Hub.
        RecipeError: an override makes no sense, or the encoder is not known.
    """
    manifest = read_manifest(source) if source.is_dir() else None
    rows = _read_prompts(source, manifest, split)
    config = validate(EvalConfig, _with_endpoint(_document(source, manifest, overrides), judge_endpoint))
    if Generator.is_plugin(dict(config.generators[0])):
        raise RecipeError("generators.0.backend: gv-data eval samples diffusers models only; take it out")
    judges = {judge["id"] for row in read_rows(source) for judge in row["judges"]} if manifest else set()
    dimensions = tuple(sorted({row["dimension"] for row in rows}))
    combine = rules_of(manifest).combine if manifest else {}
    return Setting(
        rows,
        config.generators[0],
        Judging(config.judge, config.specialists, dimensions, combine),
        frozenset(judges),
        config.scale,
        source if manifest else None,
        manifest,
        Judging(_second_judge(second_judge), Specialists(), dimensions, combine) if second_judge else None,
        measures,
        _network(features) if measures and features != "vae" else None,
    )


def _second_judge(settings: Sequence[str]) -> Judge:
    """The judge with these keys, all others at their defaults."""
    document = Document({}, "--second-judge")
    for text in settings:
        document = override(document, text, "--second-judge")
    return pinned_part(validate(Judge, document))


def _network(text: str) -> Features:
    """The encoder that --features names, at a commit if it is one of the Hub; its family is known."""
    model, _, revision = text.rpartition("@") if "@" in text else (text, "", "")
    found = pinned_part(Features(backend="network", model=named(model), revision=revision or None))
    features_spec(found)
    return found


def _read_prompts(source: Path, manifest: Manifest | None, split: str) -> list[EvalPrompt]:
    """The evaluation prompts of one split, each with its own questions."""
    names = sorted(name for name in manifest["files"] if name.startswith(f"eval_prompts/{split}-")) if manifest else []
    rows: list[EvalPrompt] = []
    for file in [source / name for name in names] if manifest else [source]:
        try:
            table = pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DatasetError(
                f"{file}: not a readable Parquet file ({reason}). --prompts takes a dataset, or a Parquet file of its "
                "folder eval_prompts."
            ) from error
        check_table(table, str(file), EVAL_PROMPTS)
        rows += table.to_pylist()
    rows = [row | {"questions": own_questions(row)} for row in rows if row["split"] == split]
    if not rows:
        raise DatasetError(
            f"{source}: no evaluation prompts in split {split!r}; set eval_prompts.per_dimension and build"
        )
    return rows


def _document(source: Path, manifest: Manifest | None, overrides: Sequence[str]) -> Document:
    """The settings of a dataset's recipe, with the rules of its rewards, and the overrides on top."""
    recipe = manifest["recipe"] if manifest else {}
    data = {key: recipe[key] for key in EvalConfig.model_fields if key in recipe and key != "scale"}
    if manifest and "judge" in data:  # a dataset cannot choose the endpoint that this machine's key is sent to
        data["judge"] = {key: value for key, value in data["judge"].items() if key != "endpoint"}
        data["judge"]["min_mass"] = rules_of(manifest).min_mass
    # The tuned model and its base are sampled, whichever plug-in made some of the dataset's videos.
    data["generators"] = [one for one in data.get("generators", ()) if not Generator.is_plugin(one)] or [{}]
    if (guidance := recipe.get("eval_prompts", {}).get("guidance")) is not None:
        data["generators"][0] = data["generators"][0] | {"guidance": guidance}
    plugin = data.pop("judge") if Judge.is_plugin(data.get("judge", {})) else None
    document = Document(data, "--set")
    for text in overrides:
        document = override(document, text)
    if plugin and "backend" not in document.data.get("judge", {}):
        raise Judge.refusal(source, [plugin])
    return document


def _with_endpoint(document: Document, url: str | None) -> Document:
    """The settings, with the endpoint of a judge that needs one: a dataset does not name it."""
    judge = document.data.get("judge", {})
    if not isinstance(judge, dict) or judge.get("backend") != "http":
        if url:
            raise RecipeError(
                "--judge-endpoint: the judge has no endpoint; leave the option out, or --set judge.backend=http"
            )
        return document
    url = url or (None if judge.get("endpoint") else os.environ.get(ENDPOINT_VARIABLE))
    if url:
        return override(document, f"judge.endpoint={url}")
    if judge.get("endpoint"):
        return document
    raise RecipeError(
        f"the judge {judge.get('model')} needs an endpoint, which a dataset does not name: give its base URL "
        f"with --judge-endpoint http://localhost:8000/v1, or set {ENDPOINT_VARIABLE}"
    )
