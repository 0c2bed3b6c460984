"""`check_network`, which tests an implementation of the network protocol."""

import torch
from torch import Tensor, nn

from mzprobe._plugins import kind_of
from mzprobe.compute import Compute
from mzprobe.envs.core import EnvironmentSpec
from mzprobe.errors import CheckFailed
from mzprobe.inputs import as_tensor
from mzprobe.networks.core import MuZeroNetwork, TrainableNetwork
from mzprobe.networks.engine import engine_for

_ROWS = 6


@torch.no_grad()
def check_network(network: MuZeroNetwork, spec: EnvironmentSpec, *, device: str = "cpu", seed: int = 0) -> None:
    """Tests shapes, finiteness, determinism, independence of the rows of a batch, and that inputs are left unchanged.

    It also tests that the outputs for images are the same from bytes and from the fractions of 255 that searches and
    probes pass, and that no call changes the network's state, such as the statistics of a batch normalisation.

    Args:
        network: network to test, on `device`.
        spec: specification of an environment that the network is for.
        device: device of the network.
        seed: seed of the random observations and actions.

    Raises:
        CheckFailed: with one sentence that names the rule and what was seen.
    """
    if not isinstance(spec, EnvironmentSpec):
        raise CheckFailed(f"spec must be that of an environment, env.spec, not {kind_of(spec)}")
    generator = torch.Generator().manual_seed(seed)
    look_at(network, _observations(_ROWS, spec, generator), spec.num_actions, device=device, seed=seed)


@torch.no_grad()
def look_at(network: MuZeroNetwork, shown: Tensor, num_actions: int, *, device: str = "cpu", seed: int = 0) -> None:
    """Tests a network as `check_network` does, at given observations.

    Args:
        network: network to test, on `device`.
        shown: B > 2 observations `[B, *shape]` of the environment's dtype, on the CPU.
        num_actions: A.
        device: device of the network.
        seed: seed of the random actions.

    Raises:
        CheckFailed: see `check_network`.
    """
    lacking = [name for name in ("represent", "dynamics", "predict") if not callable(getattr(network, name, None))]
    _rule(not lacking, f"it must have the functions represent, dynamics and predict, and lacks {', '.join(lacking)}")
    generator, B, A = torch.Generator().manual_seed(seed), len(shown), num_actions
    observations = as_tensor(shown, device=device)
    state = _state(network)
    actions = torch.randint(A, (B,), generator=generator).to(device)
    kept = observations.clone()
    latents = network.represent(observations)
    _rule(len(latents) == B, f"represent must give {B} latents for {B} observations, not {len(latents)}")
    before = latents.clone()
    following, reward = network.dynamics(latents, actions)
    logits, value = network.predict(latents)
    _rule(following.shape == latents.shape, f"dynamics must keep the latents' shape {tuple(latents.shape)}")
    _shape("reward", reward, (B,))
    _shape("policy logits", logits, (B, A))
    _shape("value", value, (B,))
    for name, x in (("latents", latents), ("reward", reward), ("policy logits", logits), ("value", value)):
        _rule(bool(torch.isfinite(x).all()), f"{name} must be finite")
    _rule(torch.equal(observations, kept), "represent must not change the observations that it is given")
    _rule(torch.equal(latents, before), "dynamics and predict must not change the latents that they are given")
    outputs = (following, reward, logits, value)
    _rule(
        all(map(torch.equal, _outputs(network, observations, actions), outputs)),
        "the same input must give the same output: is it in training mode?",
    )
    _rule(
        all(map(torch.equal, state, _state(network))),
        "no call may move what the network keeps: is a batch norm in training mode?",
    )
    alone = _outputs(network, observations[2:3], actions[2:3])
    _rule(
        all(torch.allclose(x, y[2:3], atol=1e-4, rtol=1e-4) for x, y in zip(alone, outputs, strict=True)),
        "a row must not depend on the others of its batch: is a batch norm in training mode?",
    )
    _check_bytes(network, shown.to(device), latents)
    _check_engine(network, shown, actions, device, (latents, *outputs))
    if isinstance(network, TrainableNetwork):
        _check_unroll(network, observations, actions)


def _observations(B: int, spec: EnvironmentSpec, generator: torch.Generator) -> Tensor:
    """Draws random observations of the environment's dtype."""
    drawn = torch.randn(B, *spec.observation_shape, generator=generator)
    match spec.observation_dtype:
        case "uint8":
            return torch.randint(256, drawn.shape, generator=generator, dtype=torch.uint8)
        case "bool":
            return drawn > 0
    return drawn


def _state(network: MuZeroNetwork) -> list[Tensor]:
    """Returns copies of all weights and statistics."""
    return [x.clone() for x in network.state_dict().values()] if isinstance(network, nn.Module) else []


def _check_bytes(network: MuZeroNetwork, shown: Tensor, latents: Tensor) -> None:
    """Checks that a network which accepts bytes treats them as the floats that it receives elsewhere."""
    if shown.dtype != torch.uint8:
        return
    try:
        of_bytes = network.represent(shown)
    except Exception:  # the code may be anyone's, and most networks take floats alone
        return
    _agree(
        of_bytes,
        latents,
        "represent must see the bytes of an image as shares of 255, which is what training, searches and probes give: "
        "divide bytes by 255, and nothing else",
    )


def _check_engine(
    network: MuZeroNetwork, shown: Tensor, actions: Tensor, device: str, expected: tuple[Tensor, ...]
) -> None:
    """Checks that the engine, given observations as they are stored, returns what the network returns.

    This matters for networks with their own kernels.
    """
    engine = engine_for(network, Compute(device=device))
    latents = engine.represent(shown.numpy())
    prior, value = engine.predict(latents)
    found = (latents, *engine.dynamics(latents, actions.cpu()), prior, value)
    names = ("the latents", "the next latents", "the reward", "the policy", "the value")
    latents, following, reward, logits, value = expected
    wanted = (latents, following, reward, torch.softmax(logits, dim=1), value)
    for name, x, y in zip(names, found, wanted, strict=True):
        _agree(x.double().cpu(), y.double().cpu(), f"its engine and the network disagree on {name}")


def _outputs(network: MuZeroNetwork, observations: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
    """Returns next latents, reward, policy logits and value from the latents of observations."""
    latents = network.represent(observations)
    return (*network.dynamics(latents, actions), *network.predict(latents))


def _check_unroll(network: TrainableNetwork, observations: Tensor, actions: Tensor) -> None:
    """Checks that the unroll that the loss sees agrees with the functions that the search calls."""
    K, B = 3, len(observations)
    unroll = network.unroll(observations, actions.expand(K, B))
    latents = network.represent(observations)
    for k in range(K + 1):
        logits, value = network.predict(latents)
        unrolled = network.support.scalar(unroll.value_logits[k])
        _agree(unroll.policy_logits[k], logits, f"unroll and predict disagree on the policy at k = {k}")
        _agree(unrolled, value, f"unroll and predict disagree on the value at k = {k}")
        if k < K:
            latents, reward = network.dynamics(latents, actions)
            seen = network.support.scalar(unroll.reward_logits[k])
            _agree(seen, reward, f"unroll and dynamics disagree at k = {k + 1}")


def _agree(x: Tensor, y: Tensor, sentence: str) -> None:
    _rule(torch.allclose(x, y, atol=1e-3, rtol=1e-3), sentence)


def _shape(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    _rule(tuple(x.shape) == shape, f"{name} must have shape {shape}, not {tuple(x.shape)}")


def _rule(kept: bool, sentence: str) -> None:
    if not kept:
        raise CheckFailed(sentence)
