"""Does the method work on the miniature? Tables in the form of the paper's, with controls.

    python -m benchmarks.proof build     # the datasets: about 25 minutes on two cores
    python -m benchmarks.proof choose    # compare settings on the dev prompts; write the chosen ones into runs.py
    python -m benchmarks.proof run       # all runs on the test prompts, with the chosen settings
    python -m benchmarks.proof pace      # seconds per step of each strategy
    python -m benchmarks.proof tell      # write benchmarks/proof/result.md and its curves
    python -m benchmarks.proof --arms dev       # one round per dimension on dev prompts: benchmarks/proof/dev.md
    python -m benchmarks.proof --arms settings  # other settings of the trainer, on dev prompts: the same file
    python -m benchmarks.proof --arms guidance  # three ways to treat guidance, on dev prompts: the same file

An interrupted step continues when it is started again. runs.py and arms.py list the runs, work.py trains and evaluates
one, and tell.py and dev_table.py print the results.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.proof import arms, dev_table, pace
from benchmarks.proof.runs import SETS, SETS_SHARE, choices, runs
from benchmarks.proof.tell import Results, choice, claims, curves, tables
from benchmarks.proof.work import do_all
from gigavideo_data.cli import app
from gigavideo_data.miniature.questions import ASK

HERE = Path(__file__).parent


def build(work: Path) -> None:
    for name, changes in SETS.items():
        options = [part for key, value in {**SETS_SHARE, **changes}.items() for part in ("--set", f"{key}={value}")]
        places = ["--out", str(work / name), "--store", str(work / "store")]
        app(["build", "--recipe", "quickstart-all", *places, *options], standalone_mode=False)


def tell(work: Path) -> None:
    tried = Results(work, "dev", choices())
    found = Results(work, "test", runs(sorted(ASK)))
    times = json.loads(pace.file(work).read_text())
    text = (HERE / "head.md").read_text("utf-8")
    parts = {"{claims}": claims(found), "{choice}": choice(tried), "{tables}": tables(found, times)}
    for placeholder, part in parts.items():
        text = text.replace(placeholder, part)
    (HERE / "result.md").write_text(text, "utf-8")
    curves(found, HERE)


def tell_arms(work: Path) -> None:
    text = (HERE / "dev_head.md").read_text("utf-8")
    parts = {
        "{verdict}": dev_table.verdict(work),
        "{table}": dev_table.table(work, arms.DIMENSIONS),
        "{settings}": dev_table.table_of(work, arms.setting_arms()),
        "{guidance}": dev_table.table_of(work, arms.guidance_arms()),
    }
    for placeholder, part in parts.items():
        text = text.replace(placeholder, part)
    (HERE / "dev.md").write_text(text, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("build", "choose", "run", "pace", "tell"))
    parser.add_argument("--arms", choices=("dev", "settings", "guidance"), help="in place of a step")
    parser.add_argument("--dimensions", nargs="+", default=arms.DIMENSIONS, help="of --arms dev; the rest is kept")
    parser.add_argument("--work", type=Path, default=Path("runs/proof"), help="work folder")
    args = parser.parse_args()
    if (args.step is None) == (args.arms is None):
        parser.error("name a step, or --arms")
    if args.arms:
        if args.arms == "dev":
            arms.run_arms(args.work, args.dimensions)
        elif args.arms == "settings":
            arms.run_setting_arms(args.work)
        else:
            arms.run_guidance_arms(args.work)
        tell_arms(args.work)
    elif args.step == "build":
        build(args.work)
    elif args.step == "choose":
        do_all(list(choices()), args.work, "dev")
        print(choice(Results(args.work, "dev", choices())))
    elif args.step == "run":
        do_all(list(runs(sorted(ASK))), args.work, "test")
    elif args.step == "pace":
        pace.measure(args.work)
    else:
        tell(args.work)


if __name__ == "__main__":
    main()
