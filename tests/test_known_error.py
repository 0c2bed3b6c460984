"""A model that promises a tenth too much in every step has the error that arithmetic gives it, in every table."""

import brute
import numpy as np
import pytest
from agents import made_agent
from brute import TabularNetwork
from reference import rollout_key

from mzprobe.envs import TabularEnvironment, random_mdp
from mzprobe.probes.cross import measure_cross
from mzprobe.probes.equivalence import measure_equivalence
from mzprobe.probes.horizon import measure_horizon
from mzprobe.probes.sampling import rollout_seed, sample_states
from mzprobe.probes.search_error import measure_search_error
from mzprobe.probes.sequences import measure_sequences
from mzprobe.search import Rollout
from mzprobe.seeding import numpy_generator
from mzprobe.settings import CrossConfig, EquivalenceConfig, HorizonConfig, SearchErrorConfig, SequencesConfig

TENTH = 0.1
STATES = {"states": 5, "episodes": 2}
PRIORS = ("policy", "uniform")
GAMMAS = pytest.mark.parametrize("gamma", [0.9, 1.0])
SAMPLED = pytest.mark.parametrize("enumerate_up_to", [1024, 0], ids=["all", "sampled"])
# Of a state and a policy, where every sequence has the same error: no spread, nothing cancels.
ALIKE = {"standard_error": 0.0, "bias": 0.0, "cancellation": 1.0}


def summed(steps, gamma):
    """A tenth in every step, discounted."""
    return TENTH * sum(gamma**i for i in range(steps))


def close(expected):
    return pytest.approx(expected, rel=0, abs=1e-9)


def assert_all(rows, **expected):
    """In every row the columns have these numbers, one for all or one each."""
    assert len(rows) > 0
    for column, number in expected.items():
        assert rows[column].tolist() == close(np.broadcast_to(number, len(rows)).tolist()), column


def endless(gamma, *, num_actions=2):
    """An MDP that never ends, so that nothing is predicted after an end."""
    return random_mdp(3, num_states=6, num_actions=num_actions, terminal_fraction=0, gamma=gamma, time_limit=6)


def too_large(environment, *, step=0, value=0.0):
    """An agent whose model is right but for a tenth in every reward; its policy is drawn from the step.

    Args:
        environment: a `TabularEnvironment`.
        step: of training.
        value: added to what the value head says.
    """
    S, A = environment.rewards.shape
    logits, values = np.random.default_rng(step).standard_normal((S, A)), np.linspace(-1, 1, S) + value
    network = TabularNetwork(environment.transitions, environment.rewards + TENTH, logits, values)
    return made_agent(environment, network, step=step, simulations=6, temperature=0.5)


# Sequences of actions


@GAMMAS
def test_a_reward_too_large_by_a_tenth_gives_every_sequence_the_same_error(gamma):
    rows = measure_sequences(too_large(endless(gamma)), SequencesConfig(**STATES, length=4))
    assert_all(rows, error=summed(4, gamma), rank_error=summed(4, gamma))
    assert_all(rows, predicted_value=rows["value"] + summed(4, gamma))


@GAMMAS
def test_a_reward_too_large_by_a_tenth_costs_no_decision_between_sequences(gamma):
    rows = measure_sequences(too_large(endless(gamma)), SequencesConfig(**STATES, length=4))
    assert rows.groupby("state")["value"].std().min() > 0.1  # they do differ
    assert_all(rows, regret=0.0, affine_residual=0.0)


@SAMPLED
@GAMMAS
def test_a_reward_too_large_by_a_tenth_gives_the_same_error_for_every_policy(gamma, enumerate_up_to):
    env = endless(gamma)
    agents = [too_large(env, step=step) for step in (0, 20)]
    config = CrossConfig(**STATES, horizon=4, enumerate_up_to=enumerate_up_to, sequences=10)
    rows = measure_cross(agents[0], config, agents)
    assert rows.groupby("policy_step")["value"].sum().nunique() == 2
    assert rows["exact"].all() == (enumerate_up_to > 0)
    magnitudes = dict.fromkeys(("error", "sequence_error", "signed_error", "alive_error"), summed(4, gamma))
    assert_all(rows, **magnitudes, **ALIKE, step_signed_error=TENTH, grounded_signed_error=TENTH)


# Searches


def walked(agent, state, *, prior, simulations, rollout):
    """Actions of every simulation's path in the tree, and of the most visited one, up to the horizon."""
    env = agent.environment
    config = agent.policy.config.model_copy(update={"simulations": simulations})
    root, nodes = brute.planned(env, agent.network, state, model="learned", prior=prior, config=config, rollout=rollout)
    key = rollout_key(np.eye(len(env.transitions), dtype=np.float32)[state], rollout.seed)
    paths = brute.simulated_actions(nodes, key, rollout.horizon, env.spec.num_actions)
    lengths = [min(len(path), rollout.horizon) for path, _ in paths]
    return lengths, min(len(brute.most_visited_actions(root)), rollout.horizon)


