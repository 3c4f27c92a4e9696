"""The dataset card (README.md): what the Hub shows and what tells `load_dataset` where the files are.

Written from the manifest alone, so that equal sets have equal cards; what a build cost differs from run to run and
stays in cost.json.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from huggingface_hub import DatasetCardData

from gigavideo_data.judge_verdict import LEAST_VIDEOS, verdict
from gigavideo_data.schema import configs_of

VERSIONS = "## Versions"  # the last section of a card on the Hub
CARD_TAG = "gigavideo-dataset"  # marks a README.md as ours
CONFIG_NOTES = {
    "default": "the rows",
    "preview": "some small rows of every kind, to look at",
    "eval_prompts": "prompts with questions and seeds, to compare models on; none is in the rows",
    "rejects": "what was left out, at which stage and why",
    "latents": "final latents of generated videos: bfloat16, little-endian, as the transformer sees them",
}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class OnHub:
    """Where a set is published: its name and version, and all its versions so far, each a line of its card."""

    repo: str
    tag: str
    versions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.repo}@{self.tag}"


def card_text(manifest: dict, on_hub: OnHub | None = None) -> str:
    """The whole README.md of a set, from its complete manifest; for the Hub, it says how to get it there."""
    sections = [_what(manifest), _load(manifest, on_hub)]
    sections += [section(manifest) for section in (_made, _rewards, _judge, _ledger, _limits)]
    if on_hub:
        sections.append("\n".join((VERSIONS, "", *on_hub.versions)))
    return f"---\n{_front_matter(manifest)}---\n\n" + "\n\n".join(sections) + "\n"


def version_line(tag: str, told: str) -> str:
    """A line of the list of versions."""
    return f"- `{tag}`: {_text(told)}"


def versions_told(card: str) -> tuple[str, ...]:
    """The list of versions in a card; none if it has no such list."""
    _, found, rest = card.partition(f"\n{VERSIONS}\n")
    return tuple(line for line in rest.splitlines() if line.startswith("- ")) if found else ()


def _front_matter(manifest: dict) -> str:
    total = sum(manifest["rows"].values())
    data = DatasetCardData(
        license=manifest["license"],
        language="en",
        pretty_name=manifest["name"],
        size_categories=next((name for limit, name in SIZES if total < limit), "n>1M"),
        task_categories=["text-to-video"],
        annotations_creators=["machine-generated"],
        tags=[CARD_TAG, "synthetic", "video", "video-generation", "reward-modeling", *manifest["dimensions"]],
        configs=configs_of({name: file["rows"] for name, file in manifest["files"].items()}),
    )
    return data.to_yaml() + "\n"


def _what(manifest: dict) -> str:
    rows = manifest["rows"]
    dimensions = ", ".join(f"**{_words(name)}**" for name in manifest["dimensions"])
    target = _code(manifest["target_model"])
    return f"""# {_text(manifest["name"])}

Videos with rewards, made to mend what the text-to-video model `{target}` does badly: {dimensions}.

Every row is one video made for one prompt, with the questions a judge was asked about it, the probabilities it
answered with, and the reward in [0, 1] that follows from them. {rows["train"]} rows are for training,
{rows["validation"]} for validation. Nobody labelled anything by hand.

| `source` | prompt | video |
| --- | --- | --- |
| `synthetic` | written for one of the dimensions | generated |
| `twin` | caption of a real clip | generated |
| `real` | caption of a real clip | the clip itself; it has no reward |

A twin and its real clip share `pair_id`; variants and samples of one prompt share `prompt_id`. No pair is in both
splits, and no prompt written for a dimension."""


def _load(manifest: dict, on_hub: OnHub | None) -> str:
    path = '"."' if on_hub is None else f'"{on_hub.repo}"'
    where = "this folder" if on_hub is None else f"revision {on_hub.tag}, which never changes"
    which = "" if on_hub is None else f', revision="{on_hub.tag}"'
    name = "." if on_hub is None else str(on_hub)
    configs = configs_of({name: file["rows"] for name, file in manifest["files"].items()})
    lines = [
        (
            f"`{config['config_name']}`",
            ", ".join(f"`{part['split']}`" for part in config["data_files"]),
            CONFIG_NOTES[config["config_name"]],
        )
        for config in configs
    ]
    withheld = manifest.get("withheld", False)
    return f"""## How to load it

```python
from datasets import Video, load_dataset

rows = load_dataset({path}{which}, split="train")  # {where}
rows = rows.cast_column("video", Video(decode=False))  # MP4 bytes; without this line torchcodec decodes them
rows[0]["prompt"], rows[0]["reward"], rows[0]["video"]{"" if withheld else '["bytes"]'}
```

{_table(("config", "splits", "what it holds"), lines)}

{_withheld(name) if withheld else _whole(name)}

The columns are those of format {manifest["format"]}, described one by one in `gigavideo_data/schema.py`."""


def _whole(name: str) -> str:
    return f"""To check the files and every clip, and to train on them:

```sh
gv-data verify {name}
gv-train --dataset {name}
```"""


def _withheld(name: str) -> str:
    return f"""**The generated videos are withheld**: their `video` is null. Whoever may run the models that made
