"""Gymnasium's environments by their id: they equal Gymnasium's, branch, and what is not deterministic is refused."""

import gymnasium
import numpy as np
import pytest
from corridor import Corridor
from gymnasium.spaces import Discrete

from mzprobe.envs import check_env, make
from mzprobe.errors import UsageError

# Against Gymnasium


def at_random(observation, num_actions, rng):
    return int(rng.integers(num_actions))


def swinging_up(observation, num_actions, rng):
    """Pushes along the last velocity, which takes car and arms to their goal."""
    return num_actions - 1 if observation[-1] > 0 else 0


@pytest.mark.parametrize("id", ["MountainCar-v0", "Acrobot-v1"])
def test_whole_episodes_equal_gymnasiums_bit_for_bit(id):
    reference, env = gymnasium.make(id).unwrapped, make(f"gym:{id}")
    num_actions, rng = env.spec.num_actions, np.random.default_rng(0)
    compared, ends, used = 0, 0, set()
    for seed in range(24):
        player = swinging_up if seed % 2 else at_random
        expected, _ = reference.reset(seed=seed)
        states = env.reset([seed])
        for _ in range(env.spec.time_limit):
            assert env.observe(states).dtype == expected.dtype == np.float32
            assert env.observe(states)[0].tobytes() == expected.tobytes()
            action = player(expected, num_actions, rng)
            expected, reward, terminated, _, _ = reference.step(action)
            states, outcome = env.step(states, [action])
            assert (outcome.reward[0], outcome.terminated[0]) == (reward, terminated)
            assert env.terminal(states)[0] == terminated
            compared, ends = compared + 1, ends + terminated
            used.add(action)
            if terminated:
                assert env.observe(states)[0].tobytes() == expected.tobytes()
                still, outcome = env.step(states, [action])
                assert env.observe(still).tobytes() == env.observe(states).tobytes()
                assert (outcome.reward[0], outcome.terminated[0]) == (0.0, True)
                break
    assert ends >= 10
    assert compared >= 3000
    assert used == set(range(num_actions))
    assert env.pool.replayed == 0


@pytest.mark.parametrize("simulators", [2, 512])
@pytest.mark.parametrize(
    ("id", "options"), [("MountainCar-v0", {}), ("Acrobot-v1", {}), ("FrozenLake-v1", {"is_slippery": False})]
)
def test_a_deterministic_environment_passes(id, options, simulators):
    check_env(make(f"gym:{id}", simulators=simulators, **options), processes=simulators == 2)


def test_a_discrete_observation_is_one_hot():
    env = make("gym:FrozenLake-v1", is_slippery=False)
    assert env.spec.observation_shape == (16,)
    states = env.reset([0])
    for action, cell in ((1, 4), (1, 8), (2, 9), (1, 13), (2, 14), (2, 15)):
        states, outcome = env.step(states, [action])
        assert env.observe(states).tolist() == [np.eye(16)[cell].tolist()]
    assert (outcome.reward[0], outcome.terminated[0]) == (1.0, True)
    hole, outcome = env.step(env.step(env.reset([0]), [1])[0], [2])
    assert env.observe(hole)[0].argmax() == 5
    assert (outcome.reward[0], outcome.terminated[0]) == (0.0, True)


# Options


def test_time_limit_and_discount_are_the_ids_own_or_what_is_asked_for():
    assert make("gym:MountainCar-v0").spec.time_limit == 200
    asked = make("gym:MountainCar-v0", gamma=0.9, time_limit=7).spec
    assert (asked.gamma, asked.time_limit, asked.name) == (0.9, 7, "gym:MountainCar-v0")
    assert make("gym:CliffWalking-v1", time_limit=100).spec.time_limit == 100


def test_an_id_may_name_the_module_that_registers_it():
    env = make("gym:gymnasium.envs.classic_control:Acrobot-v1")
    assert env.spec.time_limit == 500
    assert env.observe(env.reset([3])).tobytes() == make("gym:Acrobot-v1").observe(env.reset([3])).tobytes()


def test_an_id_without_a_version_is_its_newest():
    with pytest.warns(UserWarning, match="latest versioned environment `MountainCar-v0`"):
        assert make("gym:MountainCar").spec.time_limit == 200


def test_options_of_the_environment_reach_every_simulator():
    env = make("gym:FrozenLake-v1", is_slippery=False, desc=["SG", "FF"], simulators=1)
    assert env.spec.observation_shape == (4,)
    assert env.step(env.reset([0]), [2])[1].reward.tolist() == [1.0]


# Refused


