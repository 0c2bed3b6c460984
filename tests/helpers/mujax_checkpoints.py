"""Checkpoints in mujax's layout, with weights of our own: small, and the same on every machine.

Nothing of mzprobe is imported, so that mujax's own environment can do so with this.
"""

import json

import numpy as np

ROWS = 1000
OBSERVATION, ACTIONS, LATENT, HIDDEN, BINS = 4, 2, 8, 16, 51


def _numbers(seed, *shape):
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)


def inputs():
    """Observations `[ROWS, OBSERVATION]` and actions `[ROWS]`."""
    return 3 * _numbers(10**6, ROWS, OBSERVATION), np.arange(ROWS) % ACTIONS


def arrays(seed=0):
    """The network's arrays by name, as in `best`: two hidden layers in each chain."""
    found = {}
    chains = {
        "representation.net.head": (OBSERVATION, LATENT),
        "dynamics.embedding.head": (LATENT + ACTIONS, LATENT),
        "dynamics.reward": (LATENT, BINS),
        "prediction.policy": (LATENT, ACTIONS),
        "prediction.value": (LATENT, BINS),
    }
    for chain, (prefix, (inputs, outputs)) in enumerate(chains.items()):
        widths = [inputs, HIDDEN, HIDDEN, outputs]
        for layer in range(3):
            first = 1000 * seed + 100 * chain + 10 * layer
            before, after = widths[layer : layer + 2]
            linear, norm = (f"{prefix}.layers.layers.{3 * layer + place}" for place in (0, 1))
            found[f"{linear}.kernel"] = 2.5 * _numbers(first, before, after) / np.float32(before**0.5)
            found[f"{linear}.bias"] = 0.3 * _numbers(first + 1, after)
            if layer < 2:
                found[f"{norm}.scale"] = 1 + 0.1 * _numbers(first + 2, after)
                found[f"{norm}.bias"] = 0.1 * _numbers(first + 3, after)
    return found


def settings(**changed):
    """What its config says, as far as it is read."""
    return {
        "effective_horizon": 333,
        "num_unroll_steps": 5,
        "num_simulations": 16,
        "support_min": -20.0,
        "support_max": 20.0,
        "num_bins": BINS,
        "policy_unimix": 0.01,
        "max_depth": None,
        "max_num_considered_actions": 16,
        "gumbel_scale": 1.0,
        "value_scale": 0.1,
        "maxvisit_init": 50.0,
        "embedding_dim": LATENT,
        **{f"{part}_layer_sizes": [HIDDEN, HIDDEN] for part in ("representation", "prediction", "dynamics")},
        **changed,
    }


def metadata(*, config=None, **changed):
    """What lies beside the weights of `best`."""
    return {
        "algo": "gmz",
        "config": settings(**(config or {})),
        "environment_spec": {"obs_dim": OBSERVATION, "num_actions": ACTIONS},
        "extra": {"env_id": "CartPole-v1", "num_envs": 16},
        "step": 5000,
        "score": 312.5,
        **changed,
    }


def write(folder, *, said=None, numbers=None):
    """A checkpoint's folder, its arrays in a database as Orbax writes it."""
    import tensorstore

    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps(metadata() if said is None else said))
    (folder / "pytree").mkdir()
    context = tensorstore.Context()
    for name, array in (arrays() if numbers is None else numbers).items():
        packed = {"chunks": [max(1, size) for size in array.shape], "compressor": {"id": "zstd", "level": 1}}
        spec = {"driver": "zarr", "kvstore": f"memory://{name}/", "metadata": packed}
        options = {"create": True, "dtype": array.dtype, "shape": array.shape, "context": context}
        tensorstore.open(spec, **options).result().write(array).result()
    made = tensorstore.KvStore.open("memory://", context=context).result()
    kept = tensorstore.KvStore.open(database(folder)).result()
    with tensorstore.Transaction(atomic=True) as together:  # otherwise there is a version for each array
        for key in made.list().result():
            kept.with_transaction(together)[key] = made[key]
    return folder


def write_run(folder, *, best=5000, latest=6000):
    """A run's folder with its two checkpoints; `latest` also holds what the optimiser keeps."""
    write(folder / "best", said=metadata(step=best))
    numbers = {f"params.{name}.value": array for name, array in arrays(seed=1).items()}
    more = {"opt_state.1.0.count": np.array(7, np.int32), "step": np.array(latest, np.int64)}
    write(folder / "latest", said={"step": latest}, numbers={**numbers, **more})
    return folder


def database(folder):
    """Where tensorstore finds the arrays."""
    return {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder / 'pytree'}/"}}
