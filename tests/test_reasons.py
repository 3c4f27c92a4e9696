"""Every reason of a reject says whether the row failed, and only failures lead to exit code 3."""

import ast
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import gigavideo_data
from gigavideo_data import pipeline
from gigavideo_data.engines import ENGINES
from gigavideo_data.errors import RejectedError
from gigavideo_data.execute import Worker
from gigavideo_data.reasons import FAILED, NOT_WANTED, is_failure
from gigavideo_data.recipe import Recipe
from gigavideo_data.stages import run_row
from gigavideo_data.store import Store

RECIPE = Recipe(name="r", dimensions=("mechanics",))


@pytest.mark.parametrize("reason", sorted(NOT_WANTED | FAILED | {"ValueError", "TimeoutError"}))
def test_failures_count_for_the_limit_and_unwanted_rows_do_not(reason, tmp_path):
    reject = {"stage": "judge", "source": "twin", "id": "0", "reason": reason, "detail": "the case", "attempts": 1}
    work: Any = SimpleNamespace(recipe=RECIPE, rejects=[reject])
    expected = nullcontext() if reason in NOT_WANTED else pytest.raises(RejectedError, match=f"1 {reason} .*the case")
    with expected:
        pipeline.check_rejected(work, 1, tmp_path)
    assert is_failure(reason) == (reason not in NOT_WANTED)


def test_the_two_kinds_of_reasons_do_not_overlap():
    assert not NOT_WANTED & FAILED


def test_every_reason_that_code_names_has_its_kind():
    """Mypy checks it where a type says so; this finds rejects that are written as plain dicts and calls."""
    found = set()
    for path in Path(gigavideo_data.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named: ast.expr | None = None
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("RowError", "rejection") and node.args:
                named = node.args[0]
            if isinstance(node, ast.Dict):
                named = next((v for k, v in zip(node.keys, node.values, strict=True) if _is(k, "rejected")), None)
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                found.add(named.value)
    assert found - {"new"} <= NOT_WANTED | FAILED  # "new" is a plan's row that is not made yet
    assert len(found) > 10


def _is(key: ast.expr | None, name: str) -> bool:
    return isinstance(key, ast.Constant) and key.value == name


def test_the_traceback_of_an_unexpected_exception_stays_in_the_store(tmp_path):
    class Broken:
        def extend(self, prompt: str) -> dict:
            raise KeyError(prompt)

    run_row("extend", "key", Broken(), {"prompt": "a ball"}, Store(tmp_path), "run", 1)
    record = Store(tmp_path).get("extend", "key") or {}
    assert record["rejected"] == "KeyError"
    assert "raise KeyError(prompt)" in (tmp_path / "tracebacks" / "extend" / "key").read_text()


def test_the_traceback_of_an_engine_that_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES["writer"], "http", replace(ENGINES["writer"]["http"], cls=("no_such_module", "Writer")))
    work = json.dumps({"engine": {"backend": "http"}, "inputs": {}})
    (outcome,) = Worker("extend", str(tmp_path), "run", 1)({"key": ["key"], "work": [work]})["outcome"]  # type: ignore[dict-item]
    assert "http cannot be loaded: ModuleNotFoundError" in outcome
    file = Path(outcome.rpartition("The traceback is in ")[2])
    assert "load_engine" in file.read_text()
