"""The sections, in the order of their value: a literal table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One part of the benchmark, run as a process of its own.

    Attributes:
        number: for `--only`, as the name.
        name: of its module in this package, with a function `run(job)`.
        title: what it measures.
        seconds: beside the start of its process, as one H100 took; of `synthesis`, `two_gpus` and `references`
            calculated.
        limit_s: after which it is ended.
        packages: that must be importable.
        gpus: that it needs.
    """

    number: int
    name: str
    title: str
    seconds: int
    limit_s: int
    packages: tuple[str, ...] = ("torch",)
    gpus: int = 1


DIFFUSERS = ("torch", "diffusers", "transformers", "huggingface_hub", "safetensors", "numpy")
TRAINER = (*DIFFUSERS, "pyarrow", "pydantic", "yaml", "filelock")

SECTIONS = (
    Section(1, "ceilings", "matrix product and copy: what this device reaches", 5, 40),
    Section(2, "kernels", "attention kernels: right, and how fast", 20, 90),
    Section(3, "training", "training pass of Wan 2.1 1.3B, 832x480, 81 frames", 150, 260, TRAINER),
    Section(4, "trainer", "trainer over a loop written by hand", 100, 180, TRAINER),
    Section(5, "correctness", "the same numbers as float32 on the CPU", 90, 150, TRAINER),
    Section(6, "synthesis", "one clip through the generator over its forward passes", 100, 150, TRAINER),
    Section(7, "encoding", "autoencoder and text encoder", 45, 70, TRAINER),
    Section(8, "judge", "a judge of Qwen2.5-VL-7B's shape on one clip", 35, 120, (*TRAINER, "tokenizers")),
    Section(9, "two_gpus", "NCCL and FSDP2 on two GPUs", 60, 120, TRAINER, gpus=2),
    Section(10, "references", "nft over reweight: the cost of its frozen models", 200, 300, TRAINER),
)


def find(wanted: str) -> Section:
    """A section by number or name.

    Raises:
        KeyError: there is none.
    """
    for section in SECTIONS:
        if wanted in (str(section.number), section.name):
            return section
    raise KeyError(wanted)
