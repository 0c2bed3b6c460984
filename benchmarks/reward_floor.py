"""How well Lunar Lander's next reward can be known: regression on 60,000 transitions, by what is observed.

    python benchmarks/reward_floor.py                                  # data of a simple pilot
    python benchmarks/reward_floor.py checkpoints/lunarlander/seed-0/step-0200000    # of an agent's behaviour policy

A perceptron reads an observation and an action and is fitted to the reward: by its absolute error, which gives medians
and lets rare ends go, and by its squared error, which gives means. A tenth of the episodes is held out; what it misses
there says what a model that sees no more can be asked for, since nothing but the reward is asked of it. `plain` are
Gymnasium's eight numbers, `full` has what they hide; both see the same transitions. Errors are in Gymnasium's rewards,
over all states and apart where a leg touches or the episode ends.
"""

from _timing import SMALLEST, pin_to_one_core  # isort: skip - sets the threads before numpy loads

import argparse
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mzprobe.behaviour import actions_from_uniforms
from mzprobe.checkpoints import read_checkpoint
from mzprobe.envs import LunarLander
from mzprobe.envs.core import Environment
from mzprobe.sources.own import load_agent

TRANSITIONS, SIDE_BY_SIDE, EPOCHS = (2000, 4, 2) if SMALLEST else (60_000, 16, 60)
PLAIN = 8
LAZY = 0.2  # share of the pilot's actions that are drawn at random
NOTHING, LEFT, MAIN, RIGHT = range(4)


class Transitions(NamedTuple):
    """M steps, as they came."""

    observations: np.ndarray  # [M, 25], float32; the first eight are the plain ones
    actions: np.ndarray  # [M]
    rewards: np.ndarray  # [M]
    ended: np.ndarray  # [M]
    episode: np.ndarray  # [M]


def pilot(observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Falls the slower the lower it is, leans towards the pad, and is careless now and then."""
    x, y, x_dot, y_dot, angle, spin, left, right = observations[:, :PLAIN].T
    lean = 0.3 * x + 0.7 * x_dot - angle - 0.8 * spin
    flying = np.select(
        [y_dot < -0.08 - 0.3 * np.maximum(y, 0), lean > 0.04, lean < -0.04], [MAIN, LEFT, RIGHT], NOTHING
    )
    down = np.where((y_dot < -0.1) & ~((left > 0) & (right > 0)), MAIN, NOTHING)
    chosen = np.where((left > 0) | (right > 0), down, flying)
    return np.where(generator.random(len(chosen)) < LAZY, generator.integers(4, size=len(chosen)), chosen)


class Player:
    """An agent's behaviour policy, which sees the plain numbers, or the pilot."""

    def __init__(self, checkpoint: Path | None) -> None:
        self.generator = np.random.default_rng(0)
        self.agent = None if checkpoint is None else load_agent(read_checkpoint(checkpoint))

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Actions `[B]`."""
        if self.agent is None:
            return pilot(observations, self.generator)
        policy = self.agent.policy
        plain = np.ascontiguousarray(observations[:, :PLAIN])
        from mzprobe.search import search

        result = search(policy.model, plain, config=policy.config)
        return actions_from_uniforms(result.acting(policy.temperature), self.generator.random(len(plain)))


def record(environment: Environment, player: Player) -> Transitions:
    """Episodes side by side, restarted as they end, until there are enough transitions."""
    limit, parts, seed = environment.spec.time_limit, [], SIDE_BY_SIDE
    states, number, steps = environment.reset(np.arange(seed)), np.arange(seed), np.zeros(seed, int)
    for _ in range(TRANSITIONS // SIDE_BY_SIDE):
        observations = environment.observe(states)
        actions = player.act(observations)
        states, outcome = environment.step(states, actions)
        parts.append((observations, actions, outcome.reward, outcome.terminated, number.copy()))
        steps += 1
        over = np.flatnonzero(outcome.terminated | (steps == limit))
        if len(over):
            fresh = environment.reset(np.arange(seed, seed + len(over)))
            order = np.arange(SIDE_BY_SIDE)
            order[over] = SIDE_BY_SIDE + np.arange(len(over))
            states = type(states).concatenate([states, fresh]).take(order)
            number[over], steps[over] = np.arange(seed, seed + len(over)), 0
            seed += len(over)
    return Transitions(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def errors(given: Transitions, size: int, held: np.ndarray, power: int) -> np.ndarray:
    """Absolute errors on what is held out, of a regression that sees the first `size` numbers and the action.

    It is fitted by the error to the `power`.
    """
    torch.manual_seed(0)
    inputs = np.concatenate([given.observations[:, :size], np.eye(4, dtype=np.float32)[given.actions]], axis=1)
    mean, width = inputs[~held].mean(axis=0), np.maximum(inputs[~held].std(axis=0), 0.01)
    x = torch.from_numpy(np.clip((inputs - mean) / width, -10, 10))
    y = torch.from_numpy(given.rewards.astype(np.float32))
    known, unknown = (torch.from_numpy(np.flatnonzero(rows)) for rows in (~held, held))
    network = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 1),
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    batches = max(1, len(known) // 256)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * batches)
    for _ in range(EPOCHS):
        for rows in known[torch.randperm(len(known))].chunk(batches):
            loss = (network(x[rows])[:, 0] - y[rows]).abs().pow(power).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    with torch.inference_mode():
        return (network(x[unknown])[:, 0] - y[unknown]).abs().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    checkpoint = parser.parse_args().checkpoint
    pin_to_one_core()
    torch.set_num_threads(1)
    given = record(LunarLander(observation="full"), Player(checkpoint))
    held = given.episode % 10 == 0
    touching = (given.observations[:, 6:8] > 0).any(axis=1) & ~given.ended
    kinds = {
        "all": np.ones_like(held),
        "in the air": ~touching & ~given.ended,
        "touching": touching,
        "ends": given.ended,
    }
    size = float(np.abs(given.rewards[held]).mean())
    print(f"{'an agent' if checkpoint else 'a pilot'}: {len(held):,} transitions, {held.sum():,} held out, ", end="")
    print(f"rewards of {size:.2f} on average")
    sizes = {"plain": PLAIN, "full": given.observations.shape[1]}
    for (loss, power), name in product({"absolute": 1, "squared": 2}.items(), sizes):
        missed = errors(given, sizes[name], held, power)
        for kind, rows in kinds.items():
            part = missed[rows[held]]
            if len(part):
                share = part.sum() / missed.sum()
                said = f"median {np.median(part):.3f}, mean {part.mean():.3f}"
                print(f"{loss} error, {name}, {kind}: {said}, {share:.0%} of the sum")


if __name__ == "__main__":
    main()
