"""The command line from outside: how fast it starts, what goes to which stream, and how it ends."""

import json
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gigavideo_data.cli import app

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
        (["score", "nowhere"], 2, "--recipe"),
        (["score", "nowhere", "--recipe", "quickstart"], 2, "--in-place"),
        (["score", "nowhere", "--recompute"], 2, "gv-data rescore nowhere"),
        (["rescore", "nowhere", "--out", "new", "--in-place"], 2, "exclude each other"),
        (["rescore", "nowhere", "--combine", "mechanics"], 2, "mechanics=mean"),
        (["rescore", "nowhere", "--push", "owner/name"], 2, "--out"),
        (["eval", "--tuned", "nowhere", "--prompts", "nowhere", "--split", "train"], 2, "'dev', 'test'"),
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


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [(["verify", "nowhere"], 1, "DatasetError"), (["build"], 2, "UsageError"), (["dimensions", "x"], 2, "RecipeError")],
)
def test_with_json_an_error_is_one_object_on_stdout_too(arguments: list[str], code: int, kind: str) -> None:
    ended = gv_data(*arguments, "--json")
    error = json.loads(ended.stdout)["error"]
    assert (ended.returncode, error["exit_code"], error["type"]) == (code, code, kind)
    assert error["message"] in ended.stderr


def test_every_command_has_sentences_of_help_and_a_valid_example() -> None:
    import typer

    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        _, gv_data, called, *arguments = shlex.split(command.epilog)
        assert (gv_data, called) == ("gv-data", name)
        command.make_context(name, arguments)
        assert command.help.split("\n")[0].endswith(".")
        assert len(command.help.split("\n")[0]) < 66, "longer ones are cut in the list of commands"
        for option in command.params:
            if not getattr(option, "hidden", False):
                assert option.help[0].isupper(), option.name
                assert option.help.endswith((".", "]")), option.name


@pytest.mark.parametrize("flag", ["-h", "--help", "--version"])
def test_the_package_is_the_command(flag: str) -> None:
    command = [sys.executable, "-m", "gigavideo_data", flag]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr == ""
    assert ended.stdout == gv_data(flag).stdout or flag != "--version"
    assert ended.stdout


def test_results_go_to_stdout_as_text_or_json() -> None:
    listed = gv_data("recipes")
    assert listed.stderr == ""
    assert any(line.startswith("quickstart ") for line in listed.stdout.splitlines())
    data = json.loads(gv_data("recipes", "--json").stdout)
    assert all(recipe["about"] for recipe in data)
    names = [dimension["name"] for dimension in json.loads(gv_data("dimensions", "--json").stdout)]
    assert "mechanics" in names
    assert json.loads(gv_data("dimensions", "mechanics", "--json").stdout)["combine"] == "gate"
