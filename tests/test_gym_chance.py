"""Chance never passes for determinism, wherever it is drawn from; and what draws to no effect passes."""

import datetime as dates
import pickle
import random
import sys
import time
from datetime import datetime, timedelta
from time import monotonic

import gymnasium
import numpy as np
import pytest
from corridor import Corridor
from gymnasium.spaces import Discrete
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, StickyAction, TransformReward

from mzprobe.envs import check_env, make
from mzprobe.envs.chance import generators
from mzprobe.errors import CheckFailed, UsageError


class Gusty(Corridor):
    """Draws from Python's generator, which no seed of the environment's reaches."""

    def step(self, action):
        seen, reward, *rest = super().step(action)
        return seen, reward + random.random(), *rest


class Windy(Corridor):
    """Draws from its own generator, so that a seed and actions do lead to the same."""

    def step(self, action):
        self.at += self.np_random.normal()
        return super().step(action)


class Tidy(Gusty):
    """Seeds Python's generator at every start: alone it is deterministic, beside another one it is not."""

    def reset(self, *, seed=None, **_):
        random.seed(seed)
        return super().reset(seed=seed)


class Weary(Corridor):
    """Pays less in every later episode."""

    episodes = 0

    def reset(self, *, seed=None, **_):
        self.episodes += 1
        return super().reset(seed=seed)

    def step(self, action):
        seen, reward, *rest = super().step(action)
        return seen, reward * self.episodes, *rest


class Slippery(Corridor):
    """Draws from what `begin` makes of a seed: the same seed and actions do lead to the same."""

    def begin(self, seed):
        self.draw = np.random.RandomState(seed).rand

    def reset(self, *, seed=None, **_):
        self.begin(seed)
        return super().reset(seed=seed)

    def step(self, action):
        slips = self.draw() < 0.1
        return super().step(-1 - action if slips else action)


class OfGenerator(Slippery):
    def begin(self, seed):
        self.parts = {"chance": [np.random.Generator(np.random.MT19937(seed))]}
        self.draw = lambda: self.parts["chance"][0].random()


class OfPythonsRandom(Slippery):
    def begin(self, seed):
        self.draw = random.Random(seed).random


class OfAClosure(Slippery):
    def begin(self, seed):
        rng = np.random.default_rng(seed)
        self.draw = lambda: rng.random()


class OfAnIterator(Slippery):
    def begin(self, seed):
        def stream(rng):
            while True:
                yield rng.random()

        self.draw = stream(np.random.default_rng(seed)).__next__


class OfSlots(Slippery):
    class Dice:
        __slots__ = ("rng",)

    def begin(self, seed):
        self.dice = self.Dice()
        self.dice.rng = random.Random(seed)
        self.draw = lambda: self.dice.rng.random()


class OfItsClass(Slippery):
    rng = np.random.RandomState(0)

    def begin(self, seed):
        type(self).rng = np.random.RandomState(seed)
        self.draw = lambda: type(self).rng.rand()


class OfASpace(Slippery):
    def begin(self, seed):
        self.chances = Discrete(10)
        self.chances.seed(seed)
        self.draw = lambda: self.chances.sample() / 10


class OfBits(Slippery):
    def begin(self, seed):
        self.bits = np.random.PCG64(seed)
        self.draw = lambda: np.random.Generator(self.bits).random()


class OfThePythonProcess(Slippery):
    def begin(self, seed):
        random.seed(seed)
        self.draw = random.random


class OfTheNumpyProcess(Slippery):
    def begin(self, seed):
        np.random.seed(seed)  # noqa: NPY002
        self.draw = np.random.rand


class OfTheClock(Slippery):
    def begin(self, _):
        self.draw = lambda: int(time.time()) % 2


class OfSpentTime(Slippery):
    """Slips once an hour has passed."""

    def begin(self, _):
        began = time.monotonic()
        self.draw = lambda: time.monotonic() < began + 3600


class OfTheDate(Slippery):
    def begin(self, _):
        self.draw = lambda: datetime.now().second % 2


class OfTheDateByItsModule(Slippery):
    def begin(self, _):
        self.draw = lambda: dates.datetime.now(dates.UTC).second % 2


class OfToday(Slippery):
    def begin(self, _):
        self.draw = lambda: dates.date.today().toordinal() % 2


class OfAnImportedClock(Slippery):
    def begin(self, _):
        began = monotonic()
        self.draw = lambda: monotonic() < began + 3600


