"""What a Gymnasium environment gives is compared with what it says; what it raises, and masks, are one sentence."""

import pickle
from collections import OrderedDict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import gymnasium
import numpy as np
import pytest
from corridor import Corridor
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from mzprobe.envs import check_env, make
from mzprobe.envs.observations import Reader
from mzprobe.errors import UsageError


def refused(call):
    with pytest.raises(UsageError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# Observations

FLOATS = Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("space", "seen", "expected"),
    [
        (FLOATS, np.array([0.5, 7.0], np.float32), [0.5, 7.0]),  # bounds are not kept by many
        (FLOATS, np.array([0.1, 0.2]), [0.1, 0.2]),
        (FLOATS, [0, 1], [0.0, 1.0]),
        (FLOATS, np.array([1 << 24, -(1 << 24)]), [2.0**24, -(2.0**24)]),
        (FLOATS, np.array([1 << 40, 0]), [2.0**40, 0.0]),
        (Box(-1, 1, (), np.float32), 0.5, 0.5),
        (Box(0, 255, (1, 2), np.uint8), np.array([[3, 255]], np.uint8), [[3.0, 255.0]]),
        (Box(0, 1, (2,), np.uint8), np.array([0, 1], np.uint8), [0.0, 1.0]),
        (Discrete(3), 2, [0, 0, 1]),
        (Discrete(3, start=-1), np.int64(-1), [1, 0, 0]),
        (Discrete(3), np.array(1), [0, 1, 0]),
        (MultiDiscrete([2, 3]), np.array([1, 0]), [0, 1, 1, 0, 0]),
        (MultiBinary(3), np.array([0, 1, 1], np.int8), [0, 1, 1]),
        (Tuple((Discrete(2), FLOATS)), (1, np.ones(2, np.float32)), [0, 1, 1, 1]),
        (Dict(a=Discrete(2), b=MultiBinary(1)), OrderedDict(b=np.array([1], np.int8), a=0), [1, 0, 1]),
    ],
)
def test_what_is_of_its_space_is_read(space, seen, expected):
    reader = Reader(space)
    for _ in range(2):  # the second time most of it is not compared again
        array = reader.read(seen)
        assert array.shape == reader.shape
        assert array.astype(np.float32).tolist() == np.asarray(expected, np.float32).tolist()


def test_boards_of_0_and_1_are_no_images_which_networks_would_see_divided_by_255():
    assert [Reader(Box(0, high, (2,), np.uint8)).dtype for high in (1, 2, 255)] == ["float32", "uint8", "uint8"]


