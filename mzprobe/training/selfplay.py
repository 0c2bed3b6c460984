"""Self-play: episodes played side by side, with one batched search per step."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mzprobe.config import SearchConfig
from mzprobe.envs.core import Environment, concatenate, legal_actions, replayed, stack_of, step_of
from mzprobe.search.mcts import sample_actions, search
from mzprobe.search.models import PlanningModel
from mzprobe.system.memory import refuse_more_than_fits
from mzprobe.training.episodes import Episode
from mzprobe.training.frames import bytes_of_one, packing_of


class SelfPlay:
    """Plays E episodes side by side, with root noise and temperature, and replaces finished ones by new ones.

    The arrays have room for the longest episode so far, not for the time limit, which may be a thousand times as long.

    Args:
        environment: environment to play in.
        search: constants of the search.
        environments: E.
        generator: draws start seeds, root noise and actions.

    Raises:
        UsageError: if the episodes do not fit into memory.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        search: SearchConfig,
        environments: int,
        generator: np.random.Generator,
    ) -> None:
        spec = environment.spec
        self.environment = environment
        self.search = search
        self.generator = generator
        E, A = environments, spec.num_actions
        self.packing = packing_of(spec.observation_shape, spec.observation_dtype, stack_of(environment))
        self._refuse_beyond_memory(E, _ROOM)
        self.seeds = generator.integers(2**31, size=E)
        self.lengths = np.zeros(E, np.int64)
        self.seen: list[list[Any]] = [[] for _ in range(E)]  # each episode's observations, or its packed frames
        self.actions = np.zeros((E, 0), np.int64)
        self.rewards = np.zeros((E, 0))
        self.policies = np.zeros((E, 0, A))
        self.root_values = np.zeros((E, 0))
        self.states = environment.reset(self.seeds)
        self.masked = legal_actions(environment, self.states) is not None
        self.legal = np.zeros((E, 0, A if self.masked else 0), np.bool_)
        self._per_step = (*_PER_STEP, "legal") if self.masked else _PER_STEP

    def step(
        self, model: PlanningModel, temperature: float | NDArray[np.float64], *, uniform_share: float = 0.0
    ) -> list[Episode]:
        """Plays one step of every episode and returns the episodes that it finished.

        Args:
            model: model to search in.
            temperature: temperature of all episodes, or of each, `[E]`.
            uniform_share: share of the uniform policy over legal actions in the policy that is played.

        Raises:
            UsageError: if a reward is not finite, or if the episodes no longer fit into memory.
        """
        environment = self.environment
        self._make_room(int(self.lengths.max(initial=0)) + 2)  # for this step and the state that it leads to
        E = np.arange(len(self.lengths))
        roots, legal = model.roots(environment, self.states), legal_actions(environment, self.states)
        observations = np.array(model.observations(roots))  # an environment may write the next ones into the same array
        result = search(model, roots, config=self.search, generator=self.generator, legal=legal)
        policy = result.acting(temperature)
        if uniform_share:
            allowed = np.ones_like(policy) if legal is None else legal
            policy = (1 - uniform_share) * policy + uniform_share * allowed / allowed.sum(axis=1, keepdims=True)
        actions = sample_actions(policy, self.generator)
        states, outcome = step_of(environment, self.states, actions)
        at = (E, self.lengths)
        self._keep(E, observations)
        self.actions[at] = actions
        self.rewards[at] = outcome.reward
        self.policies[at] = result.target
        self.root_values[at] = result.value_target
        if legal is not None:
            self.legal[at] = legal
        self.lengths += 1
        truncated = ~outcome.terminated & (self.lengths == environment.spec.time_limit)
        ended = np.flatnonzero(outcome.terminated | truncated)
        if not len(ended):
            self.states = states
            return []
        self._see_last(model, states, outcome.terminated, ended)
        episodes = [self._episode(int(e), bool(outcome.terminated[e])) for e in ended]
        self.states = self._restart(states, ended)
        return episodes

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Returns the state as arrays and as JSON, without the observations, which `restore` recomputes."""
        longest = int(self.lengths.max()) if len(self.lengths) else 0
        arrays = {name: getattr(self, name)[:, :longest] for name in self._per_step}
        return {**arrays, "seeds": self.seeds, "lengths": self.lengths}, dict(self.generator.bit_generator.state)

    def restore(self, arrays: dict[str, NDArray[Any]], generator: dict[str, Any]) -> None:
        """Restores the result of `state`, replaying the real states from their seeds and actions."""
        self.seeds = arrays["seeds"].copy()
        self.lengths = arrays["lengths"].copy()
        self._make_room(arrays["actions"].shape[1])
        for name in self._per_step:
            getattr(self, name)[:, : arrays[name].shape[1]] = arrays[name]
        self.generator.bit_generator.state = generator
        self.seen = [[] for _ in self.seeds]
        observe = self.environment.observe
        self.states = replayed(
            self.environment,
            self.seeds,
            self.actions,
            self.lengths,
            on_way=lambda going, states: self._keep(going, observe(states)),
        )

    def _keep(self, episodes: NDArray[np.int64], observations: NDArray[Any]) -> None:
        """Appends one of `observations` `[M, *shape]` to each of `episodes` `[M]`."""
        if self.packing is None:
            rows: list[Any] = list(np.array(observations, self.environment.spec.observation_dtype))
        else:
            rows = self.packing.pack(observations)
        for e, row in zip(episodes.tolist(), rows, strict=True):
            self.seen[e].append(row)

    def _make_room(self, positions: int) -> None:
        """Makes room for at least `positions` positions per episode; doubling it keeps copies rare."""
        room = self.actions.shape[1]
        if positions <= room:
            return
        larger = max(positions, min(max(2 * room, _ROOM), self.environment.spec.time_limit + 1))
        self._refuse_beyond_memory(len(self.lengths), larger)
        for name in self._per_step:
            before = getattr(self, name)
            after = np.zeros((len(before), larger, *before.shape[2:]), before.dtype)
            after[:, :room] = before
            setattr(self, name, after)
        if self.masked:
            self.legal[:, room:] = True

    def _refuse_beyond_memory(self, episodes: int, positions: int) -> None:
        spec = self.environment.spec
        seen = bytes_of_one(spec.observation_shape, spec.observation_dtype, stack_of(self.environment))
        what = f"training.environments={episodes} with episodes of up to {positions:,} steps so far"
        refuse_more_than_fits(episodes * positions * (seen + 8 * spec.num_actions + 24), what=what)

    def _see_last(self, model: PlanningModel, states: Any, terminated: NDArray[np.bool_], ended: Any) -> None:
        """Records the last state of each ended episode; a truncated one is searched for a value to bootstrap from."""
        at = (ended, self.lengths[ended])
        self._keep(ended, self.environment.observe(states.take(ended)))
        self.policies[at] = 0
        self.root_values[at] = 0
        cut = ended[~terminated[ended]]
        if len(cut):
            last = states.take(cut)
            legal = legal_actions(self.environment, last)
            result = search(model, model.roots(self.environment, last), config=self.search, legal=legal)
            at = (cut, self.lengths[cut])
            self.policies[at] = result.target
            self.root_values[at] = result.value_target
            if legal is not None:
                self.legal[at] = legal

    def _episode(self, e: int, terminated: bool) -> Episode:
        T = int(self.lengths[e])
        return Episode(
            observations=self.seen[e] if self.packing else np.stack(self.seen[e]),
            actions=self.actions[e, :T].copy(),
            rewards=self.rewards[e, :T].copy(),
            policies=self.policies[e, : T + 1].copy(),
            root_values=self.root_values[e, : T + 1].copy(),
            terminated=terminated,
            seed=int(self.seeds[e]),
            legal=self.legal[e, : T + 1].copy() if self.masked else None,
        )

    def _restart(self, states: Any, ended: NDArray[np.int64]) -> Any:
        """Starts new episodes in the places of ended ones and returns the states of all episodes."""
        self.seeds[ended] = self.generator.integers(2**31, size=len(ended))
        self.lengths[ended] = 0
        for name in self._per_step:  # leftovers would be saved with the next episode
            getattr(self, name)[ended] = name == "legal"
        for e in ended:
            self.seen[e] = []
        E = len(self.lengths)
        order = np.arange(E)
        order[ended] = E + np.arange(len(ended))
        return concatenate([states, self.environment.reset(self.seeds[ended])]).take(order)


_ROOM = 64  # initial room, in positions per episode
_PER_STEP = ("actions", "rewards", "policies", "root_values")
