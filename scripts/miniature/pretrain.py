"""Make the miniature's base model: a genuine `WanPipeline` folder, trained from scratch on rendered clips.

    R="torchrun --nproc-per-node 2 -m"
    $R scripts.miniature.pretrain_vae --out OUT/vae
    $R scripts.miniature.pretrain encode --vae OUT/vae --out OUT/latents
    TRAIN="$R scripts.miniature.pretrain train --latents OUT/latents"
    $TRAIN --out OUT/model1 --lr 1.3e-3
    $TRAIN --out OUT/model2 --lr 1e-3 --phase 2 --after OUT/model1
    $TRAIN --out OUT/model3 --lr 1e-3 --phase 3 --after OUT/model2
    MADE="--vae OUT/vae --latents OUT/latents --model OUT/model3"
    python -m scripts.miniature.pretrain assemble $MADE --out DIR

What the base is good and weak at is decided by `mixture.py`: how often its training clips showed a skill. Text encoder
and transformer learn together; the flow-matching target is diffusers' (noise - clean at sigma, 1 is pure noise).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from gigavideo_data.miniature import world
from gigavideo_data.miniature.grammar import NUMBERS, describe, parse, sample_scene
from gigavideo_data.miniature.mixture import PHASES
from gigavideo_data.models.generators.profiles import MODEL_INFO_FILE
from scripts.miniature.pretrain_vae import CONFIG

MAX_TOKENS = 24
# A thing's latents are four times as strong as the ground's: where it is and how it moves is settled above sigma 0.9.
SHIFT = 8.0
SIGMA_SPREAD = 1.5  # standard deviation of the logit-normal, wide so that the low sigmas, the edges, are trained too
CAPTION_DROP = 0.1  # empty captions, for classifier-free guidance
EMA_DECAY = 0.995
WORDS = (
    *NUMBERS.values(),
    *("small", "large", *world.COLORS, *world.SHAPES, *(f"{s}s" for s in world.SHAPES)),
    *("move", "moves", "then", "and", "falls", "bounces", "off", "stays", "on", "the", "floor", "turns", "grows"),
    *("shrinks", "goes", "from", "to", "of", "above", "below", *world.DIRECTIONS),
    *("camera", "static", "pans", "tilts", "zooms", "in", "out", "ground", "dark", "grey", "light", "textured", ","),
)
TEXT = UMT5Config(
    vocab_size=3 + len(dict.fromkeys(WORDS)),
    d_model=96,
    d_kv=24,
    d_ff=192,
    num_layers=2,
    num_heads=4,
    relative_attention_num_buckets=16,
    relative_attention_max_distance=24,
    dropout_rate=0.0,
    pad_token_id=0,
    eos_token_id=1,
)
TRANSFORMER = {
    "patch_size": (1, 3, 3),  # 12 px: few tokens, so that things are learned as wholes, and fast
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "in_channels": 8,
    "out_channels": 8,
    "text_dim": TEXT.d_model,
    "freq_dim": 64,
    "ffn_dim": 512,
    "num_layers": 6,
    "rope_max_seq_len": 64,
}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the world, plus padding, end and unknown."""
    vocabulary = {w: i for i, w in enumerate(("<pad>", "</s>", "<unk>", *dict.fromkeys(WORDS)))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=MAX_TOKENS
    )


