"""Writes tests/golden/foreign_*.npz: what the originals' own code says of the weights in foreign_networks.py.

    python tests/helpers/record_foreign.py CLONES [LAYOUT ...]

CLONES is a folder with clones of werner-duvaud/muzero-general, michaelnny/muzero and JimOhman/model-based-rl (at commit
2557590), under the names muzero-general, muzero and model-based-rl, and of opendilab/LightZero at 0.0.5, 0.2.0 and
9f717c8, under LightZero-0.0.5, LightZero-0.2.0 and LightZero. These need DI-engine, and a process of its own for each
layout: name the layouts, which are the keys of CODES. Nothing of any is kept but these numbers. All runs in double
precision, so that a difference is ours.
"""

import importlib
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import foreign_composed
import foreign_networks
import numpy as np
import torch

GOLDEN = Path(__file__).parent.parent / "golden"
LATENTS = 6  # entries that are kept of each


def tensors(weights):
    return {name: torch.from_numpy(array).double() for name, array in weights.items()}


def imported(folder, *names):
    """Modules of a clone, without those of another in their place."""
    sys.path.insert(0, str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] in {one.partition(".")[0] for one in names}]:
        del sys.modules[name]
    found = [importlib.import_module(name) for name in names]
    sys.path.pop(0)
    return found


def muzero_general(clone):
    (models,) = imported(clone, "models")
    network = models.MuZeroFullyConnectedNetwork((1, 1, 4), 0, 2, 8, [16], [16], [16], [], [16], 10).double()
    network.load_state_dict(tensors(foreign_networks.muzero_general()))
    # It makes its one-hot actions in single precision, which its layers refuse beside double.
    torch.Tensor.float = torch.Tensor.double
    return network.representation, network.dynamics, network.prediction, lambda x: models.support_to_scalar(x, 10)


def michaelnny(clone):
    network_module, util = imported(clone, "muzero.network", "muzero.util")
    network = network_module.MuZeroMLPNet((4, 5), 2, 16, 31, 31, 8).double()
    network.load_state_dict(tensors(foreign_networks.michaelnny()))
    float32, torch.float32 = torch.float32, torch.float64
    del float32
    return (
        network.represent,
        network.dynamics,
        network.prediction,
        lambda x: util.logits_to_transformed_expected_value(x, 31),
    )


def jimohman(clone, observation=8):
    networks, config = imported(clone, "networks", "config")
    settings = config.Config({**foreign_networks.settings(), "value_support": [-15, 15], "reward_support": [-15, 15]})
    network = networks.FCNetwork(observation, 4, torch.device("cpu"), settings).double().train()
    network.load_state_dict(tensors(foreign_networks.jimohman(observation=observation)))
    torch.float = torch.float64

    def dynamics(latents, actions):
        return network.dynamics(latents, actions[:, 0].numpy())

    return network.representation, dynamics, network.prediction, settings.inverse_value_transform


def muzero_general_residual(layout, downsample):
    def load(clone):
        (models,) = imported(clone, "models")
        shape, A = foreign_composed.SHAPES[layout]
        network = models.MuZeroResidualNetwork(shape, 0, A, 2, 8, 2, 2, 2, [16], [16], [16], 10, downsample)
        network.double().eval().load_state_dict(tensors(foreign_composed.weights(layout)))
        torch.Tensor.float = torch.Tensor.double
        return network.representation, network.dynamics, network.prediction, lambda x: models.support_to_scalar(x, 10)

    return load


def lightzero(layout, atoms, **options):
    def load(clone):
        vectors, images, scaling = imported(
            clone, "lzero.model.muzero_model_mlp", "lzero.model.muzero_model", "lzero.policy.scaling_transform"
        )
        shape, A = foreign_composed.SHAPES[layout]
        if len(shape) == 1:
            network = vectors.MuZeroModelMLP(shape[0], A, 16, **options)
        else:
            network = images.MuZeroModel(shape, A, 1, 8, 4, 4, 4, **options)
        network.double().eval().load_state_dict(tensors(foreign_composed.weights(layout)))
        torch.Tensor.float = torch.Tensor.double
        half = atoms // 2
        support = scaling.DiscreteSupport(-half, half + 1) if "value_support_range" in options else half
        decode = scaling.InverseScalarTransform(support)
        return network._representation, network._dynamics, network._prediction, decode

    return load


CODES = {
    "muzero-general": (muzero_general, "muzero-general", 21),
    "michaelnny": (michaelnny, "muzero", 31),
    "jimohman": (jimohman, "model-based-rl", 31),
    "jimohman-ram": (partial(jimohman, observation=128), "model-based-rl", 31),
    **{
        f"muzero-general-{end}": (muzero_general_residual(f"muzero-general-{end}", downsample), "muzero-general", 21)
        for end, downsample in (("residual", False), ("resnet", "resnet"), ("cnn", "CNN"))
    },
    "lightzero": (lightzero("lightzero", 601, res_connection_in_dynamics=True), "LightZero-0.2.0", 601),
    "lightzero-0.0": (lightzero("lightzero-0.0", 601), "LightZero-0.0.5", 601),
    "lightzero-norm": (
        lightzero(
            "lightzero-norm",
            101,
            norm_type="LN",
            discrete_action_encoding_type="not_one_hot",
            res_connection_in_dynamics=True,
            reward_support_range=(-50.0, 51.0, 1.0),
            value_support_range=(-50.0, 51.0, 1.0),
        ),
        "LightZero",
        101,
    ),
    **{
        f"lightzero-{end}": (
            lightzero(f"lightzero-{end}", 21, reward_support_size=21, value_support_size=21, **options),
            "LightZero-0.2.0",
            21,
        )
        for end, options in (
            ("images", {"downsample": True}),
            ("boards", {"downsample": False}),
            ("boards-norm", {"norm_type": "LN", "discrete_action_encoding_type": "not_one_hot"}),
        )
    },
}


def inputs(name):
    if name == "jimohman-ram":  # as its actors give a memory to it: norm_states, state_range 0 to 255
        memories, actions = foreign_networks.ram_inputs()
        return np.float32(memories) / np.float32(255), actions
    if name in foreign_composed.SHAPES:
        return foreign_composed.inputs(name)
    return foreign_networks.inputs(*foreign_networks.OBSERVED[name])


@torch.no_grad()
def main():
    """Runs each code and writes what it says."""
    single = SimpleNamespace(float32=torch.float32, float=torch.float, method=torch.Tensor.float)
    for name in sys.argv[2:] or CODES:
        load, folder, atoms = CODES[name]
        represent, dynamics, predict, decode = load(Path(sys.argv[1]) / folder)
        observations, actions = inputs(name)
        latents = represent(torch.from_numpy(observations).double())
        following, reward = dynamics(latents, torch.from_numpy(actions)[:, None])
        policy, value = predict(latents)
        ends = torch.where(torch.eye(atoms).bool(), 0.0, -1000.0).double()
        said = {
            "latents": latents.flatten(1)[:, :LATENTS],
            "following": following.flatten(1)[:, :LATENTS],
            "reward": decode(reward)[:, 0],
            "policy": policy,
            "value": decode(value)[:, 0],
            "ends": decode(ends)[:, 0],
        }
        torch.float32, torch.float, torch.Tensor.float = single.float32, single.float, single.method
        path = GOLDEN / f"foreign_{name.replace('-', '_').replace('.', '_')}.npz"
        np.savez_compressed(path, **{key: found.numpy().astype(np.float32) for key, found in said.items()})
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
