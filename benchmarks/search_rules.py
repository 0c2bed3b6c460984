"""What each search rule costs on one core, beside mctx's of the same rule, compile time left out.

    make bench        (or: python benchmarks/search_rules.py, with mzprobe[bench] installed)

One network size (latent 32, hidden 64, 21 atoms) with 2, 4 and 18 actions, B = 64 and N = 50; random weights, whose
trees are shallow, and weights after 2,000 training steps, on CartPole or, with more actions, on random tables.
Without mctx it prints our own numbers only; mctx has no regularised policy.
"""

from _timing import SMALLEST, interleaved, pin_to_one_core  # isort: skip - sets the threads before numpy loads
from _peer import GAMMA, peer  # isort: skip

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mzprobe.config import SearchConfig, load_preset
from mzprobe.networks import MLPNetwork
from mzprobe.search import LearnedModel, sample_actions, search
from mzprobe.training.trainer import Trainer

B, N = 64, 50
TRAINED = 20 if SMALLEST else 2000  # training steps
RULES = ("puct", "gumbel", "regularised")


def trained(A: int) -> Trainer:
    """An agent after 2,000 training steps."""
    tables = ("environment.name=tabular", "environment.options.num_states=16", f"environment.options.num_actions={A}")
    own = [] if A == 2 else tables
    with tempfile.TemporaryDirectory() as folder:
        config = load_preset("cartpole", [f"training.steps={TRAINED}", "training.evaluation_episodes=0", *own])
        trainer = Trainer(config, seed=0, run="benchmark", out=Path(folder), command="benchmark")
        trainer.train()
    return trainer


def observations_of(trainer: Trainer) -> np.ndarray:
    """What its environment shows eight random steps after the start."""
    environment, generator = trainer.environment, np.random.default_rng(1)
    states = environment.reset(np.arange(B))
    for _ in range(8):
        states, _ = environment.step(states, generator.integers(environment.spec.num_actions, size=B))
    return environment.observe(states)


def randomised(network: MLPNetwork) -> MLPNetwork:
    """The same network with random weights, heads included."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.3, 0.3, generator=generator)
    return network


def ours(model: LearnedModel, observations: np.ndarray, rule: str) -> Callable[[], object]:
    """Search with root noise, and the action."""
    generator = np.random.default_rng(0)
    config = SearchConfig(simulations=N, rule=rule)

    def act() -> object:
        result = search(model, observations, config=config, generator=generator)
        return sample_actions(result.acting(1.0), generator)

    return act


def compare(kind: str, network: MLPNetwork, observations: np.ndarray) -> None:
    """All rules with one set of weights."""
    A = network.num_actions
    model = LearnedModel(network, num_actions=A, gamma=GAMMA)
    functions = {rule: ours(model, observations, rule) for rule in RULES}
    others = {f"mctx {rule}": peer(network, observations, N, rule=rule) for rule in RULES}
    medians = interleaved(functions | {name: run for name, run in others.items() if run}, repetitions=11)
    speed = {name: B * N / seconds for name, seconds in medians.items()}
    for rule in RULES:
        said = f"{kind}, A = {A}, {rule}: {speed[rule]:.3g} simulations/s, {speed[rule] / speed['puct']:.2f} of PUCT's"
        other = speed.get(f"mctx {rule}")
        print(f"{said}; mctx {other:.3g}, ratio {speed[rule] / other:.1f}" if other else said)


def main() -> None:
    pin_to_one_core()
    torch.set_num_threads(1)
    for A in (2, 4, 18):
        trainer = trained(A)
        observations, network = observations_of(trainer), trainer.network
        assert isinstance(network, MLPNetwork)
        compare("trained", network, observations)
        compare("random", randomised(network), observations)


if __name__ == "__main__":
    main()
