"""mctx over the weights of an `MLPNetwork`: what the search is compared with, in speed and visit by visit."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mzprobe.networks import MLPNetwork

GAMMA = 0.997


def mctx_policy(rule: str) -> Any:
    """Mctx's policy of the same rule."""
    import mctx

    if rule == "gumbel":
        return mctx.gumbel_muzero_policy
    return partial(mctx.muzero_policy, dirichlet_alpha=0.25)


def peer(network: MLPNetwork, observations: np.ndarray, N: int, *, rule: str = "puct") -> Callable[[], object] | None:
    """Mctx's search with root noise, and the action, jitted; None where it is not installed or has no such rule."""
    try:
        import jax
        import jax.numpy as jnp
        import mctx
    except ImportError:
        return None
    if rule not in ("puct", "gumbel"):
        return None
    params = {name: jnp.asarray(x.detach().numpy()) for name, x in network.named_parameters()}
    support, A = network.support, network.num_actions
    atoms = jnp.linspace(support.minimum, support.maximum, support.atoms)

    def perceptron(p: Any, body: str, x: Any) -> Any:
        return jax.nn.relu(x @ p[f"{body}.w1"] + p[f"{body}.b1"]) @ p[f"{body}.w2"] + p[f"{body}.b2"]

    def scaled(z: Any) -> Any:
        low, high = z.min(-1, keepdims=True), z.max(-1, keepdims=True)
        return (z - low) / (high - low + 1e-5)

    def scalar(logits: Any) -> Any:
        y = jax.nn.softmax(logits) @ atoms
        size, eps = jnp.abs(y), 0.001
        q = 2 * size / (1 + 2 * eps + jnp.sqrt((1 + 2 * eps) ** 2 + 4 * eps * size))
        return jnp.sign(y) * (q * q + 2 * q)

    def predict(p: Any, z: Any) -> tuple[Any, Any]:
        return perceptron(p, "policy_head", z), scalar(perceptron(p, "value_head", z))

    def recurrent(p: Any, _key: Any, action: Any, z: Any) -> tuple[Any, Any]:
        z = scaled(perceptron(p, "dynamics_function", jnp.concatenate([z, jax.nn.one_hot(action, A)], -1)))
        reward = scalar(perceptron(p, "reward_head", z))
        logits, value = predict(p, z)
        output = mctx.RecurrentFnOutput(
            reward=reward, discount=jnp.full_like(reward, GAMMA), prior_logits=logits, value=value
        )
        return output, z

    @partial(jax.jit, static_argnums=3)
    def run(p: Any, key: Any, o: Any, n: int) -> Any:
        z = scaled(perceptron(p, "representation", o))
        logits, value = predict(p, z)
        root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=z)
        return mctx_policy(rule)(p, key, root, recurrent, n).action

    key, given = jax.random.PRNGKey(0), jnp.asarray(observations)
    return lambda: run(params, key, given, N).block_until_ready()