class Rarely(Slippery):
    def begin(self, seed):
        rng = np.random.RandomState(seed)
        self.draw = lambda: 20 * rng.rand()


class Shared(Corridor):
    """Counts the steps of all its copies, from the last start of any."""

    steps = 0

    def reset(self, *, seed=None, **_):
        type(self).steps = 0
        return super().reset(seed=seed)

    def step(self, action):
        type(self).steps += 1
        seen, reward, *rest = super().step(action)
        return seen, reward * self.steps, *rest


class Numbered(Corridor):
    """Pays by how many copies there were before it."""

    copies = 0

    def __init__(self):
        type(self).copies += 1
        self.number = self.copies

    def step(self, action):
        seen, reward, *rest = super().step(action)
        return seen, reward * self.number, *rest


AGAIN = "when they are taken again"
OTHER_NUMBERS = "if other random numbers are drawn, or at another time, after the start"
SWITCH_OFF = "switch its randomness off by environment.options if it has such an option"


def refused(id, **options):
    with pytest.raises(UsageError) as error:
        make(f"gym:{id}", **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("env", "why"),
    [
        (Gusty, AGAIN),
        (Weary, AGAIN),
        (Windy, OTHER_NUMBERS),
        (Tidy, "while another copy is played"),
        (Shared, "while another copy is played"),
        (Numbered, "in another copy"),
    ],
)
def test_chance_or_what_is_shared_or_kept_over_resets_is_refused(registered, env, why):
    id = registered(env)
    if env is Numbered:
        env.copies = 0
    said = refused(id)
    assert said.startswith(f"gym:{id} is not deterministic: with seed 0 and the same actions, step 1 differs {why}; ")
    assert said.endswith(SWITCH_OFF)


OF_ITS_OWN = [
    *(Slippery, OfGenerator, OfPythonsRandom, OfAClosure, OfAnIterator, OfSlots, OfItsClass, OfASpace),
    *(OfBits, OfThePythonProcess, OfTheNumpyProcess, OfTheClock, OfSpentTime, Rarely),
    *(OfTheDate, OfTheDateByItsModule, OfToday, OfAnImportedClock),
]


@pytest.mark.parametrize("env", OF_ITS_OWN)
def test_chance_from_anywhere_is_refused_though_the_same_seed_slips_the_same(registered, env):
    said = refused(registered(env))
    assert "is not deterministic: with seed" in said
    assert said.endswith(SWITCH_OFF)


class Drawing(Corridor):
    """Draws, of everything, and does nothing with it; its start alone is chance."""

    def reset(self, *, seed=None, **_):
        super().reset(seed=seed)
        self.rng, self.dice = np.random.RandomState(seed), random.Random(seed)
        self.at = float(self.rng.randint(3) + self.dice.randrange(3))
        return self.seen(), {}

    def step(self, action):
        self.noise = self.np_random.random(), self.rng.rand(), self.dice.random(), random.random(), time.time()
        return super().step(action)


def test_drawing_to_no_effect_and_a_start_by_chance_pass(registered):
    check_env(make(f"gym:{registered(Drawing)}", simulators=3), processes=False)


class Dated(Corridor):
    """Uses dates in every way but to its effect."""

    def reset(self, *, seed=None, **_):
        self.began = datetime.now()
        return super().reset(seed=seed)

    def step(self, action):
        now, day = datetime.now(), datetime(2000, 2, 29)
        assert all(isinstance(one, datetime) for one in (now, day, self.began, datetime.max, datetime.today()))
        assert issubclass(type(day), datetime)
        assert {type(now), type(day), type(datetime.fromisoformat("2000-02-29"))} == {type(self.began)}
        assert pickle.loads(pickle.dumps(now)) == now >= self.began
        assert datetime.fromtimestamp(day.timestamp()) == day
        assert datetime.strptime("2000-03-01", "%Y-%m-%d") - day == timedelta(days=1)
        assert datetime.now(dates.UTC).tzinfo is dates.UTC
        return super().step(action)


def test_dates_to_no_effect_pass(registered):
    make(f"gym:{registered(Dated)}")


def test_the_random_numbers_and_the_clock_of_the_process_are_left_as_they_were(registered):
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    before, clocks = (random.getstate(), pickle.dumps(np.random.get_state())), (time.time, monotonic)  # noqa: NPY002
    make(f"gym:{registered(Corridor)}")
    with pytest.raises(UsageError):
        make(f"gym:{registered(Windy)}")
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before  # noqa: NPY002
    assert (time.time, monotonic) == clocks
    assert isinstance(datetime.now(), dates.datetime)
    assert dates is sys.modules["datetime"]
    assert datetime is dates.datetime


