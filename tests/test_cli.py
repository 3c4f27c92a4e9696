"""The command line from outside: how fast it starts, what goes to which stream, and how it ends."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "ray",
    "torch",
    "diffusers",
    "transformers",
    "datasets",
    "huggingface_hub",
    "pyarrow",
    "numpy",
    "cv2",
    "pydantic",
)


def gv_data(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gigavideo_data.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=60)


def test_help_is_instant() -> None:
    def seconds() -> float:  # of a processor: what a neighbour on the same machine takes is not ours
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert gv_data("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import atexit, sys; from gigavideo_data.cli import main;"
        f"atexit.register(lambda: print(*sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)); main()"
    )
    ended = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "quickstart" in ended.stdout
    assert ended.stderr.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["build", "--recipe", "quikstart"], 2, "did you mean 'quickstart'?"),
        (["build", "--recipe", "quickstart", "--set", "prompts.per_dimenson=3"], 2, "did you mean 'per_dimension'?"),
        (["build", "--recipe", "quickstart", "--set", "dimensions=[mechanic]"], 2, "did you mean 'mechanics'?"),
        (["build", "--recipe", "quickstart", "--set", "dimensions=[material]"], 2, "cannot write about 'material'"),
        (["build", "--recipe", "quickstart", "--out", "file/out"], 1, "file/out"),
        (["build"], 2, "--recipe"),
        (["bild"], 2, "bild"),
        (["dimensions", "mechanic"], 2, "did you mean 'mechanics'?"),
        (["verify", "nowhere"], 1, "nowhere: no such folder"),
        (["inspect", "nowhere"], 1, "nowhere: no such folder"),
        (["report", "nowhere"], 1, "nowhere: no such folder"),
        (["score", "nowhere"], 2, "--recompute"),
        (["score", "nowhere", "--recompute", "--out", "new", "--in-place"], 2, "exclude each other"),
        (["score", "nowhere", "--recompute", "--combine", "mechanics"], 2, "mechanics=mean"),
    ],
)
def test_a_mistake_ends_with_its_message_and_code(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    ended = gv_data(*arguments, cwd=tmp_path)
    assert ended.returncode == code
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_typo_in_a_recipe_file_is_shown_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\ndimensions: [mechanics]\nsamples_per_promt: 2\n")
    ended = gv_data("build", "--recipe", "mine.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    assert "error: mine.yaml:3: samples_per_promt: unknown key; did you mean 'samples_per_prompt'?" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_lists_say_it_to_people_on_stderr_and_to_programs_on_stdout() -> None:
    told = gv_data("recipes")
    assert told.stdout == ""
    assert "quickstart" in told.stderr
    data = json.loads(gv_data("recipes", "--json").stdout)
    assert all(recipe["about"] for recipe in data)
    names = [dimension["name"] for dimension in json.loads(gv_data("dimensions", "--json").stdout)]
    assert "mechanics" in names
    assert json.loads(gv_data("dimensions", "mechanics", "--json").stdout)["combine"] == "gate"
