"""`gv-data eval`: did tuning help? Base and tuned model make videos of the same held-out prompts from the same seeds.

Videos and answers go through the same stages and the same store as a build's, so a base that was evaluated once costs
nothing again. Every dimension that has prompts is compared, the ones trained and the others: a gain may be bought
elsewhere.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from gigavideo_data import eval_reward, paired, pixels, terminal
from gigavideo_data.assemble import judge_id
from gigavideo_data.engines import judge_engine
from gigavideo_data.errors import DatasetError, RecipeError, RunError
from gigavideo_data.eval_reward import own_questions
from gigavideo_data.execute import ray_for_build
from gigavideo_data.folder_read import read_manifest, read_rows
from gigavideo_data.generators.models import (
    SIGN,
    Profile,
    base_of,
    found_at,
    has_public_name,
    model_folder,
    named,
    profile_of,
    recorded_base,
    settings_of,
    trained_on,
)
from gigavideo_data.manifest import Manifest
from gigavideo_data.pinned import pinned_part
from gigavideo_data.progress import Progress
from gigavideo_data.recipe import (
    AnyJudge,
    Generator,
    Judge,
    Limits,
    Scale,
    Specialists,
    judge_of,
    on_the_hub,
    published_name,
)
from gigavideo_data.runner import Runner
from gigavideo_data.schema import EVAL_PROMPTS
from gigavideo_data.stages import Item, Record, synthesis
from gigavideo_data.store import Store, write_durably
from gigavideo_data.table_check import check_table
from gigavideo_data.typed_yaml import Document, override, validate

SCORES = ("<!-- scores -->", "<!-- /scores -->")  # around them in the model card of gv-train
ENDPOINT_VARIABLE = "GIGAVIDEO_JUDGE_ENDPOINT"  # base URL of a judge behind an endpoint
CLIPS = 12  # shown per dimension: half the greatest gains, half the greatest losses


@dataclass(frozen=True)
class Setting:
    """What is compared on: held-out prompts, how videos are sampled, who judges.

    `manifest` is the dataset's, None of a Parquet file of prompts.
    """

    prompts: list[dict[str, Any]]
    generator: Generator
    judge: Judge
    specialists: Specialists
    judges_of_training: frozenset[str]  # ids of the judges whose rewards the dataset holds
    scale: Scale
    manifest: Manifest | None = None

    @property
    def dimensions(self) -> list[str]:
        """Those that there are prompts for, sorted."""
        return sorted({prompt["dimension"] for prompt in self.prompts})

    def judge_of(self, dimension: str) -> AnyJudge:
        """Who judges a dimension."""
        return judge_of(dimension, self.judge, self.specialists)


@dataclass(frozen=True)
class Contender:
    """One model: name, Hub id with its commit, or folder; with a LoRA on top perhaps."""

    model: str
    adapter: Path | None = None
    commit: str | None = None

    @property
    def name(self) -> str:
        """As it is shown: a folder by its own name, or its run's, where gv-train wrote it."""
        folder = Path(self.model)
        shown = self.model
        if folder.is_dir():
            shown = folder.resolve().parent.name if folder.name == "model" else folder.resolve().name
        return shown + (f" + {self.adapter.name}" if self.adapter else "")


