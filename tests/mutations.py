"""Does a test fail where a fault is planted? `python tests/mutations.py` plants them one by one in a copy and says.

A fault that no test catches (it survives) is a hole in the tests. `docs/testing.md` lists the faults.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("mzprobe", "tests", "pyproject.toml")


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
        old="gamma ** self.length[parents]",
        new="gamma ** (self.length[parents] + 1)",
        test="tests/test_horizon.py::test_exact_scores_equal_the_enumeration_of_all_sequences",
    ),
    Fault(
        what="the model is scored on other sequences than the truth",
        file="mzprobe/probes/prefixes.py",
        old="torch.as_tensor(actions, device=self.device)",
        new="torch.as_tensor(actions[::-1].copy(), device=self.device)",
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
        old="            if done[b]:\n                continue",
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
        file="mzprobe/envs/gym.py",
        old="simulator.env.np_random = np.random.default_rng(chance)",
        new="pass",
        test="tests/test_gym.py::test_chance_of_gymnasiums_own_is_refused",
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
        old=" * sequences / (sequences - 1)",
        new="",
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
        file="mzprobe/probes/sequences.py",
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
        old="score_tree(tree, other.policy,",
        new="score_tree(PrefixTree(environment, other.network, sample.states.take(chosen)), agent.policy,",
        test="tests/test_cross.py::test_a_cell_is_the_policy_of_y_in_the_model_and_at_the_states_of_x",
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
        file="mzprobe/stats.py",
        old="np.maximum.accumulate(adjusted[order] * factors)",
        new="np.maximum.accumulate(adjusted[order])",
        test="tests/test_significance.py::test_holm_is_its_definition_in_any_order",
    ),
    # Search
    Fault(
        what="the discount is left out of the search's backup",
        file="mzprobe/search/tree.py",
        old="G = r + gamma * G",
        new="G = r + G",
        test="tests/test_search.py::test_two_simulations_back_up_the_numbers_worked_out_by_hand",
    ),
    Fault(
        what="ties go to the highest action",
        file="mzprobe/search/tree.py",
        old="if score > best:",
        new="if score >= best:",
        test="tests/test_search.py::test_ties_go_to_the_lowest_action",
    ),
    Fault(
        what="the visit that expanded the root is not counted",
        file="mzprobe/search/tree.py",
        old="tree.visits[b, 0] = 1",
        new="tree.visits[b, 0] = 0",
        test="tests/test_search.py::test_the_first_simulation_follows_the_prior",
    ),
    Fault(
        what="the prior of a node is not normalised",
        file="mzprobe/search/models.py",
        old="torch.softmax(logits, dim=1)",
        new="torch.exp(logits)",
        test="tests/test_rollouts.py::test_both_paths_equal_the_plain_search_over_the_networks_own_numbers",
    ),
    Fault(
        what="the policy prior is not normalised",
        file="mzprobe/networks/evaluate.py",
        old="torch.softmax(logits, dim=1)",
        new="torch.exp(logits)",
        test="tests/test_rows.py::test_both_ways_of_evaluating_agree_with_the_network",
    ),
    Fault(
        what="the compiled softmax is not normalised",
        file="mzprobe/networks/mlp_kernels.py",
        old="inverse = np.float32(1) / total",
        new="inverse = np.float32(1)",
        test="tests/test_networks.py::test_the_fused_softmax_equals_torch",
    ),
    Fault(
        what="the true model gives a terminal node the network's value",
        file="mzprobe/search/models.py",
        old="np.where(self.environment.terminal(states), 0.0, value)",
        new="value",
        test="tests/test_planning_models.py::test_a_terminal_node_is_worth_nothing_whatever_the_network_says",
    ),
    Fault(
        what="the planning horizon counts from the leaf, not from the root",
        file="mzprobe/search/rollouts.py",
        old="self.horizon - self.depth[slot]",
        new="self.horizon + 0 * self.depth[slot]",
        test="tests/test_rollouts.py::test_depths_are_counted_from_the_root",
    ),
    Fault(
        what="visits to the power of the temperature, not of its inverse",
        file="mzprobe/search/mcts.py",
        old="share ** (1 / temperature)",
        new="share**temperature",
        test="tests/test_search.py::test_the_policy_is_the_counts_to_the_power_of_one_over_the_temperature",
    ),
    # Training
    Fault(
        what="the value target takes each reward from one step before",
        file="mzprobe/training/targets.py",
        old="G = rewards[i] + gamma * G",
        new="G = rewards[i - 1] + gamma * G",
        test="tests/test_training.py::test_n_step_values_equal_those_worked_out_by_hand",
    ),
    Fault(
        what="past a terminal end nothing is learned, instead of an absorbing state",
        file="mzprobe/training/targets.py",
        old="absorbed = terminated[p] and k >= end",
        new="absorbed = False",
        test="tests/test_training.py::test_past_a_terminal_end_the_state_is_absorbing",
    ),
    # Statistics
    Fault(
        what="states of an agent are pooled as if they were independent",
        file="mzprobe/stats.py",
        old="frame.groupby([*by, agent], sort=True)[column].mean()",
        new="frame.set_index([*by, agent])[column]",
        test="tests/test_figures.py::test_an_agent_with_more_states_weighs_no_more_than_another",
    ),
    # Reanalyse and recorded episodes
    Fault(
        what="a new root value bootstraps the target one step too late",
        file="mzprobe/training/targets.py",
        old="if not whole or k == n:",
        new="if not whole or k == n - 1:",
        test="tests/test_replay.py::test_new_root_values_give_the_targets_of_the_whole_formula",
    ),
    Fault(
        what="a truncated end is left out of what is made anew",
        file="mzprobe/training/targets.py",
        old="if left[p] > 0 or (left[p] == 0 and not terminated[p]):",
        new="if left[p] > 0:",
        test="tests/test_replay.py::test_positions_take_turns_and_none_is_left_out",
    ),
    Fault(
        what="the reanalyse fraction is overshot",
        file="mzprobe/training/reanalyse.py",
        old="math.floor(fraction / (1 - fraction) * self.fresh) - self.reanalysed",
        new="math.ceil(fraction / (1 - fraction) * self.fresh + 1) - self.reanalysed",
        test="tests/test_reanalyse.py::test_the_share_is_the_asked_one_to_a_target",
    ),
    Fault(
        what="the fraction is a ratio to fresh targets, not a share of all",
        file="mzprobe/training/reanalyse.py",
        old="math.floor(fraction / (1 - fraction) * self.fresh)",
        new="math.floor(fraction * self.fresh)",
        test="tests/test_reanalyse.py::test_over_any_1000_training_steps_the_fraction_is_within_one_percent",
    ),
    Fault(
        what="the target network is never copied",
        file="mzprobe/training/reanalyse.py",
        old="self.target.load_state_dict(self.network.state_dict())",
        new="pass",
        test="tests/test_reanalyse.py::test_the_target_network_bootstraps_and_is_copied_when_it_is_time",
    ),
    Fault(
        what="root noise is drawn where it is switched off",
        file="mzprobe/training/reanalyse.py",
        old="noise = self.generator if self.config.reanalyse.root_noise else None",
        new="noise = self.generator",
        test="tests/test_reanalyse.py::test_root_noise_is_on_as_in_self_play_unless_switched_off",
    ),
    Fault(
        what="the noise of reanalyse is forgotten on resuming",
        file="mzprobe/training/reanalyse.py",
        old="self.generator.bit_generator.state = generator",
        new="pass",
        test="tests/test_reanalyse.py::test_resume_is_bit_exact_with_every_option",
    ),
    Fault(
        what="an equally good episode is refused",
        file="mzprobe/training/replay.py",
        old="if worst.ret > ret:",
        new="if worst.ret >= ret:",
        test="tests/test_replay.py::test_an_equally_good_episode_takes_the_place_of_the_oldest",
    ),
    Fault(
        what="demonstrations never become fewer",
        file="mzprobe/config.py",
        old="return self.share * (steps - steps * (steps - 1) / (2 * self.decay_steps))",
        new="return self.share * step",
        test="tests/test_offline.py::test_the_share_of_demonstrations_in_batches_decays_to_nothing",
    ),
    Fault(
        what="an agent offline is evaluated by playing",
        file="mzprobe/training/trainer.py",
        old=" and not self.config.offline:",
        new=":",
        test="tests/test_offline.py::test_offline_no_step_is_ever_played",
    ),
    Fault(
        what="behaviour cloning has the other action as its target",
        file="mzprobe/training/recorded.py",
        old="actions[recorded.actions]",
        new="actions[recorded.actions - 1]",
        test="tests/test_offline.py::test_behaviour_cloning_has_the_recorded_actions_as_targets_and_no_search",
    ),
    Fault(
        what="a dataset streams in the same order every epoch",
        file="mzprobe/training/recorded.py",
        old='numpy_generator(self.seed, "dataset", epoch)',
        new='numpy_generator(self.seed, "dataset")',
        test="tests/test_offline.py::test_a_dataset_larger_than_the_buffer_streams_through_it_evenly",
    ),
    Fault(
        what="a run goes on with a dataset that was changed",
        file="mzprobe/training/recorded.py",
        old='if state["sha256"] != self.dataset.sha256:',
        new="if False:",
        test="tests/test_offline.py::test_a_run_does_not_go_on_with_another_dataset",
    ),
    Fault(
        what="joined batches do not weigh by their share",
        file="mzprobe/training/targets.py",
        old="np.float32(len(part.observations) / B)",
        new="np.float32(1)",
        test="tests/test_replay.py::test_joined_batches_weigh_by_their_share",
    ),
    Fault(
        what="a tree's states push out the root that it branches from",
        file="mzprobe/envs/simulators.py",
        old="self._forget(min(self.uses, key=self.uses.__getitem__))",
        new="self._forget(next(iter(self.uses)))",
        test="tests/test_lunarlander_search.py::test_a_tree_of_states_does_not_push_out_its_root",
    ),
    Fault(
        what="a reward scale is not undone by the fused search",
        file="mzprobe/networks/mlp_kernels.py",
        old="(q * q + 2 * q) / axis.reward_scale)",
        new="(q * q + 2 * q))",
        test="tests/test_search.py::test_the_fused_path_undoes_the_reward_scale",
    ),
    Fault(
        what="processes that play episodes outlive a parent that is killed",
        file="mzprobe/probes/planning_workers.py",
        old=", initializer=_live_and_die_with_parent",
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
)


def run_tests(copy: Path, tests: list[str], cache: Path) -> subprocess.CompletedProcess[str]:
    """Runs tests in the copy, importing the package from there, with compiled kernels kept in `cache`."""
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": str(cache),
    }
    imported = subprocess.run(
        [sys.executable, "-c", "import mzprobe; print(mzprobe.__file__)"],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if Path(imported) != copy / "mzprobe" / "__init__.py":
        raise RuntimeError(f"the tests would import {imported}, not the copy")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def planted(fault: Fault, copy: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Runs the fault's test with the fault in place, and takes it out again."""
    path = copy / fault.file
    text = path.read_text("utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.old!r} must stand once in {fault.file}")
    # Kernels are compiled into those that call them, in other files too: none may come from the cache.
    if "mzprobe._kernel" in text:
        cache = Path(tempfile.mkdtemp(dir=cache.parent))
    path.write_text(text.replace(fault.old, fault.new), "utf-8")
    try:
        return run_tests(copy, [fault.test], cache)
    finally:
        path.write_text(text, "utf-8")