def encode(vae_dir: Path, out: Path, clips: int, seed: int) -> None:
    """Render and encode `clips` clips of the first phase; each process writes its share as one safetensors file."""
    rank, world_size = _ranks()
    vae = AutoencoderKLWan.from_pretrained(vae_dir).eval()
    rng = np.random.default_rng([seed, rank])
    _, mixture = PHASES[0]
    skills, shares = list(mixture), np.array(list(mixture.values()))
    mine = clips // world_size
    latents, captions, batch = [], [], []
    began = time.perf_counter()
    for i in range(mine):
        scene = sample_scene(str(rng.choice(skills, p=shares / shares.sum())), rng, "pretrain")
        captions.append(describe(scene, full=True))
        batch.append(world.render(scene, rng))
        if len(batch) == 8 or i == mine - 1:
            video_BCFHW = torch.from_numpy(np.stack(batch)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
            with torch.inference_mode():
                latents.append(vae.encode(video_BCFHW).latent_dist.mode())
            batch = []
        if rank == 0 and i % 500 == 499:
            print(f"{i + 1} of {mine} clips {time.perf_counter() - began:.0f} s", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    save_file({"latents": torch.cat(latents)}, out / f"{rank}.safetensors")
    (out / f"{rank}.json").write_text(json.dumps(captions))


def load_latents(folder: Path) -> tuple[torch.Tensor, list[str], torch.Tensor, torch.Tensor]:
    """All latents (N, C, F, H, W), normalised per channel, their captions, and the mean and std (C,) used."""
    parts = sorted(folder.glob("*.safetensors"))
    latents_NCFHW = torch.cat([load_file(p)["latents"] for p in parts])
    captions = [c for p in parts for c in json.loads(p.with_suffix(".json").read_text())]
    mean_C, std_C = latents_NCFHW.mean((0, 2, 3, 4)), latents_NCFHW.std((0, 2, 3, 4))
    shape = (1, -1, 1, 1, 1)
    return (latents_NCFHW - mean_C.view(shape)) / std_C.view(shape), captions, mean_C, std_C


class TextToVelocity(nn.Module):
    """Text encoder and transformer in one forward, so that they learn together."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = UMT5EncoderModel(TEXT)
        self.transformer = WanTransformer3DModel(**TRANSFORMER)

    def forward(
        self, noisy_BCFHW: torch.Tensor, timestep_B: torch.Tensor, tokens_BL: torch.Tensor, mask_BL: torch.Tensor
    ) -> torch.Tensor:
        text_BLD = self.text_encoder(tokens_BL, mask_BL).last_hidden_state
        text_BLD = text_BLD * mask_BL[..., None]  # the pipeline pads with zeros
        return self.transformer(noisy_BCFHW, timestep_B, text_BLD, return_dict=False)[0]


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
    **_: object,
) -> torch.Tensor:
    """Softmax attention (B, heads, L, D) with an additive mask, without dropout."""
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)
    scores = scores if attn_mask is None else scores + attn_mask
    return scores.softmax(-1).to(value.dtype) @ value


def train(latents_dir: Path, out: Path, phase: int, batch: int, peak_lr: float, seed: int, start: Path | None) -> None:
    """Train one phase on cached latents; rank 0 keeps the moving average of the weights in `out`, every 500 steps."""
    steps, shares = PHASES[phase - 1]
    rank, world_size = _ranks()
    latents_NCFHW, captions, _, _ = load_latents(latents_dir)
    skills = [scene.skill for caption in captions if (scene := parse(caption))]
    chance_N = torch.tensor([shares[skill] / skills.count(skill) for skill in skills])
    tokens = tokenizer()(["", *captions], padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
    torch.manual_seed(seed)
    model = TextToVelocity()
    if start:
        model.load_state_dict(load_file(start / "ema.safetensors"))
    ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
    # Compiled, in bf16, with plain attention (fused bf16 is slow on CPUs) a step takes 0.4 of the processor time.
    nn.functional.scaled_dot_product_attention = plain_attention
    for block in model.transformer.blocks:
        block.compile()
    if world_size > 1:
        dist.init_process_group("gloo")
    learner = nn.parallel.DistributedDataParallel(model) if world_size > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, betas=(0.9, 0.98), weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed * 1000 + rank + (500 if start else 0))
    began, losses = time.perf_counter(), []
    for step in range(steps):
        lr = peak_lr * min(1, (step + 1) / 100) * (0.03 + 0.97 * (1 + math.cos(math.pi * step / steps)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = lr
        index_B = torch.multinomial(chance_N, batch, replacement=True, generator=generator)
        clean_BCFHW = latents_NCFHW[index_B]
        text_B = torch.where(torch.rand(batch, generator=generator) < CAPTION_DROP, 0, index_B + 1)
        sigma_B = torch.sigmoid(SIGMA_SPREAD * torch.randn(batch, generator=generator))
        sigma_B = SHIFT * sigma_B / (1 + (SHIFT - 1) * sigma_B)
        noise_BCFHW = torch.randn(clean_BCFHW.shape, generator=generator)
        s = sigma_B.view(-1, 1, 1, 1, 1)
        noisy_BCFHW = (1 - s) * clean_BCFHW + s * noise_BCFHW
        with torch.autocast("cpu", torch.bfloat16):
            velocity_BCFHW = learner(
                noisy_BCFHW, 1000 * sigma_B, tokens["input_ids"][text_B], tokens["attention_mask"][text_B]
            )
        error_BCFHW = velocity_BCFHW.float() - (noise_BCFHW - clean_BCFHW)
        loss = error_BCFHW.square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad()
        decay = min(EMA_DECAY, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            ema[name].lerp_(value, 1 - decay) if value.is_floating_point() else ema[name].copy_(value)
        losses.append(loss.item())
        if rank == 0 and (step % 100 == 99 or step == steps - 1):
            mean = sum(losses[-100:]) / len(losses[-100:])
            print(f"step {step + 1} loss {mean:.4f} {time.perf_counter() - began:.0f} s", flush=True)
        if rank == 0 and (step % 500 == 499 or step == steps - 1):
            out.mkdir(parents=True, exist_ok=True)
            save_file({k: v.contiguous().clone() for k, v in ema.items()}, out / "ema.safetensors.part")
            (out / "ema.safetensors.part").replace(out / "ema.safetensors")


def assemble(vae_dir: Path, latents_dir: Path, model_dir: Path, out: Path) -> None:
    """Write the pipeline folder: bf16 safetensors, tokenizer, scheduler, and the VAE's latent statistics."""
    _, _, mean_C, std_C = load_latents(latents_dir)
    trained = AutoencoderKLWan.from_pretrained(vae_dir)
    vae = AutoencoderKLWan(**{**CONFIG, "latents_mean": mean_C.tolist(), "latents_std": std_C.tolist()})
    vae.load_state_dict(trained.state_dict())  # a model of its own: the trained one's config names a local folder
    model = TextToVelocity()
    model.load_state_dict(load_file(model_dir / "ema.safetensors"))
    WanPipeline(
        tokenizer=tokenizer(),
        text_encoder=model.text_encoder.bfloat16(),
        transformer=model.transformer.bfloat16(),
        vae=vae.bfloat16(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
    ).save_pretrained(out)
    (out / MODEL_INFO_FILE).write_text('{"profile": "miniature"}\n')


def _ranks() -> tuple[int, int]:
    torch.set_num_threads(1)
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("encode", "train", "assemble"))
    parser.add_argument("--vae", type=Path)
    parser.add_argument("--latents", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=16000)
    parser.add_argument("--phase", type=int, choices=(1, 2, 3), default=1, help="of the mixture")
    parser.add_argument("--batch", type=int, default=32, help="clips per process and step")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--after", type=Path, help="go on from the --out of an earlier phase")
    args = parser.parse_args()
    if args.step == "encode":
        encode(args.vae, args.out, args.clips, args.seed)
    elif args.step == "train":
        train(args.latents, args.out, args.phase, args.batch, args.lr, args.seed, args.after)
    else:
        assemble(args.vae, args.latents, args.model, args.out)
