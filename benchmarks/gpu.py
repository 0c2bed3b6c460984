"""What does a graphics card make of the preset `breakout`, and how far is that from what arithmetic and bytes allow?

    python benchmarks/gpu.py [--device cuda] [--steps 50]

For each way to run the network: updates a second at the preset's batch and K, beside the floor; steps of self-play a
second, all episodes together; the share of the time that the device computes; and what 120,000 training steps take,
play, drawing, reanalyse and all, by the clock of a real run of `--steps` of them.

The floor is, layer by layer, the longer of two times: its multiplications and additions at the rate of a large product
of matrices, and its inputs, outputs and weights at the rate of a large copy, both measured here; three times that, as
the gradient makes two products for each of the forward pass; and the optimiser's reads and writes.

Without a card it runs on the processor, where its numbers are of the processor.
"""

from _timing import SMALLEST, interleaved  # isort: skip - sets the threads before numpy loads

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from convolution import batch_of
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mzprobe.compute import Compute
from mzprobe.config import RunConfig, load_preset
from mzprobe.networks.core import TrainableNetwork
from mzprobe.training.trainer import Trainer

UPDATES = 120_000  # of EfficientZero
SIDE = 256 if SMALLEST else 8192  # of the large product
BYTES = 1 << (20 if SMALLEST else 30)  # of the large copy
TINY = (  # so that a test sees the benchmark to its end
    "training.batch_size=4",
    "training.unroll_steps=1",
    "training.environments=2",
    "training.warmup_environment_steps=60",
    "training.replay_capacity=500",
    "search.simulations=2",
    "network.channels=4",
    'environment.options={"size": 32, "time_limit": 20}',
    "reanalyse.fraction=0.5",
)
WAYS = {
    "float32": Compute(),
    "TF32, channels last": Compute(precision="high", channels_last=True),
    "bfloat16, channels last": Compute(precision="bfloat16", channels_last=True),
    "bfloat16, channels last, compiled": Compute(precision="bfloat16", channels_last=True, compiled=True),
}


def waited(function: Callable[[], object], device: str) -> Callable[[], None]:
    """A function that ends when the device has done its work."""

    def call() -> None:
        function()
        if device != "cpu":
            torch.cuda.synchronize()

    return call


def rates(compute: Compute) -> tuple[float, float]:
    """Operations a second of a large product, as precise as the network, and bytes a second of a large copy."""
    square = torch.rand(SIDE, SIDE, device=compute.device)
    source = torch.zeros(BYTES, dtype=torch.uint8, device=compute.device)
    target = torch.empty_like(source)

    def product() -> None:
        with compute.autocast():
            square @ square

    functions = {"product": product, "copy": lambda: target.copy_(source)}
    waiting = {name: waited(function, compute.device) for name, function in functions.items()}
    seconds = interleaved(waiting, repetitions=5)
    return 2.0 * SIDE**3 / seconds["product"], 2.0 * BYTES / seconds["copy"]


