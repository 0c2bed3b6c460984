"""Memory of the fused gradient."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.networks.fused.weights import MLPWeights

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


class Lanes(NamedTuple):
    """Scratch of the gradient for each position, `[B]`, so that its inner loops run over positions."""

    lowest: Int32  # entry of the smallest latent
    highest: Int32  # entry of the largest latent
    least: Float32  # smallest latent
    most: Float32  # largest latent
    through_low: Float32  # gradient through the smallest latent
    through_high: Float32  # gradient through the largest latent
    atom: Int32  # lower of the target's two atoms
    share: Float32  # share of the target on the upper atom
    weight: Float32  # weight of the target in the loss


class Workspace(NamedTuple):
    """Memory of a training step, reused by the next."""

    seen: Float32  # [observation size, B], observations
    x: Float32  # [K, L + A, B], inputs of the dynamics
    h_body: Float32  # [K + 1, H, B], hidden activations of representation (step 0) and dynamics
    z: Float32  # [K + 1, L, B], latents
    scale: Float32  # [K + 1, B], 1 / (max - min + eps) of the unscaled latents
    hidden: Float32  # [H, B], hidden activations of the current head
    dz: Float32  # [K + 1, L, B], gradient of the latents
    dy: Float32  # [L, B], gradient of the unscaled latents
    dh: Float32  # [H, B], gradient of the hidden layer before its ReLU
    scalar: Float32  # [atoms, B], logits of reward or value, then probabilities, then their gradient
    policy: Float32  # [A, B], logits of the policy, then probabilities, then their gradient
    powers_scalar: Int32  # [atoms * B], scratch of the exponentials
    powers_policy: Int32  # [A * B], scratch of the exponentials
    row: Float32  # [B], scratch
    values: Float64  # [B], values of the roots
    lanes: Lanes
    z_down: Float32  # [B, L], latents of a step, transposed
    across: Float32  # [B, H], dh, transposed
    across_scalar: Float32  # [B, atoms], gradient of the logits in `scalar`, transposed
    across_policy: Float32  # [B, A], gradient of the logits in `policy`, transposed
    across_latent: Float32  # [B, L], dy, transposed
    step: Float32  # [L + A + L, B], input of a reward head that reads transitions; else [0, B]
    step_down: Float32  # [B, L + A + L], `step`, transposed
    dstep: Float32  # [L + A + L, B], gradient of `step`
    turned: tuple[Float32, Float32, Float32]  # [H, inputs], gradients of w1 of reward, policy and value, transposed


def workspace(weights: MLPWeights, *, B: int, K: int) -> Workspace:
    """Allocates memory for batches of B positions unrolled K steps."""
    L, H = weights.representation.w2.shape[1], weights.representation.w1.shape[1]
    A, atoms = weights.policy.w2.shape[1], weights.value.w2.shape[1]
    read = weights.reward.w1.shape[0]
    step = read if read > L else 0

    def room(*shape: int) -> Float32:
        return np.zeros(shape, np.float32)

    return Workspace(
        seen=room(weights.representation.w1.shape[0], B),
        x=room(K, L + A, B),
        h_body=room(K + 1, H, B),
        z=room(K + 1, L, B),
        scale=room(K + 1, B),
        hidden=room(H, B),
        dz=room(K + 1, L, B),
        dy=room(L, B),
        dh=room(H, B),
        scalar=room(atoms, B),
        policy=room(A, B),
        powers_scalar=np.zeros(atoms * B, np.int32),
        powers_policy=np.zeros(A * B, np.int32),
        row=room(B),
        values=np.zeros(B),
        lanes=Lanes(
            lowest=np.zeros(B, np.int32),
            highest=np.zeros(B, np.int32),
            least=room(B),
            most=room(B),
            through_low=room(B),
            through_high=room(B),
            atom=np.zeros(B, np.int32),
            share=room(B),
            weight=room(B),
        ),
        z_down=room(B, L),
        across=room(B, H),
        across_scalar=room(B, atoms),
        across_policy=room(B, A),
        across_latent=room(B, L),
        step=room(step, B),
        step_down=room(B, step),
        dstep=room(step, B),
        turned=(room(H, read), room(H, L), room(H, L)),
    )
