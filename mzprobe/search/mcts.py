"""`search`: batched Monte-Carlo tree search in any planning model."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mzprobe import libm
from mzprobe._kernel import kernel
from mzprobe.config import SearchConfig
from mzprobe.inputs import as_floats
from mzprobe.names import check_choice
from mzprobe.networks.fused.weights import FusedWeights
from mzprobe.search.fused import fused_search
from mzprobe.search.lots import root_keys
from mzprobe.search.models import LearnedModel, PlanningModel
from mzprobe.search.rules import Selection, improved_by, noise_for, noise_of_roots, selection_for
from mzprobe.search.stages import expand_all, plant, select
from mzprobe.search.tree import Forest, Tree, arrays_of, new_forest

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
UInt64 = NDArray[np.uint64]
SearchPath = Literal["auto", "fused", "general"]

_ROUNDING = 1e-9  # relative; Q values closer than this differ only by the order of their sums
_NOISE = 0x6E6F6973  # seed of the keys for noise by lot
_TIES = 0x74696573  # seed of the keys for ties, so that these differ from those of a rollout


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Results of a search at B roots."""

    visit_counts: NDArray[np.int32]  # [B, A], N(s, a); each row sums to the number of simulations
    root_value: Float64  # [B], mean return through the root, including the root's own leaf value
    q: Float64  # [B, A], r + discount V(child); NaN where untried
    prior: Float64  # [B, A], prior used at the root, noise included
    improved: Float64 | None = None  # [B, A], policy that the rule derives from prior and Q; None for PUCT
    winner: Float64 | None = None  # [B, A], one-hot, the action that Gumbel's halving has left; None for other rules
    worth: Float64 | None = None  # [B], Gumbel: mean of completed Q under the improved policy; None for other rules
    noisy: bool = False  # whether root noise was drawn
    tree: Tree | None = None  # all nodes; None unless they were asked for

    def acting(self, temperature: float | Float64) -> Float64:
        """Returns the policy to play, target^(1/T) / sum target^(1/T), `[B, A]`.

        For PUCT this is pi^MuZero (the paper's Eq. 1). At T = 0, PUCT plays the most visited action. If several are, it
        plays the one with the largest Q, and equal ones share the probability. The regularised rule plays the action
        with the largest probability, and Gumbel's rule the one that halving has left. With Gumbel's noise, the latter
        is played at any T, since the noise makes the draw.

        Args:
            temperature: T, one number, or one above 0 for each root `[B]`.

        Raises:
            ValueError: if the temperature is negative.
        """
        if isinstance(temperature, np.ndarray):
            negative, at_zero, at_one = bool((temperature < 0).any()), False, False
        else:
            negative, at_zero, at_one = not temperature >= 0, temperature == 0, temperature == 1
        if negative:
            raise ValueError(f"temperature must not be negative, not {temperature}")
        if self.winner is not None and (self.noisy or at_zero):
            return self.winner
        if at_one:
            return self.target
        share = self._shares()
        if isinstance(temperature, np.ndarray):
            weight = libm.power(share, 1 / temperature[:, None])
        elif temperature > 0:
            weight = libm.power(share, 1 / temperature)
        else:
            best = np.where(share == 1, self.q, -np.inf).max(axis=1, keepdims=True)
            weight = (share == 1) & ~(self.q < best - _ROUNDING * np.abs(best))
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))

    @property
    def target(self) -> Float64:
        """The policy target, `[B, A]`: the distribution of visits, or the improved policy where the rule has one."""
        if self.improved is not None:
            return self.improved
        share = self._shares()
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    @property
    def value_target(self) -> Float64:
        """The value that value targets bootstrap from, `[B]`: the mean return through the root.

        For Gumbel's rule it is the mean of completed Q under the improved policy. Halving gives as many visits to
        actions that it will drop, so that the mean over visits is below the value of the action played: bootstrapped
        step after step, values would drift to those of the halving schedule itself.
        """
        return self.root_value if self.worth is None else self.worth

    def _shares(self) -> Float64:
        """Returns the target divided by the largest entry of its row, `[B, A]`, so that no power of it overflows."""
        weight = self.visit_counts if self.improved is None else self.improved
        return np.asarray(weight / weight.max(axis=1, keepdims=True))


