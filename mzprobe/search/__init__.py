"""Batched Monte-Carlo tree search in any planning model."""

from mzprobe.search.mcts import SearchResult, actions_from_uniforms, sample_actions, search
from mzprobe.search.models import Leaf, LearnedModel, PlanningModel

__all__ = [
    "Leaf",
    "LearnedModel",
    "PlanningModel",
    "SearchResult",
    "actions_from_uniforms",
    "sample_actions",
    "search",
]
