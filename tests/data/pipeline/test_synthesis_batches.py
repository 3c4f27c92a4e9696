"""Rows in batches: each keeps what the row adapter promises, and a bad row or a dead worker costs one batch."""

import errno
import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gigavideo_data.errors import RowError, RunError
from gigavideo_data.io import video
from gigavideo_data.io.hashing import canonical
from gigavideo_data.models.generators.base import Generated
from gigavideo_data.models.spec import EngineSpec
from gigavideo_data.pipeline.execution.ray_executor import calls_at_once, in_tasks
from gigavideo_data.pipeline.execution.row_adapter import run_row, run_rows
from gigavideo_data.pipeline.stages import STAGES, Item, synthesis
from gigavideo_data.pipeline.store import Store
from gigavideo_data.reasons import Reason

PROMPTS = [f"prompt {number}" for number in range(5)]
ROWS = [(f"key-{number}", {"prompt": prompt, "seed": number}) for number, prompt in enumerate(PROMPTS)]


class Died(BaseException):
    """The end of the worker, as the out-of-memory killer would cause it."""


class Painter:
    """Paints a square that the seed places. A call with a prompt of `faults` raises its error."""

    def __init__(self, faults: dict[str, BaseException] | None = None) -> None:
        self.faults = faults or {}
        self.calls: list[list[str]] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        self.calls.append(list(prompts))
        for prompt in prompts:
            if prompt in self.faults:
                raise self.faults[prompt]
        return [self.video(seed) for seed in seeds]

    def video(self, seed: int) -> Generated:
        frames_THWC = np.zeros((2, 32, 32, 3), np.uint8)
        frames_THWC[:, :8, seed : seed + 8] = 200
        return Generated(frames_THWC, 8.0)


def run(folder: Path, painter, run_id: str = "run", limit: int = 3) -> list[str]:
    return run_rows("synthesize", ROWS, painter, Store(folder), run_id, limit)


def contents(folder: Path) -> dict[str, str]:
    """Sums of videos and records, less their seconds; counts of attempts are left over where a worker died."""
    files = [path for path in folder.rglob("*") if path.is_file() and "attempts" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(_result(path)).hexdigest() for path in files}


def _result(path: Path) -> bytes:
    if path.suffix != ".json":
        return path.read_bytes()
    return canonical({key: value for key, value in json.loads(path.read_bytes()).items() if key != "spent"})


@pytest.fixture
def reference(tmp_path) -> dict[str, str]:
    """The store after rows that were processed one by one."""
    for row in ROWS:
        assert run_rows("synthesize", [row], Painter(), Store(tmp_path / "reference"), "run", 3) == ["done"]
    return contents(tmp_path / "reference")


def test_a_batch_is_one_call_and_leaves_what_single_rows_leave(tmp_path, reference):
    painter = Painter()
    assert run(tmp_path / "store", painter) == ["done"] * 5
    assert painter.calls == [PROMPTS]
    assert contents(tmp_path / "store") == reference
    assert not [*(tmp_path / "store" / "attempts").rglob("key-*")]
    assert run(tmp_path / "store", painter) == ["kept"] * 5
    assert len(painter.calls) == 1


@pytest.mark.parametrize(
    ("fault", "reason"), [(RowError(Reason.BAD_VIDEO, "no"), "bad_video"), (KeyError("no"), "KeyError")]
)
def test_a_bad_row_of_a_batch_is_rejected_alone_with_its_reason(tmp_path, reference, fault, reason):
    painter = Painter({"prompt 2": fault})
    assert run(tmp_path / "store", painter) == ["done", "done", "rejected", "done", "done"]
    assert painter.calls == [PROMPTS, *[[prompt] for prompt in PROMPTS]]
    record = Store(tmp_path / "store").get("synthesize", "key-2")
    assert record is not None
    assert (record["rejected"], record["attempts"]) == (reason, 1)
    whole = contents(tmp_path / "store")
    different = {Path(name).suffix for name, value in reference.items() if whole.get(name) != value}
    assert different == {".json", ".mp4"}
    assert len(whole) == len(reference) - 1, "only the bad row has no video"


