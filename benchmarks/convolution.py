"""How much of a core's arithmetic do convolutions reach, in a search and in the learner?

    python benchmarks/convolution.py [--repetitions 5]

The peak is what a large product of matrices reaches in the same run. What is counted are the multiplications and
additions of convolutions and linear layers, two each; what else a call does costs time and counts nothing. A search is
timed with all that belongs to it, trees included; the learner's step with loss, clipping and AdamW.
"""

import argparse
import platform

import numpy as np
import torch
from _timing import SMALLEST, interleaved, pin_to_one_core
from torch import nn

from mzprobe.compute import Compute
from mzprobe.config import ResNetConfig, SearchConfig, TrainingConfig
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.networks import build
from mzprobe.networks.engine import place_on_device
from mzprobe.search import LearnedModel, search
from mzprobe.training.learner import Learner
from mzprobe.training.targets import Batch

ACTIONS, K = 3, 5
PEAK = 256 if SMALLEST else 2048  # rows and columns of the large product
KINDS = {  # what is shown, the network, roots of a search, its simulations, positions of a batch
    "10 x 10, 16 planes": ((10, 10, 4), ResNetConfig(channels=16), 16, 50, 128),
    "96 x 96, 64 planes": ((96, 96, 12), ResNetConfig(channels=64, downsample=True, atoms=601), 4, 50, 16),
}


def counted(network: nn.Module, function: object) -> float:
    """Multiplications and additions of all layers in a call."""
    total = 0.0

    def add(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        total += 2 * out.numel() * layer.weight[0].numel()

    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    function()
    for hook in hooks:
        hook.remove()
    return total


def batch_of(shape: tuple[int, ...], B: int, rng: np.random.Generator, *, K: int = K, A: int = ACTIONS) -> Batch:
    ones = np.ones((K + 1, B), np.float32)
    return Batch(
        observations=rng.integers(256, size=(B, *shape), dtype=np.uint8),
        actions=rng.integers(A, size=(K, B)),
        rewards=rng.random((K, B), dtype=np.float32),
        values=rng.random((K + 1, B), dtype=np.float32),
        policies=np.full((K + 1, B, A), 1 / A, np.float32),
        reward_weights=ones[:K],
        value_weights=ones,
        policy_weights=ones,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    pin_to_one_core()
    print(f"{platform.machine()}, torch {torch.__version__}, one thread, medians of {repetitions} repetitions")
    rng = np.random.default_rng(0)
    square = torch.rand(PEAK, PEAK)
    with Compute().limited():
        for name, (shape, config, roots, N, B) in KINDS.items():
            roots, N, B = (2, 2, 2) if SMALLEST else (roots, N, B)
            spec = EnvironmentSpec(
                name="images",
                observation_shape=shape,
                observation_dtype="uint8",
                num_actions=ACTIONS,
                gamma=0.997,
                time_limit=1000,
                action_meanings=("one", "two", "three"),
                source="drawn at random",
            )
            for last in (False, True):
                compute = Compute(channels_last=last)
                report(name, spec, config, compute, square, (roots, N, B), repetitions, rng)


def report(name, spec, config, compute, square, sizes, repetitions, rng) -> None:
    roots, N, B = sizes
    network = place_on_device(build(config, spec, torch.Generator().manual_seed(0)), compute)
    seen = rng.integers(256, size=(roots, *spec.observation_shape), dtype=np.uint8)
    model = LearnedModel(network, num_actions=ACTIONS, gamma=spec.gamma, compute=compute)
    learner = Learner(network, TrainingConfig(batch_size=B, unroll_steps=K), compute=compute)
    batch, settings = batch_of(spec.observation_shape, B, rng), SearchConfig(simulations=N)
    calls = {
        "peak": lambda: square @ square,
        "search": lambda: search(model, seen, config=settings),
        "learner": lambda: learner.step(batch, 0),
    }
    work = {
        "peak": 2.0 * PEAK**3,
        "search": counted(network, calls["search"]),
        "learner": 3 * counted(network, calls["learner"]),  # there, and back to inputs and to weights
    }
    seconds = interleaved(calls, repetitions=repetitions)
    rates = {one: work[one] / seconds[one] for one in calls}
    lies = "weights channels last" if compute.channels_last else "weights as they are"
    print(f"{name}, {lies}: peak {rates['peak'] / 1e9:.1f} GFLOP/s")
    for one, what in (("search", f"{roots} roots, N = {N}"), ("learner", f"batch {B}, K = {K}")):
        print(
            f"  {one} ({what}): {1000 * seconds[one]:8.1f} ms, {work[one] / 1e9:7.2f} GFLOP, "
            f"{rates[one] / 1e9:5.1f} GFLOP/s, {rates[one] / rates['peak']:.0%} of the peak"
        )


if __name__ == "__main__":
    main()
