"""Weights of our own in the layouts of networks that are no plain chains: small, and the same on every machine."""

import itertools

import numpy as np
from foreign_networks import numbers

ROWS = dict.fromkeys(  # where they are slow
    ("lightzero-images", "lightzero-boards-norm", "muzero-general-resnet", "muzero-general-cnn"), 100
)


class _Layout:
    """Arrays by name, each from a seed of its own."""

    def __init__(self):
        self.arrays, self._seeds = {}, itertools.count(5000)

    def _put(self, name, *shape, factor=1.0, base=0.0):
        self.arrays[name] = (base + factor * numbers(next(self._seeds), *shape)).astype(np.float32)

    def linear(self, name, outputs, inputs):
        self._put(f"{name}.weight", outputs, inputs, factor=1.5 / np.sqrt(inputs))
        self._put(f"{name}.bias", outputs)

    def convolution(self, name, outputs, inputs, kernel=3, bias=False):
        self._put(f"{name}.weight", outputs, inputs, kernel, kernel, factor=1.5 / (kernel * np.sqrt(inputs)))
        if bias:
            self._put(f"{name}.bias", outputs)

    def norm(self, name, size, *, batch=True):
        self._put(f"{name}.weight", *np.atleast_1d(size), factor=0.2, base=1.0)
        self._put(f"{name}.bias", *np.atleast_1d(size), factor=0.5)
        if batch:
            self._put(f"{name}.running_mean", size, factor=0.5)
            self._put(f"{name}.running_var", size, factor=0.2)
            self.arrays[f"{name}.running_var"] = 1 + np.abs(self.arrays[f"{name}.running_var"])
            self.arrays[f"{name}.num_batches_tracked"] = np.array(7)

    def perceptron(self, name, *sizes, batch=True, norms=True, ends=False):
        """As LightZero numbers its layers: linear, norm, activation."""
        place = 0
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            self.linear(f"{name}.{place}", outputs, inputs)
            if norms and (ends or layer < len(sizes) - 2):
                self.norm(f"{name}.{place + 1}", outputs, batch=batch)
            place += 3 if norms else 2


def lightzero(observation=4, actions=2, latent=16, atoms=601, residual=True, later=False):
    """`MuZeroModelMLP`; a later one with layer norms, and actions as a / A."""
    made, batch = _Layout(), not later
    representation, dynamics, prediction = "representation_network", "dynamics_network", "prediction_network"
    made.perceptron(f"{representation}.fc_representation", observation, latent, latent, batch=batch)
    if later:
        made.norm(f"{representation}.norm", latent, batch=False)
    step = f"{dynamics}.fc_dynamics_1" if residual else f"{dynamics}.fc_dynamics"
    made.perceptron(step, latent + (1 if later else actions), latent, latent, batch=batch, ends=True)
    if residual:
        made.perceptron(f"{dynamics}.fc_dynamics_2", latent, latent, latent, batch=batch, ends=True)
    made.perceptron(f"{dynamics}.fc_reward_head", latent, 32, atoms, batch=batch)
    made.perceptron(f"{prediction}.fc_prediction_common", latent, latent, latent, batch=batch, ends=True)
    made.perceptron(f"{prediction}.fc_value_head", latent, 32, atoms, batch=batch)
    made.perceptron(f"{prediction}.fc_policy_head", latent, 32, actions, batch=batch)
    return made.arrays


def lightzero_images(shape=(1, 64, 64), actions=3, channels=8, atoms=21, downsample=True, layer_norms=False):
    """`MuZeroModel`; one with layer norms has actions as a / A."""
    made, half = _Layout(), channels // 2
    encoded = 1 if layer_norms else actions
    area = 64 if downsample else shape[1] * shape[2]

    def norm(name, planes):
        made.norm(name, (planes, *shape[1:]) if layer_norms else planes, batch=not layer_norms)

    def block(name, outputs, inputs=None):
        batch = not layer_norms or name.startswith("dynamics")  # as they have it
        parts = {"conv1": inputs or outputs, "conv2": outputs, **({"conv3": inputs} if inputs else {})}
        for part, read in parts.items():
            made.convolution(f"{name}.{part}.0", outputs, read)
            if part != "conv3":
                made.norm(f"{name}.{part}.1", outputs, batch=batch)

    def head(network, what, perceptron, outputs):
        made.convolution(f"{network}.conv1x1_{what}", 4, channels, kernel=1, bias=True)
        norm(f"{network}.norm_{what}", 4)
        made.perceptron(f"{network}.{perceptron}", 4 * area, 32, outputs, batch=not layer_norms)

    net = "representation_network.downsample_net"
    if downsample:
        made.convolution(f"{net}.conv1", half, shape[0])
        made.norm(f"{net}.norm1", half)
        block(f"{net}.resblocks1.0", half)
        block(f"{net}.downsample_block", channels, half)
        block(f"{net}.resblocks2.0", channels)
        block(f"{net}.resblocks3.0", channels)
    else:
        made.convolution("representation_network.conv", channels, shape[0])
        norm("representation_network.norm", channels)
    made.convolution("dynamics_network.conv", channels, channels + encoded)
    norm("dynamics_network.norm_common", channels)
    for network in ("representation", "dynamics", "prediction"):
        block(f"{network}_network.resblocks.0", channels)
    head("dynamics_network", "reward", "fc_reward_head", atoms)
    head("prediction_network", "value", "fc_value", atoms)
    head("prediction_network", "policy", "fc_policy", actions)
    return made.arrays