def main(asked: list[str]) -> int:
    """Plants the faults whose words hold one of `asked`, or all; 1 if a test does not fail where it must."""
    faults = [fault for fault in FAULTS if not asked or any(words in fault.what for words in asked)]
    if not faults:
        print("no such fault")
        return 2
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        copy, cache = Path(temporary).resolve() / "copy", Path(temporary).resolve() / "cache"
        copy.mkdir()
        cache.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.nb[ic]"))
            else:
                shutil.copy(ROOT / name, copy / name)
        unchanged = run_tests(copy, sorted({fault.test for fault in faults}), cache)
        if unchanged.returncode:
            print(unchanged.stdout[-4000:], "the tests must pass without a fault", sep="\n")
            return 1
        survived = 0
        for fault in faults:
            done = planted(fault, copy, cache)
            # 1: tests ran and failed. Anything else is no verdict of a test: an import that broke, a test not found.
            verdict = {0: "SURVIVED", 1: "caught"}.get(done.returncode, f"NOT RUN (pytest gave {done.returncode})")
            survived += done.returncode != 1
            print(f"{verdict:9} {fault.what} [{fault.file}; {fault.test}]", flush=True)
    print(f"{len(faults) - survived} of {len(faults)} faults caught in {time.monotonic() - began:.0f} s")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
