"""The arithmetic of `FullyConnected` in numba: chains of layers over blocks of lanes, as in `mlp_kernels`.

A row has the same bits in any batch, and on any processor with fused multiply-add: products, exponentials and sums are
those of `mlp_kernels`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe._kernel import borrowing, kernel
from mzprobe.networks.fused.mlp_kernels import (
    exponentials,
    lanes_of,
    layer_lanes,
    mean_atoms,
    place_action,
    softmax_lanes,
)
from mzprobe.networks.fused.transposes import transpose
from mzprobe.networks.support import Axis

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

RELU, ELU = 0, 1


class Linear(NamedTuple):
    """Parameters of one layer, as `x @ w + b` takes them."""

    w: Float32  # [inputs, outputs]
    b: Float32  # [outputs]


class ChainWeights(NamedTuple):
    """All weights and settings of a `FullyConnected`."""

    representation: tuple[Linear, ...]
    dynamics: tuple[Linear, ...]
    reward: tuple[Linear, ...]
    policy: tuple[Linear, ...]
    value: tuple[Linear, ...]
    activation: int  # RELU or ELU
    epsilon: float  # added to a latent's range
    always: bool  # whether epsilon is added to every range, or only to ranges below it
    rectified: bool  # whether a latent passes through a ReLU before it is scaled
    reads_step: bool  # whether the reward is read from latent and action, else from the unscaled next latent
    axis: Axis
    widest: int  # outputs of the widest layer


class Room(NamedTuple):
    """Memory for a block of lanes."""

    x: Float32  # [L + A, lanes], latent and action
    z: Float32  # [L, lanes], latents that the representation or the dynamics return
    even: Float32  # [widest layer, lanes], outputs of layers 0, 2, ...
    odd: Float32  # [widest layer, lanes], outputs of layers 1, 3, ...
    policy: Float32  # [A, lanes]
    atoms: Float32  # [atoms, lanes]
    row: Float32  # [lanes], scratch
    powers: Int32  # [entries of the largest of all], scratch of `exponentials`


@kernel
def _room(weights: ChainWeights, lanes: int) -> Room:
    L = weights.dynamics[-1].b.size
    A, atoms = weights.policy[-1].b.size, weights.value[-1].b.size
    widest = weights.widest
    return Room(
        np.zeros((L + A, lanes), np.float32),
        np.zeros((L, lanes), np.float32),
        np.zeros((widest, lanes), np.float32),
        np.zeros((widest, lanes), np.float32),
        np.zeros((A, lanes), np.float32),
        np.zeros((atoms, lanes), np.float32),
        np.zeros(lanes, np.float32),
        np.zeros(max(widest, atoms, A) * lanes, np.int32),
    )


@borrowing
def _activate(x: Float32, kind: int, spare: Float32, powers: Int32) -> None:
    """Applies ReLU or ELU to x in place; `spare` is scratch of its shape."""
    values, below = x.reshape(x.size), spare.reshape(spare.size)
    if kind == RELU:
        for i in range(values.size):
            values[i] = max(values[i], np.float32(0))
        return
    for i in range(values.size):
        below[i] = min(values[i], np.float32(0))
    exponentials(below, powers)
    for i in range(values.size):
        values[i] = values[i] if values[i] > np.float32(0) else below[i] - np.float32(1)


@borrowing
def _run(chain: tuple[Linear, ...], kind: int, x: Float32, room: Room, out: Float32) -> None:
    """Sets out = the chain at x, `[outputs, lanes]`."""
    last = len(chain) - 1
    if last == 0:
        layer_lanes(x, chain[0].w, chain[0].b, out)
        return
    width = chain[0].b.size
    layer_lanes(x, chain[0].w, chain[0].b, room.even[:width])
    _activate(room.even[:width], kind, room.odd[:width], room.powers)
    for k in range(1, last):
        before, width = width, chain[k].b.size
        if k % 2:
            layer_lanes(room.even[:before], chain[k].w, chain[k].b, room.odd[:width])
            _activate(room.odd[:width], kind, room.even[:width], room.powers)
        else:
            layer_lanes(room.odd[:before], chain[k].w, chain[k].b, room.even[:width])
            _activate(room.even[:width], kind, room.odd[:width], room.powers)
    if last % 2:
        layer_lanes(room.even[:width], chain[last].w, chain[last].b, out)
    else:
        layer_lanes(room.odd[:width], chain[last].w, chain[last].b, out)


@borrowing
def _scale(z: Float32, weights: ChainWeights) -> None:
    """Scales each lane's latent to [0, 1] in place."""
    epsilon = np.float32(weights.epsilon)
    for i in range(z.shape[1]):
        if weights.rectified:
            for j in range(z.shape[0]):
                z[j, i] = max(z[j, i], np.float32(0))
        low = high = z[0, i]
        for j in range(1, z.shape[0]):
            low, high = min(low, z[j, i]), max(high, z[j, i])
        width = high - low
        if weights.always or width < epsilon:
            width += epsilon
        for j in range(z.shape[0]):
            z[j, i] = (z[j, i] - low) / width


