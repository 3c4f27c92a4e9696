"""`gv-loop` from outside: its help, what it refuses, its output, and how it runs commands."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from filelock import FileLock

from gigavideo_data.errors import HubError
from gigavideo_data.io import terminal
from gigavideo_loop import cli, commands, table
from gigavideo_train.config import TrainConfig
from tests.data.test_cli import HEAVY
from tests.support.hub_clients import here
from tests.support.loop_commands import RECIPE, FakeCommands, Killed, run

ARGUMENTS = ["--recipe", "quickstart", *(part for text in RECIPE for part in ("--set", text))]


@pytest.fixture
def gv_loop(monkeypatch, capsys, tmp_path):
    """Run `gv-loop` in this process with fake commands: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, fake: FakeCommands | None = None) -> tuple[int, str, str]:
        if fake:
            monkeypatch.setattr(commands, "_run", lambda _lock, *given: fake(*given))
        return here(cli.main, monkeypatch, capsys, *arguments)

    return call


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import atexit, sys; from gigavideo_loop.cli import main;"
        f"atexit.register(lambda: print(*sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)); main()"
    )
    ended = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "gv-loop --recipe quickstart" in ended.stdout
    assert ended.stderr.strip() == ""


def test_the_strategies_are_those_of_the_trainer() -> None:
    (option,) = (part for part in get_args(cli.Strategies) if hasattr(part, "__args__"))
    assert get_args(option) == get_args(TrainConfig.model_fields["strategy"].annotation)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "--rounds"),
        (["--rounds", "2", "--strategy", "ppo"], "'ppo' is not one of"),
        (["--rounds", "2", "--no-guard", "realsm"], "did you mean 'realism'?"),
        (["--rounds", "2", "--set", "eval_prompts.per_dimension=0"], "eval_prompts.per_dimension is 0"),
        (["--rounds", "2", "--set", "prompts.per_dimenson=2"], "did you mean 'per_dimension'?"),
        (["--rounds", "2", "--push", "name"], "must be owner/name"),
        (["--rounds", "2", "--push-model", "./model"], "must be owner/name"),
    ],
)
def test_a_usage_error_has_exit_code_2_and_writes_nothing(gv_loop, tmp_path: Path, arguments, words) -> None:
    code, printed, said = gv_loop(*ARGUMENTS, *arguments, "--json")
    assert (code, words in said) == (2, True), said
    assert json.loads(printed)["error"]["exit_code"] == 2
    assert not (tmp_path / "runs").exists()


def test_it_prints_a_table_after_each_round_and_the_best_round_at_the_end(gv_loop) -> None:
    code, printed, said = gv_loop(*ARGUMENTS, "--rounds", "2", fake=FakeCommands())
    assert code == 0, said
    assert printed.count("quickstart: motion order understanding on dev prompts") == 2
    assert "2*" in printed
    assert "+0.100" in printed
    assert "Best round: 2" in printed
    assert [line for line in said.splitlines() if line.startswith("round")] == [
        f"round {number} of 2: {step}" for number in (1, 2) for step in ("build", "train", "eval")
    ]


def test_json_is_loop_json(gv_loop, tmp_path: Path) -> None:
    code, printed, said = gv_loop(*ARGUMENTS, "--rounds", "1", "--json", fake=FakeCommands())
    assert code == 0, said
    assert json.loads(printed) == json.loads((tmp_path / "runs/loop/quickstart/loop.json").read_text())


def test_a_stop_says_which_guard_and_why(tmp_path: Path) -> None:
    loop = run(tmp_path / "loop", FakeCommands(losses=(-0.1, 0.0, 0.0)))
    first, *rest = table.conclusion(loop)
    assert "guard 'other dimensions'" in first
    assert "mechanics" in first
    assert not any("Best round" in line for line in rest)
    console = terminal.console()
    with console.capture() as captured:
        console.print(table.table(loop))
    assert "mechanics -0.100" in captured.get()


def test_a_second_loop_in_one_folder_is_refused(gv_loop, tmp_path: Path) -> None:
    out = tmp_path / "runs/loop/quickstart"
    out.mkdir(parents=True)
    with FileLock(out / ".lock"):
        code, _, said = gv_loop(*ARGUMENTS, "--rounds", "2", fake=FakeCommands())
    assert (code, "another gv-loop works in this folder" in said) == (1, True), said


def test_a_failed_command_ends_the_loop_with_its_exit_code_and_round(gv_loop) -> None:
    fake = FakeCommands(errors={"train": commands.CommandError("round 1, gv-train: no sample is kept", 1)})
    code, printed, said = gv_loop(*ARGUMENTS, "--rounds", "1", "--json", fake=fake)
    assert (code, "error: round 1, gv-train: no sample is kept" in said) == (1, True), said
    assert json.loads(printed)["error"]["type"] == "CommandError"
    assert gv_loop(*ARGUMENTS, "--rounds", "1", fake=fake)[0] == 0
    assert fake.names() == ["build", "train", "train", "eval"]


