"""Visit counts against mctx on matched settings, root by root: PUCT with the tree's smallest and largest Q, and Gumbel.

    make bench        (or: python benchmarks/search_visits.py, with mzprobe[bench] installed)

Both plan with the same random network, whose numbers mctx gets from ours, and count in float64. mctx has no tree-wide
normalisation; its qtransform is given one here, which runs the backups of the tree again, since our scale is of all Q
that a tree has ever seen. Gumbel numbers are mctx's. What is left to differ are ties, which mctx draws by tiny noise
(PUCT) or gives to the lowest action (Gumbel): each root that differs is said, with the scores at the first node where
the two part. `--golden PATH` writes a small case by Gumbel's rule as arrays, that the tests compare without mctx.
"""

from _timing import SMALLEST  # isort: skip - sets the threads before numpy loads

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mzprobe._kernel import kernel
from mzprobe.config import SearchConfig
from mzprobe.networks import MLPNetwork, Support
from mzprobe.search import LearnedModel, SearchResult, search

ROOTS, N, GAMMA = 20 if SMALLEST else 3000, 8 if SMALLEST else 50, 0.97
FLOOR = 1e-8  # mctx's


class Given:
    """A generator that has drawn already."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def gumbel(self, *, size: tuple[int, int]) -> np.ndarray:
        """The numbers given."""
        assert self.numbers.shape == size
        return self.numbers


def random_network(A: int) -> MLPNetwork:
    """Random weights, heads included."""
    generator = torch.Generator().manual_seed(A)
    network = MLPNetwork(
        observation_size=4,
        num_actions=A,
        latent=16,
        hidden=32,
        support=Support(minimum=-10, maximum=10, atoms=21),
        generator=generator,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    return network


@kernel
def seen_bounds(parents: Any, actions: Any, rewards: Any, values: Any, visits: Any, out: Any) -> None:
    """Smallest and largest Q of all backups of each tree, `[B, 2]`, the plain way."""
    for b in range(len(out)):
        total, count = values[b].copy(), np.ones(values.shape[1])
        out[b, 0], out[b, 1] = np.inf, -np.inf
        for slot in range(1, values.shape[1]):
            if visits[b, slot] == 0:
                break
            node, G = slot, values[b, slot]
            while parents[b, node] >= 0:
                up = parents[b, node]
                reward = rewards[b, up, actions[b, node]]
                q = reward + GAMMA * (total[node] / count[node])
                out[b, 0], out[b, 1] = min(out[b, 0], q), max(out[b, 1], q)
                G = reward + GAMMA * G
                count[up] += 1
                total[up] += G
                node = up


class OfNetwork:
    """What mctx asks: a network in our engine, from observations."""

    def __init__(self, model: LearnedModel, observations: np.ndarray) -> None:
        self.engine, self.observations = model._engine, observations

    def begin(self) -> tuple[np.ndarray, ...]:
        """Latents, priors and values of the roots."""
        latents = self.engine.represent(self.observations)
        prior, value = self.engine.predict(latents)
        return latents.numpy(), prior.numpy(), value.numpy()

    def step(self, z: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Latents, rewards, priors and values one step on."""
        following, reward = self.engine.dynamics(torch.from_numpy(z), actions)
        prior, value = self.engine.predict(following)
        return following.numpy(), reward.numpy(), prior.numpy(), value.numpy()


