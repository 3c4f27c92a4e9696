"""Run one section in this process; `python -m benchmarks.gpu` starts it and ends it when its time is up."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

import torch

from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import Recorder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--device", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--latents", type=Path)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    record = Recorder(args.results, args.name)
    job = Job(torch.device(args.device), args.tiny, args.latents, args.scratch, deadline, record)
    importlib.import_module(f"benchmarks.gpu.{args.name}").run(job)


if __name__ == "__main__":
    main()