def muzero_general_residual(shape=(3, 6, 7), actions=4, channels=8, atoms=21, downsample=""):
    """`MuZeroResidualNetwork`, two blocks in each of its networks."""
    made, half = _Layout(), channels // 2
    height, width = (-(-size // 16) if downsample else size for size in shape[1:])

    def blocks(name, count, size):
        for place, part in itertools.product(range(count), (1, 2)):
            made.convolution(f"{name}.{place}.conv{part}", size, size)
            made.norm(f"{name}.{place}.bn{part}", size)

    def head(network, what, perceptron, outputs):
        made.convolution(f"{network}.conv1x1_{what}", 2, channels, kernel=1, bias=True)
        made.perceptron(f"{network}.{perceptron}", 2 * height * width, 16, outputs, norms=False)

    representation, dynamics, prediction = (
        f"{network}_network.module" for network in ("representation", "dynamics", "prediction")
    )
    net = f"{representation}.downsample_net"
    if downsample == "resnet":
        made.convolution(f"{net}.conv1", half, shape[0])
        blocks(f"{net}.resblocks1", 2, half)
        made.convolution(f"{net}.conv2", channels, half)
        blocks(f"{net}.resblocks2", 3, channels)
        blocks(f"{net}.resblocks3", 3, channels)
    if downsample == "CNN":
        between = (shape[0] + channels) // 2
        made.convolution(f"{net}.features.0", between, shape[0], kernel=2 * height, bias=True)
        made.convolution(f"{net}.features.3", channels, between, kernel=5, bias=True)
    made.convolution(f"{representation}.conv", channels, shape[0])
    made.norm(f"{representation}.bn", channels)
    made.convolution(f"{dynamics}.conv", channels, channels + 1)
    made.norm(f"{dynamics}.bn", channels)
    for network in (representation, dynamics, prediction):
        blocks(f"{network}.resblocks", 2, channels)
    head(dynamics, "reward", "fc", atoms)
    head(prediction, "value", "fc_value", atoms)
    head(prediction, "policy", "fc_policy", actions)
    return made.arrays


SHAPES = {  # of observations, and actions
    "lightzero": ((4,), 2),
    "lightzero-0.0": ((4,), 2),
    "lightzero-norm": ((8,), 4),
    "lightzero-images": ((1, 64, 64), 3),
    "lightzero-boards": ((2, 5, 6), 3),
    "lightzero-boards-norm": ((2, 5, 6), 3),
    "muzero-general-residual": ((3, 6, 7), 4),
    "muzero-general-resnet": ((2, 48, 64), 4),
    "muzero-general-cnn": ((2, 48, 64), 4),
}
SOURCES = {layout: "lightzero" if layout.startswith("lightzero") else "muzero-general" for layout in SHAPES}
SOURCES["lightzero-0.0"] = "lightzero-0.0"


def weights(layout):
    """The weights of a layout by name."""
    shape, actions = SHAPES[layout]
    if layout == "lightzero":
        return lightzero()
    if layout == "lightzero-0.0":
        return lightzero(residual=False)
    if layout == "lightzero-norm":
        return lightzero(*shape, actions, atoms=101, later=True)
    if SOURCES[layout] == "lightzero":
        kinds = {"downsample": layout == "lightzero-images", "layer_norms": layout == "lightzero-boards-norm"}
        return lightzero_images(shape, actions, **kinds)
    return muzero_general_residual(shape, actions, downsample={"resnet": "resnet", "cnn": "CNN"}.get(layout[15:], ""))


def tree(layout):
    """What a file of a layout holds, with arrays in the place of tensors."""
    if SOURCES[layout] == "muzero-general":
        counters = {"total_reward": 321.0, "training_step": 6000, "num_played_steps": 4000}
        return {"weights": weights(layout), **counters}
    unused = {"projection.0.weight": numbers(1, 3, 3)}  # of its self-supervised loss
    model = {**weights(layout), **unused}
    return {"model": model, "target_model": model, "optimizer": {"state": {}}, "last_iter": 500, "last_step": 2000}


def inputs(layout):
    """Observations `[rows, *shape]` and actions `[rows]`."""
    shape, actions = SHAPES[layout]
    rows = ROWS.get(layout, 1000)
    return numbers(1000, rows, *shape), np.arange(rows) % actions
