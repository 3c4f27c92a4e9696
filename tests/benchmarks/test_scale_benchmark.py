"""The benchmark of many rows, on few: fake engines build, build again and verify, and Ray Data alone does the same."""

from pathlib import Path

import pytest

from benchmarks import scale


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_action_runs_in_a_process_of_its_own_and_a_finished_build_reads_less(tmp_path: Path) -> None:
    built, again, verified = scale.sizes([20], tmp_path, None)
    assert [line.split(" | ")[1] for line in (built, again, verified)] == ["build", "finished build again", "verify"]
    files = [int(line.strip("| ").split(" | ")[-1].replace(",", "")) for line in (built, again, verified)]
    assert files[0] > 20 * 6
    assert files[1:] == files[:1] * 2
    (plain, build, control) = scale.compared(20, 1, tmp_path)
    assert plain.startswith("| plain |")
    assert build.startswith("| build |")
    assert control.startswith("| plain again (control) |")
