"""Measure this project on one GPU, in a few minutes, on one H100 or H200 without a network.

    python -m benchmarks.gpu --minutes 11 --out DIR [--latents runs/quickstart-all]
    python -m benchmarks.gpu --list
    python -m benchmarks.gpu --only training,trainer --minutes 6 --out DIR
    python -m benchmarks.gpu --device cpu --tiny --minutes 3 --out DIR      # tries the benchmark itself

Models have the genuine sizes and random weights. Each section is a process of its own with a time limit: one that runs
out of memory, crashes or hangs costs only itself. Every figure is printed, and appended to DIR/results.jsonl, as soon
as it is measured; DIR/gpu.md and DIR/gpu_rates.json are written after every section. Results of earlier runs in DIR
stay; a section that runs again replaces its own. `--latents` names a small set whose clips all have latents, so that
none has to be decoded; section 5 trains the miniature on it:

    gv-data build --recipe quickstart-all --set captions.count=0
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu import report
from benchmarks.gpu.measure import Recorder
from benchmarks.gpu.sections import SECTIONS, Section, find

START_S = 8.0  # of a section's process: imports
RESERVE_S = 4.0  # for the report, and for ending a section
LEAST_S = 15.0  # with less left no section is started


def main() -> None:
    args = _arguments()
    if args.list:
        for section in SECTIONS:
            print(f"{section.number}  {section.name:<12} about {section.seconds:>3} s  {section.title}")
        return
    began = time.monotonic()
    deadline = began + 60 * args.minutes
    machine = _probe()
    if args.device == "cuda" and not machine["gpus"]:
        _refuse("no GPU is visible to torch; --device cpu --tiny tries the benchmark itself")
    if args.device == "cpu" and not args.tiny:
        _refuse("--device cpu runs the smallest models only: add --tiny")
    results = args.out / "results.jsonl"
    report.begin(results, machine, datetime.now(UTC).date().isoformat(), _command(args), trial=args.tiny)
    place = machine["gpu"] if args.device == "cuda" else "CPU"
    print(f"{place}, torch {machine['versions']['torch']}; {args.minutes:g} minutes, results in {results}")
    fitting = _fitting(args.only, 60 * args.minutes)
    for section in args.only:
        fits = "" if section in fitting else ", only if time is left"
        print(f"{section.number}  {section.name:<12} about {section.seconds:>3} s{fits}  {section.title}")
    ended = {}
    for section in sorted(args.only, key=lambda one: one not in fitting):
        ended[section.name] = _section(section, args, machine, deadline, results)
        report.write(args.out)
    failed = [name for name, reason in ended.items() if reason]
    print(f"{len(ended) - len(failed)} of {len(ended)} sections ran, {time.monotonic() - began:.0f} s")
    for name in failed:
        print(f"  {name}: {ended[name]}")
    sys.exit(any(reason.startswith("failed") for reason in ended.values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=11.0, help="the whole never takes longer")
    parser.add_argument("--out", type=Path, help="folder for results.jsonl, gpu.md and gpu_rates.json")
    parser.add_argument("--only", default="", help="sections by number or name, with commas")
    parser.add_argument("--list", action="store_true", help="print the sections and end")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the smallest models: the figures mean nothing")
    parser.add_argument("--latents", type=Path, help="a dataset with latents, for section 5")
    args = parser.parse_args()
    try:
        args.only = [find(name.strip()) for name in args.only.split(",") if name.strip()] or list(SECTIONS)
    except KeyError as error:
        names = ", ".join(f"{section.number} or {section.name}" for section in SECTIONS)
        parser.error(f"--only: there is no section {error.args[0]!r}; there are {names}")
    if not args.minutes > 0 or not math.isfinite(args.minutes):
        parser.error(f"--minutes {args.minutes:g}: must be above 0")
    if args.list:
        return args
    if args.out is None:
        parser.error("--out DIR is missing")
    if args.latents is not None and not (args.latents / "manifest.json").is_file():
        parser.error(f"--latents {args.latents}: there is no dataset (no manifest.json)")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=args.out):
            pass
    except OSError as error:
        parser.error(f"--out {args.out}: cannot be written ({error.strerror})")
    return args


def _refuse(why: str) -> None:
    print(f"python -m benchmarks.gpu: {why}", file=sys.stderr)
    sys.exit(2)


def _probe() -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.gpu.probe"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        _refuse(f"this machine cannot be looked at: {done.stderr.strip().splitlines()[-1]}")
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def _fitting(sections: Sequence[Section], seconds: float) -> list[Section]:
    """Those that fit into the time if each takes as long as expected, in the order of their value."""
    fitting, left = [], seconds - RESERVE_S - START_S
    for section in sections:
        if section.seconds + START_S <= left:
            fitting.append(section)
            left -= section.seconds + START_S
    return fitting


def _left_out(section: Section, args: argparse.Namespace, machine: dict[str, Any], left_s: float) -> str | None:
    """Why a section is not started, if it is not."""
    missing = [package for package in section.packages if package in machine["missing"]]
    if missing:
        return f"skipped: not installed: {', '.join(missing)}"
    if args.device == "cuda" and machine["gpus"] < section.gpus:
        return f"skipped: needs {section.gpus} GPUs, {machine['gpus']} found"
    if left_s < LEAST_S:
        return "skipped: no time is left"
    return None


def _section(
    section: Section, args: argparse.Namespace, machine: dict[str, Any], deadline: float, results: Path
) -> str:
    """Run one section; the reason why it did not end well, else nothing."""
    left_s = deadline - time.monotonic() - RESERVE_S
    reason = _left_out(section, args, machine, left_s)
    seconds = min(section.limit_s + START_S, left_s)
    if reason is None:
        print(f"\n{section.number}. {section.title} (limit {seconds:.0f} s)", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="gpu-benchmark-") as scratch:
            reason = _run(section, args, results, Path(scratch), seconds)
        Recorder(results, section.name).note("section", reason or f"took {time.monotonic() - began:.0f} s")
    else:
        Recorder(results, section.name).note("section", reason)
    return reason or ""


def _run(section: Section, args: argparse.Namespace, results: Path, scratch: Path, seconds: float) -> str | None:
    """Start a section's process, and end it with all that it started when its time is up."""
    command = [sys.executable, "-m", "benchmarks.gpu.section", section.name, "--device", args.device]
    command += ["--results", str(results), "--scratch", str(scratch), "--seconds", f"{seconds - 2:.1f}"]
    command += ["--tiny"] if args.tiny else []
    command += ["--latents", str(args.latents.absolute())] if args.latents else []
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if args.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    errors = scratch / "stderr"
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=environment, start_new_session=True)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    lines = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
    if lines:
        (results.parent / f"{section.name}.stderr.txt").write_text("\n".join(lines[-200:]) + "\n")
    if code is None:
        return f"ended after {seconds:.0f} s, its time limit"
    last = lines[-1][:300] if lines else f"exit code {code}, nothing on stderr"
    return f"failed: {last}" if code else None


def _command(args: argparse.Namespace) -> str:
    command = f"python -m benchmarks.gpu --minutes {args.minutes:g}"
    command += " --only " + ",".join(one.name for one in args.only) if len(args.only) < len(SECTIONS) else ""
    command += f" --device {args.device}" if args.device != "cuda" else ""
    command += " --tiny" if args.tiny else ""
    command += " --latents DIR" if args.latents else ""
    return command


if __name__ == "__main__":
    main()