def search(
    model: PlanningModel,
    roots: Any,
    *,
    config: SearchConfig,
    generator: np.random.Generator | None = None,
    legal: Bool | None = None,
    noise_by_lot: bool = False,
    keep_tree: bool = False,
    path: SearchPath = "auto",
) -> SearchResult:
    """Searches from a batch of roots.

    Args:
        model: model to plan in.
        roots: whatever the model's `start` takes; for `LearnedModel`, observations `[B, *shape]`, for `TrueModel` B
            states.
        config: simulations, rule and constants.
        generator: draws the rule's root noise (for collecting data); without it there is none, unless `noise_by_lot`.
        legal: `[B, A]`, the legal actions of the roots; None for all. Illegal actions are never tried.
        noise_by_lot: whether each root's noise is drawn from its observation instead of by `generator`, so that it is
            always the same.
        keep_tree: whether the result carries all nodes.
        path: `fused` runs the model's network inside one kernel (an `MLPNetwork` on the CPU), `general` calls the model
            once per simulation; `auto` takes the fused path where there is one. Both give equal visit counts.

    Raises:
        ValueError: if there are no roots, `legal` is for other roots, or the fused path is requested of a model without
            one or with roots that do not fit its network.
        UsageError: if the trees do not fit into memory, or there is no such path.
    """
    B, A = len(roots), model.num_actions
    if B == 0:
        raise ValueError("search needs at least one root")
    if legal is not None and np.shape(legal) != (B, A):
        raise ValueError(f"legal has shape {np.shape(legal)} for {B} roots with {A} actions")
    check_choice(path, get_args(SearchPath), "path")
    forest = new_forest(B, config.simulations + 1, A)
    shown: Any = model.observations(roots) if noise_by_lot or config.ties == "lot" else None
    noise = noise_for(config, None if noise_by_lot else generator, (B, A))
    if noise_by_lot:
        noise = noise_of_roots(config, root_keys(shown, _NOISE), A)
    selection = selection_for(
        config,
        floor=config.normalisation_floor * model.reward_unit,
        ties=root_keys(shown, _TIES) if config.ties == "lot" else np.zeros(0, np.uint64),
        shape=(B, A),
        noise=noise,
    )
    fused = model.fused if isinstance(model, LearnedModel) else None
    if path == "fused" and fused is None:
        raise ValueError("the fused path needs a LearnedModel over an MLPNetwork on the CPU")
    if fused is not None and path != "general":
        assert isinstance(model, LearnedModel)
        _fused_search(model, fused, roots, forest, selection, _mask(legal, A))
    else:
        _general_search(model, roots, forest, selection, legal)
    return _result(config, forest, selection, noisy=len(noise) > 0, keep_tree=keep_tree)


def sample_actions(probabilities: Float64, generator: np.random.Generator) -> NDArray[np.int64]:
    """Samples one action per row of probabilities `[B, A]`, using one uniform number per row."""
    uniforms = generator.random(len(probabilities))
    return actions_from_uniforms(probabilities, uniforms)


def actions_from_uniforms(probabilities: Float64, uniforms: Float64) -> NDArray[np.int64]:
    """Inverts each row's cumulative distribution `[B, A]` at a number `[B]` in [0, 1)."""
    given = np.ascontiguousarray(probabilities, np.float64), np.ascontiguousarray(uniforms, np.float64)
    return _inverted(*given)


@kernel
def _inverted(probabilities: Float64, uniforms: Float64) -> NDArray[np.int64]:
    B, A = probabilities.shape
    actions = np.zeros(B, np.int64)
    for b in range(B):
        total = 0.0
        for a in range(A):
            total += probabilities[b, a]
        cumulative = 0.0
        for a in range(A):
            cumulative += probabilities[b, a]
            actions[b] += cumulative <= uniforms[b] * total
    return actions


def _mask(legal: Bool | None, num_actions: int) -> Bool:
    """Returns a mask as the kernels take it: `[0, A]` where all actions are legal."""
    return np.zeros((0, num_actions), np.bool_) if legal is None else np.ascontiguousarray(legal, np.bool_)


def _fused_search(
    model: LearnedModel, fused: FusedWeights, roots: Any, forest: Forest, selection: Selection, legal: Bool
) -> None:
    observations = as_floats(roots).reshape(len(roots), -1)
    inputs, A = fused.weights.representation.w1.shape[0], fused.weights.policy.w2.shape[1]
    if (observations.shape[1], model.num_actions) != (inputs, A):  # kernels check no bounds
        raise ValueError(
            f"roots have {observations.shape[1]} numbers and {model.num_actions} actions, the network {inputs} and {A}"
        )
    horizon, from_root, keys = -1, True, np.zeros(0, np.uint64)
    if model.leaf != "value":
        horizon, from_root = model.leaf.horizon, model.leaf.counted_from == "root"
        keys = root_keys(model.observations(roots), model.leaf.seed)  # images stay bytes here, as in every model
    uniform = model.prior == "uniform"
    fused_search(
        fused.weights,
        fused.support.axis,
        observations,
        forest,
        selection,
        model.gamma,
        uniform,
        legal,
        horizon,
        from_root,
        keys,
    )


def _general_search(model: PlanningModel, roots: Any, forest: Forest, selection: Selection, legal: Bool | None) -> None:
    B, M, A = forest.edges.shape
    arena, leaf = model.start(roots, M)
    forest.edges["prior"][:, 0] = leaf.prior
    plant(forest, 0, leaf.value, selection, _mask(leaf.legal if legal is None else legal, A))
    nodes, actions = np.zeros(B, np.int32), np.zeros(B, np.int32)
    for slot in range(1, M):
        select(forest, 0, selection, nodes, actions)
        leaf = model.expand(arena, nodes, actions, slot)
        expand_all(
            forest, slot, nodes, actions, leaf.reward, leaf.discount, leaf.prior, leaf.value, _mask(leaf.legal, A)
        )


def _result(
    config: SearchConfig, forest: Forest, selection: Selection, *, noisy: bool, keep_tree: bool
) -> SearchResult:
    root, edges = forest.nodes[:, 0], forest.edges[:, 0]
    visited = edges["visits"].copy()
    improved = improved_by(config, forest, selection)
    return SearchResult(
        visit_counts=visited,
        root_value=root["value_sum"] / root["visits"],
        q=np.where(visited > 0, edges["q"], np.nan),
        prior=edges["prior"].copy(),
        improved=improved.policy,
        winner=improved.winner,
        worth=improved.worth,
        noisy=noisy,
        tree=arrays_of(forest) if keep_tree else None,
    )
