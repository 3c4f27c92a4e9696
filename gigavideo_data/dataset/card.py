"""The dataset card (README.md), which the Hub shows and which tells `load_dataset` where the files are.

It is rendered from the manifest, so that equal datasets have equal cards, except the line on what the dataset cost.
The text is in card.md.j2.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import DatasetCardData

from gigavideo_data.dataset.cost import cost_per_sample, sentence
from gigavideo_data.dataset.manifest import Manifest, others_of, targets_of
from gigavideo_data.dataset.schema import configs_of
from gigavideo_data.scoring.groups import Outcome
from gigavideo_data.scoring.judge_verdict import LEAST_VIDEOS, verdict

TEMPLATE = Path(__file__).with_name("card.md.j2")
VERSIONS = "## Versions"  # the last section of a card on the Hub
CARD_TAG = "gigavideo-dataset"  # marks a README.md as ours
CONFIG_NOTES = {
    "default": "the rows",
    "preview": "a few small rows of every kind, for the viewer",
    "eval_prompts": "held-out prompts with questions and seeds, to compare models; none of them is in the rows",
    "rejects": "rejected rows, with stage and reason",
    "latents": "final latents of generated videos: bfloat16, little-endian, as the transformer sees them",
}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class OnHub:
    """Where a dataset is published: repository, version, and one line per version so far, newest first."""

    repo: str
    tag: str
    versions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.repo}@{self.tag}"


def card_text(manifest: Manifest, on_hub: OnHub | None = None, cost: dict[str, Any] | None = None) -> str:
    """Render the README.md of a dataset, with loading instructions for folder or Hub.

    Args:
        manifest: complete.
        on_hub: where it is published.
        cost: the content of its cost.json.
    """
    configs = configs_of({name: file["rows"] for name, file in manifest["files"].items()})
    recipe = manifest["recipe"]
    generators = sorted({_code(generator["model"]) for generator in recipe.get("generators", ())})
    checks = manifest["judge_check"]
    figure = cost_per_sample(cost)
    weak = [_words(check["dimension"]) for check in checks if verdict(check)[0] == "failed"]
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.globals |= {"text": _text, "code": _code, "words": _words, "number": _number, "verdict": verdict}
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        card_data=_front_matter(manifest, configs),
        name=manifest["name"],
        manifest=manifest,
        targets=targets_of(manifest),
        others=others_of(manifest),
        on_hub=on_hub,
        configs=configs,
        config_notes=CONFIG_NOTES,
        generators=f" (`{'`, `'.join(generators)}`)" if generators else "",
        judge=recipe.get("judge", {}).get("model"),
        # A backtick is escaped the JSON way: nothing in a recipe can end the code block.
        recipe=json.dumps(recipe, indent=2, sort_keys=True, ensure_ascii=False).replace("`", "\\u0060"),
        weak=", ".join(weak),
        sampled=manifest.get("sampled", ()),
        outcomes=[one.value for one in Outcome],
        useful=figure and _text(sentence(figure)),
        withheld=manifest.get("withheld", False),
        least_videos=LEAST_VIDEOS,
        schema_module=configs_of.__module__,
        versions=VERSIONS,
    )


def version_line(tag: str, changes: str) -> str:
    """One line of the list of versions."""
    return f"- `{tag}`: {_text(changes)}"


def version_lines(card: str) -> tuple[str, ...]:
    """The list of versions in a card; empty if it has no such list."""
    _, found, rest = card.partition(f"\n{VERSIONS}\n")
    return tuple(line for line in rest.splitlines() if line.startswith("- ")) if found else ()


def _front_matter(manifest: Manifest, configs: list[dict[str, Any]]) -> str:
    total = sum(manifest["rows"].values())
    return DatasetCardData(
        license=manifest["license"],
        language="en",
        pretty_name=manifest["name"],
        size_categories=next((name for limit, name in SIZES if total < limit), "n>1M"),
        task_categories=["text-to-video"],
        annotations_creators=["machine-generated"],
        tags=[CARD_TAG, "synthetic", "video", "video-generation", "reward-modeling", *manifest["dimensions"]],
        configs=configs,
    ).to_yaml()


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _words(name: str) -> str:
    return _text(name.replace("_", " "))


def _text(value: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(value.split()))


def _code(value: str) -> str:
    """Text that cannot end a code span."""
    return " ".join(value.replace("`", "'").split())