def test_generators_are_found_once_each_and_not_those_of_the_modules():
    env = OfGenerator()
    env.reset(seed=0)
    env.other = [random.Random(0), np.random.RandomState(0), env.np_random]
    found = [thing for thing, _ in generators(gymnasium.Wrapper(env))]
    expected = [env.np_random, env.parts["chance"][0], env.other[0], env.other[1]]
    assert sorted(map(id, found)) == sorted(map(id, expected))


# Wrappers, and ALE's option


@pytest.mark.parametrize(
    ("wrap", "why"),
    [
        (NormalizeObservation, AGAIN),
        (NormalizeReward, AGAIN),
        (lambda env: StickyAction(env, repeat_action_probability=0.25), OTHER_NUMBERS),
    ],
)
def test_a_wrapper_that_cannot_be_branched_is_named(registered, wrap, why):
    def entry():
        return TransformReward(wrap(TransformReward(Corridor(), lambda reward: reward + 2)), lambda reward: reward / 2)

    said = refused(registered(entry))
    name = type(wrap(Corridor())).__name__
    assert said.endswith(f"differs {why}; its wrapper {name} makes it so: register the id without that")


def test_a_wrapper_is_not_blamed_for_what_it_wraps(registered):
    def entry():
        return TransformReward(Gusty(), lambda reward: reward / 2)

    assert refused(registered(entry)).endswith(SWITCH_OFF)


def test_statistics_that_are_frozen_pass(registered):
    def entry():
        env = NormalizeObservation(Corridor())
        env.update_running_mean = False
        return env

    check_env(make(f"gym:{registered(entry)}"), processes=False)


class Emulator(Corridor):
    """Has ALE's option, and does not show that it repeats."""

    def __init__(self, repeat_action_probability=0.25):
        settings = {"repeat_action_probability": repeat_action_probability}
        self.ale = type("ALE", (), {"getFloat": lambda _, name: settings[name]})()


class Hidden(Corridor):
    def __init__(self, repeat_action_probability=0.25):
        self._repeat_action_probability = repeat_action_probability


class Taken(Corridor):
    def __init__(self, repeat_action_probability=0.25):
        pass


@pytest.mark.parametrize("env", [Emulator, Hidden, Taken])
def test_sticky_actions_are_refused_by_their_option(registered, env):
    id = registered(env)
    assert refused(id) == (
        f"gym:{id} repeats the last action by chance, as its option repeat_action_probability is 0.25: "
        "set environment.options.repeat_action_probability to 0"
    )
    assert make(f"gym:{id}", repeat_action_probability=0.0).spec.num_actions == 2
    id = registered(type(f"{env.__name__}Sure", (env,), {}), kwargs={"repeat_action_probability": 0})
    assert make(f"gym:{id}").spec.num_actions == 2


# Later, and elsewhere


class Weather(Corridor):
    """Moves by what is set for all of its class."""

    wind = 0.0

    def step(self, action):
        self.at += self.wind
        return super().step(action)


@pytest.mark.parametrize("along", [False, True])
def test_a_state_that_looks_otherwise_when_it_is_replayed_is_refused(registered, monkeypatch, along):
    id = registered(Weather)
    env = make(f"gym:{id}", simulators=2)
    states, _ = env.step(env.reset([3]), [1])
    env.step(states, [0])
    monkeypatch.setattr(Weather, "wind", 0.5)
    with pytest.raises(UsageError) as error:
        env.rewards_along(states, [[0, 0]]) if along else env.step(states, [0])
    assert str(error.value) == (
        f"gym:{id} is not deterministic: seed 3 and the same 1 actions led to another observation than before; "
        "mzprobe.check_env tells more"
    )


HASHED = """
import gymnasium, numpy as np
class Hashed(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        self.at = 0.0
        return np.array([self.at], np.float32), {}
    def step(self, action):
        self.at += hash("mzprobe") % 1009
        return np.array([self.at], np.float32), 0.0, False, False, {}
gymnasium.register("Hashed-v0", Hashed, max_episode_steps=10)
"""


def test_what_depends_on_the_process_is_found_by_check_env(tmp_path, monkeypatch):
    (tmp_path / "hashed.py").write_text(HASHED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    env = make("gym:hashed:Hashed-v0")
    try:
        with pytest.raises(CheckFailed, match="every process sees the same"):
            check_env(env, steps=4)
    finally:
        del gymnasium.registry["Hashed-v0"]
