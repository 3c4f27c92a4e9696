"""A finished dataset, changed and written again: what rescoring, rejudging, remaking and merging have in common.

stored = read_stored(folder)
republish(out, stored, rows=changed_rows, changes={"withheld": None})
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gigavideo_data.dataset import cost as costs
from gigavideo_data.dataset import latents
from gigavideo_data.dataset.manifest import LedgerLine, Manifest
from gigavideo_data.dataset.reader import read_eval_prompts, read_manifest, read_rejects
from gigavideo_data.dataset.report.page import write_report
from gigavideo_data.dataset.writer import write_dataset
from gigavideo_data.io.progress import Progress
from gigavideo_data.pipeline.assemble import reward_summaries
from gigavideo_data.pipeline.row_counts import stage_counts
from gigavideo_data.rows import EvalPrompt, LatentsRow, Reject, VideoRow


@dataclass(frozen=True)
class Stored:
    """What a dataset folder holds beside its rows."""

    folder: Path
    manifest: Manifest
    eval_prompts: list[EvalPrompt]
    rejects: list[Reject]
    cost: dict[str, Any]


@dataclass(frozen=True)
class NewStage:
    """A stage that a republished dataset went through, for its counts and costs.

    Attributes:
        name: of the stage.
        sources: the source of each row that it passed on.
        rejects: of the stage.
        cost: entries of cost.json.
    """

    name: str
    sources: Sequence[str]
    rejects: Sequence[Reject] = ()
    cost: Sequence[dict[str, Any]] = field(default_factory=list)

    @property
    def counts(self) -> list[LedgerLine]:
        """The lines of the stage in the manifest's `ledger`, by source in alphabetical order."""
        received = sorted([*self.sources, *(each["source"] for each in self.rejects)])
        return stage_counts(self.name, received, self.rejects)


def read_stored(folder: Path) -> Stored:
    """Read everything but the rows, their videos and latents.

    Raises:
        DatasetError: the folder is no finished dataset of a format we read.
    """
    return Stored(
        folder,
        read_manifest(folder),
        read_eval_prompts(folder),
        read_rejects(folder),
        json.loads((folder / costs.FILE).read_text("utf-8")),
    )


def republish(
    out: Path,
    stored: Stored,
    rows: list[VideoRow],
    *,
    changes: dict[str, Any] | None = None,
    stage: NewStage | None = None,
    eval_prompts: list[EvalPrompt] | None = None,
    shipped: Iterable[LatentsRow] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a changed dataset and its page.

    Args:
        out: folder of the new dataset; may be the folder of the old one.
        stored: the dataset that it is made from.
        rows: of the new dataset, with their videos.
        changes: entries of the manifest that differ; None removes one. The statistics of rewards are computed here.
        stage: what the rows went through, if rows may have been rejected.
        eval_prompts: of the new dataset, if they differ.
        shipped: its latents; by default, those of the old dataset whose videos are unchanged.
        progress: shows what is written and verified.

    Raises:
        DatasetError: no rows, or `out` cannot take a dataset.
    """
    manifest: dict[str, Any] = {**stored.manifest, **(changes or {})}
    cost, rejects = stored.cost, stored.rejects
    if stage:
        manifest |= {"code_version": version("gigavideo"), "ledger": [*manifest["ledger"], *stage.counts]}
        # A stage that made nothing took what the build's own entry says already.
        cost = cost | {"stages": [*cost["stages"], *(line for line in stage.cost if line["calls"])]}
        rejects = [*rejects, *stage.rejects]
    manifest["rewards"] = reward_summaries(rows, manifest["dimensions"])
    write_dataset(
        out,
        rows,
        stored.eval_prompts if eval_prompts is None else eval_prompts,
        rejects,
        {name: value for name, value in manifest.items() if value is not None},
        cost,
        progress,
        latents=list(latents.carried(stored.folder, rows)) if shipped is None else shipped,
    )
    write_report(out)
