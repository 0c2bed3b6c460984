"""Search speed on one core against mctx, same network and sizes, compile time left out.

    make bench        (or: python benchmarks/search_speed.py, with mzprobe[bench] installed)

Without mctx it prints our own numbers only. The network: latent 32, hidden 64, 21 atoms, 2 actions, 26 kflop a
simulation. Two sets of weights, since a peer's speed depends on how deep the trees grow: an agent after 2,000 training
steps on CartPole, trained in the run (what a user searches in), and random weights, whose trees are shallow; targets
stand beside both. The last line says where the time of the fused path goes.
"""

from _timing import SMALLEST, interleaved, pin_to_one_core  # isort: skip - sets the threads before numpy loads
from _peer import GAMMA, peer  # isort: skip

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mzprobe._kernel import kernel
from mzprobe.config import SearchConfig, load_preset
from mzprobe.envs import CartPole
from mzprobe.networks import MLPNetwork, Support
from mzprobe.networks.fused.mlp_kernels import (
    LANES,
    Block,
    new_block,
    policy_block,
    reward_block,
    step_block,
    value_block,
)
from mzprobe.networks.fused.products import add_product
from mzprobe.networks.fused.weights import MLPWeights
from mzprobe.networks.support import Axis
from mzprobe.search import LearnedModel, sample_actions, search
from mzprobe.training.trainer import Trainer

LATENT, HIDDEN, ACTIONS, ATOMS, OBSERVATION = 32, 64, 2, 21, 4
CASES = ((64, 50, 4.0), (256, 200, 6.0), (1, 50, 4.0))  # B, N, ratio to reach against mctx
TRAINED = 20 if SMALLEST else 2000  # training steps
FLOP = 2 * ((LATENT + ACTIONS) * HIDDEN + 4 * LATENT * HIDDEN + HIDDEN * (2 * ATOMS + ACTIONS))


def make_network() -> MLPNetwork:
    generator = torch.Generator().manual_seed(0)
    network = MLPNetwork(
        observation_size=OBSERVATION,
        num_actions=ACTIONS,
        latent=LATENT,
        hidden=HIDDEN,
        support=Support(minimum=-10, maximum=10, atoms=ATOMS),
        generator=generator,
    )
    with torch.no_grad():  # heads start at zero: give the tree something to disagree about
        for parameter in network.parameters():
            parameter.uniform_(-0.3, 0.3, generator=generator)
    return network


def trained_network() -> MLPNetwork:
    """An agent's network after 2,000 training steps on CartPole."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_preset("cartpole", [f"training.steps={TRAINED}", "training.evaluation_episodes=0"])
        trainer = Trainer(config, seed=0, run="benchmark", out=Path(folder), command="benchmark")
        trainer.train()
    assert isinstance(trainer.network, MLPNetwork)
    return trainer.network


def visited_observations(B: int) -> np.ndarray:
    """Observations of CartPole some random steps after its start."""
    environment = CartPole()
    states = environment.reset(np.arange(B))
    generator = np.random.default_rng(1)
    for _ in range(8):
        states, _ = environment.step(states, generator.integers(ACTIONS, size=B))
    return environment.observe(states)


def mean_depth(model: LearnedModel, observations: np.ndarray, N: int) -> float:
    """Mean depth of the nodes that a search expands."""
    tree = search(model, observations, config=SearchConfig(simulations=N), keep_tree=True).tree
    assert tree is not None
    depth = np.zeros(tree.visits.shape)
    for slot in range(1, N + 1):
        depth[:, slot] = depth[np.arange(len(depth)), tree.parent[:, slot]] + 1
    return float(depth[:, 1:].mean())


def ours(model: LearnedModel, observations: np.ndarray, N: int, path: Any) -> Callable[[], object]:
    """Search with root noise, and the action."""
    generator = np.random.default_rng(0)
    config = SearchConfig(simulations=N)

    def act() -> object:
        result = search(model, observations, config=config, generator=generator, path=path)
        return sample_actions(result.acting(1.0), generator)

    return act


def gemm_rate() -> float:
    """float32 operations a second of a large matrix product on one core."""
    a = torch.randn(768, 768)
    out = torch.empty(768, 768)
    seconds = interleaved({"gemm": lambda: torch.mm(a, a, out=out)}, repetitions=9)["gemm"]
    return 2 * 768**3 / seconds


@kernel
def products(block: Block, times: int, weights: MLPWeights) -> None:
    """The matrix products of `times` blocks of simulations, and nothing else."""
    for _ in range(times):
        add_product(weights.dynamics.w1.T, block.x, block.hidden)
        add_product(weights.dynamics.w2.T, block.hidden, block.z)
        add_product(weights.policy.w1.T, block.z, block.hidden)
        add_product(weights.policy.w2.T, block.hidden, block.policy)
        for head in (weights.value, weights.reward):
            add_product(head.w1.T, block.z, block.hidden)
            add_product(head.w2.T, block.hidden, block.atoms)


@kernel
def blas_products(x: np.ndarray, times: int, weights: MLPWeights) -> None:
    """The same by BLAS, rows down."""
    B = len(x)
    hidden = np.zeros((B, weights.dynamics.w1.shape[1]), np.float32)
    z = np.zeros((B, weights.dynamics.w2.shape[1]), np.float32)
    policy = np.zeros((B, weights.policy.w2.shape[1]), np.float32)
    atoms = np.zeros((B, weights.value.w2.shape[1]), np.float32)
    for _ in range(times):
        np.dot(x, weights.dynamics.w1, hidden)
        np.dot(hidden, weights.dynamics.w2, z)
        np.dot(z, weights.policy.w1, hidden)
        np.dot(hidden, weights.policy.w2, policy)
        for head in (weights.value, weights.reward):
            np.dot(z, head.w1, hidden)
            np.dot(hidden, head.w2, atoms)


@kernel
def network_only(block: Block, times: int, weights: MLPWeights, axis: Axis) -> None:
    """All of the network's arithmetic for the same simulations."""
    decoded = np.zeros(block.row.size)
    for _ in range(times):
        step_block(weights, block)
        policy_block(weights, block)
        value_block(weights, axis, block, decoded)
        reward_block(weights, axis, block, decoded)


