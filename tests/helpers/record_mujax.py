"""Writes tests/golden/foreign_mujax.npz: what mujax's own code says of the weights in mujax_checkpoints.py.

    python tests/helpers/record_mujax.py

It runs where `pip install mujax==0.1.3` was done, and mzprobe need not be there. Nothing of mujax is kept but these
numbers. All runs in double precision, so that a difference is ours.
"""

from pathlib import Path

import jax
import mujax_checkpoints
import numpy as np

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
from flax import nnx  # noqa: E402
from mujax.algorithms.gmz import GMZ, GMZConfig  # noqa: E402
from mujax.algorithms.muzero import Support  # noqa: E402
from mujax.types import EnvironmentSpec  # noqa: E402

GOLDEN = Path(__file__).parent.parent / "golden"
LATENTS = 6  # entries that are kept of each
ROOTS = 300  # of its search, without noise


def original():
    """Its model with our weights, its support and its search."""
    config = GMZConfig.from_dict(mujax_checkpoints.settings())
    spec = EnvironmentSpec(mujax_checkpoints.OBSERVATION, mujax_checkpoints.ACTIONS)
    graph, params = GMZ.init(spec, config, jax.random.PRNGKey(0))
    ours = {name: jnp.asarray(array, jnp.float64) for name, array in mujax_checkpoints.arrays().items()}

    def put(path, old):
        new = ours.pop(".".join(map(str, path)))
        assert new.shape == old.shape
        return new

    theirs = nnx.to_pure_dict(params)
    flat = {path: put(path, old) for path, old in nnx.traversals.flatten_mapping(theirs).items()}
    assert not ours
    nnx.replace_by_pure_dict(params, nnx.traversals.unflatten_mapping(flat))
    search = jax.jit(GMZ.make_policy(graph, spec, config, evaluation=True))
    return nnx.merge(graph, params), Support.from_config(config), lambda *given: search(params, *given)


def main():
    """Runs it and writes what it says."""
    model, support, search = original()
    observations, actions = mujax_checkpoints.inputs()
    latents = model.representation(jnp.asarray(observations, jnp.float64))
    following, reward = model.dynamics(latents, jnp.asarray(actions))
    value, policy = model.prediction(latents)
    ends = jnp.where(jnp.eye(mujax_checkpoints.BINS, dtype=bool), 0.0, -1000.0)
    legal = jnp.zeros((ROOTS, mujax_checkpoints.ACTIONS))
    searched = search(jnp.asarray(observations[:ROOTS], jnp.float64), jax.random.PRNGKey(0), legal, 0)
    said = {
        "latents": latents[:, :LATENTS],
        "following": following[:, :LATENTS],
        "reward": support.logits_to_scalar(reward),
        "policy": policy,
        "value": support.logits_to_scalar(value),
        "ends": support.logits_to_scalar(ends),
        "improved": searched.policy_probs,
        "root": searched.value,
    }
    assert all(array.dtype == jnp.float64 for array in said.values())
    path = GOLDEN / "foreign_mujax.npz"
    kept = {key: np.asarray(array, np.float32) for key, array in said.items()}
    np.savez_compressed(path, **kept, played=searched.action)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
