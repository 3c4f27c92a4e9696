"""Join datasets of one format and one target model into one: `gv-data merge A B --out DIR`.

Equal rows become one, and what one set holds back for evaluation the other must not train on. What falls is in the
rejects with its reason, and the ledger adds up over all sets.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from gigavideo_data import folder_read, latents, versions
from gigavideo_data.assemble import ledger_lines, reward_summaries
from gigavideo_data.errors import DatasetError
from gigavideo_data.folder_read import Row, read_all
from gigavideo_data.manifest import LedgerLine, Manifest
from gigavideo_data.publish import write_dataset
from gigavideo_data.reasons import NotWanted
from gigavideo_data.schema import EVAL_PROMPT_SCHEMA, REJECT_SCHEMA, ROW_SCHEMA

ALIKE: tuple[Literal["target_model", "license"], ...] = ("target_model", "license")  # a joined set has one of each


def merge(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Join sets.

    Args:
        folders: finished datasets; where rows, prompts or latents are equal, those of the earlier one stay.
        out: folder of the joined set.

    Returns:
        JSON-able: rows of each set, rows that fell by reason, and rows of the joined set.

    Raises:
        DatasetError: one is no finished dataset, they differ in target model or licence, or they give one video
            different values.
    """
    manifests = [folder_read.read_manifest(folder) for folder in folders]
    for key in ALIKE:
        if len({manifest[key] for manifest in manifests}) > 1:
            said = ", ".join(
                f"{folder.name} has {manifest[key]!r}" for folder, manifest in zip(folders, manifests, strict=True)
            )
            raise DatasetError(f"{key} differs ({said}). Sets are joined for one model, under one licence.")
    if any(_rules(manifest) != _rules(manifests[0]) for manifest in manifests):
        raise DatasetError(
            "the sets' rewards follow different rules (judge.min_mass, or those of gv-data rescore). "
            "Recompute them alike first."
        )
    prompts = _prompts(folders)
    rows, fallen = _rows(folders, {prompt["prompt_id"] for prompt in prompts})
    rejects = [row for folder in folders for row in read_all(folder, REJECT_SCHEMA, "rejects")] + fallen
    dimensions = list(dict.fromkeys(name for manifest in manifests for name in manifest["dimensions"]))
    hashes = [manifest["recipe_hash"] for manifest in manifests]
    manifest = {
        **{key: value for key, value in manifests[0].items() if key != "withheld"},
        "name": "+".join(dict.fromkeys(manifest["name"] for manifest in manifests)),
        "recipe": {**manifests[0]["recipe"], "dimensions": dimensions},
        "recipe_hash": hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:16],
        "merged": [
            {key: one[key] for key in ("name", "recipe", "recipe_hash")}
            for manifest in manifests
            for one in manifest.get("merged", [manifest])
        ],
        "dimensions": dimensions,
        "ledger": _ledger(manifests, rows, fallen),
        "judge_check": [check for manifest in manifests for check in manifest["judge_check"]],
        "rewards": reward_summaries(rows, dimensions),
        **({"withheld": True} if any(row["video"] is None for row in rows) else {}),
    }
    shipped = {one["id"]: one for folder in folders[::-1] for one in latents.carried(folder, rows)}
    write_dataset(out, rows, prompts, rejects, manifest, _cost(folders), latents=shipped.values())
    reasons = Counter(row["reason"] for row in fallen)
    return {
        "sets": {str(folder): sum(each["rows"].values()) for folder, each in zip(folders, manifests, strict=True)},
        "fell": dict(sorted(reasons.items())),
        "rows": len(rows),
        "out": str(out),
    }


def _rules(manifest: Manifest) -> tuple[float, dict[str, str]]:
    """How answers became rewards."""
    used = manifest.get("rescored", {})
    return used.get("min_mass", manifest["recipe"]["judge"]["min_mass"]), used.get("combine", {})


def _prompts(folders: Iterable[Path]) -> list[Row]:
    """The evaluation prompts of all sets; each prompt once."""
    found: dict[str, Row] = {}
    for folder in folders:
        for prompt in read_all(folder, EVAL_PROMPT_SCHEMA, "eval_prompts"):
            found.setdefault(prompt["prompt_id"], prompt)
    return list(found.values())


def _rows(folders: Iterable[Path], held_out: set[str]) -> tuple[list[Row], list[Row]]:
    """The rows of all sets, and rejects for those that fell."""
    rows: dict[str, Row] = {}
    splits: dict[str, str] = {}
    fallen: list[Row] = []
    for folder in folders:
        for row in read_all(folder, ROW_SCHEMA, "data"):
            reason: NotWanted | None = (
                "held_out" if row["prompt_id"] in held_out else "duplicate" if row["id"] in rows else None
            )
            group = row["pair_id"] or row["prompt_id"]
            if reason != "held_out" and splits.setdefault(group, row["split"]) != row["split"]:
                raise DatasetError(
                    f"{folder}: row {row['id']} is in split {row['split']} there, its prompt in another one elsewhere. "
                    "Sets are joined that were built with one validation_share."
                )
            if reason == "duplicate" and _values(row) != _values(rows[row["id"]]):
                raise DatasetError(
                    f"{folder}: row {row['id']} has other values there. Judge both sets alike first (gv-data score)."
                )
            if reason == "duplicate":
                first = rows[row["id"]]
                whole = row if first["video"] is None else first  # what one set withholds the other has
                rows[row["id"]] = whole | {"source_file": first["source_file"] or row["source_file"]}
            if reason is None:
                rows[row["id"]] = row
                continue
            reject = {"stage": "merge", "source": row["source"], "id": row["id"], "reason": reason}
            fallen.append({**reject, "detail": row["prompt"], "attempts": None})
    return list(rows.values()), fallen


def _values(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in versions.PROVENANCE}


def _ledger(manifests: list[Manifest], rows: list[Row], fallen: list[Row]) -> list[LedgerLine]:
    """The lines of all sets added up, and one more stage: rows in, rows out, and those that fell."""
    lines: dict[tuple[str, str], LedgerLine] = {}
    for line in (line for manifest in manifests for line in manifest["ledger"]):
        empty: LedgerLine = {"stage": line["stage"], "source": line["source"], "in": 0, "out": 0, "rejected": {}}
        total = lines.setdefault((line["stage"], line["source"]), empty)
        total |= {"in": total["in"] + line["in"], "out": total["out"] + line["out"]}
        total["rejected"] = dict(sorted((Counter(total["rejected"]) + Counter(line["rejected"])).items()))
    return [*lines.values(), *ledger_lines("merge", (row["source"] for row in rows), fallen)]


def _cost(folders: Iterable[Path]) -> dict[str, Any]:
    """What the sets cost together."""
    costs = [json.loads((folder / "cost.json").read_text("utf-8")) for folder in folders]
    stages = [stage for cost in costs for stage in cost["stages"]]
    return {"stages": stages, "wall_seconds": round(sum(cost["wall_seconds"] for cost in costs), 3)}
