"""What a loop runs, without models: commands that write the few files which a loop reads of the genuine ones."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigavideo_data.dataset.schema import EVAL_PROMPT_SCHEMA, FORMAT_VERSION
from gigavideo_data.io.hashing import content_key, sha256_of
from gigavideo_data.models.spec import folder_revision
from gigavideo_data.scoring import bootstrap
from gigavideo_data.scoring.bootstrap import Scored
from gigavideo_loop.rounds import run_loop
from gigavideo_loop.setting import Setting, load_recipe
from gigavideo_loop.state import Loop, locked

REWARD_COLUMNS = [("dimension", pa.string()), ("prompt_id", pa.string()), ("seed", pa.int64())]
TARGET, OTHER = "motion_order_understanding", "mechanics"
BASE_REWARD, NUM_PROMPTS = 0.3, 12
RECIPE = ("prompts.per_dimension=2", f"dimensions=[{TARGET}]")


RATIO = {"base": 1.0, "tuned": 1.0, "ratio": 1.0, "low": 0.9, "high": 1.1}
CORRELATION = {"motion": 0.1, "brightness": 0.0, "length": 0.0}
MEASURES = {
    "realism": None,
    "motion": RATIO,
    "spread": RATIO,
    "correlation": {"base": CORRELATION, "tuned": CORRELATION},
    "plain": None,
}
EVAL_PROMPTS = pa.Table.from_pylist([{"base_prompt": "a ball rolls"}], EVAL_PROMPT_SCHEMA)


class Killed(BaseException):
    """In the place of SIGKILL: nothing after it runs."""


@dataclass
class FakeCommands:
    """Runs commands for a loop; `gains` are the gains on the target per round, `losses` those on another dimension.

    `killed_at`: number of the call, from 1, and where: before it, during it (half of its files), or after it.
    """

    gains: tuple[float, ...] = (0.05, 0.1, 0.15)
    losses: tuple[float, ...] = (0.0, 0.0, 0.0)
    killed_at: tuple[int, str] | None = None
    lora: bool = False
    errors: dict[str, Exception] = field(default_factory=dict)  # raised once, by command
    calls: list[list[str]] = field(default_factory=list)

    def __call__(self, program: str, arguments: list[str], name: str) -> dict[str, Any]:
        self.calls.append([program, *arguments])
        number, place = self.killed_at or (0, "")
        due = len(self.calls) == number
        if due and place == "before":
            raise Killed
        command = self.names()[-1]
        if command in self.errors:
            raise self.errors.pop(command)
        facts: dict[str, Any] = getattr(self, f"_{command}")(arguments, due and place == "during")
        if due:
            raise Killed
        assert name.startswith("round ")
        return facts

    def names(self) -> list[str]:
        """The commands called: build, train, eval, push."""
        return ["train" if call[0] == "gv-train" else call[1] for call in self.calls]

    def options(self, command: str) -> list[dict[str, str]]:
        """The options of each call of a command; those of --set by their keys."""
        return [parsed(call) for name, call in zip(self.names(), self.calls, strict=True) if name == command]

    def _build(self, arguments: list[str], killed: bool) -> dict[str, Any]:
        given = parsed(arguments)
        out = Path(given["--out"])
        out.mkdir(parents=True, exist_ok=True)
        (out / "half").touch()
        if killed:
            return {}
        model, adapter = (json.loads(given.get(f"generators.0.{key}", "null")) for key in ("model", "adapter"))
        generator = {
            "model": Path(model or "miniature").name,
            "revision": folder_revision(Path(model)) if model and model.startswith("/") else "base",
            "adapter": f"model@{folder_revision(Path(adapter))}" if adapter else None,
        }
        prompts = out / "eval_prompts" / "dev-00000-of-00001.parquet"
        prompts.parent.mkdir(exist_ok=True)
        pq.write_table(EVAL_PROMPTS, prompts)
        manifest = {
            "format": FORMAT_VERSION,
            "name": "loop",
            "recipe": {"judge": {"min_mass": 0.5}, "generators": [generator], "seed": given.get("seed", "0")},
            "recipe_hash": content_key([generator, given.get("seed")])[:16],
            "code_version": "0",
            "target_model": "miniature",
            "dimensions": [TARGET],
            "license": "apache-2.0",
            "rows": {"train": 4},
            "files": {
                prompts.relative_to(out).as_posix(): {
                    "sha256": sha256_of(prompts),
                    "rows": 1,
                    "bytes": prompts.stat().st_size,
                }
            },
            "ledger": [],
            "judge_check": [],
            "rewards": {},
            "generators": [generator],
        }
        (out / "manifest.json").write_text(json.dumps(manifest))
        return {"out": str(out), "rows": 4, "rejected": 0}

    def _train(self, arguments: list[str], killed: bool) -> dict[str, Any]:
        given = parsed(arguments)
        model = Path(given["--out"]) / "model"
        model.mkdir(parents=True, exist_ok=True)
        if not self.lora:
            (model / "model_index.json").write_text("{}")
        if not killed:
            dataset = json.loads((Path(given["--dataset"]) / "manifest.json").read_text())["recipe_hash"]
            start = given.get("--adapter", given["--model"])
            before = folder_revision(Path(start)) if start.startswith("/") else start
            (model / "weights.safetensors").write_text(content_key([dataset, before]))
        return {"kept": 3, "steps": 2, "samples": "..."}

    def _eval(self, arguments: list[str], killed: bool) -> dict[str, Any]:
        out = Path(parsed(arguments)["--out"])
        out.mkdir(parents=True, exist_ok=True)
        if not killed:
            at = int(out.parent.name.removeprefix("round-")) - 1
            write_evaluation(out, {TARGET: self.gains[at], OTHER: self.losses[at]})
        return {}

    def _push(self, arguments: list[str], _: bool) -> dict[str, Any]:
        return {"repo": arguments[2], "tag": parsed(arguments).get("--tag"), "sha": "a" * 40, "bytes": 1}


def parsed(arguments: list[str]) -> dict[str, str]:
    """The options of a command line by name, those of --set by key."""
    given = {}
    for name, value in itertools.pairwise(arguments):
        if name == "--set":
            key, _, written = value.partition("=")
            given[key] = written
        elif name.startswith("--"):
            given[name] = value
    return given


def write_evaluation(out: Path, gains: dict[str, float], measures: dict[str, Any] | None = None) -> None:
    """eval.json and rewards.parquet with these mean differences, the same for each prompt up to a small spread."""
    scored = [
        Scored(dimension, f"{dimension}-{prompt}", 1, BASE_REWARD, BASE_REWARD + gain + 0.01 * (prompt % 3 - 1))
        for dimension, gain in gains.items()
        for prompt in range(NUM_PROMPTS)
    ]
    unmeasured = {"second_base": None, "second_tuned": None}
    schema = pa.schema([*REWARD_COLUMNS, *((name, pa.float64()) for name in ("base", "tuned", *unmeasured))])
    pq.write_table(pa.Table.from_pylist([asdict(one) | unmeasured for one in scored], schema), out / "rewards.parquet")
    comparisons = bootstrap.facts(bootstrap.compare(scored))
    all_measures = MEASURES | (measures or {})
    facts = {"comparisons": comparisons, "clips": [], "fixed_clips": [], "measures": all_measures, "second": None}
    (out / "eval.json").write_text(json.dumps(facts))


def setting(out: Path, *overrides: str, rounds: int = 3, **options: Any) -> Setting:
    """The setting of a loop on the miniature."""
    given = (*RECIPE, *overrides)
    recipe = load_recipe("quickstart", given)
    return Setting("quickstart", given, recipe, out, out.parent / "store", rounds, **options)


def run(out: Path, commands: FakeCommands, *overrides: str, **options: Any) -> Loop:
    """Run a loop with these commands."""
    with locked(out):
        return run_loop(setting(out, *overrides, **options), commands, lambda _: None, lambda _: None)