them makes them again, with the settings and seeds in `generator`; then the set can be trained on:

```sh
gv-data remake {name} --out remade
gv-train --dataset remade
```

A video that comes out otherwise on another machine has another `video_sha256`. Its row is not scored then;
`gv-data score remade --recipe RECIPE --in-place` judges such rows, and only them."""


def _made(manifest: dict) -> str:
    recipe = manifest["recipe"]
    generators = {_code(generator["model"]) for generator in recipe.get("generators", ())}
    made_by = f" (`{'`, `'.join(sorted(generators))}`)" if generators else ""
    judge = f"The judge `{_code(recipe['judge']['model'])}`" if "model" in recipe.get("judge", {}) else "A judge"
    # A backtick is escaped the JSON way: nothing in a recipe can end the code block.
    text = json.dumps(recipe, indent=2, sort_keys=True, ensure_ascii=False).replace("`", "\\u0060")
    return f"""## How it was made

1. Prompts were written for each dimension from its definition, and extended the way the target model expects.
   Captions of real clips were taken as they are.
2. For each prompt, yes/no questions with their expected answers were written before any video was seen.
3. Text-to-video models{made_by} made the videos; `generator` in each row names model, settings and seed.
4. {judge} saw each video and one question at a time. A score is P(expected) / (P(yes) + P(no)).
5. The scores of one video and dimension combine into `rewards`. Where the judge did not answer the form, or a
   precondition failed, the value is null with a reason: unscorable is not bad.

Recipe `{_code(manifest["recipe_hash"])}`, built with gigavideo {_text(manifest["code_version"])}. What each stage cost
is in `cost.json`.

<details><summary>The resolved recipe</summary>

```json
{text}
```

</details>"""


def _rewards(manifest: dict) -> str:
    lines = [
        (_words(name), reward["scored"], reward["unscorable"], _number(reward["mean"]), _number(reward["sem"]))
        for name, reward in manifest["rewards"].items()
    ]
    return f"""## Rewards

The column `reward` is a row's score on the dimension that its prompt was written for; a twin, whose prompt is a
caption, has the mean over the target dimensions. `gv-train` uses this number. `rewards` has the score on every
dimension that the row was judged on.

{_table(("dimension", "scored", "unscorable", "mean reward", "standard error"), lines)}

Take means that differ by less than two standard errors as equal."""


def _judge(manifest: dict) -> str:
    checks = manifest["judge_check"]
    names = ("videos", "auc_foreign", "real_videos", "auc_real", "real_score", "yes_bias")
    lines = [
        (_words(check["dimension"]), *(_number(check[name]) for name in names), verdict(check)[0]) for check in checks
    ]
    weak = [_words(check["dimension"]) for check in checks if verdict(check)[0] == "cannot tell"]
    warning = (
        f"\n\n**Do not train on {', '.join(weak)} before looking: the judge hardly tells right from wrong there.**"
    )
    header = ("dimension", "videos", "AUC", "real clips", "AUC real", "real score", "yes-bias", "verdict")
    return f"""## Can the judge be trusted?

Checked without labels: the judge was also asked another prompt's questions about a video, and the negated twins of the
video's own. AUC is how often the own questions score higher: 1 is a judge that tells, 0.5 one that guesses; on
generated videos it also falls where the generator fails, so the real clips decide: they show what their caption says,
and their score is a positive control. Yes-bias is the judge's leaning to "yes", 0 is none. A dash means too few videos
to tell; that a judge cannot tell is said of {LEAST_VIDEOS} clips or more.

{_table(header, lines)}{warning if weak else ""}"""


def _ledger(manifest: dict) -> str:
    lines = [
        (
            _text(line["stage"]),
            _text(line["source"]),
            line["in"],
            line["out"],
            ", ".join(f"{_text(reason)}: {count}" for reason, count in sorted(line["rejected"].items())) or "–",
        )
        for line in manifest["ledger"]
    ]
    return f"""## Ledger

No row is dropped without a word: what went into a stage came out of it, or is counted here and listed in `rejects`.

{_table(("stage", "source", "in", "out", "rejected"), lines)}"""


def _limits(manifest: dict) -> str:
    return f"""## Limits

- Rewards are the opinion of a model, with its blind spots. They are good for weighing samples, not as a benchmark; a
  model trained on them should be judged by a second judge as well.
- A video can please the judge without being good: only what was asked was looked at.
- The videos show what the generators can show; their biases are in the set, and nobody has watched every clip.
- Rewards of different dimensions, or of different judges, are not on one scale.

## Licence

The set is published under `{_code(manifest["license"])}`. The `license` of each row is that of its video, which can
differ: real clips and the output of some generators have terms of their own."""


def _table(header: tuple[str, ...], lines: list[tuple]) -> str:
    rows = [header, ("---",) * len(header), *lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _words(name: str) -> str:
    return _text(name.replace("_", " "))


def _text(value: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(value.split()))


def _code(value: str) -> str:
    return " ".join(value.replace("`", "'").split())