def floor(network: TrainableNetwork, step: Callable[[], object], compute: Compute) -> tuple[float, float]:
    """Seconds below which no training step can be, and its operations."""
    operations, bandwidth = rates(compute)
    width = 2 if compute.precision == "bfloat16" else 4
    total, counted = 0.0, 0.0

    def add(layer: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        nonlocal total, counted
        flop = 2.0 * out.numel() * layer.weight[0].numel()
        moved = width * (inputs[0].numel() + out.numel() + layer.weight.numel())
        total += 3 * max(flop / operations, moved / bandwidth)
        counted += 3 * flop

    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    step()
    for hook in hooks:
        hook.remove()
    parameters = sum(p.numel() for p in network.parameters())
    return total + 4 * 7 * parameters / bandwidth, counted  # AdamW reads four arrays and writes three


def busy(function: Callable[[], object], device: str, *, calls: int) -> float:
    """Share of the time in which the device computes: kernels of a card, operators of a processor."""
    card = device != "cpu"
    with profile(activities=[ProfilerActivity.CUDA if card else ProfilerActivity.CPU]) as recorded:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        seconds = time.perf_counter() - start
    events = recorded.key_averages()
    spent = sum(event.self_device_time_total if card else event.self_cpu_time_total for event in events)
    return spent / 1e6 / seconds


def report(name: str, config: RunConfig, compute: Compute, steps: int) -> None:
    device, training = compute.device, config.training
    with tempfile.TemporaryDirectory() as folder, compute.limited():
        trainer = Trainer(config, seed=0, run="gpu", out=Path(folder), command="a benchmark", compute=compute)
        spec, rng = trainer.environment.spec, np.random.default_rng(0)
        batch = batch_of(spec.observation_shape, training.batch_size, rng, K=training.unroll_steps, A=spec.num_actions)
        learn = waited(lambda: trainer.learner.step(batch, 0), device)
        play = waited(lambda: trainer.experience.play.step(trainer.experience.model, 1.0), device)
        learn(), play()  # compiled and tuned before anything is counted
        least, operations = floor(trainer.network, learn, compute) if not compute.compiled else (np.nan, np.nan)
        seconds = interleaved({"learn": learn, "play": play}, repetitions=7)
        shares = {what: busy(call, device, calls=3) for what, call in (("learn", learn), ("play", play))}
        said = "" if compute.compiled else f", the floor {1e3 * least:.2f} ms ({seconds['learn'] / least:.1f} times)"
        print(
            f"{name}: {1 / seconds['learn']:.1f} updates/s, {1e3 * seconds['learn']:.1f} ms{said}; busy "
            f"{shares['learn']:.0%} of it"
        )
        if not compute.compiled:
            print(f"  {operations / 1e9:.3g} GFLOP an update, {operations / 1e9 / seconds['learn']:.3g} GFLOP/s")
        print(f"  self-play {training.environments / seconds['play']:.0f} steps/s; busy {shares['play']:.0%} of it")
    whole(config, compute, steps)


def whole(config: RunConfig, compute: Compute, steps: int) -> None:
    """Training steps of a real run, from the first on."""
    with tempfile.TemporaryDirectory() as folder, compute.limited():
        trainer = Trainer(config, seed=0, run="gpu", out=Path(folder), command="a benchmark", compute=compute)
        trainer.experience.begin()
        while trainer.step < 1:
            trainer.advance()
        # What the warm-up has played would be searched anew over the next thousand steps, three times as much as later.
        counts = trainer.experience.counts
        counts.reanalysed += counts.due(config.reanalyse.fraction)
        start, before = time.perf_counter(), dict(trainer.clock.seconds)
        while trainer.step < 1 + steps:
            trainer.advance()
        each = (time.perf_counter() - start) / steps
        parts = {
            part: (spent - before[part]) / steps for part, spent in trainer.clock.seconds.items() if part in before
        }
    said = ", ".join(f"{part} {1e3 * spent:.1f}" for part, spent in parts.items() if spent > 0)
    print(f"  a training step, all in: {1e3 * each:.1f} ms ({said}); {UPDATES:,} take {UPDATES * each / 3600:.1f} h")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=2 if SMALLEST else 192, help="192 are five steps of play")
    options = parser.parse_args()
    never = ("training.evaluation_episodes=0", "training.checkpoint_interval=1000000", "training.checkpoint_steps=[]")
    config = load_preset("breakout", [*never, *(TINY if SMALLEST else ())])
    training, device = config.training, options.device
    what = torch.cuda.get_device_name(device) if device != "cpu" else "a processor, no card"
    print(f"{what}, torch {torch.__version__}; batch {training.batch_size}, K = {training.unroll_steps}")
    for name, way in WAYS.items():
        if SMALLEST and way.compiled:
            continue  # a minute of compiling, which has its own tests
        report(name, config, Compute(**{**vars(way), "device": device}), options.steps)


if __name__ == "__main__":
    main()