@pytest.mark.parametrize("num_actions", [1, 2])
@GAMMAS
def test_a_reward_too_large_by_a_tenth_gives_a_search_the_error_of_its_lengths(gamma, num_actions):
    agent = too_large(endless(gamma, num_actions=num_actions))
    rows = measure_search_error(agent, SearchErrorConfig(**STATES, simulations=(1, 4, 20), horizon=5, seed=3))
    sample = sample_states(agent.environment, agent.policy, **STATES, generator=numpy_generator(0, "probe", 3))
    rollout = Rollout(horizon=5, seed=rollout_seed(agent, 3))
    assert len(rows) == 2 * 3 * 5
    for row in rows.itertuples():
        state, priors = int(sample.states.index[row.state]), (row.prior, *({*PRIORS} - {row.prior}))
        (own, chosen), (other, _) = (
            walked(agent, state, prior=prior, simulations=row.simulations, rollout=rollout) for prior in priors
        )
        errors, others = ([(n, summed(n, gamma)) for n in lengths] for lengths in (own, other))
        lengths, sums = np.array(errors).T
        assert row.path_length == close(lengths.mean())
        assert row.path_error == close(sums.mean())
        assert row.step_error == close((sums / lengths).mean())
        assert row.matched_error == close(brute.matched_error(errors, others))
        assert row.curse == close(summed(chosen, gamma))


@GAMMAS
def test_a_reward_too_large_by_a_tenth_gives_every_trajectory_the_error_of_the_horizon(gamma):
    rows = measure_search_error(
        too_large(endless(gamma)), SearchErrorConfig(**STATES, simulations=(1, 4, 20), horizon=5)
    )
    assert rows["path_length"].nunique() > 3
    assert_all(rows, trajectory_error=summed(5, gamma))


@GAMMAS
def test_a_reward_too_large_by_a_tenth_is_the_same_at_equal_depth_whatever_prior_searched(gamma):
    rows = measure_search_error(
        too_large(endless(gamma)), SearchErrorConfig(**STATES, simulations=(1, 4, 20), horizon=5)
    )
    policy, uniform = (rows[rows["prior"] == prior].reset_index(drop=True) for prior in PRIORS)
    assert (policy["path_error"] - uniform["path_error"]).abs().max() > 0.01  # one goes deeper
    assert_all(policy, matched_error=uniform["matched_error"])


def test_without_a_discount_a_path_is_wrong_by_a_tenth_of_its_length():
    rows = measure_search_error(too_large(endless(1.0)), SearchErrorConfig(**STATES, simulations=(1, 4, 20), horizon=5))
    assert_all(rows, path_error=TENTH * rows["path_length"], step_error=TENTH)


# Value equivalence


@SAMPLED
@GAMMAS
def test_a_reward_too_large_by_a_tenth_is_all_in_the_part_of_rewards(gamma, enumerate_up_to):
    agent = too_large(endless(gamma))
    config = EquivalenceConfig(horizon=4, enumerate_up_to=enumerate_up_to, sequences=10)
    rows = measure_equivalence(agent, config, [agent])
    assert rows["exact"].all() == (enumerate_up_to > 0)
    expected = [summed(k, gamma) for k in rows["k"]]
    assert_all(rows, reward_part=expected, error=expected, sequence_error=expected, bootstrap_part=0.0)
    later = rows[rows["k"] > 0]  # at k = 0 there is no error, and no share of nothing
    assert_all(later, **ALIKE)


@GAMMAS
def test_a_head_that_says_two_less_adds_its_discounted_two_to_the_bootstrap(gamma):
    env = endless(gamma)
    agents = [too_large(env), too_large(env, step=20, value=-2.0)]
    rows = measure_equivalence(agents[0], EquivalenceConfig(horizon=4), agents)
    other = rows[rows["value_step"] == 20]
    rewards, bootstrap = np.array([(summed(k, gamma), 2 * gamma**k) for k in other["k"]]).T
    assert_all(other, reward_part=rewards, bootstrap_part=bootstrap, signed_error=rewards + bootstrap)


def test_a_reward_too_large_by_a_tenth_adds_the_sum_of_all_tenths_to_the_value_of_any_policy():
    agent = too_large(endless(0.9))
    rows = measure_equivalence(agent, EquivalenceConfig(horizon=1), [agent])
    assert_all(rows, proper_error=TENTH / (1 - 0.9), proper_error_all=TENTH / (1 - 0.9), greedy_regret=0.0)


# Ends


@GAMMAS
def test_after_a_real_end_the_tenths_go_on_and_only_alive_error_leaves_them_out(gamma):
    # 0 -> 1 -> the end: two real steps. The model is told of no end, and predicts a tenth in every step after it.
    env = TabularEnvironment(
        [[1], [2], [2]],
        [[1.0], [3.0], [0.0]],
        [False, False, True],
        starts=[0],
        gamma=gamma,
        time_limit=9,
        name="end",
    )
    agent = too_large(env)
    rows = measure_horizon(agent, HorizonConfig(states=6, episodes=3, horizon=5))
    assert set(rows["time"]) == {0, 1}
    alive = np.minimum(rows["h"], 2 - rows["time"])  # real steps of h
    assert_all(rows, error=[summed(h, gamma) for h in rows["h"]])
    assert_all(rows, alive_error=[summed(steps, gamma) for steps in alive])
    # Nor does the head know of the end, which is worth 0 in truth; it says 1 there, the last of its values.
    first = measure_equivalence(agent, EquivalenceConfig(horizon=4), [agent]).query("state == 0")
    assert_all(first, reward_part=[summed(k, gamma) for k in first["k"]])
    assert_all(first, bootstrap_part=[0.0, 0.0, gamma**2, gamma**3, gamma**4])
