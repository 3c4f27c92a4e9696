"""The average of the weights, updated by one call for all of them."""

import torch
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from gigavideo_train.checkpoint import ema
from gigavideo_train.distributed.world import World


def test_all_weights_are_averaged_as_one_after_the_other_and_swapped_back() -> None:
    parameters = {str(n): torch.nn.Parameter(torch.randn(3, n + 1)) for n in range(3)}
    average = ema.copy_weights(parameters)
    expected = ema.copy_weights(parameters)
    for taken in range(1, 30):
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.add_(0.1)
                expected[name].lerp_(parameter, 1 - min(0.5, (1 + taken) / (10 + taken)))
        ema.update(average, dict(reversed(parameters.items())), 0.5, taken)
    own = ema.copy_weights(parameters)
    for name, tensor in expected.items():
        assert torch.equal(average[name], tensor)
    with ema.swap_weights(average, parameters):
        assert all(torch.equal(parameters[name], tensor) for name, tensor in expected.items())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in own.items())
    ema.update({}, parameters, None, 1)
    with ema.swap_weights({}, parameters):
        assert all(torch.equal(parameters[name], tensor) for name, tensor in own.items())


def test_sharded_weights_are_averaged_shard_by_shard() -> None:
    mesh = World(0, 1, torch.device("cpu")).mesh()
    try:
        whole = torch.randn(4, 3)
        parameters = {"w": torch.nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)]))}
        average = ema.copy_weights(parameters)
        with torch.no_grad():
            parameters["w"] += 1
        ema.update(average, parameters, 0.999, 1)
        assert isinstance(average["w"], DTensor)
        torch.testing.assert_close(average["w"].full_tensor(), whole + 9 / 11)
        with ema.swap_weights(average, parameters):
            torch.testing.assert_close(parameters["w"].full_tensor(), whole + 9 / 11)
        torch.testing.assert_close(parameters["w"].full_tensor(), whole + 1)
    finally:
        torch.distributed.destroy_process_group()
