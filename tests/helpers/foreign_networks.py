"""Checkpoints in the layouts of other code, with weights of our own: small, and the same on every machine."""

import numpy as np
import torch

from mzprobe.sources.pickles import Inert

ROWS = 1000
OBSERVED = {"muzero-general": (4, 2), "michaelnny": (20, 2), "jimohman": (8, 4)}  # numbers observed, and actions


def numbers(seed, *shape):
    """Normal draws."""
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)


def linear(seed, outputs, inputs):
    """A weight and a bias."""
    return 1.5 * numbers(seed, outputs, inputs) / np.sqrt(inputs).astype(np.float32), numbers(seed + 1, outputs)


def _layers(sizes):
    found = {}
    for seed, (name, outputs, inputs) in enumerate(sizes):
        found[f"{name}.weight"], found[f"{name}.bias"] = linear(10 * seed, outputs, inputs)
    return found


def muzero_general(observation=4, actions=2, latent=8, hidden=16, atoms=21):
    """The weights of a fully connected network, by name."""
    return _layers(
        [
            ("representation_network.module.0", latent, observation),
            ("dynamics_encoded_state_network.module.0", hidden, latent + actions),
            ("dynamics_encoded_state_network.module.2", latent, hidden),
            ("dynamics_reward_network.module.0", hidden, latent),
            ("dynamics_reward_network.module.2", atoms, hidden),
            ("prediction_policy_network.module.0", hidden, latent),
            ("prediction_policy_network.module.2", actions, hidden),
            ("prediction_value_network.module.0", hidden, latent),
            ("prediction_value_network.module.2", atoms, hidden),
        ]
    )


def michaelnny(observation=4, actions=2, latent=8, hidden=16, atoms=31):
    """The weights of an MLP network, by name."""
    return _layers(
        [
            ("represent_net.net.0", hidden, 4 * (observation + 1)),
            ("represent_net.net.2", latent, hidden),
            ("dynamics_net.transition_net.0", hidden, latent + actions),
            ("dynamics_net.transition_net.2", latent, hidden),
            ("dynamics_net.reward_net.0", hidden, latent),
            ("dynamics_net.reward_net.2", atoms, hidden),
            ("prediction_net.policy_net.0", hidden, latent),
            ("prediction_net.policy_net.2", actions, hidden),
            ("prediction_net.value_net.0", hidden, latent),
            ("prediction_net.value_net.2", atoms, hidden),
        ]
    )


def jimohman(observation=8, actions=4, latent=50, hidden=512, atoms=31):
    """The weights of an FCNetwork, whose widths are fixed, by name."""
    return _layers(
        [
            ("representation_head.fc1", hidden, observation),
            ("representation_head.out", latent, hidden),
            ("transition_head.fc1", hidden, latent + actions),
            ("transition_head.out", latent, hidden),
            ("reward_head.fc1", hidden, latent + actions),
            ("reward_head.reward", atoms, hidden),
            ("policy_head.fc1", hidden, latent),
            ("policy_head.policy", actions, hidden),
            ("value_head.fc1", hidden, latent),
            ("value_head.value", atoms, hidden),
        ]
    )


def settings(**changed):
    """What JimOhman's config says, as far as it is read."""
    return {
        "environment": "LunarLander-v2",
        "discount": 0.997,
        "num_simulations": 30,
        "num_unroll_steps": 5,
        "eval_temperatures": [0],
        "max_episode_steps": None,
        "no_support": False,
        "no_target_transform": False,
        **{f"{head}_support_min": -15 for head in ("value", "reward")},
        **{f"{head}_support_max": 15 for head in ("value", "reward")},
        **changed,
    }


def ram_settings(**changed):
    """The same of an agent that saw the memory of Atari's Breakout."""
    games = {
        "environment": "Breakout-ramNoFrameskip-v4",
        "wrap_atari": False,
        "norm_states": True,
        "state_range": [0.0, 255.0],
        "stack_states": 1,
        "sticky_actions": 4,
        "clip_rewards": True,
        "episode_life": True,
        "fire_reset": True,
        "noop_reset": True,
        "noop_max": 30,
        "avoid_repeat": True,
        "max_steps": 50000,
    }
    return settings(**games | changed)


def trees():
    """What a file of each source holds, by the source's name, with arrays in the place of tensors."""
    config = type("Inert", (Inert,), {"what": "config.Config"})()
    config.__setstate__(settings())
    return {
        "muzero-general": {
            "weights": muzero_general(),
            "total_reward": 321.0,
            "training_step": 6000,
            "num_played_steps": 4000,
        },
        "michaelnny": {"network": michaelnny(), "train_steps": 30000},
        "jimohman": {"weights": jimohman(), "step": 7, "config": config},
    }


class Config:
    """Pickled as an object of another package's class would be."""

    def __init__(self, **said):
        self.__dict__.update(said or settings())


def write(path, name, **changed):
    """A file of a source, as torch saves it; keys may be changed."""
    tree = {**trees()[name], **changed}
    if name == "jimohman" and "config" not in changed:
        tree["config"] = Config()
    return save(path, tree)


def save(path, tree):
    """Saves a tree with tensors in the place of the arrays among its weights."""
    for key in ("weights", "network", "model", "target_model"):
        if key in tree:
            tree[key] = {part: torch.from_numpy(array) for part, array in tree[key].items()}
    torch.save(tree, path)
    return path


def ram(path, **changed):
    """A file of JimOhman's that saw the memory of Breakout; settings may be changed."""
    return write(path, "jimohman", weights=jimohman(observation=128), config=Config(**ram_settings(**changed)))


def ram_inputs():
    """Memories `[200, 128]` of uint8 and actions `[200]`."""
    generator = np.random.Generator(np.random.PCG64(1001))
    return generator.integers(256, size=(200, 128), dtype=np.uint8), np.arange(200) % 4


def inputs(observation, actions):
    """Observations `[ROWS, observation]` and actions `[ROWS]`."""
    return numbers(1000, ROWS, observation), np.arange(ROWS) % actions
