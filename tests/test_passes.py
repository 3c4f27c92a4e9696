import torch

from benchmarks.passes import MODES, line, peak_flops


def test_the_benchmark_of_passes_runs_without_a_gpu() -> None:
    cpu = torch.device("cpu")
    peak = peak_flops(cpu, 64)
    for mode in MODES:
        cells = [cell.strip() for cell in line("math", mode, peak, 1, cpu, tiny=True).split("|")[1:-1]]
        assert cells[:2] == ["math", mode]
        assert float(cells[3]) > 0
        assert cells[4].endswith(" %")