def breakdown(network: MLPNetwork) -> None:
    """Where a simulation's time goes, at B = 64 and N = 50."""
    B, N = 64, 50
    observations = visited_observations(B)
    model = LearnedModel(network, num_actions=ACTIONS, gamma=GAMMA)
    weights = network.weights()
    block, x, times = new_block(weights, LANES), np.zeros((LANES, LATENT + ACTIONS), np.float32), N * B // LANES
    one = SearchConfig(simulations=1)
    medians = interleaved(
        {
            "products": lambda: products(block, times, weights),
            "blas": lambda: blas_products(x, times, weights),
            "network": lambda: network_only(block, times, weights, network.support.axis),
            "search": ours(model, observations, N, "fused"),
            "call": lambda: search(model, observations, config=one),
        },
        repetitions=31,
    )
    per = {name: seconds / (B * N) * 1e9 for name, seconds in medians.items()}
    print(f"B = {B}, N = {N}: {per['search']:.0f} ns a simulation: matrix products {per['products']:.0f}", end="")
    print(f" (by BLAS {per['blas']:.0f})", end="")
    print(f", biases, ReLU and softmax {per['network'] - per['products']:.0f}", end="")
    print(f", tree and copies {per['search'] - per['network'] - per['call']:.0f}, the call {per['call']:.0f}")


def main() -> None:
    pin_to_one_core()
    torch.set_num_threads(1)
    rate = gemm_rate()
    print(f"arithmetic: {FLOP / 1e3:.0f} kflop a simulation, {rate / 1e9:.0f} GFLOP/s: at most {rate / FLOP:.2g}/s")
    for kind, network in (("trained", trained_network()), ("random", make_network())):
        compare(kind, network, rate)
    breakdown(network)


def compare(kind: str, network: MLPNetwork, rate: float) -> None:
    """All cases with one set of weights."""
    model = LearnedModel(network, num_actions=ACTIONS, gamma=GAMMA)
    for B, N, target in CASES:
        observations = visited_observations(B)
        functions: dict[str, Callable[[], object]] = {
            "fused": ours(model, observations, N, "fused"),
            "general": ours(model, observations, N, "general"),
        }
        other = peer(network, observations, N)
        if other:
            functions["mctx"] = other
        medians = interleaved(functions, repetitions=11)
        speed = {name: B * N / seconds for name, seconds in medians.items()}
        shown = ", ".join(f"{name} {value:.3g}" for name, value in speed.items())
        case = f"{kind}, B = {B}, N = {N}, mean depth {mean_depth(model, observations, N):.1f}"
        print(f"{case}: simulations/s {shown}; {speed['fused'] * FLOP / rate:.0%} of the arithmetic", end="")
        print(f"; fused/mctx {speed['fused'] / speed['mctx']:.1f} (target {target:g})" if other else "")


if __name__ == "__main__":
    main()
