"""Networks for runs: built from their configuration, and checked where a user's own code made them."""

import numpy as np
import torch

from mzprobe import networks
from mzprobe._plugins import LookedAt, is_ours, raised
from mzprobe.compute import Compute
from mzprobe.config import NetworkConfig
from mzprobe.envs import Environment
from mzprobe.errors import CheckFailed, UsageError
from mzprobe.networks import MuZeroNetwork, TrainableNetwork

_ROWS = 6  # start states whose observations a network is checked with
_PASSED = LookedAt()


def network_of(config: NetworkConfig, environment: Environment, generator: torch.Generator) -> TrainableNetwork:
    """Builds a new network as `networks.build` does.

    One from a user's factory must pass `check_network` with observations of the environment: a network that reads
    indices cannot take random numbers.

    Raises:
        UsageError: if it does not pass, or as in `networks.build`.
    """
    network = networks.build(config, environment.spec, generator)
    if ":" in config.kind:
        _look_at_starts(config.kind, network, environment, Compute())
    return network


def refuse_unsound(network: MuZeroNetwork, environment: Environment, compute: Compute) -> None:
    """Checks a network that was given as an object, once per object, with observations of the environment.

    Networks of mzprobe itself are not checked.

    Args:
        network: on the device of `compute`. A module is checked in evaluation mode, in which it will be called.
        environment: environment that the network is for.
        compute: how the network runs.

    Raises:
        UsageError: if it breaks a rule of `check_network`; names the rule.
    """
    if is_ours(network) or network in _PASSED:
        return
    with networks.evaluating(network):
        _look_at_starts(type(network).__qualname__, network, environment, compute)
    _PASSED.add(network)


def _look_at_starts(name: str, network: MuZeroNetwork, environment: Environment, compute: Compute) -> None:
    """Checks a network, under a name, with what the environment shows at some starts."""
    try:
        # A copy, since torch warns of arrays that are not writable.
        shown = torch.from_numpy(np.array(environment.observe(environment.reset(np.arange(_ROWS)))))
        networks.look_at(network, shown, environment.spec.num_actions, device=compute.device)
    except CheckFailed as broken:
        raise UsageError(_refused(name, str(broken))) from broken
    except Exception as error:  # the user's code may raise anything, as may ours with its results
        raise UsageError(_refused(name, raised(error))) from error


def _refused(kind: str, said: str) -> str:
    return f"network {kind} cannot be used: {said}; mend it until mzprobe.check_network(network, env.spec) is silent"