def test_an_environment_of_ones_own_passes_and_its_first_action_may_be_negative(registered):
    env = make(f"gym:{registered(Corridor)}", simulators=3)
    check_env(env, processes=False)  # a fresh process would not know the id
    assert env.observe(env.step(env.reset([5, 5]), [0, 1])[0]).ravel().tolist() == [1.0, 3.0]


@pytest.mark.parametrize("id", ["FrozenLake-v1", "LunarLander-v3", "Blackjack-v1"])
def test_chance_of_gymnasiums_own_is_refused(id):
    make("lunarlander")  # takes the warnings of the first import of Box2D
    with pytest.raises(UsageError) as refused:
        make(f"gym:{id}", time_limit=50)
    assert str(refused.value) == (
        f"gym:{id} is not deterministic: with seed 0 and the same actions, step 1 differs if other random numbers are "
        "drawn, or at another time, after the start; switch its randomness off by environment.options if it has such "
        "an option"
    )


def test_no_time_limit_is_refused_unless_one_is_given(registered):
    id = registered(Corridor, max_episode_steps=None)
    with pytest.raises(UsageError) as refused:
        make(f"gym:{id}")
    assert str(refused.value) == f"gym:{id} has no time limit of its own: give the option time_limit"
    assert make(f"gym:{id}", time_limit=5).spec.time_limit == 5


@pytest.mark.parametrize(
    ("id", "options", "message"),
    [
        ("Pendulum-v1", {}, r"gym:Pendulum-v1 has actions Box\(.*\), and only Discrete ones can be searched$"),
        ("NoSuch-v0", {}, "Gymnasium cannot make NoSuch-v0: Environment `NoSuch` doesn't exist"),
        ("CartPole-v7", {}, "Gymnasium cannot make CartPole-v7: Environment version `v7`"),
        ("no_such_module:Env-v0", {}, "Gymnasium cannot make no_such_module:Env-v0: No module named 'no_such_module'"),
        ("", {}, "Gymnasium cannot make : Malformed environment ID"),
        ("MountainCar-v0", {"gamma": 2.0}, r"gamma=2\.0: gamma must lie in \(0, 1\], not 2\.0"),
        ("MountainCar-v0", {"time_limit": 0}, "time_limit=0: time_limit must be at least 1 step, not 0"),
        ("MountainCar-v0", {"simulators": 0}, "simulators must be a whole number of at least 1, not 0"),
        (
            "MountainCar-v0",
            {"slippery": True},
            "Gymnasium cannot make MountainCar-v0: .*unexpected keyword argument 'slippery'",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(id, options, message):
    with pytest.raises(UsageError, match=message) as refused:
        make(f"gym:{id}", **options)
    assert "\n" not in str(refused.value)


class Crowded(Corridor):
    action_space = Discrete(300)


class Both(Corridor):
    action_space = gymnasium.spaces.MultiDiscrete([2, 2])


class Spoken(Corridor):
    """Observes a space that Gymnasium cannot flatten to a vector."""

    observation_space = gymnasium.spaces.Dict({"at": Discrete(12), "mission": gymnasium.Space()})


class Endless(Corridor):
    observation_space = gymnasium.spaces.Sequence(Discrete(12))


class Broken(Corridor):
    def __init__(self):
        raise RuntimeError("no display")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Crowded, "has 300 actions, and 256 are the most that are kept"),
        (Both, r"has actions MultiDiscrete\(\[2 2\]\), and only Discrete ones can be searched$"),
        (Spoken, "has observations Dict.*, which Gymnasium cannot flatten"),
        (Endless, "has observations Sequence.*, which Gymnasium cannot flatten"),
        (Broken, "Gymnasium cannot make .*: no display"),
    ],
)
def test_an_environment_that_cannot_be_wrapped_is_refused(registered, env, message):
    with pytest.raises(UsageError, match=message):
        make(f"gym:{registered(env)}")


# Trained on


def test_an_agent_trains_on_it_and_a_broken_run_ends_with_the_same_bytes(
    tmp_path, tiny_config, make_trainer, train_in_pieces, contents
):
    config = tiny_config(
        "environment.name=gym:Acrobot-v1",
        "environment.options.time_limit=30",
        "environment.options.simulators=6",
        "training.steps=20",
    )
    make_trainer(config, tmp_path / "whole").train()
    train_in_pieces(config, tmp_path / "broken", turns=(9, 20))
    whole, broken = (contents(tmp_path / name / "tiny" / "seed-0") for name in ("whole", "broken"))
    assert len(whole) >= 4
    assert broken == whole
