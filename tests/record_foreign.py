"""Writes tests/golden/foreign_*.npz: what the originals' own code says of the weights in foreign_networks.py.

    python tests/record_foreign.py CLONES

CLONES is a folder with clones of werner-duvaud/muzero-general, michaelnny/muzero and JimOhman/model-based-rl (at commit
2557590), under the names muzero-general, muzero and model-based-rl. Nothing of them is kept but these numbers. All runs
in double precision, so that a difference is ours.
"""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import foreign_networks
import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
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


def jimohman(clone):
    networks, config = imported(clone, "networks", "config")
    settings = config.Config({**foreign_networks.settings(), "value_support": [-15, 15], "reward_support": [-15, 15]})
    network = networks.FCNetwork(8, 4, torch.device("cpu"), settings).double().train()
    network.load_state_dict(tensors(foreign_networks.jimohman()))
    torch.float = torch.float64

    def dynamics(latents, actions):
        return network.dynamics(latents, actions[:, 0].numpy())

    return network.representation, dynamics, network.prediction, settings.inverse_value_transform


CODES = {
    "muzero-general": (muzero_general, "muzero-general", 4, 2, 21),
    "michaelnny": (michaelnny, "muzero", 20, 2, 31),
    "jimohman": (jimohman, "model-based-rl", 8, 4, 31),
}


@torch.no_grad()
def main():
    """Runs each code and writes what it says."""
    single = SimpleNamespace(float32=torch.float32, float=torch.float, method=torch.Tensor.float)
    for name, (load, folder, observation, A, atoms) in CODES.items():
        represent, dynamics, predict, decode = load(Path(sys.argv[1]) / folder)
        observations, actions = foreign_networks.inputs(observation, A)
        latents = represent(torch.from_numpy(observations).double())
        following, reward = dynamics(latents, torch.from_numpy(actions)[:, None])
        policy, value = predict(latents)
        ends = torch.where(torch.eye(atoms).bool(), 0.0, -1000.0).double()
        said = {
            "latents": latents[:, :LATENTS],
            "following": following[:, :LATENTS],
            "reward": decode(reward)[:, 0],
            "policy": policy,
            "value": decode(value)[:, 0],
            "ends": decode(ends)[:, 0],
        }
        torch.float32, torch.float, torch.Tensor.float = single.float32, single.float, single.method
        path = GOLDEN / f"foreign_{name.replace('-', '_')}.npz"
        np.savez_compressed(path, **{key: found.numpy().astype(np.float32) for key, found in said.items()})
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
