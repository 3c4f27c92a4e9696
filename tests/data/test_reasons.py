"""Every reason of a reject says whether the row failed, and only failures lead to exit code 3."""

import ast
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import gigavideo_data
from gigavideo_data.errors import RejectedError, RowError
from gigavideo_data.pipeline.execution.worker import Worker
from gigavideo_data.pipeline.row_counts import check_rejected
from gigavideo_data.pipeline.stages import rejection
from gigavideo_data.reasons import PixelFlaw, Reason, is_failure
from gigavideo_data.recipe.engines import ENGINES
from gigavideo_data.rows import Reject

FAILURES = {
    "worker_died", "out_of_memory", "broken_clip", "bad_video", "bad_latents", "refused", "no_answer", "bad_answer",
    "bad_form", "bad_questions", "ValueError",
}  # fmt: skip


@pytest.mark.parametrize("reason", [*(reason.value for reason in Reason), "ValueError"])
def test_failures_count_for_the_limit_and_unwanted_rows_do_not(reason, tmp_path):
    reject: Reject = {
        "stage": "judge", "source": "twin", "id": "0", "reason": reason, "detail": "the case", "attempts": 1
    }  # fmt: skip
    expected = pytest.raises(RejectedError, match=f"1 {reason} .*the case") if reason in FAILURES else nullcontext()
    with expected:
        check_rejected([reject], 1, 0.05, tmp_path)
    assert is_failure(reason) == (reason in FAILURES)


def test_an_unknown_reason_is_refused_where_it_is_used():
    with pytest.raises(ValueError, match="no_such_reason"):
        rejection("no_such_reason", "a case")
    with pytest.raises(ValueError, match="no_such_reason"):
        RowError("no_such_reason", "a case")


def test_every_reason_that_code_names_exists():
    """Also those in branches that no other test reaches."""
    found: set[str] = set()
    for path in Path(gigavideo_data.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "Reason":
                found.add(Reason[node.attr].value)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("RowError", "rejection") and node.args:
                assert not isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}: name a member of Reason"
    assert found | set(get_args(PixelFlaw)) == {reason.value for reason in Reason}


def test_the_traceback_of_an_engine_that_cannot_be_loaded_comes_back(tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES["writer"], "http", replace(ENGINES["writer"]["http"], cls=("no_such_module", "Writer")))
    task = json.dumps({"engine": {"backend": "http"}, "rows": [("key", {})]})
    outcome = Worker("extend", str(tmp_path), "run", 1)({"task": np.array([task])})
    assert outcome["kind"] == ["fatal"]
    assert "http cannot be loaded: ModuleNotFoundError" in outcome["message"][0]
    assert "load_engine" in outcome["traceback"][0]
