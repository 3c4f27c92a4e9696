"""What a run leaves: a diffusers pipeline folder, or a LoRA that `load_lora_weights` reads, with a model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCardData, save_torch_state_dict

from gigavideo_data.hub.models import CURVES
from gigavideo_data.io.disk import writing
from gigavideo_data.models.generators.profiles import SIGN
from gigavideo_data.recipe.recipe import published_name
from gigavideo_train.models.registry import family_name
from gigavideo_train.monitoring.curves import svg
from gigavideo_train.plan import Plan

WEIGHTS = "diffusion_pytorch_model{suffix}.safetensors"  # as diffusers looks for them
SCORES = """<!-- scores -->
Not compared with its base yet: `gv-data eval` does that, and writes the result here.
<!-- /scores -->"""


def save_model(
    plan: Plan,
    pipeline: Any,
    tensors: dict[str, torch.Tensor],
    to: Path,
    steps: int,
    metrics: list[dict[str, Any]],
) -> None:
    """Write the tuned model, with a card that shows its `metrics`; the folder gets its name when it is whole.

    `tensors` are those of the transformer's state that were trained, in one piece on the CPU, by their names there.
    A full fine-tune is a copy of the base with another transformer, in float32: a step of 1e-6 is lost in bfloat16.

    Raises:
        RunError: it cannot be written.
    """
    part = to.with_name(f".{to.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    with writing(to, num_bytes, "The last checkpoint is kept; make room, and --resume writes the model.", part):
        if plan.config.tune == "full":
            shutil.copytree(plan.model_folder, part, ignore=shutil.ignore_patterns("transformer", "README.md", ".*"))
            (part / "transformer").mkdir()
            shutil.copy(plan.model_folder / "transformer" / "config.json", part / "transformer")
            save_torch_state_dict(tensors, part / "transformer", filename_pattern=WEIGHTS)
        else:
            from peft.utils import get_peft_model_state_dict

            transformer = pipeline.transformer
            adapter = transformer.peft_config["default"]
            type(pipeline).save_lora_weights(
                part,
                transformer_lora_layers=get_peft_model_state_dict(transformer, tensors),
                transformer_lora_adapter_metadata=adapter.to_dict(),
            )
        sign = {
            "profile": plan.profile.name,
            "dimensions": list(plan.config.dimensions or plan.dataset.manifest["dimensions"]),
            "base": published_name(plan.base.model),
            "commit": plan.base.commit,
        }
        (part / SIGN).write_text(json.dumps(sign) + "\n", "utf-8")
        (part / CURVES).write_text(svg(metrics), "utf-8")
        (part / "README.md").write_text(card(plan, steps, metrics), "utf-8")
    shutil.rmtree(to, ignore_errors=True)
    part.rename(to)


def card(plan: Plan, steps: int, metrics: list[dict[str, Any]]) -> str:
    """The model card: what it was tuned on, how, how that went, and how to load it."""
    held_out = [line["held_out"] for line in metrics if line.get("held_out") is not None]
    version = plan.dataset.version
    origin = f"`{version}`, commit `{version.sha}`, content " if version else ""
    manifest, config, base = plan.dataset.manifest, plan.config, published_name(plan.base.model)
    told = f"{held_out[0]:.4g} at first, {held_out[-1]:.4g} in the end" if held_out else "not asked"
    is_lora, kind = config.tune == "lora", family_name(plan.model_folder)
    data = ModelCardData(
        license=manifest["license"],
        library_name="diffusers",
        pipeline_tag="text-to-video",
        tags=["gigavideo", "text-to-video", *(["lora"] if is_lora else [])],
        base_model=plan.base.model if plan.base.commit else None,
    )
    its_base = f'"{base}", revision="{plan.base.commit}"' if plan.base.commit else '"BASE"'
    load = (
        f'pipeline = {kind}.from_pretrained({its_base})\npipeline.load_lora_weights(".")'
        if is_lora
        else f'pipeline = {kind}.from_pretrained(".")'
    )
    settings = json.dumps(json.loads(config.model_dump_json()), indent=1)
    return f"""---
{data.to_yaml()}
---

# {base}, tuned on {manifest["name"]}

{"A LoRA adapter for" if is_lora else "All transformer weights of"} `{base}`, fine-tuned by reward, without human
labels, on what it did badly: {", ".join(config.dimensions or manifest["dimensions"])}.

| | |
| --- | --- |
| dataset | {origin}`{plan.dataset.identity}` (`{manifest["name"]}`, recipe `{manifest["recipe_hash"]}`) |
| base | `{base}`, revision `{plan.identity["model"]}` |
| strategy | {config.strategy}, {config.tune} |
| units kept | {len(plan.units)}, as good as {plan.selection.effective_size:.0f} equally weighted |
| steps | {steps} of {config.batch_size} units at learning rate {config.lr:g}, shift {plan.shift:g} |
| held-out loss | {told} |{_sampled(metrics)}

```python
from diffusers import {kind}

{load}
```

## Scores

{SCORES}

## Training

![How training went, over its steps]({CURVES})

## Settings

```json
{settings}
```
"""


def _sampled(metrics: list[dict[str, Any]]) -> str:
    """The line about samples in the card's table; empty if they were not judged."""
    judged = [line for line in metrics if "sample_reward" in line]
    if not judged:
        return ""
    first, last = (
        f"{'–' if line['sample_reward'] is None else format(line['sample_reward'], '.2f')} at step {line['step']}"
        for line in (judged[0], judged[-1])
    )
    clips = f"of {judged[0]['samples_scored']} and {judged[-1]['samples_scored']} clips"
    return f"\n| reward of samples | {first} → {last}, the mean {clips}: so few show little |"