def test_each_round_is_published_once_and_the_best_model_at_the_end(tmp_path: Path) -> None:
    fake, out = FakeCommands(gains=(0.1, 0.2, 0.15)), tmp_path / "loop"
    loop = run(out, fake, dataset_repo="org/ds", model_repo="org/model", private=True)
    pushes = [call[1:] for call in fake.calls if call[1] == "push"]
    datasets = [
        ["push", str(out / f"round-{number}/dataset"), "org/ds", "--tag", f"v{number}.0.0", "--private"]
        for number in (1, 2, 3)
    ]
    assert pushes == [*datasets, ["push", str(out / "round-2/model"), "org/model", "--model", "--private"]]
    assert fake.names()[:4] == ["build", "train", "eval", "push"], "before the next round"
    assert [(one["published"] or {})["tag"] for one in loop["rounds"]] == ["v1.0.0", "v2.0.0", "v3.0.0"]
    assert (loop["published_model"] or {})["round"] == 2


def test_after_a_failure_of_the_hub_the_loop_continues_without_building_again(gv_loop) -> None:
    push = [*ARGUMENTS, "--rounds", "2", "--push", "org/ds"]
    fake = FakeCommands(errors={"push": commands.CommandError("round 1, gv-data push: " + "x", HubError.exit_code)})
    code, _, said = gv_loop(*push, fake=fake)
    assert (code, "round 1, gv-data push" in said) == (4, True), said
    code, _, said = gv_loop(*push, fake=fake)
    assert code == 0, said
    assert fake.names() == ["build", "train", "eval", "push", "push", "build", "train", "eval", "push"]


def test_rounds_that_were_not_published_are_published_later(tmp_path: Path) -> None:
    out = tmp_path / "loop"
    with pytest.raises(Killed):
        run(out, FakeCommands(killed_at=(4, "after")), dataset_repo="org/ds")  # published, but not recorded
    later = FakeCommands()
    run(out, later, rounds=1, dataset_repo="org/ds")
    assert later.names() == ["push"]
    run(out, later, rounds=1, dataset_repo="org/ds")
    assert later.names() == ["push"]


# --- processes -------------------------------------------------------------------------------------------------------

PROGRAM = """
import json, signal, sys, time
action = sys.argv[1]
if action == "print":
    print("progress", file=sys.stderr); print(json.dumps({"given": sys.argv[1:]}))
if action == "fail":
    print(json.dumps({"error": {"type": "HubError", "message": "no access", "exit_code": 4}})); sys.exit(4)
if action == "break":
    sys.exit(7)
if action == "killed":
    signal.raise_signal(signal.SIGKILL)
if action == "interrupted":
    sys.exit(130)
if action == "wait":
    try:
        open("started", "w").close(); time.sleep(60)
    except KeyboardInterrupt:
        open("ended", "w").close(); sys.exit(130)
if action == "outlive":
    open("started", "w").close(); time.sleep(1.5); open("ended", "w").close()
"""


@pytest.fixture
def program(monkeypatch, tmp_path: Path) -> Path:
    (tmp_path / "fake_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    monkeypatch.setitem(commands.MODULES, "gv-data", "fake_program")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_command_returns_its_json_and_its_stderr_passes_through(program: Path, capfd) -> None:
    with commands.commands_in(program, print) as run_command:
        assert run_command("gv-data", ["print", "x"], "round 1, gv-data build") == {"given": ["print", "x", "--json"]}
    assert capfd.readouterr() == ("", "progress\n")


@pytest.mark.parametrize(
    ("action", "code", "message"),
    [
        ("fail", 4, "round 2, gv-data push: no access"),
        ("break", 7, "round 2, gv-data push: failed with exit code 7"),
        ("killed", 1, r"round 2, gv-data push: ended by signal 9 \(SIGKILL\)"),
    ],
)
def test_a_failed_command_says_which_one_of_which_round(program: Path, action: str, code: int, message: str) -> None:
    with (
        commands.commands_in(program, print) as run_command,
        pytest.raises(commands.CommandError, match=message) as caught,
    ):
        run_command("gv-data", [action], "round 2, gv-data push")
    assert caught.value.exit_code == code


def test_an_interrupted_command_interrupts_the_loop(program: Path) -> None:
    with commands.commands_in(program, print) as run_command, pytest.raises(KeyboardInterrupt):
        run_command("gv-data", ["interrupted"], "")


LOOP = """
import sys
from pathlib import Path
from gigavideo_loop import commands
commands.MODULES["gv-data"] = "fake_program"
with commands.commands_in(Path(), print) as run_command:
    run_command("gv-data", [sys.argv[1]], "")
"""


def started(folder: Path, action: str) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", LOOP, action], cwd=folder, stderr=subprocess.DEVNULL)
    while not (folder / "started").exists():
        assert process.poll() is None
    return process


def test_ctrl_c_is_passed_on_and_waits_for_the_command(program: Path) -> None:
    with started(program, "wait") as process:
        process.send_signal(2)
        assert process.wait(timeout=20) != 0
    assert (program / "ended").exists()


def test_the_command_of_a_killed_loop_ends_before_the_next_one_runs(program: Path) -> None:
    with started(program, "outlive") as process:
        process.kill()
    notes: list[str] = []
    with commands.commands_in(program, notes.append):
        assert (program / "ended").exists()
    assert len(notes) == 1
