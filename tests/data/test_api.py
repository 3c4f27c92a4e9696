"""The public API: the examples of its page run, and importing the package costs nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gigavideo_data
from tests.support.workspace import Workspace

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_examples_of_the_page_run_one_after_the_other(small_build: Workspace, tmp_path: Path) -> None:
    small_build.copied(tmp_path, "unused")
    (tmp_path / "runs").mkdir()
    (tmp_path / "store").rename(tmp_path / "runs" / "store")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    command = [sys.executable, "-c", code]
    env = small_build.environment()
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("runs/small {")
    assert "did you mean runs/small?" in ended.stdout
    assert "runs/small" not in ended.stderr
    assert (tmp_path / "runs" / "eval" / "same" / "report.html").is_file()
    built, copied = Workspace(tmp_path / "runs"), Workspace(tmp_path)
    assert built.rows("small") == copied.rows("unused")


def test_the_page_names_everything_public() -> None:
    named = set(re.findall(r"^\| `(\w+)[`(]", PAGE.read_text("utf-8"), re.MULTILINE))
    assert named == set(gigavideo_data.__all__)
    assert all(getattr(gigavideo_data, name) for name in gigavideo_data.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        _ = gigavideo_data.biuld


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import gigavideo_data; print(*sorted(set(sys.modules) - before))"
    ended = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=PAGE.parent.parent, capture_output=True, text=True, check=True
    )
    of_others = {name for name in ended.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert of_others == {"gigavideo_data"}
