"""How many rows each stage received, passed on and rejected: rows in = rows out + rejected, per source and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gigavideo_data.dataset.manifest import LedgerLine
from gigavideo_data.dataset.writer import commonest
from gigavideo_data.errors import RejectedError
from gigavideo_data.io.spool import Spool, joined
from gigavideo_data.pipeline.row import Row
from gigavideo_data.pipeline.stages import Record
from gigavideo_data.reasons import is_failure
from gigavideo_data.rows import Reject


def reject(stage: str, source: str, row_id: str, record: Record) -> Reject:
    """The reject of a row whose record says why (see `stages.rejection`)."""
    return {
        "stage": stage,
        "source": source,
        "id": row_id,
        "reason": record["rejected"],
        "detail": record.get("detail"),
        "attempts": record.get("attempts"),
    }


def stage_counts(stage: str, sources: Iterable[str] | Mapping[str, int], rejects: Iterable[Reject]) -> list[LedgerLine]:
    """The lines of one stage in a manifest's `ledger`, one for each source in order of appearance.

    Args:
        stage: its name.
        sources: the source of each row that the stage received, or the number of rows of each source.
        rejects: those of the rows that it rejected.
    """
    received = Counter(sources)
    reasons = Counter((each["source"], each["reason"]) for each in rejects)
    lines: list[LedgerLine] = []
    for source, num_rows in received.items():
        rejected = {reason: number for (of, reason), number in sorted(reasons.items()) if of == source}
        passed_on = num_rows - sum(rejected.values())
        lines.append({"stage": stage, "source": source, "in": num_rows, "out": passed_on, "rejected": rejected})
    return lines


def summed(lines: Iterable[LedgerLine]) -> list[LedgerLine]:
    """One line for each stage and source, in order of appearance: of several datasets, or of a stage that ran twice."""
    totals: dict[tuple[str, str], LedgerLine] = {}
    for line in lines:
        empty: LedgerLine = {"stage": line["stage"], "source": line["source"], "in": 0, "out": 0, "rejected": {}}
        total = totals.setdefault((line["stage"], line["source"]), empty)
        total |= {"in": total["in"] + line["in"], "out": total["out"] + line["out"]}
        total["rejected"] = dict(sorted((Counter(total["rejected"]) + Counter(line["rejected"])).items()))
    return list(totals.values())


class RowCounts:
    """The counts of a whole run, stage by stage, and all its rejects."""

    def __init__(self) -> None:
        self.lines: list[LedgerLine] = []
        self.rejects: list[Reject] = []

    def add(self, stage: str, rows: Iterable[Row], outcomes: Iterable[Row | Record]) -> Sequence[Row]:
        """Count one stage and return the rows that it passes on, grouped by source. They are kept on disk.

        Args:
            stage: its name.
            rows: that it received.
            outcomes: of each row, the row as it goes on, or the record of its rejection.
        """
        received: Counter[str] = Counter()
        kept: dict[str, Spool[Row]] = {}
        rejects: dict[str, list[Reject]] = {}
        for row, outcome in zip(rows, outcomes, strict=True):
            received[row.source] += 1
            if isinstance(outcome, Row):
                kept.setdefault(outcome.source, Spool()).append(outcome)
            else:
                rejects.setdefault(row.source, []).append(reject(stage, row.source, row.id, outcome))
        # In groups, one source after the other, so that the ids of rejects keep their order.
        in_order = [each for source in received for each in rejects.get(source, ())]
        self.lines += stage_counts(stage, received, in_order)
        self.rejects += in_order
        return joined(*(kept[source] for source in received if source in kept))


def check_rejected(rejects: Sequence[Reject], num_passed: int, max_rejected: float, out: Path | str) -> None:
    """Compare the number of failures with the limit of the recipe.

    Args:
        rejects: of the run.
        num_passed: rows that went through all stages.
        max_rejected: share of the rows that may fail, in [0, 1].
        out: where the result is, for the message.

    Raises:
        RejectedError: more rows failed.
    """
    failures = [each for each in rejects if is_failure(each["reason"])]
    total = len(failures) + num_passed
    if len(failures) > max_rejected * max(1, total):
        lines = "".join(f"\n  {line}" for line in commonest(failures))
        raise RejectedError(
            f"{len(failures)} of {total} rows failed, more than limits.max_rejected = {max_rejected:g} allows. "
            f"The result is written to {out}. The most frequent reasons:{lines}"
        )
