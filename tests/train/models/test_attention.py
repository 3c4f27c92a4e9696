import pytest
import torch

from gigavideo_train.models.attention import fastest, time_kernel, use_kernels


def test_the_fastest_that_runs_comes_first() -> None:
    took = {"slow": 2.0, "fast": 1.0}

    def measure(name: str) -> float:
        if name not in took:
            raise RuntimeError("no kernel image is available")
        return took[name]

    assert fastest(["slow", "missing", "fast"], measure) == ["fast", "slow"]
    assert fastest(["missing"], measure) == []


def test_kernels_are_timed_there_and_back_and_refuse_where_they_cannot_run() -> None:
    cpu = torch.device("cpu")
    assert time_kernel("math", 2, 16, 8, cpu) > 0
    with pytest.raises(RuntimeError):
        time_kernel("cudnn", 2, 16, 8, cpu)


def test_inputs_that_no_kernel_supports_are_still_computed() -> None:
    query = torch.randn(1, 2, 16, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(query, query, query)
    for order in (["cudnn", "efficient"], []):
        with use_kernels(order):
            torch.testing.assert_close(torch.nn.functional.scaled_dot_product_attention(query, query, query), expected)