def test_a_video_that_does_not_fit_is_rejected_without_another_call(tmp_path):
    class Odd(Painter):
        def video(self, seed: int) -> Generated:
            made = super().video(seed)
            return Generated(made.frames_THWC[0], 8.0) if seed == 2 else made

    painter = Odd()
    assert run(tmp_path, painter) == ["done", "done", "rejected", "done", "done"]
    assert painter.calls == [PROMPTS]
    assert (Store(tmp_path).get("synthesize", "key-2") or {})["rejected"] == "bad_video"


@pytest.mark.parametrize("made_more", [-1, 1])
def test_a_batch_with_another_number_of_videos_gives_no_row_the_video_of_another(tmp_path, reference, made_more):
    class Miscounting(Painter):
        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
            made = super().generate(prompts, seeds)
            return made if len(made) == 1 else (made * 2)[: len(made) + made_more]

    assert run(tmp_path / "store", Miscounting()) == ["done"] * 5
    assert contents(tmp_path / "store") == reference


def test_a_service_that_fails_once_costs_the_batch_and_rejects_nothing(tmp_path, reference):
    class Unsteady(Painter):
        def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
            if not self.calls:
                self.calls.append(list(prompts))
                raise ConnectionError
            return super().generate(prompts, seeds)

    assert run(tmp_path / "store", Unsteady()) == ["done"] * 5
    assert contents(tmp_path / "store") == reference


@pytest.mark.parametrize("limit", [1, 3])
def test_a_row_that_kills_its_worker_is_rejected_and_the_others_of_its_batch_are_made(tmp_path, reference, limit):
    painter = Painter({"prompt 2": Died()})
    for _ in range(1 + limit):  # in the batch, and then alone
        with pytest.raises(Died):
            run(tmp_path / "store", painter, limit=limit)
    assert run(tmp_path / "store", painter, limit=limit) == ["kept", "kept", "rejected", "done", "done"]
    record = Store(tmp_path / "store").get("synthesize", "key-2")
    assert record is not None
    assert (record["rejected"], record["attempts"]) == ("worker_died", limit)
    assert painter.calls[0] == PROMPTS
    assert sorted(painter.calls[1:]) == sorted([[prompt] for prompt in PROMPTS + ["prompt 2"] * (limit - 1)])
    whole = contents(tmp_path / "store")
    records = [name for name in reference if "synthesize" in name and "key-2" not in name]
    assert {name: whole[name] for name in records} == {name: reference[name] for name in records}


def test_a_run_that_was_killed_in_a_batch_goes_on_with_the_missing_rows_in_one(tmp_path, reference, monkeypatch):
    """Killed after two of five rows were written: the call is repeated for three rows, and the bytes are equal."""
    plain = Store.put
    written: list[str] = []

    def put(self: Store, stage: str, key: str, *args, **kwargs) -> None:
        if len(written) == 2:
            raise Died
        plain(self, stage, key, *args, **kwargs)
        written.append(key)

    painter = Painter()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", put)
        with pytest.raises(Died):
            run(tmp_path / "store", painter, "first run")
    assert run(tmp_path / "store", painter, "second run") == ["kept", "kept", "done", "done", "done"]
    assert painter.calls == [PROMPTS, PROMPTS[2:]]
    assert contents(tmp_path / "store") == reference


def test_an_error_of_the_run_in_a_batch_counts_for_no_row(tmp_path):
    for run_id in range(12):
        with pytest.raises(RunError, match="cannot be reached"):
            run(tmp_path, Painter({"prompt 2": RunError("the service cannot be reached")}), str(run_id))
    assert run(tmp_path, Painter(), "last") == ["done"] * 5


def test_a_full_disk_in_a_batch_stops_the_run_and_blames_no_row(tmp_path):
    with pytest.raises(RunError, match="--store"):
        run(tmp_path, Painter({"prompt 2": OSError(errno.ENOSPC, "No space left on device")}))
    assert not contents(tmp_path)


def test_a_task_has_rows_of_one_engine_and_the_tasks_of_an_engine_are_of_equal_length():
    def items(revision: str, number: int, batch_size: int) -> list[Item]:
        settings = {"backend": "diffusers", "revision": revision}
        return [Item("synthesize", settings, {"seed": seed}, batch_size=batch_size) for seed in range(number)]

    small, large = items("small", 33, 16), items("large", 3, 1)
    tasks = list(in_tasks([item for pair in zip(small, large * 11, strict=True) for item in pair][:6] + small[3:]))
    assert [len(task) for task in tasks] == [11, 11, 11, 1, 1, 1]
    assert [item for task in tasks for item in task] == [*small, *large]


