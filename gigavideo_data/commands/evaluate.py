"""`gv-data eval`: base and tuned model make videos of the same held-out prompts from the same seeds, and are compared.

Videos and answers go through the same stages and the same store as those of a build, so a base is evaluated once. Every
dimension that has prompts is compared, also those that were not trained on, where a loss may be the price of a gain.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any

from gigavideo_data.commands.evaluation import rewards_table
from gigavideo_data.commands.evaluation.candidates import Candidate
from gigavideo_data.commands.evaluation.measure import measure
from gigavideo_data.commands.evaluation.result import Result, judged, judged_again, scored, second_facts
from gigavideo_data.commands.evaluation.setting import Setting
from gigavideo_data.dataset.manifest import others_of
from gigavideo_data.errors import RecipeError
from gigavideo_data.hub.pin import pinned_part
from gigavideo_data.io.atomic import write_durably
from gigavideo_data.io.progress import Progress
from gigavideo_data.models.generators.profiles import model_folder, profile_of, trained_on
from gigavideo_data.models.generators.requirements import check_class
from gigavideo_data.models.generators.stored_weights import rounding, stored_in_float32
from gigavideo_data.models.llm.api_keys import api_key
from gigavideo_data.models.registry import generator_spec
from gigavideo_data.pipeline.execution.runner import Runner, store_runner
from gigavideo_data.pipeline.run_context import endpoint_hosts
from gigavideo_data.pipeline.stages import synthesis
from gigavideo_data.pipeline.store import Store
from gigavideo_data.recipe.recipe import Limits
from gigavideo_data.scoring import bootstrap, pixels

CLIPS = 12  # shown per dimension: half of them the largest gains, half the largest losses
FIXED = 2  # prompts per dimension that are shown whatever their gain


def evaluate(
    base: Candidate, tuned: Candidate, setting: Setting, out: Path, store_root: Path, progress: Progress
) -> dict[str, Any]:
    """Make videos of both models, judge and compare them.

    Returns:
        The facts, also written to `out`/eval.json: both models, the dataset's others, judge, one comparison per
        dimension (`bootstrap`), the clips with the largest gains and losses and those of the first prompts of each
        dimension, the measures beside the reward, the comparisons of the second judge, and what rounding the tuned
        weights would lose (`stored_weights`). The rewards of every prompt and seed are written to
        `out`/rewards.parquet.

    Raises:
        RecipeError: a model is not known, or is not of the class of its profile.
        RunError: another evaluation uses `out`, or the run cannot go on; finished videos are kept.
    """
    for candidate in (base, tuned):
        check_class(model_folder(candidate.model, candidate.commit), profile_of(candidate.model))
        if candidate.adapter and not candidate.adapter.is_dir():
            raise RecipeError(
                f"--adapter {candidate.adapter}: no such folder; gv-train writes one with --set tune=lora"
            )
    # Both models are sampled alike, whatever the dtype of the base.
    float32 = tuned.adapter is None and stored_in_float32(tuned.folder)
    judges = [setting.judge, *([setting.second.judge] if setting.second else [])]
    hosts = endpoint_hosts(*judges)
    with store_runner(out, store_root, progress, Limits(), setting.scale, hosts=hosts) as runner:
        if len(set(hosts)) > 1 and api_key("judge"):
            progress.note(f"the API key of the judge is sent to {' and '.join(hosts)}")
        results = [_results(candidate, setting, runner, float32=float32) for candidate in (base, tuned)]
        facts = _facts(base, tuned, setting, results)
        facts["rounding"] = rounding(base.folder, tuned.folder) if float32 else None
        _write_clips(facts["clips"] + facts["fixed_clips"], runner.store, out)
        again = scored(*(judged_again(mine, setting.second, runner) for mine in results)) if setting.second else None
        facts["second"] = second_facts(setting.second, again, facts["others"]) if setting.second and again else None
        facts["measures"] = measure(base, results, setting, runner) if setting.measures else None
    rewards_table.write(out, scored(*results), again)
    write_durably(out / "eval.json", json.dumps(facts, indent=1, allow_nan=False).encode())
    return facts


def _results(candidate: Candidate, setting: Setting, runner: Runner, *, float32: bool) -> list[Result]:
    """One result for each prompt and seed, in order; `float32` if the weights are not rounded on an accelerator."""
    adapter = str(candidate.adapter) if candidate.adapter else None
    changes = {"model": candidate.model, "revision": candidate.commit, "adapter": adapter}
    generator = pinned_part(setting.generator.model_copy(update=changes))
    spec = generator_spec(generator)
    if float32:
        spec = spec._replace(identity=spec.identity | {"weights": "float32"})
    drafts = [(prompt, seed) for prompt in setting.prompts for seed in prompt["seeds"]]
    videos = runner.records([synthesis(spec, prompt["prompt"], seed) for prompt, seed in drafts], candidate.name[:11])
    return judged(drafts, videos, setting.judging, runner)


def _facts(base: Candidate, tuned: Candidate, setting: Setting, results: list[list[Result]]) -> dict[str, Any]:
    pairs = list(zip(*results, strict=True))
    judges = setting.judging.panel.ids
    others = others_of(setting.manifest) if setting.manifest else []
    return {
        "split": setting.prompts[0]["split"],
        "base": {"name": base.name, "commit": base.commit},
        "tuned": {"name": tuned.name, "commit": tuned.commit},
        "trained": trained_on(tuned.adapter or tuned.folder),
        "others": others,
        "judge": ", ".join(judges),
        "judge_note": judge_note(judges, setting.judges_of_training),
        "rejected": dict(Counter(one["rejected"] for of_model in results for one in of_model if one["rejected"])),
        "pixels": {
            name: pixels.flaws((one["prompt"]["dimension"], pixels.levels(one["clip"])) for one in mine)
            for name, mine in zip(("base", "tuned"), results, strict=True)
        },
        "comparisons": bootstrap.facts(bootstrap.compare(scored(*results), others)),
        "clips": _clips(pairs),
        "fixed_clips": _fixed_clips(pairs),
    }


def judge_note(judges: Iterable[str], of_training: Iterable[str]) -> str | None:
    """A remark if the judges (ids) are those of the training rewards, or of the same family; else None.

    A family is the first letters of a model's name, such as Qwen of Qwen2.5-VL-7B and Qwen3-VL-32B.
    """
    used, known = set(judges), set(of_training)
    relation = (
        "the same as" if used & known else "of the same family as" if _families(used) & _families(known) else None
    )
    if relation is None:
        return None
    return f"The judge is {relation} in training: part of the gain may be reward overfitting."


def _families(judges: set[str]) -> set[str]:
    names = (judge.partition("@")[0].rpartition("/")[2].casefold() for judge in judges)
    return {match[0] for name in names if (match := re.match("[a-z]+", name))}


def _clips(pairs: list[tuple[Result, Result]]) -> list[dict[str, Any]]:
    """The largest gains and losses of each dimension, the same number of both."""
    gains: dict[str, list[tuple[float, str, int, Result, Result]]] = defaultdict(list)
    for base, tuned in pairs:
        if base["reward"] is not None and tuned["reward"] is not None:
            prompt, gain = base["prompt"], tuned["reward"] - base["reward"]
            gains[prompt["dimension"]].append((gain, prompt["prompt_id"], base["seed"], base, tuned))
    shown = []
    for of_dimension in gains.values():
        mine = sorted(of_dimension, key=itemgetter(0, 1, 2))
        ends = mine if len(mine) <= CLIPS else mine[: CLIPS // 2] + mine[-CLIPS // 2 :]
        shown += [_shown(base, tuned) for *_, base, tuned in ends]
    return shown


def _fixed_clips(pairs: list[tuple[Result, Result]]) -> list[dict[str, Any]]:
    """The first prompts of each dimension with their first seed: the same in all evaluations on these prompts."""
    first: dict[str, dict[str, tuple[Result, Result]]] = defaultdict(dict)
    for base, tuned in pairs:
        mine = first[base["prompt"]["dimension"]]
        if len(mine) < FIXED:
            mine.setdefault(base["prompt"]["prompt_id"], (base, tuned))
    chosen = [pair for mine in first.values() for pair in mine.values()]
    return [_shown(*pair) for pair in chosen if all("rejected" not in each["clip"] for each in pair)]


def _shown(base: Result, tuned: Result) -> dict[str, Any]:
    prompt = base["prompt"]
    head = {"dimension": prompt["dimension"], "prompt": prompt["prompt"], "seed": base["seed"]}
    return head | {"base": _side(base), "tuned": _side(tuned)}


def _side(result: Result) -> dict[str, Any]:
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
