"""One optimiser step, all in (sampling, targets, forward, backward, update, priorities), against its arithmetic.

    python benchmarks/training_speed.py

Batch 128, K = 10, latent 32, hidden 64, 21 atoms: 1.1e8 flop. The target is 4.5 times what those take at the rate of
a large matrix product measured in the same run.
"""

from _timing import interleaved, pin_to_one_core  # isort: skip - sets the threads before numpy loads

from collections.abc import Callable

import numpy as np
import torch
from search_speed import ACTIONS, ATOMS, HIDDEN, LATENT, OBSERVATION, gemm_rate, make_network

from mzprobe.config import TrainingConfig
from mzprobe.training.episodes import Episode
from mzprobe.training.learner import Learner
from mzprobe.training.replay import Replay

B, K = 128, 10
FORWARD = (
    2
    * B
    * (
        (OBSERVATION + LATENT) * HIDDEN
        + K * (2 * LATENT + ACTIONS) * HIDDEN
        + (K + 1) * (2 * LATENT + ATOMS + ACTIONS) * HIDDEN
        + K * (LATENT + ATOMS) * HIDDEN
    )
)
FLOP = 3 * FORWARD  # the backward pass does two products for each of the forward pass


def filled_replay(config: TrainingConfig) -> Replay:
    generator = np.random.default_rng(0)
    replay = Replay(config, observation_shape=(OBSERVATION,), num_actions=ACTIONS, gamma=0.997)
    for _ in range(200):
        T = int(generator.integers(10, 500))
        values = np.append(generator.normal(50, 10, size=T), 0.0)
        replay.add(
            Episode(
                observations=generator.normal(size=(T + 1, OBSERVATION)).astype(np.float32),
                actions=generator.integers(ACTIONS, size=T),
                rewards=np.ones(T),
                policies=generator.dirichlet(np.ones(ACTIONS), size=T + 1),
                root_values=values,
                terminated=True,
            )
        )
    return replay


def stepper(config: TrainingConfig, *, fused: bool) -> Callable[[], object]:
    replay = filled_replay(config)
    learner = Learner(make_network(), config, fused=fused)
    generator = np.random.default_rng(1)

    def step() -> None:
        slots = replay.draw(generator, B)
        batch = replay.batch(slots, generator)
        _, root_values = learner.step(batch, 0)
        replay.prioritise(slots, np.abs(root_values - batch.values[0]))

    return step


def main() -> None:
    pin_to_one_core()
    torch.set_num_threads(1)
    config = TrainingConfig(batch_size=B, unroll_steps=K, learning_rate=1e-5)
    rate = gemm_rate()
    bound = FLOP / rate
    print(f"{FLOP:.3g} flop at {rate / 1e9:.0f} GFLOP/s: {bound * 1e3:.2f} ms")
    functions = {"fused": stepper(config, fused=True), "autograd": stepper(config, fused=False)}
    for name, seconds in interleaved(functions, repetitions=101).items():
        print(f"{name}: {seconds * 1e3:.2f} ms a step, {seconds / bound:.1f} times its arithmetic (target 4.5)")


if __name__ == "__main__":
    main()