class OfTables:
    """The same from tables: transitions, rewards and priors `[S, A]`, values `[S]`; a latent is a state's number."""

    def __init__(self, tables: dict[str, np.ndarray], roots: np.ndarray) -> None:
        self.tables, self.roots = tables, roots

    def begin(self) -> tuple[np.ndarray, ...]:
        """As above."""
        return (
            self.roots[:, None].astype(np.float32),
            self.tables["prior"][self.roots],
            self.tables["value"][self.roots],
        )

    def step(self, z: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """As above."""
        states = z[:, 0].astype(int)
        following = self.tables["transitions"][states, actions]
        reward = self.tables["rewards"][states, actions]
        prior, value = self.tables["prior"][following], self.tables["value"][following]
        return following[:, None].astype(np.float32), reward, prior, value


def of_mctx(asked: OfNetwork | OfTables, rule: str) -> tuple[Any, np.ndarray]:
    """Mctx's output, and its Gumbel numbers."""
    import jax
    import jax.numpy as jnp
    import mctx

    jax.config.update("jax_enable_x64", True)
    latents, prior, value = asked.begin()
    shapes = [
        jax.ShapeDtypeStruct(shape, kind)
        for shape, kind in (
            (latents.shape, np.float32),
            (value.shape, np.float64),
            (prior.shape, np.float64),
            (value.shape, np.float64),
        )
    ]

    def recurrent(_params: Any, _key: Any, action: Any, z: Any) -> tuple[Any, Any]:
        def step(z: Any, action: Any) -> tuple[np.ndarray, ...]:
            following, reward, prior, value = asked.step(np.array(z), np.array(action, np.int64))
            return following, reward, np.log(prior), value

        z, reward, logits, value = jax.pure_callback(step, shapes, z, action)
        output = mctx.RecurrentFnOutput(
            reward=reward, discount=jnp.full_like(reward, GAMMA), prior_logits=logits, value=value
        )
        return output, z

    def bounds(*of: Any) -> np.ndarray:
        arrays = [np.array(x) for x in of]
        shape = arrays[0].shape[:-1]  # of whatever batch there is
        out = np.empty((*shape, 2))
        seen_bounds(*(x.reshape(-1, *x.shape[len(shape) :]) for x in arrays), out.reshape(-1, 2))
        return out

    def of_the_tree(tree: Any, node: Any) -> Any:
        shape = jax.ShapeDtypeStruct((2,), np.float64)
        of = (tree.parents, tree.action_from_parent, tree.children_rewards, tree.raw_values, tree.node_visits)
        low, high = jax.pure_callback(bounds, shape, *of, vmap_method="broadcast_all")
        scaled = (tree.qvalues(node) - low) / jnp.maximum(high - low, FLOOR)
        return jnp.where(tree.children_visits[node] > 0, scaled, 0.0)

    root = mctx.RootFnOutput(
        prior_logits=jnp.log(jnp.asarray(prior)), value=jnp.asarray(value), embedding=jnp.asarray(latents)
    )
    key = jax.random.PRNGKey(3)
    numbers = np.array(jax.random.gumbel(jax.random.split(key)[1], shape=prior.shape, dtype=np.float64))
    if rule == "gumbel":
        return mctx.gumbel_muzero_policy((), key, root, recurrent, N), numbers
    policy = mctx.muzero_policy
    return policy((), key, root, recurrent, N, qtransform=of_the_tree, dirichlet_fraction=0.0), numbers


def ours(model: LearnedModel, observations: np.ndarray, rule: str, numbers: np.ndarray) -> SearchResult:
    """Our search of the same roots."""
    config = SearchConfig(simulations=N, rule=rule, ties="lowest", normalisation_floor=FLOOR)
    generator: Any = Given(numbers) if rule == "gumbel" else None
    return search(model, observations, config=config, generator=generator, keep_tree=True)


def compare(A: int, rule: str) -> None:
    """Counts the roots that are visited alike, and says where the others part."""
    model = LearnedModel(random_network(A), num_actions=A, gamma=GAMMA)
    observations = np.random.default_rng(0).standard_normal((ROOTS, 4)).astype(np.float32)
    output, numbers = of_mctx(OfNetwork(model, observations), rule)
    found = ours(model, observations, rule, numbers)
    theirs = np.array(output.search_tree.summary().visit_counts).astype(int)
    unlike = np.flatnonzero((theirs != found.visit_counts).any(axis=1))
    print(f"{rule}, A = {A}, N = {N}: {ROOTS - len(unlike)} of {ROOTS} roots visited alike", end="")
    if rule == "gumbel":
        alike = np.delete(np.arange(ROOTS), unlike)
        weights = np.abs(np.array(output.action_weights) - found.target)[alike].max()
        actions = (np.array(output.action) == found.acting(0).argmax(axis=1))[alike].mean()
        print(
            f"; there the improved policies differ by {weights:.1g} at most, {actions:.2%} of the actions agree", end=""
        )
    print()
    tree = output.search_tree
    for b in unlike:
        print(f"  root {b}: {parting(tree, found, b)}")


def parting(tree: Any, found: SearchResult, b: int) -> str:
    """Where two trees of a root part, and what our Q say there."""
    assert found.tree is not None
    theirs = np.stack([np.array(tree.parents)[b], np.array(tree.action_from_parent)[b]])
    mine = np.stack([found.tree.parent[b], found.tree.parent_action[b]])
    slot = int(np.flatnonzero((theirs != mine).any(axis=0))[0])
    return f"simulation {slot} expands {mine[:, slot].tolist()} here and {theirs[:, slot].tolist()} there"


def write_golden(path: Path) -> None:
    """Tables, roots and Gumbel numbers, and what mctx finds in them by Gumbel's rule."""
    generator, S, A = np.random.default_rng(5), 9, 5
    tables = {
        "transitions": generator.integers(S, size=(S, A)),
        "rewards": generator.standard_normal((S, A)),
        "prior": generator.dirichlet(np.ones(A), size=S),
        "value": generator.standard_normal(S),
    }
    roots = np.repeat(np.arange(S), 3)
    output, numbers = of_mctx(OfTables(tables, roots), "gumbel")
    found = {
        "visit_counts": np.array(output.search_tree.summary().visit_counts).astype(int),
        "root_value": np.array(output.search_tree.summary().value),
        "improved": np.array(output.action_weights),
        "action": np.array(output.action),
    }
    arrays = {**tables, "roots": roots, "gumbel": numbers, **found}
    record = {"simulations": N, "gamma": GAMMA, "floor": FLOOR} | {name: x.tolist() for name, x in arrays.items()}
    path.write_text(
        "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in record.items()) + "\n}\n", "utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", type=Path)
    asked = parser.parse_args()
    try:
        import mctx  # noqa: F401
    except ImportError:
        print("mctx is not installed: pip install 'mzprobe[bench]'")
        return
    if asked.golden:
        write_golden(asked.golden)
        return
    for A in (2, 4, 18):
        for rule in ("puct", "gumbel"):
            compare(A, rule)


if __name__ == "__main__":
    main()
