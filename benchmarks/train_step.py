"""Overhead of the trainer over a loop written by hand, and of `nft` over `reweight`, on the same tensors, interleaved.

    python benchmarks/train_step.py [--rounds 8] [--steps 12] [--out FILE.md]

Each round times the hand-written loop, the trainer with `reweight`, and the hand-written loop again; then `nft`, `nft`
with a first model of its own, which takes a second reference pass, and `reweight` again. The two times of the
hand-written loop and those of `reweight` are controls: they show how much two equal runs differ on this machine. The
first step of each run is left out, because the trainer counts its FLOPs in it, once per run.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from rich.console import Console
from safetensors.torch import load_file, save_file

from gigavideo_data.io.progress import Progress
from gigavideo_data.models.generators.profiles import model_folder
from gigavideo_train import plan as planning
from gigavideo_train.data.batches import batches
from gigavideo_train.data.dataset import Dataset, read
from gigavideo_train.data.encode import EncodedRows
from gigavideo_train.distributed.world import World, world
from gigavideo_train.losses.flow import Schedule, draws
from gigavideo_train.training import run_training

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from tests.support.train_set import generated_by, row, training_set

NUM_SAMPLES, BATCH = 48, 16
PER_PROMPT = 6


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


def dataset_of(root: Path) -> Dataset:
    """Clips that both strategies keep: rewards above tau, which differ between the samples of a prompt."""
    rows = [
        row(seed, reward=0.6 if seed % 2 else 0.9, num_frames=17, prompt=1000 + seed // PER_PROMPT)
        for seed in range(NUM_SAMPLES)
    ]
    return read(training_set(root / "set", generated_by(rows)))


def another_model(folder: Path) -> Path:
    """The miniature with other weights, by more than bfloat16 rounds: the first model of an earlier round."""
    shutil.copytree(model_folder("miniature"), folder)
    (file,) = (folder / "transformer").glob("*.safetensors")
    tensors = {name: tensor * 1.1 for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


class Trainer:
    """Times runs of the trainer on one dataset.

    Attributes:
        root: folder of the runs and of their cache.
    """

    def __init__(self, root: Path, dataset: Dataset, steps: int, world: World, progress: Progress) -> None:
        self.root, self._dataset, self._world, self._progress = root, dataset, world, progress
        self._shared = [f"batch_size={BATCH}", "epochs=1000", f"max_steps={steps}", "lr=1e-5", "warmup_steps=0"]
        self._number = 0

    def plan(self, *settings: str) -> planning.Plan:
        return planning.make(self._dataset, None, None, [*self._shared, *settings])

    def seconds(self, *settings: str) -> float:
        """Median seconds per step; the first step is left out."""
        self._number += 1
        out = self.root / f"run{self._number}"
        run_training(self.plan(*settings), out, self.root / "cache", self._world, self._progress, resume=False)
        lines = (out / "metrics.jsonl").read_text().splitlines()
        shutil.rmtree(out)
        return statistics.median(json.loads(line)["s_per_step"] for line in lines[1:])


def measure(trainer: Trainer, rounds: int, steps: int) -> dict[str, list[float]]:
    """Ratios of each round, by what is compared."""
    anchored = f"anchor_model={another_model(trainer.root / 'first')}"
    plan = trainer.plan()
    trainer.seconds()  # fills the cache and warms up
    tensors = EncodedRows.open(
        plan.model_folder,
        plan.profile.max_tokens,
        plan.latents,
        trainer.root / "cache",
        World(0, 1, torch.device("cpu")),
    )
    by_hand(plan, tensors, 2)
    ratios: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        hand = by_hand(plan, tensors, steps)
        reweight = trainer.seconds()
        hand_again = by_hand(plan, tensors, steps)
        nft = trainer.seconds("strategy=nft")
        nft_anchored = trainer.seconds("strategy=nft", anchored)
        reweight_again = trainer.seconds()
        found = {
            "trainer / by hand": 2 * reweight / (hand + hand_again),
            "by hand / by hand (control)": hand_again / hand,
            "nft / reweight": 2 * nft / (reweight + reweight_again),
            "nft with a second reference / reweight": 2 * nft_anchored / (reweight + reweight_again),
            "reweight / reweight (control)": reweight_again / reweight,
        }
        for name, ratio in found.items():
            ratios.setdefault(name, []).append(ratio)
        print(f"round {number}: {', '.join(f'{name} {ratio:.3f}' for name, ratio in found.items())}", flush=True)
    return ratios


def _span(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="at least 2")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, world() as alone, Progress(Console(quiet=True)) as progress:
        trainer = Trainer(Path(name), dataset_of(Path(name)), args.steps, alone, progress)
        ratios = measure(trainer, args.rounds, args.steps)
    command = f"python benchmarks/train_step.py --rounds {args.rounds} --steps {args.steps}"
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    lines = [
        "# Overhead of the trainer per step",
        "",
        f"`{command}` on {machine}, torch {torch.__version__.split('+')[0]}, batch {BATCH}, cached latents, "
        "all weights, first steps left out. A round has six runs: by hand, reweight, by hand, nft, nft with "
        "a second reference, reweight. A run counts by its median step.",
        "",
        "| | median | middle half of the rounds | all rounds |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {statistics.median(values):.3f} | {_span(statistics.quantiles(values))} | {_span(values)} |"
            for name, values in ratios.items()
        ),
    ]
    text_out = "\n".join(lines) + "\n"
    print(text_out)
    if args.out:
        args.out.write_text(text_out)


if __name__ == "__main__":
    main()
