"""Does the method work on the miniature? Tables in the form of the paper's, with controls.

    python -m benchmarks.proof rounds-dev       # rounds on dev prompts: benchmarks/proof/rounds_dev.md
    python -m benchmarks.proof test             # all of the following, on test prompts: benchmarks/proof/result.md
    python -m benchmarks.proof method           # one round of nft and its control, three training seeds
    python -m benchmarks.proof alone            # table 1: each dimension alone
    python -m benchmarks.proof data             # table 2: kinds of rows
    python -m benchmarks.proof strategies       # table 3
    python -m benchmarks.proof jointly          # table 4: two dimensions, and all of them
    python -m benchmarks.proof controls         # training without rewards
    python -m benchmarks.proof curves           # corrupted rewards, clips per group, kept rows
    python -m benchmarks.proof rounds           # rounds of nft, its control, and reweight
    python -m benchmarks.proof pages            # write the pages from the results that are there
    python -m benchmarks.proof pace             # seconds per clip and step on this machine
    python -m benchmarks.proof --arms dev       # one round per dimension on dev prompts: benchmarks/proof/dev.md
    python -m benchmarks.proof --arms settings  # other settings of the trainer, on dev prompts: the same file
    python -m benchmarks.proof --arms guidance  # three ways to treat guidance, on dev prompts: the same file

A section prints its hours first and refuses if they are above --hours. An interrupted section continues when it is
started again, also on another machine: the results of finished runs are kept in benchmarks/proof/results. Test prompts
are scored once, with settings that were chosen on dev prompts and committed before.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.proof import arms, pace, pages
from benchmarks.proof.kept import keep, restore
from benchmarks.proof.runs import DIMENSIONS
from benchmarks.proof.sections import NAMES, section

PAGES, PACE = "pages", "pace"
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=(*NAMES, PAGES, PACE))
    parser.add_argument("--arms", choices=("dev", "settings", "guidance"), help="in place of a section")
    parser.add_argument("--dimensions", nargs="+", default=DIMENSIONS, help="of --arms dev; the rest is kept")
    parser.add_argument("--work", type=Path, default=Path("runs/proof"), help="work folder")
    parser.add_argument("--hours", type=float, default=10.0, help="a section that takes longer is refused")
    parser.add_argument("--tiny", action="store_true", help="a few prompts and steps, in WORK/tiny: checks the code")
    args = parser.parse_args()
    if (args.section is None) == (args.arms is None):
        parser.error("name a section, or --arms")
    if args.tiny and args.section:
        _run(args.section, args.work / "tiny", args.work / "tiny", is_tiny=True)
        return
    restore(args.work)
    try:
        if args.arms:
            _arms(args.arms, args.work, args.dimensions)
        elif args.section == PACE:
            pace.measure(args.work)
        else:
            _refuse_if_long(parser, args.section, args.work, args.hours)
            _run(args.section, args.work, HERE, is_tiny=False)
    finally:
        keep(args.work)


def _refuse_if_long(parser: argparse.ArgumentParser, name: str, work: Path, allowed: float) -> None:
    if name == PAGES:
        return
    needed = section(name, work, is_tiny=False).hours
    print(f"{name}: about {needed:.1f} hours on this machine for what is not done yet")
    if needed > allowed:
        parser.error(f"this is above --hours {allowed:g}; run its parts, or raise --hours")


def _run(name: str, work: Path, pages_folder: Path, *, is_tiny: bool) -> None:
    if name != PAGES:
        section(name, work, is_tiny=is_tiny).run()
    else:
        pages.write_arms(work, pages_folder)
    pages.write(work, pages_folder)


def _arms(table: str, work: Path, dimensions: list[str]) -> None:
    if table == "dev":
        arms.run_arms(work, dimensions)
    elif table == "settings":
        arms.run_setting_arms(work)
    else:
        arms.run_guidance_arms(work)
    pages.write_arms(work, HERE)


if __name__ == "__main__":
    main()
