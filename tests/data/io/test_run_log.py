"""The log of a run: it keeps tracebacks, stays within its size, and holds no secrets."""

import logging

import pytest

from gigavideo_data.errors import RunError, UnexpectedError
from gigavideo_data.io import run_log as module
from gigavideo_data.io.run_log import OLDER_FILES, run_log

log = logging.getLogger("gigavideo_data.anything")


def test_an_unexpected_exception_keeps_its_traceback_and_ends_with_one_line_and_the_path(tmp_path):
    path = tmp_path / "log.txt"
    with pytest.raises(UnexpectedError) as raised, run_log(path):
        raise KeyError("seed")
    assert str(raised.value) == f"KeyError: 'seed'. The traceback is in {path}"
    assert 'raise KeyError("seed")' in path.read_text()


def test_an_error_for_the_user_is_passed_on_and_its_cause_is_logged(tmp_path):
    path = tmp_path / "log.txt"
    with pytest.raises(RunError, match="a plain message"), run_log(path):
        raise RunError("a plain message")
    assert not path.exists()
    with pytest.raises(RunError), run_log(path):
        raise RunError("a plain message") from ValueError("below")
    assert "ValueError: below" in path.read_text()


def test_no_key_token_or_endpoint_host_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("GIGAVIDEO_JUDGE_API_KEY", "planted-key-0123")
    secrets = ["planted-key-0123", "hf_PlantedToken0123", "sk-planted-0123", "planted.bearer", "judge.planted.example"]
    with run_log(tmp_path / "log.txt", hosts=["judge.planted.example"]):
        log.warning("host='judge.planted.example', key %s, %s", *secrets[:2])
        log.error("Authorization: Bearer planted.bearer and %s", secrets[2])
        try:
            raise OSError("GET https://user@judge.planted.example:8000/v1/models")
        except OSError:
            log.exception("the request failed")
    text = (tmp_path / "log.txt").read_text()
    assert [secret for secret in secrets if secret in text] == []
    assert "GET https://<host>/v1/models" in text


def test_files_are_capped_and_the_oldest_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    with run_log(tmp_path / "log.txt"):
        for number in range(100):
            log.warning("line %d %s", number, "." * 50)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 1 + OLDER_FILES
    assert max(file.stat().st_size for file in files) <= 1000
    assert "line 99" in (tmp_path / "log.txt").read_text()


def test_outside_of_a_run_nothing_is_written(tmp_path):
    with run_log(tmp_path / "log.txt"):
        pass
    log.error("too late")
    assert not (tmp_path / "log.txt").exists()