@pytest.mark.parametrize(
    ("space", "seen", "said"),
    [
        (FLOATS, np.array([1.0], np.float32), r"^float32 \[1\], not float32 \[2\] as its space says$"),
        (FLOATS, np.ones((1, 2), np.float32), r"^float32 \[1, 2\], not float32 \[2\]"),
        (FLOATS, 0.5, r"^float64 \[\], not float32 \[2\]"),
        (FLOATS, np.array(["a", "b"]), r"^<U1 \[2\], not float32"),
        (FLOATS, np.array([None, 1]), r"^object \[2\], not float32"),
        (FLOATS, np.array([1j, 1]), r"^complex128 \[2\], not float32"),
        (FLOATS, [[1.0], [1.0, 2.0]], "inhomogeneous"),
        (FLOATS, np.array([(1 << 24) + 1, 0]), "^the integer 16777217, which float32 rounds to 16777216$"),
        (FLOATS, np.array([0, -(1 << 53) - 1]), "^the integer -9007199254740993, which float32 rounds to -9007"),
        (FLOATS, np.array([0, (1 << 64) - 1], np.uint64), "^the integer 18446744073709551615, which"),
        (Box(0, 255, (2,), np.uint8), np.array([0.5, 1.0], np.float32), r"^float32 \[2\], not uint8 \[2\]"),
        (Box(0, 255, (2,), np.uint8), np.array([0.5, 1.0]), r"^float64 \[2\], not uint8 \[2\]"),
        (Discrete(3), 3, r"^3, which is not in its space Discrete\(3\)$"),
        (Discrete(3), -1, "^-1, which is not in"),
        (Discrete(3), 1.0, "^1.0, which is not in"),
        (Discrete(3), np.array([1]), r"^array\(\[1\]\), which is not in"),
        (MultiDiscrete([2, 3]), np.array([1, 3]), r"^array\(\[1, 3\]\), which is not in"),
        (MultiDiscrete([2, 3]), np.array([1]), r"^int64 \[1\], not int64 \[2\]"),
        (MultiBinary(3), np.array([0, 1, 2]), "which is not in"),
        (Tuple((Discrete(2), FLOATS)), (1, np.ones(1, np.float32)), r"^at 1 float32 \[1\], not"),
        (Tuple((Discrete(2), FLOATS)), (1,), "which is not in"),
        (Tuple((Discrete(2), FLOATS)), 1, "^1, which is not in"),
        (Dict(a=Discrete(2)), {"a": 2}, "^at 'a' 2, which is not in"),
        (Dict(a=Discrete(2)), {"b": 1}, "which is not in"),
        (Dict(a=Discrete(2)), 1, "^1, which is not in"),
    ],
)
def test_what_is_not_of_its_space_or_not_held_by_float32_is_refused(space, seen, said):
    with pytest.raises(ValueError, match=said):
        Reader(space).read(seen)


@pytest.mark.parametrize("begun", [np.zeros(2, np.float32), np.zeros(2), np.zeros(2, np.int16)])
def test_what_is_read_later_is_compared_too(begun):
    reader = Reader(FLOATS)
    reader.read(begun)
    for wrong in (np.zeros(1, begun.dtype), np.array(["a", "b"]), np.array([(1 << 24) + 1, 0])):
        with pytest.raises(ValueError, match=r"not float32 \[2\]|rounds"):
            reader.read(wrong)
    assert reader.read(begun).tolist() == [0, 0]


class Late(Corridor):
    """Right until the fault is switched on."""

    fault = None

    def seen(self):
        return super().seen() if self.fault is None else self.fault


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (np.zeros(3, np.float32), "observed float32 [3], not float32 [1] as its space says, at step {} after seed 5"),
        (np.float32(2), "observed float32 [], not float32 [1] as its space says, at step {} after seed 5"),
        (np.array([np.nan], np.float32), "observed nan at step {} after seed 5: observations must be finite, and"),
        (np.array([-np.inf]), "observed -inf at step {} after seed 5: observations must be finite, and"),
        (np.array([1e300]), "observed inf at step {} after seed 5: observations must be finite, and within float32"),
        (np.array([16777217]), "observed the integer 16777217, which float32 rounds to 16777216, at step {} after"),
    ],
)
def test_an_observation_is_compared_at_the_start_at_first_and_later(registered, monkeypatch, fault, said):
    id = registered(Late)
    env = make(f"gym:{id}")
    states = env.reset([5])
    states, _ = env.step(states, [1])
    with monkeypatch.context() as later:
        later.setattr(Late, "fault", fault)
        assert refused(lambda: env.step(states, [1])).startswith(f"gym:{id} " + said.format(2))
        assert refused(lambda: make(f"gym:{id}").reset([5])).startswith(f"gym:{id} observed")
        assert refused(lambda: make(f"gym:{id}", simulators=1)).startswith(
            f"gym:{id} " + said.format(0).replace("seed 5", "seed 0")
        )
        fresh = pickle.loads(pickle.dumps(env))
        assert refused(lambda: fresh.reset([5])).startswith(f"gym:{id} " + said.format(0))


