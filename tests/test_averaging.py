"""Averaged weights: the plain formula, who uses them, and nothing of them where they are off."""

import copy

import numpy as np
import pytest
import torch
from models import random_network
from torch import nn

from mzprobe.checkpoints import read_checkpoint, steps_of
from mzprobe.training.averaging import WeightAverage


@pytest.mark.parametrize("kernels", [True, False])
def test_an_average_is_the_plain_formula(kernels):
    network = random_network(0)
    average = WeightAverage(network, decay=0.3)  # reached at the third step
    if not kernels:
        average._arrays = None
    plain = {name: tensor.double().clone() for name, tensor in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 9):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        average.update(step)
        keep = min(0.3, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            plain[name] = keep * plain[name] + (1 - keep) * tensor.double()
        for name, tensor in average.network.state_dict().items():
            torch.testing.assert_close(tensor.double(), plain[name], rtol=1e-5, atol=1e-6)


def test_numbers_that_are_no_weights_are_copied():
    network = nn.BatchNorm1d(3)
    average = WeightAverage(network, decay=0.9)
    network(torch.randn(5, 3))
    average.update(1)
    assert average.network.num_batches_tracked == 1
    expected = 2 / 11 * 1.0 + 9 / 11 * network.running_var
    torch.testing.assert_close(average.network.running_var, expected)


def test_weights_that_do_not_lie_side_by_side_or_are_shared_move_once():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.strided = nn.Parameter(torch.zeros(4, 6)[:, :3])
            self.one = nn.Linear(2, 2)
            self.same = self.one

    network = Odd()
    average = WeightAverage(network, decay=0.05)
    before = average.network.one.weight.clone()
    with torch.no_grad():
        network.strided.fill_(1.0)
        network.one.weight.add_(1.0)
    average.update(1)
    torch.testing.assert_close(average.network.strided, torch.full((4, 3), 0.95))
    torch.testing.assert_close(average.network.one.weight, before + 0.95)


def test_a_restored_average_goes_on_to_the_same_bits():
    network = random_network(1)
    average = WeightAverage(network, decay=0.9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    average.update(1)
    other = WeightAverage(copy.deepcopy(network), decay=0.9)
    other.restore({name: array.copy() for name, array in average.state().items()})
    for one in (average, other):
        one.update(2)
    mine, theirs = average.state(), other.state()
    assert all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


@pytest.mark.parametrize("averaged", [["play"], ["reanalyse"], ["checkpoints"], ["play", "checkpoints"]])
def test_whoever_uses_averaged_weights_uses_those(tmp_path, tiny_config, make_trainer, averaged):
    said = str(averaged).replace("'", '"')
    config = tiny_config("training.average_decay=0.9", f"training.averaged={said}", "reanalyse.fraction=0.5")
    trainer = make_trainer(config, tmp_path)
    trainer.train()
    latest = trainer.network.state_dict()
    users = {
        "play": trainer.experience.model.network,
        "reanalyse": trainer.reanalyser.model.network,
        "checkpoints": trainer.snapshots.network_for("checkpoints"),
    }
    written = read_checkpoint(steps_of(trainer.folder)[-1]).weights
    for user, network in users.items():
        assert (network is trainer.snapshots.average.network) == (user in averaged)
    assert any(not np.array_equal(written[name], latest[name].numpy()) for name in latest) == (
        "checkpoints" in averaged
    )


def test_averages_that_are_only_looked_at_change_no_weight_that_is_trained(tmp_path, tiny_config, make_trainer):
    plain = make_trainer(tiny_config(), tmp_path / "plain")
    seen = make_trainer(
        tiny_config("training.average_decay=0.9", 'training.averaged=["checkpoints"]'), tmp_path / "seen"
    )
    for trainer in (plain, seen):
        trainer.train()
    mine, theirs = plain.network.state_dict(), seen.network.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
