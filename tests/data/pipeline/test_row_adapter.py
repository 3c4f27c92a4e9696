"""The row adapter: a failed row is data with a reason, and only a broken store stops a run."""

import errno

import pytest

from gigavideo_data.errors import RunError
from gigavideo_data.pipeline.execution.row_adapter import run_row
from gigavideo_data.pipeline.stages import Item
from gigavideo_data.pipeline.store import Store

INPUTS = {"prompt": "p", "variant": 0, "seed": 0}


class Writer:
    """Fails with each of `errors` in turn, then answers; counts calls."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def extend(self, **inputs):  # noqa: ARG002 - the protocol
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"prompt": "extended"}


def run(tmp_path, writer, run_id="run"):
    return run_row("extend", "key", writer, INPUTS, Store(tmp_path), run_id, 3), Store(tmp_path).get("extend", "key")


def test_a_finished_row_is_not_made_again(tmp_path):
    writer = Writer()
    outcome, record = run(tmp_path, writer)
    assert (outcome, record["prompt"]) == ("done", "extended")
    assert run(tmp_path, writer)[0] == "kept"
    assert writer.calls == 1


def test_a_deterministic_failure_is_tried_once_and_kept_as_a_reason(tmp_path):
    writer = Writer(ValueError("two\nlines"))
    outcome, record = run(tmp_path, writer)
    assert outcome == "rejected"
    assert record is not None
    assert (record["rejected"], record["detail"], record["attempts"]) == ("ValueError", "two lines", 1)
    assert "raise self.errors.pop(0)" in record["traceback"]
    assert writer.calls == 1


def test_a_transient_failure_is_tried_again_up_to_the_limit(tmp_path):
    assert run(tmp_path, Writer(TimeoutError(), ConnectionError()))[0] == "done"
    writer = Writer(*[TimeoutError("slow")] * 9)
    outcome, record = run(tmp_path / "other", writer)
    assert (outcome, record["rejected"], record["attempts"], writer.calls) == ("rejected", "TimeoutError", 3, 3)


def test_a_row_that_killed_its_worker_is_given_up_after_the_limit(tmp_path):
    for _ in range(3):
        Store(tmp_path).begin_attempt("extend", "key", "run", 3)
    writer = Writer()
    outcome, record = run(tmp_path, writer)
    assert (outcome, record["rejected"], writer.calls) == ("rejected", "worker_died", 0)


def test_a_full_disk_stops_the_run_and_blames_no_row(tmp_path):
    with pytest.raises(RunError, match="--store"):
        run(tmp_path, Writer(OSError(errno.ENOSPC, "No space left on device")))
    assert Store(tmp_path).get("extend", "key") is None


def test_keys_name_the_engine_and_the_inputs():
    keys = {
        Item("judge", engine, inputs).key
        for engine in ({"revision": "a"}, {"revision": "b"})
        for inputs in ({"questions": ["q"]}, {"questions": ["r"]})
    }
    assert len(keys) == 4


def asked(*expected: str) -> list[dict[str, object]]:
    return [
        {"question": f"Is it {number}?", "expected": answer, "gate": False, "negated": f"Is it not {number}?"}
        for number, answer in enumerate(expected)
    ]


class Asker:
    """Asks what it is given."""

    def __init__(self, questions, *, both_answers=True) -> None:
        self.given, self.both_answers = questions, both_answers

    def questions(self, **inputs):  # noqa: ARG002 - the protocol
        return {"questions": self.given}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (asked("yes", "yes"), "both answers"),
        (asked("no"), "both answers"),
        (asked("yes", "maybe"), "neither yes nor no"),
        (asked("yes", "no")[:1] * 2, "twice"),
    ],
)
def test_questions_that_break_the_rules_are_a_reject_whoever_wrote_them(tmp_path, given, wrong):
    run_row("questions", "key", Asker(given), {}, Store(tmp_path), "run", 3)
    assert wrong in (Store(tmp_path).get("questions", "key") or {})["detail"]


def test_one_answer_will_do_where_geometry_judges(tmp_path):
    assert run_row("questions", "key", Asker(asked("yes"), both_answers=False), {}, Store(tmp_path), "run", 3) == "done"
    assert run_row("questions", "none", Asker([]), {}, Store(tmp_path), "run", 3) == "done"


def test_a_dead_endpoint_never_gives_a_row_up(tmp_path):
    for run_id in range(12):
        with pytest.raises(RunError, match="cannot be reached"):
            run(tmp_path, Writer(RunError("the endpoint cannot be reached")), str(run_id))
    outcome, record = run(tmp_path, Writer(), "last")
    assert (outcome, record["prompt"]) == ("done", "extended")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", object()])
def test_a_record_that_cannot_be_written_is_a_reject(tmp_path, value):
    class Odd:
        def extend(self, **inputs):  # noqa: ARG002 - the protocol
            return {"prompt": value}

    outcome, record = run(tmp_path, Odd())
    assert outcome == "rejected"
    assert record["detail"]


def test_a_rejection_with_a_lone_surrogate_can_be_written(tmp_path):
    outcome, record = run(tmp_path, Writer(ValueError("odd \ud800 text")))
    assert (outcome, record["detail"]) == ("rejected", "odd ? text")
