"""The memory of the fused gradient."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mzprobe.networks.fused.weights import MLPWeights

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


class Lanes(NamedTuple):
    """What a gradient keeps of each position, `[B]`, so that its loops run over them side by side."""

    lowest: Int32  # entry of the smallest latent
    highest: Int32  # entry of the largest latent
    least: Float32
    most: Float32
    through_low: Float32  # gradient through the smallest latent
    through_high: Float32  # gradient through the largest latent
    atom: Int32  # the lower of a target's two atoms
    share: Float32  # of a target, at the upper one
    weight: Float32  # of a target


class Workspace(NamedTuple):
    """Memory of one training step, reused."""

    seen: Float32  # [observation size, B]
    x: Float32  # [K, L + A, B], inputs of the dynamics
    h_body: Float32  # [K + 1, H, B], hidden activations of representation (step 0) and dynamics
    z: Float32  # [K + 1, L, B], latents
    scale: Float32  # [K + 1, B], 1 / (max - min + eps) of the unscaled latents
    hidden: Float32  # [H, B], of the head at hand
    dz: Float32  # [K + 1, L, B]
    dy: Float32  # [L, B], gradient before the latents' scaling
    dh: Float32  # [H, B]
    scalar: Float32  # [atoms, B], logits of reward or value, then probabilities, then their gradient
    policy: Float32  # [A, B], the same
    powers_scalar: Int32  # [atoms B], scratch of the exponentials
    powers_policy: Int32  # [A B]
    row: Float32  # [B]
    values: Float64  # [B], at the roots
    lanes: Lanes
    z_down: Float32  # [B, L], the latents of a step with the batch down
    across: Float32  # [B, H], dh likewise
    across_scalar: Float32  # [B, atoms]
    across_policy: Float32  # [B, A]
    across_latent: Float32  # [B, L]
    step: Float32  # [L + A + L, B], what a reward head of transitions reads, or [0, B]
    step_down: Float32  # [B, L + A + L], the same with the batch down
    dstep: Float32  # [L + A + L, B], its gradient
    turned: tuple[Float32, Float32, Float32]  # [H, inputs], gradients of w1 of reward, policy and value, turned


def workspace(weights: MLPWeights, *, B: int, K: int) -> Workspace:
    """Memory for batches of B positions unrolled K steps."""
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