class Means(BaseModel):
    """The parts of a recipe that decide a comparison, and where it runs here; the first generator samples."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    generators: Annotated[tuple[Generator, ...], Field(strict=False, min_length=1)] = (Generator(),)
    judge: Judge = Judge()
    specialists: Specialists = Specialists()
    scale: Scale = Scale()


def read_setting(
    source: Path, split: str, overrides: Sequence[str] = (), *, judge_endpoint: str | None = None
) -> Setting:
    """Held-out prompts of a dataset, sampled and judged as its recipe says; or of a Parquet file, by the defaults.

    Args:
        source: folder of a dataset, or Parquet file of eval_prompts.
        split: dev or test.
        overrides: "key=value" on top, such as "judge.readout=text" or "generators.0.steps=10".
        judge_endpoint: base URL of a judge behind an endpoint; else the environment's.

    Raises:
        DatasetError: there are none, or they break the contract.
        RecipeError: an override makes no sense.
    """
    manifest = read_manifest(source) if source.is_dir() else None
    listed = sorted(name for name in manifest["files"] if name.startswith(f"eval_prompts/{split}-")) if manifest else []
    files = [source / name for name in listed] if manifest else [source]
    rows: list[dict[str, Any]] = []
    for file in files:
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
    recipe = manifest["recipe"] if manifest else {}
    told = {key: recipe[key] for key in Means.model_fields if key in recipe and key != "scale"}
    if "judge" in told:  # whom this machine asks, with its key, is not a dataset's to say
        told["judge"] = {key: value for key, value in told["judge"].items() if key != "endpoint"}
    document = Document(told, "--set")
    for text in overrides:
        document = override(document, text)
    means = validate(Means, _with_endpoint(document, judge_endpoint))
    judges = {judge["id"] for row in read_rows(source) for judge in row["judges"]} if manifest else set()
    return Setting(rows, means.generators[0], means.judge, means.specialists, frozenset(judges), means.scale, manifest)


def contenders(base: str | None, tuned: str, adapter: Path | None, setting: Setting) -> tuple[Contender, Contender]:
    """The two models of a comparison, base first, each one of the Hub with its commit.

    Args:
        base: as a command line names it; None is the dataset's target, or else the model that the tuned one names.
        tuned: the tuned model, named in the same way.
        adapter: folder of a LoRA on top of it.
        setting: what they are compared on.

    Raises:
        RecipeError: a model is not known, no base is, or the two are of different families or sizes.
        HubError: the Hub does not know one of them.
    """
    second = replace(_contender(tuned, setting, "--tuned"), adapter=adapter)
    profile = profile_of(second.model)
    name, whose = (base, "") if base else _default_base(second, setting)
    first = _contender(name, setting, "--base")
    other = profile_of(first.model)
    if other != profile:
        raise RecipeError(
            f"--base {first.name}{whose} is {_described(other)}; --tuned {second.name} is {_described(profile)}. "
            "A tuned model is compared with a base of its own family and size: name it with --base"
        )
    return first, second


def base_note(base: Contender, tuned: Contender) -> str | None:
    """What to say where the tuned model records another base than the one it is compared with."""
    recorded = recorded_base(tuned.adapter or Path(tuned.model))
    if recorded is None or (recorded.model == published_name(base.model) and recorded.commit == base.commit):
        return None
    started, used = _at(recorded.model, recorded.commit), _at(base.name, base.commit)
    return f"{tuned.name} was tuned from {started} and is compared with {used}; --base names another model."


def _at(model: str, commit: str | None) -> str:
    return f"{model}@{commit}" if commit else model


def _contender(model: str, setting: Setting, option: str) -> Contender:
    """A model at the commit that it names, or at that of the generator that the dataset's videos are sampled with."""
    sampled = setting.generator
    if on_the_hub(model) and named(model) == sampled.model:
        model = _at(model, sampled.revision)
    found = base_of(model, setting.manifest or {"recipe": {}}, option)
    return Contender(found.model, commit=found.commit)


def _default_base(tuned: Contender, setting: Setting) -> tuple[str, str]:
    """The base where none is named, and where its name comes from.

    Raises:
        RecipeError: nothing names it.
    """
    if setting.manifest and has_public_name(setting.manifest["target_model"]):
        return setting.manifest["target_model"], " (the dataset's target model)"
    if tuned.adapter:
        return _at(tuned.model, tuned.commit), " (the model without its adapter)"
    recorded = recorded_base(Path(tuned.model))
    if recorded and has_public_name(recorded.model):
        return _at(recorded.model, recorded.commit), f" (the base that {SIGN} of {tuned.name} names)"
    raise RecipeError(
        f"--base is missing: nothing names the model that {tuned.name} was tuned from. Give its Hub id or folder"
    )


def _described(profile: Profile) -> str:
    return f"a {profile.name} ({profile.num_frames} frames of {profile.width}x{profile.height} at {profile.fps:g} Hz)"


def _with_endpoint(document: Document, url: str | None) -> Document:
    """The settings with the endpoint of a judge that needs one, which a dataset does not name.

    Raises:
        RecipeError: nobody names it, or it is named for a judge that has none.
    """
    judge = document.data.get("judge", {})
    if not isinstance(judge, dict) or judge.get("backend") != "http":
        if url:
            raise RecipeError(
                "--judge-endpoint: the judge is not behind an endpoint; leave it out, or --set judge.backend=http"
            )
        return document
    url = url or (None if judge.get("endpoint") else os.environ.get(ENDPOINT_VARIABLE))
    if url:
        return override(document, f"judge.endpoint={url}")
    if judge.get("endpoint"):
        return document
    raise RecipeError(
        f"the judge {judge.get('model')} is behind an endpoint, and a dataset does not say which one is yours: give "
        f"its base URL with --judge-endpoint http://localhost:8000/v1, or set {ENDPOINT_VARIABLE}"
    )