def test_the_batch_size_is_part_of_a_key_and_one_is_not():
    identity = {"backend": "diffusers"}
    keys = [Item("synthesize", identity, {"seed": 1}, batch_size=size).key for size in (1, 2, 3)]
    assert len(set(keys)) == 3
    assert synthesis(EngineSpec(identity, {}), "p", 1).batch_size == 1


class Shared(Painter):
    """Says when it is called, and lets a test wait for its second call. Two calls at a time are a fault."""

    def __init__(self, faults: dict[str, BaseException] | None = None) -> None:
        super().__init__(faults)
        self.busy = threading.Lock()
        self.second_call = threading.Event()

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Generated]:
        assert self.busy.acquire(blocking=False), "two threads call the engine"
        try:
            made = super().generate(prompts, seeds)
        finally:
            self.busy.release()
        if len(self.calls) == 2:
            self.second_call.set()
        return made


def in_two_threads(folder: Path, painter: Painter) -> dict[str, str]:
    """What becomes of the rows of two threads that share an engine, as a worker on a GPU has them."""
    turn, outcomes, waiting = threading.Lock(), {}, list(ROWS)

    def work() -> None:
        while waiting:
            key, inputs = waiting.pop(0)
            outcomes[key] = run_row("synthesize", key, painter, inputs, Store(folder), "run", 3, turn=turn)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return outcomes


def test_a_video_is_encoded_while_the_next_one_is_made_and_its_bytes_are_the_same(tmp_path, reference, monkeypatch):
    painter, plain, overlapped = Shared(), video.encode, []

    def encode(*args):
        overlapped.append(painter.second_call.wait(timeout=60))
        return plain(*args)

    monkeypatch.setattr(video, "encode", encode)
    assert in_two_threads(tmp_path / "store", painter) == dict.fromkeys((key for key, _ in ROWS), "done")
    assert overlapped[0], "the second video was made before the first was encoded"
    assert contents(tmp_path / "store") == reference
    assert not [*(tmp_path / "store" / "attempts").rglob("key-*")]


def test_a_row_is_finished_only_when_its_bytes_are_written(tmp_path, monkeypatch):
    store, seen = Store(tmp_path), []
    plain = video.encode

    def encode(*args):
        seen.append([store.get("synthesize", key) for key, _ in ROWS])
        return plain(*args)

    monkeypatch.setattr(video, "encode", encode)
    turn = threading.Lock()
    assert run_row("synthesize", *ROWS[0][:1], Painter(), ROWS[0][1], store, "run", 3, turn=turn) == "done"
    assert seen == [[None] * len(ROWS)]
    assert not turn.locked()


def test_a_bad_row_of_a_thread_is_rejected_and_the_others_are_made(tmp_path, reference):
    outcomes = in_two_threads(tmp_path / "store", Shared({"prompt 2": RowError(Reason.BAD_VIDEO, "no")}))
    assert outcomes == dict.fromkeys((key for key, _ in ROWS), "done") | {"key-2": "rejected"}
    whole = contents(tmp_path / "store")
    assert {name for name, value in whole.items() if reference.get(name) != value} == {
        name for name in whole if "key-2" in name
    }


def test_a_row_whose_worker_died_is_processed_alone_to_the_end(tmp_path, monkeypatch):
    """Otherwise a row that kills the worker would be counted against the rows that are encoded beside it."""
    store, turn, held = Store(tmp_path), threading.Lock(), []
    plain = video.encode

    def encode(*args):
        held.append(turn.locked())
        return plain(*args)

    monkeypatch.setattr(video, "encode", encode)
    (key, inputs), other = ROWS[0], ROWS[1]
    with pytest.raises(Died):
        run_row("synthesize", key, Painter({"prompt 0": Died()}), inputs, store, "run", 3, turn=turn)
    for row in ((key, inputs), other):
        assert run_row("synthesize", row[0], Painter(), row[1], store, "run", 3, turn=turn) == "done"
    assert held == [True, False]


def test_only_a_worker_with_a_gpu_makes_a_video_while_it_encodes_another():
    assert calls_at_once(STAGES["synthesize"], "diffusers", 1.0) == 2
    assert calls_at_once(STAGES["synthesize"], "diffusers", 0.0) == 1
    assert calls_at_once(STAGES["judge"], "transformers", 1.0) == 1
