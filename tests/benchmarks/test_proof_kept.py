"""Results kept in the repository: another machine continues from them, and does nothing twice."""

from pathlib import Path

from benchmarks.proof import rounds, work
from benchmarks.proof.kept import keep, restore
from benchmarks.proof.rounds import Loop
from benchmarks.proof.runs import FOCUS, Run, result_file
from tests.benchmarks.test_proof_rounds import write

RUN = Run("t", "n", (FOCUS,), views=("test",))


def test_kept_results_are_those_of_the_work_folder_and_a_done_run_is_not_missing_elsewhere(tmp_path: Path) -> None:
    first, second, kept = tmp_path / "first", tmp_path / "second", tmp_path / "kept"
    write(first / "test", "test", RUN, 0.25)
    write(first / "tiny" / "test", "test", RUN, 0.5)
    keep(first, kept)
    restore(second, kept)
    files = [result_file(folder / "test", "test", RUN) for folder in (first, second)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert work.missing_views(RUN, second / "test") == []
    assert not (second / "tiny").exists()
    before = {file: file.read_bytes() for file in kept.rglob("*.gz")}
    keep(second, kept)
    assert {file: file.read_bytes() for file in kept.rglob("*.gz")} == before, "the same bytes every time"


def test_what_a_work_folder_has_already_is_not_replaced(tmp_path: Path) -> None:
    write(tmp_path / "first", "test", RUN, 0.25)
    keep(tmp_path / "first", tmp_path / "kept")
    write(tmp_path / "second", "test", RUN, 0.5)
    mine = result_file(tmp_path / "second", "test", RUN)
    before = mine.read_bytes()
    restore(tmp_path / "second", tmp_path / "kept")
    assert mine.read_bytes() == before


def test_rounds_whose_models_are_elsewhere_are_done_again(tmp_path: Path, monkeypatch) -> None:
    loop = Loop("nft", num_rounds=3)
    for number in (1, 2):
        write(tmp_path, "dev", loop.run(number), 0.3)
    done: list[int] = []
    monkeypatch.setattr(rounds, "lab", lambda *_: None)
    monkeypatch.setattr(rounds, "_do_round", lambda _, number, *__: done.append(number))
    rounds.do_loop(loop, tmp_path, tmp_path, "set")
    assert done == [1, 2, 3]
    for number in (1, 2):
        (tmp_path / loop.round_folder(number) / "model").mkdir(parents=True)
    rounds.do_loop(loop, tmp_path, tmp_path, "set")
    assert done == [1, 2, 3, 3]