def evaluate(
    base: Contender, tuned: Contender, setting: Setting, out: Path, store_root: Path, progress: Progress
) -> dict[str, Any]:
    """Make, judge and compare.

    Returns:
        The facts, also written to `out`/eval.json: both models, judge, one comparison per dimension (`paired`), and the
        clips with the greatest gains and losses.

    Raises:
        RecipeError: a model is not known.
        RunError: another evaluation works in `out`, or the run cannot go on; finished videos are kept.
    """
    for contender in (base, tuned):
        model_folder(contender.model, contender.commit)
        if contender.adapter and not contender.adapter.is_dir():
            raise RecipeError(
                f"--adapter {contender.adapter}: no such folder; gv-train writes one with --set tune=lora"
            )
    (out / ".gv").mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".gv" / "lock", timeout=0):
            store = Store(store_root)
            store.create()
            with ray_for_build(Limits(), setting.scale) as ray:
                runner = Runner(store, ray, progress)
                results = [_results(contender, setting, runner) for contender in (base, tuned)]
    except Timeout:
        raise RunError(f"{out}: another evaluation is at work there. Wait for it, or name another --out.") from None
    facts = _facts(base, tuned, setting, results)
    _write_clips(facts["clips"], store, out)
    (out / "eval.json").write_text(json.dumps(facts, indent=1, allow_nan=False))
    return facts


