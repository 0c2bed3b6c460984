"""Networks as runs use them: built from their configuration, and checked where a user's own code made them."""

import numpy as np
import torch

from mzprobe import networks
from mzprobe._plugins import LookedAt, is_ours, raised
from mzprobe.compute import Compute
from mzprobe.config import NetworkConfig
from mzprobe.envs import Environment, EnvironmentSpec
from mzprobe.errors import CheckFailed, UsageError
from mzprobe.networks import MuZeroNetwork, TrainableNetwork

_ROWS = 6  # starts that a network is looked at
_PASSED = LookedAt()


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


def refuse_unsound(network: MuZeroNetwork, environment: Environment, compute: Compute) -> None:
    """Looks at a network that was given as an object, once, at what the environment shows; ours are known.

    Args:
        network: on the device of `compute`. A module is looked at in evaluation mode, in which it will be called.
        environment: that it is for.
        compute: how it runs.

    Raises:
        UsageError: if it breaks a rule of `check_network`; names the rule.
    """
    if is_ours(network) or network in _PASSED:
        return
    name = type(network).__qualname__
    try:
        shown = torch.from_numpy(np.array(environment.observe(environment.reset(np.arange(_ROWS)))))  # writable
        with networks.evaluating(network):
            networks.look_at(network, shown, environment.spec.num_actions, device=compute.device)
    except CheckFailed as broken:
        raise UsageError(_refused(name, str(broken))) from broken
    except Exception as error:  # anybody's code, or ours with what that gave
        raise UsageError(_refused(name, raised(error))) from error
    _PASSED.add(network)


def _refused(kind: str, said: str) -> str:
    return f"network {kind} cannot be used: {said}; mend it until mzprobe.check_network(network, env.spec) is silent"
