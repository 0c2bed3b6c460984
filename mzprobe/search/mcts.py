"""`search`: batched Monte-Carlo tree search in any planning model."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mzprobe import libm
from mzprobe.config import SearchConfig
from mzprobe.networks.mlp import MLPNetwork, MLPWeights
from mzprobe.search.fused import fused_search
from mzprobe.search.lots import root_keys
from mzprobe.search.models import LearnedModel, PlanningModel
from mzprobe.search.tree import Tree, backup_all, exploration_table, new_tree, plant_all, select_all

Float64 = NDArray[np.float64]
UInt64 = NDArray[np.uint64]
Path = Literal["auto", "fused", "general"]

_ROUNDING = 1e-9  # relative; Q closer than this are equal but for the order of their sums
_TIES = 0x74696573  # seed of their lots, so that they are not those of a rollout


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What the search found at B roots."""

    visit_counts: NDArray[np.int32]  # [B, A], N(s, a); each row sums to the number of simulations
    root_value: Float64  # [B], mean return through the root, its own leaf value included
    q: Float64  # [B, A], r + gamma V(child); NaN where untried
    prior: Float64  # [B, A], as used at the root, noise included
    tree: Tree | None  # all nodes, where asked for

    def policy(self, temperature: float | Float64) -> Float64:
        """pi^MuZero (the paper's Eq. 1): N^(1/T) / sum N^(1/T), `[B, A]`; at T = 0 the most visited.

        T is one number, or one above 0 for each root `[B]`.

        At T = 0 the one of the largest Q is taken among those that share the most visits; equal ones share the
        probability.

        Raises:
            ValueError: if the temperature is negative.
        """
        if not np.all(np.asarray(temperature) >= 0):
            raise ValueError(f"temperature must not be negative, not {temperature}")
        if isinstance(temperature, np.ndarray):
            weight = libm.power(self._shares(), 1 / temperature[:, None])
            return np.asarray(weight / weight.sum(axis=1, keepdims=True))
        share = self._shares()
        if temperature > 0:
            weight = libm.power(share, 1 / temperature)
        else:
            best = np.where(share == 1, self.q, -np.inf).max(axis=1, keepdims=True)
            weight = (share == 1) & ~(self.q < best - _ROUNDING * np.abs(best))
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))

    def _shares(self) -> Float64:
        """Visits over the most of their root, `[B, A]`: no power of them overflows."""
        return np.asarray(self.visit_counts / self.visit_counts.max(axis=1, keepdims=True))


def search(
    model: PlanningModel,
    roots: Any,
    *,
    config: SearchConfig,
    generator: np.random.Generator | None = None,
    keep_tree: bool = False,
    path: Path = "auto",
) -> SearchResult:
    """Searches from a batch of roots.

    Args:
        model: what to plan in.
        roots: whatever the model's `start` takes; for `LearnedModel`, observations `[B, *shape]`, for `TrueModel`
            B states.
        config: simulations and constants.
        generator: draws Dirichlet noise for the root priors (collecting data); without it there is none.
        keep_tree: whether the result carries all nodes.
        path: `fused` runs the model's network inside one kernel (an `MLPNetwork` on the CPU), `general` calls
            the model once a simulation; `auto` takes the fused path where there is one. Both give equal visit counts.

    Raises:
        ValueError: if there are no roots, or the fused path is asked of a model that has none.
    """
    B, A = len(roots), model.num_actions
    if B == 0:
        raise ValueError("search needs at least one root")
    noise = np.zeros((0, A))
    if generator is not None:
        noise = generator.dirichlet(np.full(A, config.dirichlet_alpha), size=B)
    tree = new_tree(B, config.simulations + 1, A)
    table = exploration_table(config.simulations, c1=config.c1, c2=config.c2)
    ties = root_keys(model.observations(roots), _TIES) if config.ties == "lot" else np.zeros(0, np.uint64)
    weights = model.fused_weights if isinstance(model, LearnedModel) else None
    if path == "fused" and weights is None:
        raise ValueError("the fused path needs a LearnedModel over an MLPNetwork on the CPU")
    if weights is not None and path != "general":
        assert isinstance(model, LearnedModel)
        _fused_search(model, weights, roots, tree, table, config, ties, noise)
    else:
        _general_search(model, roots, tree, table, config, ties, noise)
    return _result(tree, keep_tree)


def sample_actions(probabilities: Float64, generator: np.random.Generator) -> NDArray[np.int64]:
    """One action a row of probabilities `[B, A]`, by one uniform number a row."""
    uniforms = generator.random(len(probabilities))
    return actions_from_uniforms(probabilities, uniforms)


def actions_from_uniforms(probabilities: Float64, uniforms: Float64) -> NDArray[np.int64]:
    """Inverts each row's cumulative distribution `[B, A]` at a number `[B]` in [0, 1)."""
    cumulative = np.cumsum(probabilities, axis=1)
    below = cumulative <= (uniforms * cumulative[:, -1])[:, None]
    return np.asarray(below.sum(axis=1), dtype=np.int64)


def _fused_search(
    model: LearnedModel,
    weights: MLPWeights,
    roots: Any,
    tree: Tree,
    table: Float64,
    config: SearchConfig,
    ties: UInt64,
    noise: Float64,
) -> None:
    assert isinstance(model.network, MLPNetwork)
    support = model.network.support
    observations = np.ascontiguousarray(roots, np.float32).reshape(len(roots), -1)
    horizon, from_root, keys = -1, True, np.zeros(0, np.uint64)
    if model.leaf != "value":
        horizon, from_root = model.leaf.horizon, model.leaf.counted_from == "root"
        keys = root_keys(observations, model.leaf.seed)
    fused_search(
        weights,
        support.axis,
        observations,
        tree,
        table,
        config.normalisation_floor * model.reward_unit,
        ties,
        model.gamma,
        model.prior == "uniform",
        noise,
        config.dirichlet_fraction,
        horizon,
        from_root,
        keys,
    )


def _general_search(
    model: PlanningModel,
    roots: Any,
    tree: Tree,
    table: Float64,
    config: SearchConfig,
    ties: UInt64,
    noise: Float64,
) -> None:
    B, M, _ = tree.prior.shape
    arena, leaf = model.start(roots, M)
    prior = leaf.prior
    if len(noise):
        prior = (1 - config.dirichlet_fraction) * prior + config.dirichlet_fraction * noise
    plant_all(tree, prior, leaf.value)
    floor = config.normalisation_floor * model.reward_unit
    nodes, actions = np.zeros(B, np.int32), np.zeros(B, np.int32)
    for slot in range(1, M):
        select_all(tree, table, floor, ties, nodes, actions)
        leaf = model.expand(arena, nodes, actions, slot)
        backup_all(tree, slot, nodes, actions, leaf.reward, leaf.prior, leaf.value, model.gamma)


def _result(tree: Tree, keep_tree: bool) -> SearchResult:
    visited = tree.edge_visits[:, 0].copy()
    return SearchResult(
        visit_counts=visited,
        root_value=tree.value_sum[:, 0] / tree.visits[:, 0],
        q=np.where(visited > 0, tree.q[:, 0], np.nan),
        prior=tree.prior[:, 0].copy(),
        tree=tree if keep_tree else None,
    )