@borrowing
def _represent(weights: ChainWeights, seen: Float32, room: Room) -> None:
    _run(weights.representation, weights.activation, seen, room, room.z)
    _scale(room.z, weights)


@borrowing
def _step(weights: ChainWeights, room: Room, rewards: Float64) -> None:
    """Sets z to the latents after x; fills the rewards of as many lanes as there is room for."""
    _run(weights.dynamics, weights.activation, room.x, room, room.z)
    if weights.reads_step:
        _run(weights.reward, weights.activation, room.x, room, room.atoms)
    else:
        _run(weights.reward, weights.activation, room.z, room, room.atoms)
    softmax_lanes(room.atoms, room.row, room.powers)
    mean_atoms(room.atoms, weights.axis, room.row, rewards)
    _scale(room.z, weights)


@kernel
def represent_chains(weights: ChainWeights, observations: Float32, latents: Float32) -> None:
    """Fills latents `[B, L]` with h_theta of observations `[B, size]`."""
    B, size = observations.shape
    lanes = lanes_of(B)
    room, seen = _room(weights, lanes), np.zeros((size, lanes), np.float32)
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        transpose(observations[first : first + count], seen[:, :count])
        _represent(weights, seen, room)
        transpose(room.z[:, :count], latents[first : first + count])


@kernel
def step_chains(weights: ChainWeights, latents: Float32, actions: Int64, following: Float32, rewards: Float64) -> None:
    """Fills next latents `[B, L]` and rewards `[B]` with g_theta of latents `[B, L]` and actions `[B]`."""
    B = len(latents)
    room = _room(weights, lanes_of(B))
    lanes = room.row.size
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        transpose(latents[first : first + count], room.x[: latents.shape[1], :count])
        for i in range(count):
            place_action(room.x, latents.shape[1], i, actions[first + i])
        _step(weights, room, rewards[first : first + count])
        transpose(room.z[:, :count], following[first : first + count])


@kernel
def roll_chains(weights: ChainWeights, latents: Float32, actions: Int64, rewards: Float64) -> None:
    """Fills rewards `[B, T]` by repeated g_theta from latents `[B, L]` along actions `[B, T]`."""
    B, T = actions.shape
    L = latents.shape[1]
    room = _room(weights, lanes_of(B))
    lanes = room.row.size
    now = np.empty(lanes)
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        transpose(latents[first : first + count], room.z[:, :count])
        for t in range(T):
            for j in range(L):
                room.x[j] = room.z[j]
            for i in range(count):
                place_action(room.x, L, i, actions[first + i, t])
            _step(weights, room, now[:count])
            for i in range(count):
                rewards[first + i, t] = now[i]


@kernel
def predict_chains(weights: ChainWeights, latents: Float32, prior: Float64, value: Float64, atoms: Float32) -> None:
    """Fills prior `[B, A]`, value `[B]` and its distribution `[B, atoms]` with f_theta of latents `[B, L]`."""
    B = len(latents)
    room = _room(weights, lanes_of(B))
    lanes = room.row.size
    for first in range(0, B, lanes):
        count = min(lanes, B - first)
        transpose(latents[first : first + count], room.z[:, :count])
        _run(weights.policy, weights.activation, room.z, room, room.policy)
        softmax_lanes(room.policy, room.row, room.powers)
        _run(weights.value, weights.activation, room.z, room, room.atoms)
        softmax_lanes(room.atoms, room.row, room.powers)
        mean_atoms(room.atoms, weights.axis, room.row, value[first : first + count])
        for i in range(count):
            for a in range(prior.shape[1]):
                prior[first + i, a] = room.policy[a, i]
        transpose(room.atoms[:, :count], atoms[first : first + count])
