"""`gv-data merge A B --out DIR`: join datasets of one format and one target model.

Equal rows become one, and a prompt that one dataset keeps for evaluation is no training prompt of the joined one.
Rejected rows are in the rejects with the reason, and the rows per stage add up over all datasets.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from gigavideo_data.commands.republish import NewStage, Stored, read_stored, republish
from gigavideo_data.dataset import latents
from gigavideo_data.dataset.manifest import Manifest, targets_of
from gigavideo_data.dataset.reader import read_video_rows
from gigavideo_data.errors import DatasetError
from gigavideo_data.hub import versions
from gigavideo_data.pipeline.row_counts import reject, summed
from gigavideo_data.pipeline.stages import rejection
from gigavideo_data.reasons import Reason
from gigavideo_data.rows import DatasetRow, EvalPrompt, Reject, VideoRow
from gigavideo_data.scoring.rewards import rules_of

SAME_IN_ALL: tuple[Literal["target_model", "license"], ...] = (
    "target_model",
    "license",
)  # of the manifests; a joined dataset has only one of each


def merge(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Join datasets.

    Args:
        folders: finished datasets; of equal rows, prompts or latents, those of the first dataset stay.
        out: folder of the joined dataset.

    Returns:
        JSON-able: rows of each dataset, rejected rows by reason, and rows of the joined dataset.

    Raises:
        DatasetError: one is no finished dataset, they differ in target model or licence, or they have different values
            for one video.
    """
    sets = [read_stored(folder) for folder in folders]
    _check_mergeable(sets)
    prompts = _prompts(sets)
    rows, rejects = _rows(folders, {prompt["prompt_id"] for prompt in prompts})
    shipped = {one["id"]: one for folder in folders[::-1] for one in latents.carried(folder, rows)}
    joined = _joined(sets)
    if any(reject["reason"] == Reason.DUPLICATE for reject in rejects):
        # Rows that several datasets hold may have been made once: what they took together is not known.
        joined.cost["stages"] = [line | {"spent": None} for line in joined.cost["stages"]]
    republish(
        out,
        joined,
        rows,
        changes={"withheld": True if any(row["video"] is None for row in rows) else None},
        stage=NewStage("merge", [row["source"] for row in rows], rejects),
        eval_prompts=prompts,
        shipped=shipped.values(),
    )
    return {
        "sets": {str(each.folder): sum(each.manifest["rows"].values()) for each in sets},
        "rejected": dict(sorted(Counter(each["reason"] for each in rejects).items())),
        "rows": len(rows),
        "out": str(out),
    }


def _check_mergeable(sets: Sequence[Stored]) -> None:
    """Compare what must be the same in all datasets."""
    for key in SAME_IN_ALL:
        if len({each.manifest[key] for each in sets}) > 1:
            values = ", ".join(f"{each.folder.name} has {each.manifest[key]!r}" for each in sets)
            raise DatasetError(f"{key} differs ({values}). Only datasets of one model and one licence can be joined.")
    if any(rules_of(each.manifest) != rules_of(sets[0].manifest) for each in sets):
        raise DatasetError(
            "the datasets' rewards follow different rules (judge.min_mass, or those of gv-data rescore). "
            "Recompute them with the same rules first."
        )


def _joined(sets: Sequence[Stored]) -> Stored:
    """Everything that the datasets hold beside their rows and prompts, joined."""
    manifests = [each.manifest for each in sets]
    dimensions = list(dict.fromkeys(name for manifest in manifests for name in manifest["dimensions"]))
    targets = {name for manifest in manifests for name in targets_of(manifest)}
    others = [name for name in dimensions if name not in targets]
    recipe = manifests[0]["recipe"] | {"dimensions": [name for name in dimensions if name in targets]}
    recipe |= {"others": {**recipe.get("others", {}), "dimensions": others}} if others or "others" in recipe else {}
    hashes = " ".join(manifest["recipe_hash"] for manifest in manifests)
    manifest: Manifest = {
        **manifests[0],
        "name": "+".join(dict.fromkeys(manifest["name"] for manifest in manifests)),
        "recipe": recipe,
        "recipe_hash": hashlib.sha256(hashes.encode()).hexdigest()[:16],
        "merged": [
            {"name": one["name"], "recipe": one["recipe"], "recipe_hash": one["recipe_hash"]}
            for manifest in manifests
            for one in manifest.get("merged") or [manifest]
        ],
        "dimensions": dimensions,
        "ledger": summed(line for manifest in manifests for line in manifest["ledger"]),
        "judge_check": [check for manifest in manifests for check in manifest["judge_check"]],
    }
    if sampled := [line for one in manifests for line in one.get("sampled", ())]:
        manifest["sampled"] = sampled
    cost = {
        "stages": [stage for each in sets for stage in each.cost["stages"]],
        "wall_seconds": round(sum(each.cost["wall_seconds"] for each in sets), 3),
    }
    return Stored(sets[0].folder, manifest, [], [row for each in sets for row in each.rejects], cost)


def _prompts(sets: Iterable[Stored]) -> list[EvalPrompt]:
    """The evaluation prompts of all datasets; each prompt once."""
    found: dict[str, EvalPrompt] = {}
    for each in sets:
        for prompt in each.eval_prompts:
            found.setdefault(prompt["prompt_id"], prompt)
    return list(found.values())


def _rows(folders: Iterable[Path], held_out: set[str]) -> tuple[list[VideoRow], list[Reject]]:
    """The rows of all datasets, and those that are rejected; `held_out` are ids of evaluation prompts."""
    rows: dict[str, VideoRow] = {}
    splits: dict[str, str] = {}
    rejects: list[Reject] = []
    for folder in folders:
        for row in read_video_rows(folder):
            if row["prompt_id"] in held_out:
                rejects.append(_reject(row, Reason.HELD_OUT))
                continue
            if splits.setdefault(row["pair_id"] or row["prompt_id"], row["split"]) != row["split"]:
                raise DatasetError(
                    f"{folder}: row {row['id']} is in split {row['split']} there, its prompt in another one elsewhere. "
                    "Only datasets that were built with the same validation_share can be joined."
                )
            first = rows.setdefault(row["id"], row)
            if first is row:
                continue
            if _values(row) != _values(first):
                raise DatasetError(
                    f"{folder}: row {row['id']} has other values there. Judge both datasets with the same judge first "
                    "(gv-data score)."
                )
            with_video = row if first["video"] is None else first  # one dataset may withhold what another one has
            rows[row["id"]] = with_video | {"source_file": first["source_file"] or row["source_file"]}
            rejects.append(_reject(row, Reason.DUPLICATE))
    return list(rows.values()), rejects


def _reject(row: DatasetRow, reason: Reason) -> Reject:
    return reject("merge", row["source"], row["id"], rejection(reason, row["prompt"]))


def _values(row: DatasetRow) -> dict[str, object]:
    return {name: value for name, value in row.items() if name not in versions.PROVENANCE}