def test_numbers_that_are_large_but_finite_pass(registered, monkeypatch):
    env = make(f"gym:{registered(Late)}")
    monkeypatch.setattr(Late, "fault", np.array([3e38], np.float32))
    states, _ = env.step(env.reset([0, 1]), [1, 0])
    assert env.observe(states).tolist() == [[np.float32(3e38)]] * 2


# Reset and step


class NoInfo(Corridor):
    def reset(self, **options):
        return super().reset(**options)[0]


class InfoIsAPair(Corridor):
    def reset(self, **options):
        return super().reset(**options)[0], ()


class OldStep(Corridor):
    def step(self, action):
        seen, reward, terminated, _, info = super().step(action)
        return seen, reward, terminated, info


class OnlySeen(Corridor):
    observation_space = Box(-100, 100, (5,), np.float32)

    def seen(self):
        return np.full(5, self.at, np.float32)

    def step(self, action):
        return super().step(action)[0]


class NoReward(Corridor):
    def step(self, action):
        return super().step(action)[0], None, False, False, {}


class InfiniteReward(Corridor):
    def step(self, action):
        return super().step(action)[0], np.float32(np.inf), False, False, {}


class ManyEnds(Corridor):
    def step(self, action):
        return super().step(action)[0], 0.0, np.zeros(2, bool), False, {}


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (NoInfo, "gave a ndarray when it was reset with seed 0: reset must return an observation and info"),
        (InfoIsAPair, "gave a tuple of 2 when it was reset with seed 0: reset must return an observation and info"),
        (OldStep, "gave a tuple of 4 at step 1 after seed 0: step must return observation, reward, terminated, "),
        (OnlySeen, "gave a ndarray at step 1 after seed 0: step must return observation, reward, terminated, "),
        (NoReward, "gave reward a NoneType, terminated a bool, truncated a bool at step 1 after seed 0: "),
        (InfiniteReward, "gave the reward inf at step 1 after seed 0: rewards must be finite"),
        (ManyEnds, "gave reward a float, terminated a ndarray, truncated a bool at step 1 after seed 0: "),
    ],
)
def test_what_reset_and_step_must_return(registered, env, said):
    id = registered(env)
    assert refused(lambda: make(f"gym:{id}")).startswith(f"gym:{id} {said}")


# What it raises


class Fragile(Corridor):
    """Raises where a wall is; there is none at first."""

    wall = None

    def reset(self, *, seed=None, **_):
        if self.wall == "start":
            raise RuntimeError("no\n start")
        return super().reset(seed=seed)

    def step(self, action):
        if self.wall is not None and self.at >= self.wall:
            raise ValueError(f"a wall\n at {self.at:g}")
        return super().step(action)


def walled(monkeypatch, env, wall):
    monkeypatch.setattr(env, "wall", wall)


RAISED = "raised ValueError (a wall at 2) on action 1 at step {} after seed {}: every action must be possible until"


def test_what_it_raises_is_a_sentence_at_the_start_later_and_in_a_replay(registered, monkeypatch):
    id = registered(Fragile)
    env = make(f"gym:{id}", simulators=1)
    seed = next(seed for seed in range(20) if env.observe(env.reset([seed])) == 0)
    start = env.reset([seed])
    second, _ = env.step(env.step(start, [1])[0], [1])
    third, _ = env.step(second, [1])
    walled(monkeypatch, Fragile, 2)
    env.reset([seed + 1])
    assert refused(lambda: env.step(third, [0])).startswith(f"gym:{id} {RAISED.format(3, seed)}")  # as it is replayed
    assert refused(lambda: env.step(second, [1])).startswith(f"gym:{id} {RAISED.format(3, seed)}")
    assert refused(lambda: env.rewards_along(start, [[1] * 5])).startswith(f"gym:{id} {RAISED.format(3, seed)}")
    with pytest.raises(UsageError) as error:
        make(f"gym:{id}")
    assert isinstance(error.value.__cause__, ValueError)
    assert "raised ValueError (a wall at " in str(error.value)
    walled(monkeypatch, Fragile, "start")
    assert refused(lambda: env.reset([3])) == f"gym:{id} raised RuntimeError (no start) when it was reset with seed 3"
    assert refused(lambda: make(f"gym:{id}")).startswith(f"gym:{id} raised RuntimeError (no start) when it was reset")


