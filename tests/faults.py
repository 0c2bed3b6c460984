"""Faults that `mutations.py` plants: in the truth, in simulators and in the probes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A text that is replaced, and the test that fails then."""

    what: str  # in words
    file: str
    old: str  # stands once in the file
    new: str
    test: str


FAULTS = (
    # Truth and model
    Fault(
        what="a reward is counted one step late",
        file="mzprobe/probes/prefixes.py",
        old="gamma, self.length[parents])",
        new="gamma, self.length[parents] + 1)",
        test="tests/test_horizon.py::test_exact_scores_equal_the_enumeration_of_all_sequences",
    ),
    Fault(
        what="the model is scored on other sequences than the truth",
        file="mzprobe/probes/prefixes.py",
        old="self.engine.dynamics(before, actions)",
        new="self.engine.dynamics(before, actions[::-1])",
        test="tests/test_horizon.py::test_a_perfect_model_scores_exactly_0",
    ),
    Fault(
        what="the policy is asked at the first state, not at the real state on the way",
        file="mzprobe/probes/prefixes.py",
        old="policy.distribution(tree.states.take(nodes[moved]))",
        new="policy.distribution(tree.states.take(tree.root[nodes[moved]]))",
        test="tests/test_sequences.py::test_the_probability_follows_the_real_states_and_not_the_models",
    ),
    Fault(
        what="a terminal row of a table is not made absorbing",
        file="mzprobe/envs/tabular.py",
        old="self.rewards[ended] = 0.0",
        new="pass",
        test="tests/test_envs.py::test_terminal_rows_are_made_absorbing",
    ),
    Fault(
        what="states are the first of the episodes, not drawn over all time steps",
        file="mzprobe/probes/sampling.py",
        old="generator.choice(steps, size=states, replace=steps < states)",
        new="np.arange(states) % steps",
        test="tests/test_sampling.py::test_time_steps_are_drawn_uniformly",
    ),
    # Simulators
    Fault(
        what="the simulator used last is sent elsewhere, not the one longest unused",
        file="mzprobe/envs/simulators.py",
        old="self._at.popitem(last=False)",
        new="self._at.popitem(last=True)",
        test="tests/test_simulators.py::test_the_simulator_longest_unused_is_sent_elsewhere",
    ),
    Fault(
        what="a replay forgets the last action",
        file="mzprobe/envs/simulators.py",
        old="for action in actions[first:]:",
        new="for action in actions[first:-1]:",
        test="tests/test_simulators.py::test_branches_equal_plain_arithmetic_with_a_bounded_number_of_simulators",
    ),
    Fault(
        what="a simulator is put back to a saved state of another branch",
        file="mzprobe/envs/simulators.py",
        old=" and actions.startswith(b)]",
        new="]",
        test="tests/test_simulators.py::test_branches_equal_plain_arithmetic_with_a_bounded_number_of_simulators",
    ),
    Fault(
        what="a simulator that could not be put back is believed to be where it was",
        file="mzprobe/envs/simulators.py",
        old="            self._idle.append(live)\n            self._out = None",
        new="            self._at[seed, actions] = live\n            self._out = None",
        test="tests/test_simulators.py::test_branches_equal_plain_arithmetic_with_a_bounded_number_of_simulators",
    ),
    Fault(
        what="a twin at the same state is lost, so that more simulators are made",
        file="mzprobe/envs/simulators.py",
        old="self._idle.append(twin)",
        new="pass",
        test="tests/test_simulators.py::test_of_twins_one_is_free_for_the_next_state",
    ),
    Fault(
        what="a terminal state is stepped",
        file="mzprobe/envs/simulators.py",
        old="            if over:\n                continue",
        new="            if False:\n                continue",
        test="tests/test_lunarlander.py::test_branches_over_a_tree_of_states_show_what_linear_play_shows",
    ),
    Fault(
        what="rewards along a sequence go on past the end",
        file="mzprobe/envs/simulators.py",
        old="                if ended:\n                    break",
        new="                pass",
        test="tests/test_lunarlander.py::test_rewards_along_are_those_of_stepping_past_the_end_and_from_any_state",
    ),
    Fault(
        what="the lander's potential is not looked at again after a replay",
        file="mzprobe/envs/lunarlander.py",
        old="*_ITERATIONS)\n        self._looked = False",
        new="*_ITERATIONS)\n        self._looked = True",
        test="tests/test_lunarlander.py::test_branches_over_a_tree_of_states_show_what_linear_play_shows",
    ),
    Fault(
        what="the side engines push the other way",
        file="mzprobe/envs/lunarlander.py",
        old="(action - 2) * _SIDE_AWAY",
        new="(2 - action) * _SIDE_AWAY",
        test="tests/test_lunarlander.py::test_random_and_drifting_episodes_equal_gymnasiums_bit_for_bit",
    ),
    Fault(
        what="the main engine's fuel is free",
        file="mzprobe/envs/lunarlander.py",
        old="reward -= _MAIN_FUEL",
        new="pass",
        test="tests/test_lunarlander.py::test_random_and_drifting_episodes_equal_gymnasiums_bit_for_bit",
    ),
    Fault(
        what="a lander that came to rest flies on",
        file="mzprobe/envs/lunarlander.py",
        old="if not self._lander.awake:",
        new="if False:",
        test="tests/test_lunarlander.py::test_landings_that_come_to_rest_equal_gymnasiums_bit_for_bit",
    ),
    Fault(
        what="the check for chance draws the same numbers again",
        file="mzprobe/envs/chance.py",
        old="kind.reseed(generator, self._seed)",
        new="pass",
        test="tests/test_gym.py::test_chance_of_gymnasiums_own_is_refused",
    ),
    Fault(
        what="a tree's states push out the root that it branches from",
        file="mzprobe/envs/simulators.py",
        old="self._forget(min(self.uses, key=self.uses.__getitem__))",
        new="self._forget(next(iter(self.uses)))",
        test="tests/test_lunarlander_search.py::test_a_tree_of_states_does_not_push_out_its_root",
    ),
    # Probes
    Fault(
        what="magnitudes are taken before the mean over sequences",
        file="mzprobe/probes/horizon.py",
        old='"error": np.abs(mean)',
        new='"error": magnitude',
        test="tests/test_horizon.py::test_exact_scores_equal_the_enumeration_of_all_sequences",
    ),
    Fault(
        what="the signed error is true minus predicted",
        file="mzprobe/probes/horizon.py",
        old='"signed_error": mean',
        new='"signed_error": -mean',
        test="tests/test_horizon.py::test_exact_scores_equal_the_enumeration_of_all_sequences",
    ),
    Fault(
        what="the variance over sampled sequences is divided by m, not m - 1",
        file="mzprobe/probes/horizon.py",
        old="mean) / (sequences - 1))",
        new="mean) / sequences)",
        test="tests/test_horizon.py::test_sampled_scores_equal_the_average_of_the_same_sequences",
    ),
    Fault(
        what="the bias has the wrong sign",
        file="mzprobe/probes/horizon.py",
        old="folded - np.abs(mean)",
        new="np.abs(mean) - folded",
        test="tests/test_horizon.py::test_the_bias_of_a_mean_magnitude_equals_its_simulation",
    ),
    Fault(
        what="sequences are ranked from the most probable on",
        file="mzprobe/stats.py",
        old="np.argsort(level,",
        new="np.argsort(-level,",
        test="tests/test_sequences.py::test_ranks_go_from_the_least_to_the_most_probable",
    ),
    Fault(
        what="the bootstrap of order k is discounted as if it came one step later",
        file="mzprobe/probes/equivalence.py",
        old="gamma**k * gap",
        new="gamma ** (k + 1) * gap",
        test="tests/test_equivalence.py::test_every_order_equals_the_enumeration_of_all_sequences",
    ),
    Fault(
        what="a terminal state is worth what the value head says",
        file="mzprobe/probes/equivalence.py",
        old="np.where(tree.terminal, 0.0, real_values(other, observations))",
        new="real_values(other, observations)",
        test="tests/test_equivalence.py::test_the_parts_of_a_step_by_hand",
    ),
    Fault(
        what="the model's best sequence is judged by its predicted value",
        file="mzprobe/probes/sequences.py",
        old="lost = value.max(axis=1, keepdims=True) - value",
        new="lost = value.max(axis=1, keepdims=True) - predicted",
        test="tests/test_sequences.py::test_decision_measures_equal_their_definitions",
    ),
    Fault(
        what="the optimiser's curse is read at the last simulation, not on the most visited path",
        file="mzprobe/probes/search_error.py",
        old="most_visited(tree, N) - 1",
        new="np.full(B, N - 1)",
        test="tests/test_search_error.py::test_a_row_is_the_mean_over_the_trajectories_of_a_search_of_n_simulations",
    ),
    Fault(
        what="the matrix is transposed: the policy of X in the model of Y",
        file="mzprobe/probes/cross.py",
        old="score_tree(tree, policy,",
        new="score_tree(PrefixTree(environment, other.network, sample.states.take(chosen)), agent.policy,",
        test="tests/test_cross.py::test_a_cell_is_the_policy_of_y_in_the_model_and_at_the_states_of_x",
    ),
    Fault(
        what="errors at matched depth weigh each depth by the search's own paths",
        file="mzprobe/probes/search_error.py",
        old="weight = np.minimum(own, by_length(other))",
        new="weight = own",
        test="tests/test_search_error.py::test_an_error_that_grows_with_the_length_alone_is_the_same_at_matched_length",
    ),
    Fault(
        what="the re-grounded model is not re-grounded",
        file="mzprobe/probes/prefixes.py",
        old="encoded[torch.as_tensor(place, device=encoded.device)], actions)",
        new="self.latents[torch.as_tensor(parents, device=encoded.device)], actions)",
        test="tests/test_horizon.py::test_exact_scores_equal_the_enumeration_of_all_sequences",
    ),
    Fault(
        what="total variation without its half",
        file="mzprobe/probes/search_error.py",
        old="np.abs(policy - visited).sum(axis=1) / 2",
        new="np.abs(policy - visited).sum(axis=1)",
        test="tests/test_search_error.py::test_the_policy_is_compared_with_one_more_than_the_visits",
    ),
    Fault(
        what="the KL divergence in the other direction",
        file="mzprobe/probes/search_error.py",
        old="rel_entr(policy, visited)",
        new="rel_entr(visited, policy)",
        test="tests/test_search_error.py::test_the_policy_is_compared_with_one_more_than_the_visits",
    ),
    Fault(
        what="a claim counts every cell of an agent as an agent",
        file="mzprobe/claims/core.py",
        old='own = effects.groupby("seed")["effect"].mean()',
        new='own = effects["effect"]',
        test="tests/test_claims.py::test_an_agent_counts_once_however_many_cells_it_has",
    ),
    Fault(
        what="p-values are not adjusted over cells",
        file="mzprobe/significance.py",
        old="np.maximum.accumulate(adjusted[order] * factors)",
        new="np.maximum.accumulate(adjusted[order])",
        test="tests/test_significance.py::test_holm_is_its_definition_in_any_order",
    ),
    Fault(
        what="processes that play episodes outlive a parent that is killed",
        file="mzprobe/probes/planning_workers.py",
        old=", initializer=follow_parent",
        new="",
        test="tests/test_planning_workers.py::test_processes_end_with_a_parent_that_is_killed",
    ),
    Fault(
        what="episodes of a job are all counted from the first",
        file="mzprobe/probes/planning.py",
        old='rows["episode"] + job.first',
        new='rows["episode"]',
        test="tests/test_planning_workers.py::test_processes_change_no_byte_of_a_table",
    ),
    Fault(
        what="a return is not discounted",
        file="mzprobe/behaviour.py",
        old="        discount *= environment.spec.gamma\n",
        new="        discount *= 1.0\n",
        test="tests/test_improvement.py::test_long_returns_are_the_solution_of_the_bellman_equation",
    ),
    Fault(
        what="every action of a state sees numbers of its own",
        file="mzprobe/behaviour.py",
        old="uniforms=uniforms[state], first=first",
        new="uniforms=np.roll(uniforms[state], 1, axis=0), first=first",
        test="tests/test_improvement.py::test_all_actions_of_a_state_see_the_same_numbers_in_whatever_portion",
    ),
    Fault(
        what="improvement has the wrong sign",
        file="mzprobe/probes/improvement.py",
        old='played - best["prior_value"]',
        new='best["prior_value"] - played',
        test="tests/test_improvement.py::test_a_search_that_finds_the_better_action_improves_by_what_that_pays",
    ),
    Fault(
        what="a kept position is that of the step before",
        file="mzprobe/training/replay.py",
        old="        times = chosen - (ends - lengths)[which]\n",
        new="        times = np.maximum(chosen - (ends - lengths)[which] - 1, 0)\n",
        test="tests/test_targets.py::test_every_position_is_kept_where_there_are_few_and_its_priority_is_its_chance",
    ),
    Fault(
        what="sums in another order are ranked by their rounding",
        file="mzprobe/probes/sequences.py",
        old="for x, e in zip(level, of_error, strict=True)",
        new="for x, e in zip(level, error, strict=True)",
        test="tests/test_sequences.py::test_sums_of_the_same_rewards_in_another_order_have_no_order",
    ),
)
