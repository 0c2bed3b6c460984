"""Networks as runs use them: built by their configuration, and looked at where somebody's own factory made them."""

import torch

from mzprobe import networks
from mzprobe._plugins import raised
from mzprobe.config import NetworkConfig
from mzprobe.envs import EnvironmentSpec
from mzprobe.errors import CheckFailed, UsageError
from mzprobe.networks import TrainableNetwork


def network_of(config: NetworkConfig, spec: EnvironmentSpec, generator: torch.Generator) -> TrainableNetwork:
    """A fresh network, as `networks.build`; one of a factory of the user's own must pass `check_network`.

    Raises:
        UsageError: if it does not, or as `networks.build`.
    """
    network = networks.build(config, spec, generator)
    if ":" in config.kind:
        try:
            networks.check_network(network, spec)
        except CheckFailed as broken:
            raise UsageError(_refused(config.kind, str(broken))) from broken
        except Exception as error:  # anybody's code, or ours with what that gave
            raise UsageError(_refused(config.kind, raised(error))) from error
    return network


def _refused(kind: str, said: str) -> str:
    return f"network {kind} cannot be used: {said}; mend it until mzprobe.check_network(network, env.spec) is silent"