def test_a_copy_that_cannot_be_made_later_is_a_sentence(registered, monkeypatch):
    id = registered(Fragile)
    env = make(f"gym:{id}")

    def crowded(_):
        raise OSError("too many")

    monkeypatch.setattr(Fragile, "__init__", crowded)
    assert refused(lambda: env.reset([0])).startswith(f"Gymnasium cannot make {id}: too many")


WORKER = """
import gymnasium, numpy as np, multiprocessing
class Elsewhere(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}
    def step(self, action):
        if multiprocessing.parent_process() is not None:
            raise KeyError("not here")
        return np.zeros(1, np.float32), 0.0, False, False, {}
gymnasium.register("Elsewhere-v0", Elsewhere, max_episode_steps=10)
"""


def step_there(env, states):
    return env.step(states, [1])


def test_what_it_raises_in_a_worker_is_the_same_sentence(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    env = make("gym:elsewhere:Elsewhere-v0")
    try:
        states, _ = env.step(env.reset([4]), [0])
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            said = refused(pool.submit(step_there, env, states).result)
    finally:
        del gymnasium.registry["Elsewhere-v0"]
    assert said.startswith("gym:elsewhere:Elsewhere-v0 raised KeyError ('not here') on action 0 at step 1 after seed 4")


# Masks


class InInfo(Corridor):
    """Says that it cannot go left from 0; what it does there is the question."""

    observation_space = Box(-100, 100, (1,), np.float32)

    def info(self):
        return {"action_mask": np.array([self.at > 0, True], np.int8)}

    def reset(self, **options):
        return super().reset(**options)[0], self.info()

    def step(self, action):
        if self.at <= 0 and action == -1:
            return self.against()
        return *super().step(action)[:4], self.info()


class Raises(InInfo):
    def against(self):
        raise ValueError("illegal")


class Ends(InInfo):
    def against(self):
        return self.seen(), -1.0, True, False, self.info()


class MovesAnyway(InInfo):
    def against(self):
        self.at -= 1
        return self.seen(), -1.0, False, False, self.info()


class AtSteps(MovesAnyway):
    def reset(self, **options):
        return super().reset(**options)[0], {}


class StaysWhereItIs(InInfo):
    def against(self):
        return self.seen(), -5.0, False, False, self.info()


class AllLegal(InInfo):
    def info(self):
        return {"action_mask": np.ones(2, np.int8)}

    def against(self):
        return self.seen(), -5.0, False, False, self.info()


class InObservation(StaysWhereItIs):
    observation_space = Dict(at=Box(-100, 100, (1,), np.float32), action_mask=MultiBinary(2))

    def seen(self):
        return {"at": super().seen(), "action_mask": self.info()["action_mask"]}


@pytest.mark.parametrize(
    ("env", "where"),
    [
        (Raises, "info"),
        (Ends, "info"),
        (MovesAnyway, "info"),
        (AtSteps, "info"),
        (AllLegal, "info"),
        (InObservation, "its observations"),
    ],
)
def test_masks_are_refused(registered, env, where):
    id = registered(env)
    assert refused(lambda: make(f"gym:{id}")) == (
        f"gym:{id} says by 'action_mask' in {where} which actions are legal, and masks are not supported yet: "
        "it must take every action in every state"
    )


def test_a_mask_of_actions_that_change_nothing_is_advice(registered):
    check_env(make(f"gym:{registered(StaysWhereItIs)}"), processes=False)
    assert "action_mask" in gymnasium.make("Taxi-v4").reset(seed=0)[1]
    assert make("gym:Taxi-v4").spec.num_actions == 6
