"""The result of a run: a diffusers pipeline folder, or a LoRA that `load_lora_weights` reads, with a model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData, save_torch_state_dict

from gigavideo_data.hub.models import CURVES
from gigavideo_data.io.disk import writing
from gigavideo_data.models.generators.profiles import MODEL_INFO_FILE, lineage_of
from gigavideo_data.recipe.recipe import published_name
from gigavideo_train.models.registry import pipeline_class
from gigavideo_train.monitoring.curves import svg
from gigavideo_train.plan import Plan

WEIGHTS = "diffusion_pytorch_model{suffix}.safetensors"  # the file name that diffusers expects
TEMPLATE = Path(__file__).with_name("model_card.md.j2")


def save_model(
    plan: Plan,
    pipeline: Any,
    tensors: dict[str, torch.Tensor],
    to: Path,
    steps: int,
    metrics: list[dict[str, Any]],
) -> None:
    """Write the tuned model with its card; the folder gets its final name last.

    A full fine-tune is a copy of the base with another transformer, in float32: bfloat16 would lose a step of 1e-6.

    Args:
        plan: of the run.
        pipeline: that was trained.
        tensors: trained part of the transformer's state dict, unsharded, on the CPU.
        to: folder; an older model there is replaced.
        steps: number of optimizer steps.
        metrics: objects of metrics.jsonl, for the card.

    Raises:
        RunError: it cannot be written.
    """
    part = to.with_name(f".{to.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    with writing(to, num_bytes, "The last checkpoint is kept; free disk space, and --resume writes the model.", part):
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
        info = {
            "profile": plan.profile.name,
            "dimensions": plan.dimensions,
            "base": published_name(plan.base.model),
            "commit": plan.base.commit,
        }
        if ancestors := lineage_of(plan.model_folder):
            info["ancestors"] = ancestors  # of the base, such as the models of earlier rounds
        (part / MODEL_INFO_FILE).write_text(json.dumps(info) + "\n", "utf-8")
        (part / CURVES).write_text(svg(metrics), "utf-8")
        (part / "README.md").write_text(str(card(plan, steps, metrics)), "utf-8")
    shutil.rmtree(to, ignore_errors=True)
    part.rename(to)


def card(plan: Plan, steps: int, metrics: list[dict[str, Any]]) -> ModelCard:
    """The model card: dataset, base, settings, losses, and how to load the model."""
    manifest, config = plan.dataset.manifest, plan.config
    is_lora = config.tune == "lora"
    data = ModelCardData(
        license=manifest["license"],
        library_name="diffusers",
        pipeline_tag="text-to-video",
        tags=["gigavideo", "text-to-video", *(["lora"] if is_lora else [])],
        base_model=plan.base.model if plan.base.commit else None,
    )
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        base=published_name(plan.base.model),
        base_commit=plan.base.commit,
        base_revision=plan.identity["model"],
        pipeline_class=pipeline_class(plan.model_folder),
        is_lora=is_lora,
        targets=plan.targets,
        others=plan.others,
        version=plan.dataset.version,
        dataset=plan.dataset.identity,
        manifest=manifest,
        config=config,
        num_samples=len(plan.samples),
        tau=dict(sorted(plan.selection.tau.items())),
        effective_size=plan.selection.effective_size,
        num_groups=plan.num_groups,
        adapter=plan.identity.get("adapter"),
        first_model=plan.identity.get("first_model"),
        latents=plan.num_latents,
        steps=steps,
        shift=plan.shift,
        held_out=[line["held_out"] for line in metrics if line.get("held_out") is not None],
        judged=[line for line in metrics if "sample_reward" in line],
        curves=CURVES,
        settings=json.dumps(json.loads(config.model_dump_json()), indent=1),
    )