def write_scores(folder: Path, facts: dict[str, Any]) -> None:
    """Put the comparison into the model card that gv-train wrote, between its two marks; other cards are left alone."""
    card = folder / "README.md"
    text = card.read_text("utf-8") if card.is_file() else ""
    start, mark, rest = text.partition(SCORES[0])
    _, end, after = rest.partition(SCORES[1])
    if not (mark and end):
        return
    lines = [
        f"Held-out prompts (split {facts['split']}), judge `{facts['judge']}`"
        + (f". {facts['judge_note']}" if facts["judge_note"] else "."),
        "",
        "| dimension | base | tuned | difference | 95 % interval | videos in both | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in facts["comparisons"]:
        interval = "–" if line["low"] is None else f"{line['low']:+z.3f} to {line['high']:+z.3f}"
        change = "–" if line["difference"] is None else f"{line['difference']:+z.3f}"
        cells = (
            terminal.words(line["dimension"]),
            terminal.number(line["base"]),
            terminal.number(line["tuned"]),
            change,
        )
        lines.append(f"| {' | '.join(cells)} | {interval} | {line['both']} of {line['videos']} | {line['verdict']} |")
    lines += ["", paired.correction_note(facts["comparisons"])]
    write_durably(card, (start + mark + "\n" + "\n".join(lines) + "\n" + end + after).encode())


def show(facts: dict[str, Any], console: Console) -> None:
    """Print the comparison as a table."""
    commit = facts["base"]["commit"]
    base = facts["base"]["name"] + (f" at {commit[:12]}" if commit else "")
    title = f"{facts['tuned']['name']} against {base}, split {facts['split']}"
    columns = ("dimension", ">base", ">tuned", ">diff.", ">95 % interval", ">both", "verdict")
    table = terminal.table(title, *columns)
    for line in facts["comparisons"]:
        low, high = line["low"], line["high"]
        terminal.add(
            table,
            terminal.words(line["dimension"]) + (" *" if line["dimension"] in facts["trained"] else ""),
            terminal.number(line["base"]),
            terminal.number(line["tuned"]),
            "-" if line["difference"] is None else f"{line['difference']:+z.2f}",
            "-" if low is None else f"{low:+z.2f} .. {high:+z.2f}",
            f"{line['both']}/{line['videos']}",
            line["verdict"],
        )
    console.print(table)
    console.print("* trained on. both: videos that could be scored of both models.")
    console.print(paired.correction_note(facts["comparisons"]))
    for line in facts["comparisons"]:
        if line["base_scorable"] != line["tuned_scorable"]:
            shares = (
                f"{line['base_scorable']:.0%} of the base's videos, {line['tuned_scorable']:.0%} of the tuned one's"
            )
            console.print(f"{terminal.words(line['dimension'])}: could be scored {shares}")
    if facts["judge_note"]:
        console.print(facts["judge_note"])
    for name, counts in facts["pixels"].items():
        for warning in pixels.warnings(counts):
            console.print(f"warning: {name}: {warning}")


def _results(contender: Contender, setting: Setting, runner: Runner) -> list[dict[str, Any]]:
    """One dict per prompt and seed, in order: the video and the rewards by dimension, or why there is none."""
    adapter = str(contender.adapter) if contender.adapter else None
    changes = {"model": contender.model, "revision": contender.commit, "adapter": adapter}
    generator = pinned_part(setting.generator.model_copy(update=changes))
    settings, local = settings_of(generator), found_at(generator)
    asked = [(prompt, seed) for prompt in setting.prompts for seed in prompt["seeds"]]
    made = runner.records(
        [synthesis(settings, local, p["prompt"], seed) for p, seed in asked],
        contender.name[:11],
    )
    engines = {dimension: judge_engine(setting.judge_of(dimension)) for dimension in setting.dimensions}
    items = []
    for (p, _), clip in zip(asked, made, strict=True):
        if "rejected" not in clip:
            judge, judge_at = engines[p["dimension"]]
            work = {"video_sha256": clip["video_sha256"], "questions": [q["question"] for q in p["questions"]]}
            items.append(Item("judge", judge, work, judge_at))
    answers = iter(runner.records(items))
    results = []
    for (prompt, seed), clip in zip(asked, made, strict=True):
        record = clip if "rejected" in clip else next(answers)
        reward = reward_of(prompt, record, setting)
        results.append(
            {"prompt": prompt, "seed": seed, "clip": clip, "reward": reward, "rejected": record.get("rejected")}
        )
    return results


def reward_of(prompt: dict[str, Any], record: Record, setting: Setting) -> float | None:
    """The reward of a judge's record on the dimension that the prompt was written for; None if it cannot be known."""
    if "rejected" in record:
        return None
    judge = setting.judge_of(prompt["dimension"])
    return eval_reward.reward_of(prompt, record["answers"], judge, setting.judge.min_mass).value


def _facts(base: Contender, tuned: Contender, setting: Setting, results: list[list[dict[str, Any]]]) -> dict[str, Any]:
    pairs = list(zip(*results, strict=True))
    scored = [
        paired.Scored(b["prompt"]["dimension"], b["prompt"]["prompt_id"], b["seed"], b["reward"], t["reward"])
        for b, t in pairs
    ]
    judges = sorted({judge_id(judge_engine(setting.judge_of(dimension))[0]) for dimension in setting.dimensions})
    return {
        "split": setting.prompts[0]["split"],
        "base": {"name": base.name, "commit": base.commit},
        "tuned": {"name": tuned.name, "commit": tuned.commit},
        "trained": trained_on(tuned.adapter or model_folder(tuned.model, tuned.commit)),
        "judge": ", ".join(judges),
        "judge_note": judge_note(judges, setting.judges_of_training),
        "rejected": dict(Counter(r["rejected"] for mine in results for r in mine if r["rejected"])),
        "pixels": {name: _flaws(mine) for name, mine in zip(("base", "tuned"), results, strict=True)},
        "comparisons": paired.facts(paired.compare(scored)),
        "clips": _clips(pairs),
    }


def _flaws(results: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    return pixels.flaws((result["prompt"]["dimension"], pixels.levels(result["clip"])) for result in results)


def judge_note(judges: Iterable[str], of_training: Iterable[str]) -> str | None:
    """What to say where the judges (ids) are those of the training rewards, or kin to them; None if they are not.

    A family is told by the first letters of a model's name, as of Qwen2.5-VL-7B and Qwen3-VL-32B.
    """
    used, known = set(judges), set(of_training)
    kin = "the one" if used & known else "of the family" if _families(used) & _families(known) else None
    return f"The judge is {kin} whose rewards it was trained on: part of a gain may be its taste." if kin else None


def _families(judges: set[str]) -> set[str]:
    names = (judge.partition("@")[0].rpartition("/")[2].casefold() for judge in judges)
    return {match[0] for name in names if (match := re.match("[a-z]+", name))}


def _clips(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    """The greatest gains and losses of each dimension, as many of the one as of the other."""
    shown = []
    known = [(b, t) for b, t in pairs if b["reward"] is not None and t["reward"] is not None]
    for dimension in dict.fromkeys(b["prompt"]["dimension"] for b, _ in known):
        mine = sorted(
            ((b, t) for b, t in known if b["prompt"]["dimension"] == dimension),
            key=lambda pair: (pair[1]["reward"] - pair[0]["reward"], pair[0]["prompt"]["prompt_id"], pair[0]["seed"]),
        )
        ends = mine if len(mine) <= CLIPS else mine[: CLIPS // 2] + mine[-CLIPS // 2 :]
        shown += [
            {
                "dimension": dimension,
                "prompt": b["prompt"]["prompt"],
                "seed": b["seed"],
                "base": _side(b),
                "tuned": _side(t),
            }
            for b, t in ends
        ]
    return shown


def _side(result: dict[str, Any]) -> dict[str, Any]:
    clip = result["clip"]
    shape = {name: clip[name] for name in ("num_frames", "height", "width", "fps")}
    return {"reward": result["reward"], "clip": clip["blobs"]["video.mp4"], **shape}


def _write_clips(clips: list[dict[str, Any]], store: Store, out: Path) -> None:
    """Copy the shown clips beside eval.json, named by their content."""
    folder = out / "clips"
    folder.mkdir(exist_ok=True)
    for clip in clips:
        for side in ("base", "tuned"):
            name = clip[side]["clip"]
            (folder / name).write_bytes(store.blob(name))
