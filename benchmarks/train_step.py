"""Overhead of the trainer over a loop written by hand, with the same tensors and the same steps, interleaved.

    python benchmarks/train_step.py [--rounds 8] [--steps 12] [--out FILE.md]

Each round times the hand-written loop, the trainer, and the hand-written loop again. The two times of the hand-written
loop are the control: they show how much two equal runs differ on this machine. The first step of each run is left out,
because the trainer counts its FLOPs in it, once per run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from rich.console import Console

from gigavideo_data.io.progress import Progress
from gigavideo_train import plan as planning
from gigavideo_train.data.batches import batches
from gigavideo_train.data.dataset import read
from gigavideo_train.data.encode import EncodedRows
from gigavideo_train.distributed.world import world
from gigavideo_train.losses.flow import Schedule, draws
from gigavideo_train.training import run_training

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from tests.support.train_set import row, training_set

NUM_SAMPLES, BATCH = 48, 16


def by_hand(plan: planning.Plan, tensors: EncodedRows, steps: int) -> float:
    """Median seconds per step of the plainest loop that trains the same; its first step is left out."""
    torch.manual_seed(0)
    model = WanTransformer3DModel.from_pretrained(plan.model_folder / "transformer", dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    schedule = Schedule("logit_normal", 0.0, plan.config.logit_std, plan.shift)
    took: list[float] = []
    for step, batch in enumerate(batches(plan.samples, 1000, BATCH, 0)):
        if step == steps:
            return statistics.median(took[1:])
        began = time.perf_counter()
        rows = [sample.row for sample in batch.samples]
        clean, prompt = tensors.latents(rows), tensors.condition(rows, torch.device("cpu")).text_BLD
        sigma, noise = draws([sample.id for sample in batch.samples], clean.shape[1:], 0, batch.epoch, schedule)
        s = sigma.view(-1, 1, 1, 1, 1)
        velocity = model((1 - s) * clean + s * noise, 1000 * sigma, prompt, return_dict=False)[0]
        weight = torch.tensor([sample.weight for sample in batch.samples])
        loss = (weight * (velocity - (noise - clean)).square().mean((1, 2, 3, 4))).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())
        took.append(time.perf_counter() - began)
    raise AssertionError("not enough batches")


def _span(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, world() as alone, Progress(Console(quiet=True)) as progress:
        root = Path(name)
        dataset = training_set(
            root / "set", [row(seed, reward=0.75, num_frames=17) for seed in range(1, NUM_SAMPLES + 1)]
        )
        settings = [f"batch_size={BATCH}", "epochs=1000", f"max_steps={args.steps}", "lr=1e-5", "warmup_steps=0"]
        plan = planning.make(read(dataset), None, None, settings)

        def by_trainer(number: int) -> float:
            out = root / f"run{number}"
            run_training(plan, out, root / "cache", alone, progress, resume=False)
            lines = (out / "metrics.jsonl").read_text().splitlines()
            return statistics.median(json.loads(line)["s_per_step"] for line in lines[1:])

        by_trainer(-1)  # fills the cache and warms up
        tensors = EncodedRows.open(plan.model_folder, plan.profile.max_tokens, plan.dataset.latents, root / "cache")
        by_hand(plan, tensors, 2)
        ratios, control = [], []
        for number in range(args.rounds):
            before = by_hand(plan, tensors, args.steps)
            trained = by_trainer(number)
            after = by_hand(plan, tensors, args.steps)
            ratios.append(trained / ((before + after) / 2))
            control.append(after / before)
            print(
                f"round {number + 1}: by hand {before:.3f} s, trainer {trained:.3f} s, by hand {after:.3f} s",
                flush=True,
            )
    command = f"python benchmarks/train_step.py --rounds {args.rounds} --steps {args.steps}"
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    lines = [
        "# Overhead of the trainer per step",
        "",
        f"`{command}` on {machine}, torch {torch.__version__.split('+')[0]}, batch {BATCH}, cached latents, "
        "first steps left out. A round has three runs (by hand, trainer, by hand); a run counts by its median step.",
        "",
        "| | median | middle half of the rounds | all rounds |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {statistics.median(values):.3f} | {_span(statistics.quantiles(values))} | {_span(values)} |"
            for name, values in (("trainer / by hand", ratios), ("by hand / by hand (control)", control))
        ),
    ]
    text_out = "\n".join(lines) + "\n"
    print(text_out)
    if args.out:
        args.out.write_text(text_out)


if __name__ == "__main__":
    main()
