"""Batched Monte-Carlo tree search in any planning model."""

from mzprobe.search.mcts import SearchResult, actions_from_uniforms, sample_actions, search
from mzprobe.search.models import Leaf, LearnedModel, PlanningModel, TrueModel
from mzprobe.search.rollouts import Rollout

__all__ = [
    "Leaf",
    "LearnedModel",
    "PlanningModel",
    "Rollout",
    "SearchResult",
    "TrueModel",
    "actions_from_uniforms",
    "sample_actions",
    "search",
]
